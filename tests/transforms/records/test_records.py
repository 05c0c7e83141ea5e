import csv
import json
from decimal import Decimal
from unittest.mock import patch

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sources.quarantined import records_of
from transforms import json_objects
from transforms.block import RAW_SCHEMA, RECORD_SCHEMA, REJECTED_SCHEMA, tag_input
from transforms.json_objects import SORTED_BYTES, check_depth, encode_json
from transforms.mapping import load_mapping
from transforms.parse import parse
from transforms.records import payloads as records
from transforms.records.payloads import KEPT_BYTES, RECORD_LIMIT, read_records, slices_of

COMMA = {"format": "csv", "header": ["id", "name", "price"], "delimiter": ",", "quote": '"'}


def rows(*payloads: bytes, **form) -> pl.DataFrame:
    """A raw block as the reader of a CSV file makes it."""
    attributes = json.dumps(COMMA | form)
    return pl.DataFrame(
        [
            {"payload": payload, "position": f"f:{at}", "attributes": attributes}
            for at, payload in enumerate(payloads, 1)
        ],
        schema=RECORD_SCHEMA,
    )


@pytest.mark.parametrize(
    ("payload", "record"),
    [
        (b"1,tea,2.50", {"id": "1", "name": "tea", "price": "2.50"}),
        (b'1,"tea, green",2', {"id": "1", "name": "tea, green", "price": "2"}),
        (b'1,"a ""good"" tea",2', {"id": "1", "name": 'a "good" tea', "price": "2"}),
        (b'1,"two\r\nlines",2', {"id": "1", "name": "two\r\nlines", "price": "2"}),
        (b"1,tea,2.50\r\n", {"id": "1", "name": "tea", "price": "2.50"}),
        ('1,"thé vert",2'.encode(), {"id": "1", "name": "thé vert", "price": "2"}),
        (b"1,,2", {"id": "1", "price": "2"}),
        (b'1,"",2', {"id": "1", "price": "2"}),
        (b",,", {}),
        (b"1, tea ,2", {"id": "1", "name": " tea ", "price": "2"}),
        (b"1,a\x00b,2", {"id": "1", "name": "a\x00b", "price": "2"}),
    ],
)
def test_a_csv_record_is_named_by_its_header_and_an_empty_field_is_absent(payload, record):
    records, kept, rejected = read_records(rows(payload))
    assert records == [record]
    assert (kept["payload"].to_list(), rejected.height) == ([payload], 0)


