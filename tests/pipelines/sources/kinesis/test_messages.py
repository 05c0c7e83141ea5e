"""Records of a shard as blocks: aggregated ones, and where an answer is cut does not matter."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.kinesis.aggregated import MAGIC, unpack
from pipelines.sources.kinesis.messages import parts_of
from pipelines.sources.messages import block_of
from tests.pipelines.sources.kinesis.packed import body, pack

AT = datetime(2026, 3, 1, 10, tzinfo=UTC)
KEYS = st.text(min_size=1, max_size=8)
INNER = st.lists(st.tuples(KEYS, st.binary(max_size=40)), max_size=6)


def record(number: int, data: bytes, key: str = "k") -> dict:
    at = AT + timedelta(milliseconds=number)
    return {"SequenceNumber": f"{number}", "ApproximateArrivalTimestamp": at, "Data": data, "PartitionKey": key}


def block(records: list[dict], rows: int = 10_000):
    return block_of([part.poll for part in parts_of(records, "shard-1", rows, 1 << 20)], "shop")


@given(INNER.filter(bool), st.booleans())
def test_what_is_packed_is_unpacked(records, with_more):
    assert [tuple(one) for one in unpack(pack(records, with_more))] == records


def test_one_that_holds_nothing_has_no_rows():
    assert unpack(pack([])) == []


@given(st.binary(max_size=60))
def test_any_other_record_stays_as_it_is(data):
    assert unpack(data) is None
    assert block([record(1, b"x" + data)])["payload"].to_list() == [b"x" + data]


@given(INNER.filter(bool), st.data())
def test_a_record_with_a_wrong_byte_is_one_record(records, data):
    packed = bytearray(pack(records))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    assert block([record(1, bytes(packed))])["payload"].to_list() == [bytes(packed)]


@pytest.mark.parametrize("message", [b"\x1a", b"\x1a\xff\x01", b"\x0a\x02\xff\xff"], ids=["cut", "too-long", "no-text"])
def test_what_is_no_message_though_its_digest_is_right_is_one_record(message):
    data = MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()
    assert block([record(1, data)])["payload"].to_list() == [data]


def test_a_packed_record_has_a_row_for_each_with_its_own_key_and_position():
    inner = [("ann", b"\xef\xbb\xbf{}"), ("bob", b""), ("ann", b"[1]")]
    rows = block([record(1, b"one"), record(2, pack(inner), "outer")])
    assert rows["payload"].to_list() == [b"one", b"{}", b"", b"[1]"]
    assert rows["position"].to_list() == ["shard-1:1", "shard-1:2:0", "shard-1:2:1", "shard-1:2:2"]
    keys = [json.loads(told)["message"]["kinesis_partition_key"] for told in rows["attributes"]]
    assert keys == ["k", "ann", "bob", "ann"]
    assert rows["received_time"].to_list() == [AT + timedelta(milliseconds=at) for at in (1, 2, 2, 2)]


def test_a_key_that_its_table_does_not_have_is_that_of_the_whole_record():
    message = body([("ann", b"{}")]).removeprefix(b"\x0a\x03ann")
    data = MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()
    (told,) = block([record(1, data, "outer")])["attributes"]
    assert json.loads(told)["message"]["kinesis_partition_key"] == "outer"


@given(st.lists(INNER, max_size=8), st.integers(1, 9))
def test_where_an_answer_is_cut_does_not_matter_and_each_part_says_how_far_it_goes(groups, rows):
    records = [record(number, pack(group)) for number, group in enumerate(groups, 1)]
    parts = list(parts_of(records, "shard-1", rows, 1 << 20))
    assert [part.last for part in parts][-1:] == [one["SequenceNumber"] for one in records][-1:]
    assert block(records, rows).equals(block(records))
    assert sum(part.rows for part in parts) == sum(map(len, groups))
    assert all(part.rows < rows + 6 for part in parts)
