"""What a message says beside its payload: mapped, kept, and part of a derived id."""

import json
from datetime import UTC, datetime

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.messages import Poll, block_of, encode_attributes
from pipelines.sources.quarantined import records_of
from transforms.block import RECORD_SCHEMA, tag_input
from transforms.json_objects import UNREADABLE, decode_object
from transforms.mapping import load_mapping, required_columns
from transforms.parse import parse
from transforms.quarantine import identify
from transforms.records.beside import CARRIED, ROOTS, with_message

NOON = 1_772_366_400_000_000  # 2026-03-01T12:00:00Z in microseconds
BINARY_MODE = """
source: ce
fields:
  event_id: {path: $attributes.ce-id}
  event_type: {path: $attributes.ce-type, map: {com.acme.page_view: page_view, com.acme.purchase: purchase}}
  event_time: {path: $attributes.ce-time}
  user_id: {path: user}
  content_id: {path: page}
"""
TYPE_ONLY = """
source: ce
fields:
  event_type: {path: $attributes.type}
  user_id: {path: user}
"""


def block(*messages: tuple[bytes, dict[str, str]], key: str = "") -> pl.DataFrame:
    """Messages as our reader hands them on."""
    payloads, attributes = [data for data, _ in messages], [encode_attributes(own, key) for _, own in messages]
    ids, times = [f"m{at}" for at in range(len(messages))], [NOON] * len(messages)
    return tag_input(block_of([Poll([], payloads, ids, times, attributes, 0)], "events"), "queue")


def read(text: str, *messages: tuple[bytes, dict[str, str]], key: str = "") -> tuple[pl.DataFrame, pl.DataFrame]:
    mapping = load_mapping(text, "m.yaml")
    return parse(block(*messages, key=key), mapping, mapping.source)


def ids(text: str, *messages: tuple[bytes, dict[str, str]]) -> list[str]:
    passed, rejected = read(text, *messages)
    assert rejected.is_empty(), rejected["errors"].to_list()
    return passed["event_id"].to_list()


def test_events_in_the_binary_mode_of_cloudevents_are_read_from_attributes_and_payload():
    page = b'{"page":"/a","user":"u1"}'

    def told(id: str, kind: str, minute: int) -> dict[str, str]:
        time = f"2026-03-01T10:{minute:02}:00Z"
        return {"ce-id": id, "ce-type": f"com.acme.{kind}", "ce-time": time, "ce-source": "/web"}

    notification = {"eventType": "OBJECT_FINALIZE", "objectId": "x.json"}
    passed, rejected = read(
        BINARY_MODE,
        (page, told("c1", "page_view", 0)),
        (b'{"page":"/b","user":"u2"}', told("c2", "purchase", 1)),
        (b"", notification),
        (page, told("c3", "page_view", 5)),
        (b"", told("c4", "page_view", 6)),  # all that it says is in the attributes
    )
    assert rejected.is_empty()  # the notification has no type: the next rule sends it to quarantine
    assert passed["event_id"].to_list()[:2] + passed["event_id"].to_list()[3:] == ["c1", "c2", "c3", "c4"]
    assert passed["event_type"].to_list() == ["page_view", "purchase", None, "page_view", "page_view"]
    assert passed["user_id"].to_list() == ["u1", "u2", None, "u1", None]
    assert passed["client_time"].to_list()[3] == datetime(2026, 3, 1, 10, 5, tzinfo=UTC)
    assert json.loads(passed["extra"][0]) == {"$attributes": {"ce-source": "/web"}}, "what no path reads is kept"
    assert passed["payload"].to_list()[2:4] == [b"", page], "as it came"


def test_equal_payloads_with_other_attributes_are_two_events():
    one, two = ids(
        TYPE_ONLY, (b'{"user":"u"}', {"type": "view", "id": "1"}), (b'{"user":"u"}', {"type": "view", "id": "2"})
    )
    assert one.startswith("derived:") and one != two
    assert ids(TYPE_ONLY, (b'{"user":"u"}', {"id": "1", "type": "view"})) == [one], "whatever the order of attributes"
    of_payload = TYPE_ONLY.replace("path: $attributes.type", "const: view")
    one, two = ids(of_payload, (b'{"user":"u"}', {"id": "1"}), (b'{"user":"u"}', {"id": "2"}))
    assert one == two, "a mapping that reads no attribute takes the payload alone"