def test_delimiter_and_quote_are_those_of_the_file():
    assert read_records(rows(b"1\t'a\tb'\t2", delimiter="\t", quote="'"))[0] == [
        {"id": "1", "name": "a\tb", "price": "2"}
    ]
    assert read_records(rows(b'1;"a;2', delimiter=";", quote=""))[0] == [{"id": "1", "name": '"a', "price": "2"}]


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"1,tea", "2 fields, but the header has 3"),
        (b"1,tea,2,", "4 fields, but the header has 3"),
        (b"", "0 fields, but the header has 3"),
        (b'1,"tea,2', "unexpected end of data"),
        (b'1,"tea"x,2', "expected after"),
        (b"1,t\xe9,2", "not a CSV record in UTF-8"),
        (b"1,a\rb,2", "new-line character"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_what_is_no_csv_record_is_refused_alone_and_keeps_what_reads_it_again(payload, message):
    block = rows(b"1,a,2", payload, b"3,c,4")
    records, kept, rejected = read_records(block)
    assert [record["id"] for record in records] == ["1", "3"]
    assert kept["position"].to_list() == ["f:1", "f:3"]
    assert rejected.schema == REJECTED_SCHEMA
    assert rejected.select("stage", "code", "payload", "position", "attributes").rows() == [
        ("parse", "invalid_csv", payload, "f:2", block["attributes"][0])
    ]
    (error,) = json.loads(rejected["errors"][0])
    assert (error["path"], error["code"]) == ("$", "invalid_csv")
    assert message in error["message"]


def test_without_a_csv_header_records_are_json_objects_of_exact_numbers():
    payloads = [
        b'{"a":0.1000000000000000000001}',
        b"[1]",
        b'{"a":1e99999999999999999999}',
        b'{"a":"\\ud800"}',
        b"\xff",
    ]
    block = pl.DataFrame({"payload": payloads, "position": [str(at) for at in range(5)]}).select(
        pl.col(name).cast(dtype) if name in ("payload", "position") else pl.lit(None, dtype).alias(name)
        for name, dtype in RECORD_SCHEMA.items()
    )
    records, kept, rejected = read_records(block)
    assert str(records[0]["a"]) == "0.1000000000000000000001"
    assert (kept["position"].to_list(), rejected["position"].to_list()) == (["0"], ["1", "2", "3", "4"])
    assert set(rejected["code"]) == {"invalid_json"}


def test_an_empty_block_has_no_records():
    records, kept, rejected = read_records(rows())
    assert (records, kept.height, rejected.height) == ([], 0, 0)


def test_a_csv_field_may_be_as_long_as_a_json_one():
    records, _, rejected = read_records(rows(b"1," + b"x" * 200_000 + b",2"))
    assert len(records[0]["name"]) == 200_000
    assert rejected.is_empty()


def alone(payload: bytes) -> dict | None:
    """The record of one payload as Python's own reader has it; None if it is refused."""
    try:
        found = next(csv.reader([payload.decode()], strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    if len(found) != 3:
        return None
    return {name: value for name, value in zip(COMMA["header"], found, strict=True) if value}


FIELDS = st.sampled_from(
    ["", "a", "b c", '"q"', '"a,b"', '"a""b"', '"a\nb"', '"open', 'x"y', "a\nb", "a\r\n", "\u00e9"]
)
PAYLOADS = st.lists(FIELDS, min_size=2, max_size=4).map(lambda fields: ",".join(fields).encode()) | st.just(b"a,\xff,b")


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(PAYLOADS, min_size=1, max_size=6))
def test_rows_are_read_as_each_would_be_by_itself(payloads):
    records, kept, rejected = read_records(rows(*payloads))
    expected = [alone(payload) for payload in payloads]
    assert list(records) == [record for record in expected if record is not None]
    read = dict.fromkeys((True, False), ())
    for payload, record in zip(payloads, expected, strict=True):
        read[record is not None] += (payload,)
    assert (tuple(kept["payload"]), tuple(rejected["payload"])) == (read[True], read[False])


# What a record may cost


def long_block(*payloads: bytes, attributes: str | None = None) -> pl.DataFrame:
    rows = [
        {"payload": payload, "source": "s", "position": f"f:{at}", "attributes": attributes}
        for at, payload in enumerate(payloads)
    ]
    return tag_input(pl.DataFrame(rows, schema=RAW_SCHEMA), "i")


@pytest.mark.parametrize("mapped", [False, True])
def test_a_record_that_is_too_long_is_rejected_with_its_head_and_again_when_it_comes_back(mapped):
    mapping = load_mapping("source: s\nfields: {event_type: {path: event_type}}", "m.yaml") if mapped else None
    fits = b'{"event_type":"a"}'.ljust(RECORD_LIMIT)
    passed, rejected = parse(long_block(fits, fits + b" ", b'{"event_type":"b"}'), mapping, "s")
    assert passed["event_type"].to_list() == ["a", "b"]
    row = rejected.row(0, named=True)
    assert (rejected.height, row["code"], row["stage"], row["source"]) == (1, "record_too_long", "parse", "s")
    assert (row["payload"], row["attributes"]) == (fits[:KEPT_BYTES], '{"too_long":true}')
    assert json.loads(row["errors"])[0]["message"] == "more than 10 MB; its first 64 kB are kept"
    # What is left of it would be a whole record here: its attributes say that it is none.
    waiting = rejected.with_columns(quarantine_id=pl.lit("q"))
    (block,) = records_of(waiting, "s")
    again = parse(block, mapping, "s")
    assert again.passed.is_empty()
    same = ("code", "payload", "attributes")
    assert again.rejected.select(same).equals(rejected.select(same))


def test_what_is_left_of_a_long_record_is_not_read_in_one_block_with_whole_ones():
    _, rejected = parse(long_block(b" " * (RECORD_LIMIT + 1), b"x"), None, "s")
    assert [block.height for block in records_of(rejected, "s")] == [1, 1]


def test_a_native_record_is_read_again_under_the_source_that_it_had_unless_that_is_of_a_mapping():
    sources = ("app", "web", "No Source", None)
    block = pl.concat(
        parse(long_block(b"no JSON"), None, "s").rejected.with_columns(source=pl.lit(name, pl.String))
        for name in sources
    )
    again = records_of(block, "events", ["web"])
    assert [(each["source"][0], each.height) for each in again] == [("app", 1), ("events", 3)]
    (mapped,) = records_of(block.with_columns(source_format=pl.lit("mapped:shop")), "events", ["shop"])
    assert mapped["source"].to_list() == ["shop"] * 4


def test_an_attribute_of_a_sender_is_no_sign_of_a_long_record():
    block = long_block(b'{"event_type":"a"}', attributes='{"received_time":"x","message":{"too_long":"true"}}')
    assert parse(block, None, "s").passed.height == 1


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(0, 100))
@settings(max_examples=100, deadline=None)
def test_slices_hold_all_rows_and_no_more_bytes_than_they_may(sizes, each):
    whole = b"x" * max(sizes, default=0)
    block = pl.DataFrame({"payload": [whole[:size] for size in sizes]}, schema={"payload": pl.Binary})
    with patch.object(records, "SLICE_BYTES", 100):
        slices = list(slices_of(block, each))
    assert [row for start, stop in slices for row in range(start, stop)] == list(range(len(sizes)))
    for start, stop in slices:
        assert stop - start == 1 or sum(sizes[start:stop]) + each * (stop - start) <= 100


def test_the_depth_of_a_record_is_found_without_reading_all_of_it():
    deep = b"[" * 600 + b'"' * 3  # behind the brackets it is no JSON
    with pytest.raises(msgspec.DecodeError, match="nested deeper than 256 levels"):
        check_depth(deep)
    check_depth(b'["' + b"[" * 1_000 + b'\\"' + b"[" * 1_000 + b'"]')


def test_large_objects_are_put_in_order_before_they_are_written():
    """msgspec sorts keys that are nearly in order in quadratic time; it is handed none of them."""
    inner = {f"k{n:05d}": n for n in range(1_000)}
    nearly = {**inner, "a": [{"z": 1, "b": Decimal("1.50")}, {**inner, "a": None}]}
    assert len(msgspec.json.encode(nearly)) > SORTED_BYTES
    with patch.object(json_objects, "_encode_sorted", wraps=json_objects._encode_sorted) as encoder:
        encoded = encode_json(nearly)
    handed = encoder.call_args.args[0]
    assert list(handed) == sorted(nearly)
    assert list(handed["a"][1]) == sorted(inner | {"a": None})
    assert encoded == msgspec.json.Encoder(order="deterministic", decimal_format="number").encode(nearly)
