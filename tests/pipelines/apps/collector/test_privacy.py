"""Privacy: addresses are cut before anything is stored, and a signal leaves the person out."""

import ipaddress
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.apps.collector.privacy import ADDRESS_KEYS, Privacy, client_address, proxies_of, without_person

CUT = {
    "203.0.113.77": "203.0.113.0",
    "2001:db8:1234:5678::9": "2001:db8:1234::",
    "::ffff:203.0.113.77": "203.0.113.0",
    "fe80::1%eth0": "fe80::",
    " 203.0.113.77 ": "203.0.113.0",
}


@pytest.mark.parametrize("address", CUT)
def test_an_address_is_cut_to_its_network(address):
    assert Privacy().address(address) == CUT[address]


@pytest.mark.parametrize("text", ["", "unix:", "203.0.113", "canary@example.org", "203.0.113.77:80"])
def test_what_is_no_address_is_not_stored(text):
    assert {Privacy(kind).address(text) for kind in ("cut", "hash", "drop", "keep")} == {None}


def test_an_address_is_kept_or_dropped_where_that_is_said():
    assert Privacy("keep").address("203.0.113.77") == "203.0.113.77"
    assert Privacy("drop").address("203.0.113.77") is None


def test_a_hash_is_the_same_within_a_process_and_of_another_secret_in_the_next():
    one, other = Privacy("hash"), Privacy("hash")
    assert one.address("203.0.113.77") == one.address("::ffff:203.0.113.77") != one.address("203.0.113.78")
    assert one.address("203.0.113.77") != other.address("203.0.113.77")


PAYLOADS = {
    b'{"ip":"203.0.113.77"}': b'{"ip":"203.0.113.0"}',
    b'{"context": {"ip" :\t"203.0.113.77", "n":1.10}}': b'{"context": {"ip" :\t"203.0.113.0", "n":1.10}}',
    b'{"$ip":"2001:db8::1","IP_Address":"10.1.2.3"}': b'{"$ip":"2001:db8::","IP_Address":"10.1.2.0"}',
    b'{"X-Forwarded-For":"203.0.113.77, 10.0.0.1"}': b'{"X-Forwarded-For":"203.0.113.0"}',
    b'{"ip":"203.0.113.77:443"}': b'{"ip":null}',
}


@pytest.mark.parametrize("payload", PAYLOADS)
def test_an_address_in_a_payload_is_cut_where_it_stands(payload):
    assert Privacy().payload(payload) == PAYLOADS[payload]
    assert Privacy("keep").payload(payload) == payload
    assert b"203.0.113" not in Privacy("hash").payload(payload)
    assert json.loads(Privacy("drop").payload(payload)) is not None


@pytest.mark.parametrize(
    "payload",
    [b'{"text":"\\"ip\\":\\"203.0.113.77\\""}', b'{"ip":"dead"}', b'{"ip":7}', b'{"tip":"1.2.3.4"}', b"\xff{", b""],
)
def test_what_is_no_address_of_a_key_stays_byte_for_byte(payload):
    assert Privacy().payload(payload) == payload


@pytest.mark.parametrize("key", ADDRESS_KEYS)
def test_each_key_of_an_address_is_found_in_any_case(key):
    for named in (key, key.upper()):
        payload = b'{"%s":"203.0.113.77"}' % named.encode()
        assert Privacy().payload(payload) == payload.replace(b".77", b".0")


@given(st.ip_addresses() | st.ip_addresses(network="::ffff:0:0/96"))
def test_a_cut_address_is_the_one_of_its_network(address):
    plain = getattr(address, "ipv4_mapped", None) or address
    network = ipaddress.ip_network((plain, 24 if plain.version == 4 else 48), strict=False)
    assert Privacy().address(str(address)) == str(network.network_address)
    assert Privacy("keep").address(str(address)) == str(plain)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.just("ip"), inner, max_size=4),
    max_leaves=20,
)


@given(values, st.ip_addresses())
def test_a_payload_with_an_address_stays_json_and_changes_nowhere_else(value, address):
    payload = json.dumps({"ip": str(address), "rest": value}).encode()
    cut = json.loads(Privacy().payload(payload))
    bits = 24 if address.version == 4 else 48
    if not (address.version == 6 and address.ipv4_mapped):
        assert ipaddress.ip_address(cut["ip"]) == ipaddress.ip_network((address, bits), strict=False).network_address
    if b'"ip"' not in json.dumps(value).encode():
        assert cut["rest"] == value


@pytest.mark.parametrize("headers", [{"dnt": "1"}, {"sec-gpc": "1"}])
def test_a_signal_counts_unless_it_is_to_be_ignored(headers):
    assert [Privacy("cut", kind).signal(headers) for kind in ("anonymous", "drop", "ignore")] == [
        "anonymous",
        "drop",
        None,
    ]
    assert Privacy().signal({"dnt": "0"}) is None and Privacy().signal({}) is None


def test_without_the_person_an_event_keeps_what_happened():
    event = {
        "event_id": "e1",
        "event_type": "page_view",
        "user_id": "canary",
        "anonymousId": "canary",
        "properties": {
            "price": 1.10,
            "$set": {"plan": "canary"},
            "distinct_id": "canary",
            "list": [{"Email": "canary"}],
        },
        "context": {"traits": {"x": "canary"}, "page": {"path": "/a"}, "ip": "203.0.113.77", "userAgent": "canary"},
        "name": "Order",
    }
    left = json.loads(Privacy().payload(json.dumps(event).encode(), "anonymous"))
    assert "canary" not in json.dumps(left) and "203" not in json.dumps(left)
    assert left == {
        "event_id": "e1",
        "event_type": "page_view",
        "properties": {"price": 1.10, "list": [{}]},
        "context": {"page": {"path": "/a"}},
        "name": "Order",
    }


def test_numbers_keep_their_digits_without_the_person():
    assert without_person(b'{"a":1.10,"b":12345678901234567890123,"c":0.1234567890123456789}') == (
        b'{"a":1.10,"b":12345678901234567890123,"c":0.1234567890123456789}'
    )


@given(st.binary(max_size=50) | st.just(b"[" * 100_000) | values.map(lambda value: json.dumps(value).encode()))
def test_what_is_left_without_the_person_is_json_and_of_what_is_not_json_nothing_is_left(body):
    left = without_person(body)
    json.loads(left)
    try:
        body.decode()
        json.loads(body)
    except (ValueError, RecursionError):
        assert left == b"{}"


def test_only_a_proxy_says_for_whom_it_asks():
    is_proxy = proxies_of(["10.0.0.0/8", "::1"])
    assert client_address("203.0.113.9", "1.2.3.4", is_proxy) == "203.0.113.9"
    assert client_address("10.0.0.1", "1.2.3.4", is_proxy) == "1.2.3.4"
    assert client_address("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", is_proxy) == "1.2.3.4"
    assert client_address("::1", "", is_proxy) == "::1"
    assert client_address("10.0.0.1", "canary", is_proxy) == "canary"
    assert client_address("", "1.2.3.4", is_proxy) == ""
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        proxies_of(["10.0.0.1/8"])


@pytest.mark.parametrize("body", [b'{"a":1e99999999999999999999999}', b'{"a":"{\\"b\\":9e99999999999999999999999}"}'])
def test_a_number_that_is_none_breaks_nothing(body):
    assert without_person(body) in (b"{}", body)