def test_a_message_that_is_forwarded_or_traced_is_still_the_same_event():
    for beside in ({}, {"type": "view"}):
        plain = ids(TYPE_ONLY, (b'{"user":"u"}', beside))
        for _, name in CARRIED:
            assert ids(TYPE_ONLY, (b'{"user":"u"}', beside | {name: "x"})) == plain
    sent = TYPE_ONLY + "transport: [$attributes.sent]\n"
    assert len(set(ids(sent, (b"{}", {"type": "a", "sent": "1"}), (b"{}", {"type": "a", "sent": "2"})))) == 1


def test_an_attribute_may_have_any_name_and_an_ordering_key_is_read_too():
    text = "source: s\nfields:\n  event_type: {const: view}\n  user_id: {path: $ordering_key}\n"
    text += "  content_id: {path: \"$attributes['a.b c']\"}\n"
    passed, _ = read(text, (b"{}", {"a.b c": "x"}), (b'{"a":1}', {}), key='u\\1"')
    assert passed["user_id"].to_list() == ['u\\1"'] * 2
    assert passed["content_id"].to_list() == ["x", None]


def test_rules_and_elements_read_attributes_and_a_refused_record_is_read_again_alike():
    text = (
        "source: s\nmatch: {$attributes.kind: [web]}\nexplode: items\nfields:\n"
        "  event_type: {path: $attributes.type}\n  content_id: {path: items.id}\n"
    )
    items = b'{"items":[{"id":"a"},{"id":"b"}]}'
    passed, rejected = read(text, (items, {"kind": "web", "type": "view"}), (items, {"kind": "app", "type": "view"}))
    assert passed["content_id"].to_list() == ["a", "b"] and len(set(passed["event_id"])) == 2
    assert set(rejected["code"]) == {"no_rule"} and rejected["payload"].to_list() == [items] * 2
    quarantined = identify(rejected, "1", 0.0).with_columns(pl.lit("ce").alias("source"))
    wider = load_mapping(text.replace("[web]", "[web, app]"), "m.yaml")
    for again in records_of(quarantined, "events"):
        replayed, refused = parse(again, wider, "s")
        assert refused.is_empty() and set(replayed["event_type"]) == {"view"}
        assert sorted(replayed["content_id"]) == ["a", "b"]


@pytest.mark.parametrize("key", ["$attributes", "\\u0024attributes", "$attribut\\u0065s"])
def test_no_payload_states_attributes_of_its_own(key):
    passed, _ = read(TYPE_ONLY, (b'{"%s":{"type":"purchase"},"user":"u"}' % key.encode(), {"type": "view"}))
    assert passed["event_type"].to_list() == ["view"]
    passed, _ = read(TYPE_ONLY, (b'{"%s":{"type":"purchase"},"user":"u"}' % key.encode(), {}))
    assert passed["event_type"].to_list() == [None]


def test_a_record_of_a_file_states_them_itself():
    mapping = load_mapping(TYPE_ONLY, "m.yaml")
    row = {"payload": b'{"$attributes":{"type":"view"},"user":"u"}', "position": "f:1", "part": 0}
    passed, _ = parse(pl.DataFrame([row], schema=RECORD_SCHEMA), mapping, "ce")
    assert passed["event_type"].to_list() == ["view"]
    assert required_columns(mapping) == {"user"}, "a header need not have them"


PIECES = ["{", "}", "[", "]", '"a":', '"', "1", ",", ":", "\\", " ", "\f", "null", '"b"', '"$attributes":', "é"]


@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_no_payload_becomes_a_record_that_was_none_and_none_that_was_is_lost(text):
    payload = text.encode()
    (made,) = with_message(block((payload, {"k": "v"})), ROOTS)["payload"].to_list()
    try:
        expected = decode_object(payload) | {"$attributes": {"k": "v"}}
    except UNREADABLE:
        expected = None if payload.strip(b" \t\r\n") else {"$attributes": {"k": "v"}}
    try:
        assert decode_object(made) == expected
    except msgspec.DecodeError:
        assert expected is None
