"""Messages of a queue as raw blocks: what a reader received, by column, and one block of it.

received_time   when the queue received it, in microseconds since 1970
position        the message's id
payload         the data, without a byte order mark, as of a file
attributes      {"received_time", "ordering_key", "message": the message's own attributes}: what is needed to read the
                payload again. The publisher's names are kept apart from ours, which decide how a payload is read.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import polars as pl

from transforms.block import RAW_SCHEMA, TIME

_PLAIN = ""  # of a message without attributes and without a key


class Poll(NamedTuple):
    """What one pull returned, by column; `received` in microseconds since 1970."""

    ack_ids: list[str]
    payloads: list[bytes]
    ids: list[str]
    received: list[int]
    attributes: list[str]  # the JSON behind received_time: `,"message":{...}`, or nothing
    bytes: int
    unreadable: int = 0  # messages whose stamp is given and cannot be read


def encode_attributes(attributes: Mapping[str, str], ordering_key: str) -> str:
    """What a message has besides its payload, as the JSON that follows the received time; empty if it has nothing."""
    key = f',"ordering_key":{_json(ordering_key)}' if ordering_key else _PLAIN
    return f'{key},"message":{_json(dict(attributes))}' if attributes else key


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def drop_payloads(poll: Poll) -> None:
    """Drop what a block holds by now: a poll stays in flight until it is acknowledged, its payloads need not."""
    for column in (poll.payloads, poll.ids, poll.attributes):
        column.clear()


def block_of(polls: Sequence[Poll], source: str) -> pl.DataFrame:
    """The polls as one RAW_SCHEMA block, in order. `source` is for records that state none."""

    def column(number: int, dtype: Any) -> pl.Series:
        return pl.Series([value for poll in polls for value in poll[number]], dtype=dtype)  # type: ignore[union-attr]

    block = pl.DataFrame(
        {
            "payload": column(1, pl.Binary),
            "position": column(2, pl.String),
            "received_time": column(3, pl.Int64).cast(TIME),
            "encoded": column(4, pl.String),
        }
    )
    received = pl.col("received_time").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    return block.select(
        "payload",
        "received_time",
        pl.lit(source).alias("source"),
        "position",
        pl.concat_str(pl.lit('{"received_time":"'), received, pl.lit('"'), "encoded", pl.lit("}")).alias("attributes"),
    ).select(list(RAW_SCHEMA))
