"""Parse: what the native form makes of a payload, and that no payload stops a run or goes missing."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transforms.block import PARSED_SCHEMA, RECORD_SCHEMA, REJECTED_SCHEMA
from transforms.contract import KNOWN
from transforms.event_time import settle_event_time
from transforms.json_objects import DEEPEST
from transforms.lateness import Lateness
from transforms.mapping import load_mapping
from transforms.parse import parse
from transforms.quality import frame_of, merge
from transforms.records.native import SLICE_ROWS, numerics, parse_native
from transforms.settle import moved
from transforms.validate import Validator

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MAPPING = load_mapping(
    "source: app\nfields:\n  event_id: {path: event_id}\n  event_type: {path: event_type}\n"
    "  event_time: {path: event_time}\n  value: {path: value}\n  quantity: {path: quantity}\n"
    "properties: [properties]\n",
    "mapping.yaml",
)


def raw(*payloads: bytes, received: datetime | None = None) -> pl.DataFrame:
    """A raw block of the source `events`."""
    rows = [
        {"payload": payload, "source": "events", "position": f"f:{line}", "received_time": received, "part": 0}
        for line, payload in enumerate(payloads, 1)
    ]
    return pl.DataFrame(rows, schema=RECORD_SCHEMA)


def native(text: str | bytes) -> dict:
    """The one row of a payload that parses."""
    parsed, rejected = parse_native(raw(text if isinstance(text, bytes) else text.encode()), "events")
    assert rejected["errors"].to_list() == []
    assert parsed.schema == PARSED_SCHEMA
    return parsed.row(0, named=True)


def refused(text: str | bytes) -> tuple[str, str, list[tuple[str, str]]]:
    """(stage, code, [(path, code)]) of a payload that does not."""
    payload = text if isinstance(text, bytes) else text.encode()
    parsed, rejected = parse_native(raw(payload), "events")
    assert parsed.is_empty()
    assert rejected.schema == REJECTED_SCHEMA
    row = rejected.row(0, named=True)
    assert (row["payload"], row["position"], row["source"]) == (payload, "f:1", "events")
    return row["stage"], row["code"], [(error["path"], error["code"]) for error in json.loads(row["errors"])]


NUMBERS = ("sequence", "value", "quantity", "is_bot", "rating")
WRONG = {
    **dict.fromkeys(
        KNOWN - {"event_time", "sent_time", "received_time", "properties", *NUMBERS},
        ("5", "true", "[]", "{}"),
    ),
    "value": ('"1"', '"NaN"', "true", "[1]", "{}"),
    "sequence": ('"1"', "1.5", "true", "9223372036854775808", "-9223372036854775809"),
    "quantity": ('"1"', "1.5", "true", "9223372036854775808", "-9223372036854775809"),
    "is_bot": ('"true"', "0", "[]"),
    "rating": ('"1"', "false", "1e999"),
}


@pytest.mark.parametrize("field", sorted(WRONG))
def test_another_json_type_is_refused_with_the_path_of_the_field(field):
    for value in WRONG[field]:
        assert refused(f'{{"{field}":{value}}}') == ("parse", "wrong_type", [(f"$.{field}", "wrong_type")])
        assert refused(f'{{"{field}":{value},"other":1}}')[2] == [(f"$.{field}", "wrong_type")]
    assert native(f'{{"event_id":"e","{field}":null}}')["extra"] is None


def test_the_message_of_a_wrong_type_never_shows_the_value():
    _, rejected = parse_native(raw(b'{"user_id":123456789}', b'{"value":"secret"}'), "events")
    assert not rejected["errors"].str.contains("123456789|secret").any()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"{",
        b'{"event_id":"a"} {"event_id":"b"}',
        b"\xef\xbb\xbf{}",
        b'{"event_id":"\xff"}',
        b'{"event_id":"a","properties":{"p":"\xff"}}',
        b'{"event_id":"a","properties":{"\xff":1}}',
        b'{"event_id":"a","other":"\xff"}',
        b'{"event_type":"x","properties":"\xff"}',
        b'{"event_id":"\\ud800"}',
        b'{"event_id":"a","properties":"\\udc00"}',
        b'{"event_id":"a\x00b"}',
        b'{"event_id":"a","properties":01}',
        b'{"event_id":"a","properties":NaN}',
        b'{"event_type":"x","properties":1e99999999999999999999}',
        b'{"event_type":"x","value":1e99999999999999999999}',
        b'{"event_type":"x","properties":' + b"9" * 5_000 + b"}",
        b'{"event_type":"x","properties":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"event_id":"a","other":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 100_000,
    ],
    ids=lambda payload: repr(payload[:48]),
)
def test_what_is_no_json_object_in_utf_8_is_refused_alone(payload):
    good = b'{"event_id":"good","event_type":"x"}'
    parsed, rejected = parse_native(raw(good, payload, good), "events")
    assert parsed["position"].to_list() == ["f:1", "f:3"]
    assert rejected.select("stage", "code", "position").rows() == [("parse", "invalid_json", "f:2")]
    assert rejected["payload"].to_list() == [payload]


@pytest.mark.parametrize("mapping", [None, MAPPING], ids=["native", "mapped"])
@pytest.mark.parametrize("name", ["properties", "other"])
def test_how_deep_a_record_may_be_nested_depends_on_the_record_alone(mapping, name):
    def record(levels: int) -> bytes:
        return b'{"event_type":"x","text":"%s","%s":%s}' % (
            b'[\\"{' * 200,
            name.encode(),
            b"[" * levels + b"]" * levels,
        )

    def deep_in_the_stack(frames: int):
        return deep_in_the_stack(frames - 1) if frames else parse(block, mapping, "events")

    block = raw(*map(record, range(DEEPEST - 2, DEEPEST + 3)))
    for frames in (0, 300):
        parsed, rejected = deep_in_the_stack(frames)
        assert parsed["position"].to_list() == ["f:1", "f:2"]
        assert set(rejected["code"]) == {"invalid_json"}


def test_nul_characters_and_astral_ones_are_text_like_any_other():
    row = native('{"event_id":"e","text":"a\\u0000b","properties":"\\u0000","campaign":"\\ud83c\\udf89"}')
    assert (row["text"], row["properties"], row["campaign"]) == ("a\x00b", '"\\u0000"', "🎉")


def test_the_last_of_two_equal_keys_counts():
    assert native('{"event_id":"a","event_id":"b"}')["event_id"] == "b"
    assert native('{"event_id":"a","z":1,"z":2}')["extra"] == '{"z":2}'


@pytest.mark.parametrize(
    ("json", "kept"),
    [
        ("null", None),
        (" null ", None),
        ('{"b": 1.50, "a":[ ]}', '{"b": 1.50, "a":[ ]}'),
        ('""', '""'),
        ("0", "0"),
        ("9" * 30, "9" * 30),
    ],
)
def test_properties_stay_as_they_were_written(json, kept):
    assert native(f'{{"event_id":"e","properties":{json}}}')["properties"] == kept


def test_unknown_fields_go_to_extra_in_order_of_their_keys_with_exact_numbers():
    row = native('{"event_id":"e","zeta":0.10000000000000000001,"Event_Type":"x","alpha":{"b":1,"a":null}}')
    assert row["extra"] == '{"Event_Type":"x","alpha":{"a":null,"b":1},"zeta":0.10000000000000000001}'
    assert row["event_type"] is None
    assert native('{"event_id":"e"}')["extra"] is None


def test_a_source_and_a_queues_received_time_come_before_the_default_and_the_records_own():
    record = b'{"event_id":"e","received_time":"2026-03-01T11:00:00Z","source":"shop"}'
    parsed, _ = parse_native(raw(record, b'{"event_id":"e"}', received=NOON), "events")
    assert parsed.select("source", "received_time").rows() == [("shop", NOON), ("events", NOON)]
    assert native(record)["received_time"] == NOON - timedelta(hours=1)


@pytest.mark.parametrize(
    "time", ['""', '"soon"', "12", "true", "[]", '"0000-00-00T00:00:00Z"', '"+262142-01-01T00:00:00Z"']
)
def test_a_time_that_cannot_be_read_is_no_reason_to_refuse(time):
    row = native(f'{{"event_id":"e","event_time":{time},"sent_time":{time},"received_time":{time}}}')
    assert (row["client_time"], row["sent_time"], row["received_time"]) == (None, None, None)
    assert row["client_time_given"] is True


def test_a_time_that_is_absent_or_null_was_not_given():
    assert native('{"event_id":"e","event_time":null}')["client_time_given"] is False
    assert native('{"event_id":"e"}')["client_time_given"] is False


def derived(text: str, source: str = "events") -> str:
    row = parse_native(raw(text.encode()), source)[0].row(0, named=True)
    assert row["id_source"] == "derived"
    return row["event_id"]


def test_a_derived_id_says_what_happened_and_not_how_it_travelled():
    id = derived('{"event_type":"x","value":1.5,"other":{"a":1,"b":2}}')
    assert id.startswith("derived:")
    assert derived('{"other":{"b":2,"a":1}, "value":1.5,\n"event_type":"x"}') == id
    assert derived('{"event_type":"x","value":1.5,"other":{"a":1,"b":2},"received_time":"2026-03-01T12:00:00Z"}') == id
    assert derived('{"sent_time":7,"event_type":"x","value":1.5,"other":{"a":1,"b":2}}') == id


@pytest.mark.parametrize(
    "other",
    ['{"event_type":"y"}', '{"event_type":"x","properties":{}}', '{"event_type":"x","event_time":"z"}'],
)
def test_another_record_or_source_derives_another_id(other):
    assert derived(other) != derived('{"event_type":"x"}')
    assert derived(other, "shop") != derived(other)


def test_a_stated_source_is_the_one_that_an_id_is_derived_from():
    assert derived('{"source":"shop"}', "one") == derived('{"source":"shop"}', "two")


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        ("0.0000000005", "0.000000001"),
        ("-0.0000000005", "-0.000000001"),
        ("0.00000000049999999999999999999999999", "0"),
        ("2.5000000025", "2.500000003"),
        ("1e-400", "0"),
        ("7", "7"),
        ("999999999999999999.999999999", "999999999999999999.999999999"),
        ("-999999999999999999.9999999994", "-999999999999999999.999999999"),
        ("1e17", "100000000000000000"),
    ],
)
def test_a_value_is_rounded_to_nine_places_half_away_from_zero(number, kept):
    assert native(f'{{"event_id":"e","value":{number}}}')["value"] == Decimal(kept)


@pytest.mark.parametrize(
    "number", ["1e18", "-1000000000000000000", "999999999999999999.9999999995", "1e400", "1e999999", "9" * 40]
)
def test_a_value_of_more_than_eighteen_digits_is_quarantined(number):
    assert refused(f'{{"event_id":"e","value":{number}}}') == (
        "validate",
        "invalid_value",
        [("$.value", "invalid_value")],
    )


def test_what_is_no_number_at_all_never_fits():
    numbers = [Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity"), None, 3]
    assert numerics(numbers) == ([None, None, None, None, Decimal(3)], [0, 1, 2])


def test_rows_keep_their_order_and_their_origin_across_slices_and_refusals():
    payloads = [b'{"event_id":"%d"}' % n if n % 3 else b"no" for n in range(SLICE_ROWS + 10)]
    parsed, rejected = parse_native(raw(*payloads), "events")
    assert parsed["event_id"].to_list() == [str(n) for n in range(len(payloads)) if n % 3]
    assert parsed["position"].to_list() == [f"f:{n + 1}" for n in range(len(payloads)) if n % 3]
    assert rejected["position"].to_list() == [f"f:{n + 1}" for n in range(len(payloads)) if not n % 3]


def test_an_empty_block_stays_empty():
    for part, schema in zip(parse_native(raw(), "events"), (PARSED_SCHEMA, REJECTED_SCHEMA), strict=True):
        assert part.is_empty()
        assert part.schema == schema


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.just("2026-03-01T12:00:00Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
TIMES = st.sampled_from(
    ["2026-03-01T12:00:00Z", "2026-02-01 12:00:00", "2026-03-01T12:00:00.5+02:00", "", "x", None, 5]
)
LIKELY = {
    **dict.fromkeys(("event_time", "sent_time", "received_time"), TIMES),
    "event_id": st.sampled_from(["a", "b", "", None, "\x00"]),
    "event_type": st.sampled_from(["click", "Click", None]),
    "value": st.decimals(allow_nan=False, allow_infinity=False).map(float) | st.integers(),
    "quantity": st.integers(),
    "sequence": st.integers(),
    "user_id": st.sampled_from(["u", "undefined", None]),
}
OBJECTS = st.fixed_dictionaries({}, optional=LIKELY) | st.dictionaries(
    st.sampled_from(sorted(KNOWN)) | st.text(max_size=4), ANY_JSON, max_size=5
)
PAYLOADS = (
    st.binary(max_size=40)
    | OBJECTS.map(json.dumps).map(str.encode)
    | OBJECTS.map(lambda it: json.dumps(it, ensure_ascii=False).encode("utf-8", "surrogatepass"))
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PAYLOADS, max_size=6), st.sampled_from([None, MAPPING]), st.sampled_from([None, NOON]))
@example([b'{"event_id":"a","value":"NaN"}', b'{"event_time":""}', b'{"properties":"\xff"}'], None, None)
@example([b'{"event_id":"a","event_type":"x","event_time":"2026-03-01T12:00:00Z"}'], None, NOON)
def test_every_payload_ends_in_exactly_one_place(payloads, mapping, received):
    block = raw(*payloads, received=received)
    parsed, rejected = parse(block, mapping, "events")
    ended = [rejected]
    for rule in (Validator(), settle_event_time, Lateness(timedelta(days=1))):
        parsed, rejected = rule(parsed)
        ended.append(rejected)
    assert all(part.schema == REJECTED_SCHEMA for part in ended)
    aside = pl.concat(ended)
    assert sorted([*parsed["position"], *aside["position"]]) == sorted(block["position"])
    payload_at = dict(zip(block["position"], block["payload"], strict=True))
    assert all(payload_at[position] == payload for position, payload in aside.select("position", "payload").rows())
    assert (
        parsed.select("event_id", "event_type", "event_time", "received_time", "source")
        .null_count()
        .sum_horizontal()
        .sum()
        == 0
    )
    assert aside.select("stage", "code", "errors", "source").null_count().sum_horizontal().sum() == 0


@given(st.lists(PAYLOADS, max_size=6), st.integers(0, 6))
@settings(max_examples=50, deadline=None)
def test_parse_moves_exactly_as_many_entries_as_it_read_and_cuts_do_not_matter(payloads, cut):
    found = []
    for part in (raw(*payloads[:cut]), raw(*payloads[cut:])):
        parsed, rejected = parse(part, None, "events")
        settled = pl.concat(it.select("source", "received_time", "input", "part") for it in (parsed, rejected))
        found.append(frame_of(moved(settled, "events", False)))
    books = merge(found)
    assert books["received"].sum() == 0
    whole, aside = parse(raw(*payloads), None, "events")
    settled = pl.concat(it.select("source", "received_time", "input", "part") for it in (whole, aside))
    assert books.equals(merge([frame_of(moved(settled, "events", False))]))
