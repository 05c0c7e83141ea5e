import csv
import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.block import RECORD_SCHEMA, REJECTED_SCHEMA
from transforms.records import read_records

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
        (b"1,tea", "2 fields where the header has 3"),
        (b"1,tea,2,", "4 fields where the header has 3"),
        (b"", "0 fields where the header has 3"),
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
