"""Records of a shard as what ../messages.py makes blocks of.

received_time   when Kinesis received the record (its approximate time of arrival)
position        `SHARD:SEQUENCE NUMBER`, and `:INDEX` for a record that was packed into an aggregated one
attributes      what a mapping reads as `$attributes.NAME`: NAMES, each a text
"""

from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pipelines.sources.kinesis.aggregated import unpack
from pipelines.sources.messages import Poll, encode_attributes

PARTITION_KEY, SHARD = "kinesis_partition_key", "kinesis_shard"
SEQUENCE_NUMBER, ARRIVAL_TIME = "kinesis_sequence_number", "kinesis_arrival_time"
NAMES = (PARTITION_KEY, SEQUENCE_NUMBER, SHARD, ARRIVAL_TIME)


class Part(NamedTuple):
    """Records of a shard that are acknowledged together, the sequence number of the last, and how many there are."""

    last: str
    poll: Poll
    rows: int


def parts_of(records: Sequence[Mapping[str, Any]], shard: str, most_rows: int, most_bytes: int) -> Iterator[Part]:
    """Records of an answer, in order, in parts of about so many rows and bytes: a record is never cut in two. A part of
    aggregated records that hold nothing has no rows."""
    columns: list[list[Any]] = [[], [], [], []]
    size = 0
    for number, record in enumerate(records, 1):
        size += _add(columns, record, shard)
        if len(columns[0]) >= most_rows or size >= most_bytes or number == len(records):
            yield _part(record["SequenceNumber"], columns, size)
            columns, size = [[], [], [], []], 0


def _format(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _part(last: str, columns: list[list[Any]], size: int) -> Part:
    payloads, positions, received, attributes = columns
    return Part(last, Poll([], payloads, positions, received, attributes, size), len(payloads))


def _add(columns: list[list[Any]], record: Mapping[str, Any], shard: str) -> int:
    """Add a record, or those in it, to the columns; returns how many bytes that is."""
    payloads, positions, received, attributes = columns
    arrived, sequence = record["ApproximateArrivalTimestamp"], record["SequenceNumber"]
    micros = round(arrived.timestamp() * 1_000) * 1_000  # it has milliseconds
    told = {
        PARTITION_KEY: record["PartitionKey"],
        SEQUENCE_NUMBER: sequence,
        SHARD: shard,
        ARRIVAL_TIME: _format(arrived),
    }
    inner = unpack(record["Data"])
    if inner is None:
        each = [(record["PartitionKey"], record["Data"], f"{shard}:{sequence}")]
    else:
        each = [
            (one.key if one.key is not None else record["PartitionKey"], one.data, f"{shard}:{sequence}:{index}")
            for index, one in enumerate(inner)
        ]
    size = 0
    for key, data, position in each:
        payloads.append(data.removeprefix(BOM_UTF8))
        positions.append(position)
        received.append(micros)
        attributes.append(encode_attributes(told | {PARTITION_KEY: key}, ""))
        size += len(payloads[-1]) + len(attributes[-1])
    return size
