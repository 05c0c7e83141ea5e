"""Outputs of a stream: rows that are in the warehouse go to a topic as well, a message each.

    data         the row as a JSON object, without fields that are NULL
    attributes   table; key: a hash of the columns that identify the row; id: the same of this version of it, and, where
                 the table has them, generation and revision

A row may be published again, after a crash also: then with the same id. A consumer keeps for each key the row with
the highest (generation, revision), and may see them in any order.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec
import polars as pl

from pipelines.warehouse.row_json import insert_ids, json_rows
from pipelines.warehouse.tables import Table
from transforms.block import hash128


class Message(NamedTuple):
    """A row as a message."""

    data: bytes
    attributes: dict[str, str]


class Topic(Protocol):
    """Where messages go. It is pickled with the steps that publish; one more kind of queue is one more such class."""

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish messages; returns when the topic has all of them. Raises WarehouseError if it takes none for long,
        or refuses them."""


class Outputs(NamedTuple):
    """The tables whose rows go to a topic."""

    topic: Topic
    tables: frozenset[str]

    def publish(self, table: Table, rows: pl.DataFrame) -> None:
        """Publish rows of a table, which the warehouse has, if they are of one of the tables."""
        if table.name in self.tables and len(rows):
            self.topic.publish(messages_of(table, rows))


def messages_of(table: Table, rows: pl.DataFrame) -> list[Message]:
    """Return rows in the columns of the table as messages."""
    stamps = [name for name in ("generation", "revision") if name in rows.columns]
    texts = rows.select(pl.col(name).cast(pl.String).fill_null("") for name in (*table.key, *stamps))
    keys = (hash128(part.encode() for part in row) for row in texts.select(table.key).iter_rows())
    stamped = texts.select(stamps).to_dicts() if stamps else [{}] * len(rows)
    found = zip(json_rows(rows, table), keys, insert_ids(rows, table), stamped, strict=True)
    return [
        Message(msgspec.json.encode(row), {"table": table.name, "key": key, "id": id, **stamp})
        for row, key, id, stamp in found
    ]
