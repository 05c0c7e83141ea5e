"""Reading by columns: whatever the payloads are, the result is that of reading each by itself."""

import json
import random
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipelines.apps.simulator.simulate import faults, simulate_lines
from tests.fuzz.test_records import block_of, mutated
from tests.support.row_by_row import parse_row_by_row
from transforms.block import empty
from transforms.contract import KNOWN
from transforms.mapping import load_mapping, map_block, map_records
from transforms.mapping.gather import plans_of
from transforms.records import columns as by_columns
from transforms.records import plain, times
from transforms.records.native import CHUNK_ROWS, PLAIN_ROWS, SLICE_ROWS, parse_native
from transforms.records.payloads import decode_each, read_records
from transforms.records.times import read_stated, read_times

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LINES = [line for _, line in simulate_lines(events=2_000, seed=5, faults=faults("many"))]
SIMULATED = [line for _, line in simulate_lines(events=2_000, seed=5, faults=faults("none"))]
# What looks plain by itself, and is not; most of it only beside what comes before or after it.
DOUBTFUL = (
    *(b'"event_id":"z"', b'"event_id":null', b'"event_id":""', b'"\\u0065vent_id":"q"', b'"text":"\\ud800"'),
    *(b'"text":"\\ud83c\\udf89"', b'"text":"\x00"', b'"text":"\xff"', b'"text":"a\\u0000b"', b'"text":"\xc3\xa9"'),
    *(
        b'"value":5',
        b'"value":-0',
        b'"value":-0.0',
        b'"value":"NaN"',
        b'"value":1e17',
        b'"value":1e18',
        b'"value":1e999',
    ),
    *(b'"value":0.0000000005', b'"value":2.5000000025', b'"value":999999999999999999.9999999995', b'"value":true'),
    *(b'"value":1e99999999999999999999', b'"value":' + b"9" * 30, b'"quantity":9223372036854775808', b'"quantity":1.0'),
    *(b'"rating":1e999', b'"rating":-0.0', b'"rating":1e-99999999999999999999', b'"is_bot":null', b'"is_bot":0'),
    *(
        b'"properties":{"b":1.50,"a":[1,{"c":"\\""}]}',
        b'"properties":null',
        b'"properties":"\xff"',
        b'"properties":NaN',
    ),
    *(b'"properties":1e99999999999999999999', b'"properties":' + b"[" * 300 + b"]" * 300, b'"properties":""'),
    *(b'"event_time":12', b'"event_time":[]', b'"event_time":""', b'"event_time":"2026-03-01T10:00:00+02:00"'),
    *(b'"event_time":"2026-02-30T10:00:00Z"', b'"sent_time":"soon"', b'"sent_time":{}', b'"received_time":false'),
    *(
        b'"source":"shop"',
        b'"source":""',
        b'"source":null',
        b'"extra":1',
        b'"unknown":{"b":1,"a":1.50}',
        b'"unknown":1e-9',
    ),
    *(b"}", b"},{", b"]}", b'{"a":[', b"\n", b'"', b"\\", b",,"),
)


def doubtful(line: bytes, draw: random.Random) -> bytes:
    """The line with a field more, in front, behind or anywhere; or as transport leaves it."""
    field, at = draw.choice(DOUBTFUL), draw.randint(0, len(line))
    changed = (line[:-1] + b"," + field + b"}", b"{" + field + b"," + line[1:], line[:at] + field + line[at:])
    return draw.choice((*changed, mutated(line, LINES, draw), mutated(changed[0], LINES, draw)))


def payloads(rows: int, share: float, draw: random.Random) -> list[bytes]:
    lines = [draw.choice(LINES) for _ in range(rows)]
    return [doubtful(line, draw) if draw.random() < share else line for line in lines]


def received(block: pl.DataFrame, every: int) -> pl.DataFrame:
    """With a received time in every nth row, none for 0."""
    known = pl.int_range(pl.len()) % every == 0 if every else pl.lit(False)
    return block.with_columns(received_time=pl.when(known).then(pl.lit(NOON)).cast(block.schema["received_time"]))


def assert_same(got, expected) -> None:
    for one, other in zip(got, expected, strict=True):
        assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize(
    ("rows", "share", "every"),
    [
        (1, 1, 0),
        (40, 1, 1),
        (300, 0, 0),
        (300, 0.01, 3),
        (CHUNK_ROWS + 1, 0.3, 0),
        (SLICE_ROWS + 300, 0.5, 2),
        (4_500, 0.02, 0),
        (PLAIN_ROWS, 0, 5),
        (PLAIN_ROWS, 0.2, 1),
    ],
)
def test_native_records_are_read_as_each_would_be_by_itself(rows, share, every):
    draw = random.Random(f"{rows} {share}")
    for _ in range(max(1, 300 // rows)):
        block = received(block_of(payloads(rows, share, draw), None), every)
        assert_same(parse_native(block, "events"), parse_row_by_row(block, "events"))


def test_plain_records_have_the_fields_of_the_contract():
    assert sorted(plain.NAMES) == sorted(KNOWN)


def test_most_records_of_programs_are_plain_whatever_their_blanks():
    spaced = [json.dumps(json.loads(line)).encode() for line in SIMULATED]
    for lines in (SIMULATED, spaced):
        found = plain.read_plain(pl.Series(lines, dtype=pl.Binary))
        assert found.rows.mean() > 0.9


# What a regular expression could take for plain, though msgspec reads it otherwise or refuses it.
NEARLY_PLAIN = (
    b'{"event_id":"a","event_id":"b"}',
    b'{"event_id":"a","channel":null,"channel":"web"}',
    b'{"event_id":"a","channel":"web","channel":null}',
    b'{"event_id":null,"channel":"web"}',
    b'{"channel":"web"}',
    b'{"event_id":":","text":":)"}',
    b'{"event_id":"a","properties":{"properties":1,"event_id":"b"},"text":"c"}',
    b'{"event_id":"a","properties":{"x":"}"},"text":"c"}',
    b'{"event_id":"a","properties":{"x":{"y":1}},"text":"c"}',
    b'{"event_id":"a","properties":{},"value":1.50,"quantity":2}',
    b'{"event_id":"a","properties":null,"value":null,"is_bot":null}',
    b'{"event_id":"a", "is_bot":true, "rating":4.5, "value":-0.000000001}',
    b'{"event_id":"a","is_bot":false,"rating":-0.0,"value":-0}',
    b'{"event_id":"a","value":999999999999999,"quantity":-999999999999999,"sequence":0}',
    b'{"event_id":"a","value":1234567890123456,"quantity":01}',
    b'{"event_id":"a","event_time":"2026-02-29T10:00:00Z"}',
    b'{"event_id":"a","event_time":"2024-02-29T10:00:00.5Z","sent_time":"2024-02-29T23:59:59.999999Z"}',
    b'{"event_id":"a","event_time":"2026-03-01T24:00:00Z","received_time":"2026-03-01T10:00:60Z"}',
    b'{"event_id":"a","text":"\\u0041"}',
    b'{"event_id":"a","text":"\x7f\xc2\x85\xe2\x80\xa8"}',
    b'{"event_id":"a","text":"\xed\xa0\x80"}',
    b'{"event_id":"a","text":"{\\"event_id\\":1}"}',
    b'{"event_id":"a","text":"{}","category":"[{"}',
    b'{"event_id":"a","text":5}',
    b'{"event_id":"a","text":"b"} ',
    b'{"event_id":"a","text":"b",}',
    b'{"event_id":"a"}{"event_id":"b"}',
    b'{"event_id":"a","unknown":"b"}',
    b'{"event_id":"a" ,"text" : "b"}',
    b"{}",
    b"",
)


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_what_is_nearly_plain_is_read_as_by_itself(share):
    draw = random.Random(f"nearly {share}")
    lines = [draw.choice(NEARLY_PLAIN) if draw.random() < share else draw.choice(SIMULATED) for _ in range(PLAIN_ROWS)]
    block = block_of([*NEARLY_PLAIN, *lines, *NEARLY_PLAIN], None)
    assert_same(parse_native(block, "events"), parse_row_by_row(block, "events"))


@given(st.integers(0, 2**32), st.integers(0, plain.CHUNK_ROWS + 500))
@settings(max_examples=5, deadline=None)
def test_where_a_block_of_plain_records_is_cut_does_not_matter(seed, cut):
    draw = random.Random(seed)
    block = block_of(payloads(plain.CHUNK_ROWS + 500, 0.01, draw), None)
    parts = [parse_native(part, "events") for part in (block[:cut], block[cut:])]
    parsed, rejected = (pl.concat(column) for column in zip(*parts, strict=True))
    whole_parsed, whole_rejected = parse_native(block, "events")
    assert_frame_equal(whole_parsed, parsed, check_exact=True)
    assert_frame_equal(whole_rejected, rejected, check_row_order=False)


PAIRS = [
    (b'{"event_id":"a","event_id":"b"},{"event_id":"c"}', b""),
    (b'{"event_id":"a","properties":[1', b"2]}"),
    (b'{"event_id":"a', b'b"}'),
    (b'{"event_id":"a}', b'{b"}'),
    (b'{"event_id":"a"}\n{"event_id":"b"}', b""),
    (b'{"event_id":"]}","properties":[{}', b'{"event_id":"[{"}]}'),
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("mapped", [False, True])
def test_two_payloads_that_would_be_records_together_are_none(first, second, mapped):
    block = block_of([b'{"event_id":"x"}', first, second, b'{"event_id":"y"}'], None)
    if mapped:
        ((parsed, rejected),) = map_block(
            block, mapping_of("{event_type: {const: x}, event_id: {path: event_id}, text: {path: properties}}")
        )
    else:
        parsed, rejected = parse_native(block, "events")
    assert parsed["event_id"].to_list() == ["x", "y"]
    assert rejected["payload"].to_list() == [first, second]


# Mapped records


def mapping_of(fields: str, more: str = ""):
    return load_mapping(f"source: app\nfields: {fields}\n{more}", "m.yaml")


NAMES = ("event_id", "event_type", "user_id", "value", "quantity", "is_bot", "text", "rating", "category", "campaign")
TIMES = ("event_time", "sent_time", "received_time")
ALL = ", ".join([*(f"{name}: {{path: {name}}}" for name in NAMES), *(f"{name}: {{path: {name}}}" for name in TIMES)])
MAPPINGS = {
    "all": mapping_of(f"{{{ALL}}}"),
    "some, and properties": mapping_of(
        "{event_type: {path: event_type}, text: {path: 'properties.items[0].id'}, user_id: {path: 'unknown.b'}}",
        "properties: [properties, category]\nderived_id: position",
    ),
    "looked at": mapping_of(
        "{event_type: {const: x}, is_bot: {match: {device: desktop, properties.seconds: {exists: true}}},"
        " value: {path: value, on_error: 'null'}, event_time: {path: event_time, time: s}}",
        "transport: [received_time, properties.seconds]",
    ),
    "a key that no struct can have": mapping_of("{event_type: {path: event_type}, text: {path: 'unknown\\b'}}"),
}


def map_row_by_row(block: pl.DataFrame, mapping) -> tuple[pl.DataFrame, pl.DataFrame]:
    records, kept, unreadable = read_records(block, "mapped:app")
    parsed, rejected = map_records(list(records), kept, mapping)
    return parsed, pl.concat([unreadable.with_columns(source=pl.lit("app")), rejected])


def whole(parts) -> tuple[pl.DataFrame, ...]:
    return tuple(pl.concat(column, rechunk=True) for column in zip(*parts, strict=True))


@pytest.mark.parametrize("name", MAPPINGS)
def test_mapped_json_is_read_as_each_record_would_be_by_itself(name):
    draw = random.Random(name)
    for rows, share, every in ((1, 1, 0), (300, 0.01, 1), (CHUNK_ROWS + 100, 0.4, 3), (SLICE_ROWS + 9, 0.02, 0)):
        block = received(block_of(payloads(rows, share, draw), None), every)
        assert_same(whole(map_block(block, MAPPINGS[name])), map_row_by_row(block, MAPPINGS[name]))


HEADER = ["event_id", "event_type", "event_time", "value", "is_bot", "category", "other"]
FIELDS = ("", "a", "42", "1.5", "true", "2026-03-01T10:00:00Z", "b c", "\u00e9", "null", " x ")
ODD = ('"q,r"', '"a""b"', '"open', 'x"y', "a\nb", "c\r\n", "\r", ",", "\x00", '"', "\ufeff")


@pytest.mark.parametrize("name", [*list(MAPPINGS)[:3]])
@pytest.mark.parametrize(("rows", "share"), [(9, 0.3), (300, 0), (300, 0.01), (900, 0), (900, 0.01), (900, 0.5)])
def test_mapped_csv_is_read_as_each_record_would_be_by_itself(name, rows, share):
    draw = random.Random(f"{name} {rows} {share}")

    def line() -> bytes:
        fields = [draw.choice(FIELDS) for _ in HEADER]
        if draw.random() < share:
            fields[draw.randrange(len(fields))] = draw.choice(ODD)
        return ",".join(fields).encode() + (b"\xff" if draw.random() < share / 100 else b"")

    for quote in ('"', "'", ""):
        attributes = json.dumps({"format": "csv", "header": HEADER, "delimiter": ",", "quote": quote})
        block = block_of([line() for _ in range(rows)], attributes)
        assert_same(whole(map_block(block, MAPPINGS[name])), map_row_by_row(block, MAPPINGS[name]))


@pytest.mark.parametrize("name", [*list(MAPPINGS)[:3]])
@pytest.mark.parametrize(("rows", "share"), [(9, 0.3), (300, 0), (900, 0.01), (900, 0.5)])
def test_csv_of_other_widths_and_with_escapes_is_read_as_each_record_would_be_by_itself(name, rows, share):
    draw = random.Random(f"{name} {rows} {share}")

    def line() -> bytes:
        fields = [draw.choice(FIELDS) for _ in HEADER]
        if draw.random() < share:
            fields[draw.randrange(len(fields))] = draw.choice((*ODD, "\\x41", "\\xff", "\\,", '"\\x22"', "\\"))
            fields = draw.choice((fields[: draw.randint(1, len(fields))], fields + draw.choices(FIELDS, k=2)))
        return ",".join(fields).encode()

    for escape, null, rest in (("", [], True), ("\\", ["null"], True), ("", [], False)):
        form = {"format": "csv", "header": HEADER, "delimiter": ",", "quote": '"', "rest": rest, "null": null}
        form |= {"escape": escape, "escaped_bytes": bool(escape)}
        block = block_of([line() for _ in range(rows)], json.dumps(form))
        assert_same(whole(map_block(block, MAPPINGS[name])), map_row_by_row(block, MAPPINGS[name]))


def test_a_key_that_many_records_have_beside_those_of_the_mapping_is_learned_and_stays_in_extra():
    mapping = mapping_of("{event_type: {path: learned}}")
    (plan,) = plans_of(mapping)
    block = block_of([b'{"learned":"a","often":{"b":1,"a":%d},"n":null}' % n for n in range(20)], None)
    for _ in range(2):  # decoded whole, then by the key too
        parsed, _ = whole(map_block(block, mapping))
        assert parsed["extra"].to_list() == [f'{{"n":null,"often":{{"a":{n},"b":1}}}}' for n in range(20)]
    assert set(by_columns._others(plan.keys)) == {"often", "n"}
    assert map_row_by_row(block, mapping)[0].equals(parsed)


# Times


BASE = (
    "2026-03-01T18:46:13Z",
    "2026-03-01T18:46:13.571Z",
    "2026-03-01T18:46:13.571123Z",
    "2026-03-01 12:00:00",
    "soon",
)
EDGES = ("1969-12-31T23:59:59.999Z", "2200-12-31T23:59:59.999999Z", "2201-01-01T00:00:00Z", "2026-03-01T23:59:60Z", "")
WITH_ZONE = (
    "2026-03-01T10:00:00.1234+02",
    "2026-03-01T12:00:00.5+02:00",
    "2026-02-30T10:00:00Z",
    "2026-03-01t10:00:00z",
    "2026-03-01T10:00:00,5Z",
    "2026-03-01T10:00:00.123456000Z",
    "2026-03-01T10:00:00.123456001Z",
)


def lost(column: list, read: list) -> list[int]:
    """The rows of what is not read, and of 123456001 nanoseconds."""
    unread = {at for at, value in enumerate(column) if value not in (None, "") and read[at] is None}
    return sorted(unread | {at for at, value in enumerate(column) if type(value) is str and "123456001" in value})


def test_a_time_is_read_the_same_whatever_else_is_in_its_block():
    draw = random.Random(7)
    for _ in range(60):
        texts = [draw.choice((*BASE, *EDGES, *WITH_ZONE, None)) for _ in range(draw.randint(0, 12))]
        at = draw.randint(0, 18)
        texts = [
            text and (text[:at] + draw.choice("0:9TZ ") + text[at + 1 :]) if draw.random() < 0.2 else text
            for text in texts
        ]
        alone = [times._read_any(pl.Series([text], dtype=pl.String))[0] for text in texts]
        assert read_times(pl.Series(texts, dtype=pl.String)).to_list() == alone
        odd = [draw.choice((5, True, [], {})) if draw.random() < 0.1 else text for text in texts]
        expected = [time if isinstance(text, str) else None for text, time in zip(odd, alone, strict=True)]
        read = read_stated([texts, [None] * len(texts), odd])
        assert [column.times.to_list() for column in read] == [alone, [None] * len(texts), expected]
        assert {column.times.dtype for column in read} == {times.TIME}
        assert [sorted(column.lost) for column in read] == [lost(texts, alone), [], lost(odd, expected)]


def test_decoding_goes_on_behind_what_is_refused():
    assert decode_each(map(bytes.decode, [b"a", b"\xff", b"b", b"\xfe"]), lambda at: at) == ["a", 1, "b", 3]


def test_an_empty_block_has_the_same_columns():
    block = empty(block_of([b"{}"], None).schema)
    assert_same(parse_native(block, "events"), parse_row_by_row(block, "events"))
    assert_same(whole(map_block(block, MAPPINGS["all"])), map_row_by_row(block, MAPPINGS["all"]))
