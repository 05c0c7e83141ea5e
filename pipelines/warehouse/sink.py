"""Sinks: where the graph's rows go, behind one interface for the local warehouse and for BigQuery.

    write(table)   PCollection[rows] -> files: PCollection[confirmation], books: PCollection[packed entries],
                   and of a sink that refuses rows refused: PCollection[REJECTED_SCHEMA block]
    confirm()      the confirmations of all tables -> whatever makes them visible

A sink counts what it wrote: a row that it refuses is no event.
"""

from typing import Protocol

import apache_beam as beam
import polars as pl

from pipelines.warehouse.tables import Table, polars_schema
from transforms.block import day_of

MANY_ROWS = 5_000  # of which a filter for each day costs less than a partition, if there are
FEW_DAYS = 4


class Sink(Protocol):
    """Where a run writes. `outcome` is the name under which written rows are counted, but for stored ones, which
    have been counted already. A sink that `refuses` may refuse rows of events, never of another table."""

    @property
    def refuses(self) -> bool:
        """Whether the written events have `refused` beside them."""

    def table(self, name: str) -> Table:
        """The declaration of a table that this sink takes."""

    def write(self, table: Table, outcome: str | None = None) -> beam.PTransform:
        """Write rows."""

    def confirm(self) -> beam.PTransform:
        """Take note of everything that a batch run wrote."""


def shaped(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    """The rows in the columns and types of the table."""
    return rows.select(pl.col(name).cast(dtype) for name, dtype in polars_schema(table).items())


def by_day(rows: pl.DataFrame, partition: str, zone: str):
    """[(day or None, its rows)]"""
    day = day_of(pl.col(partition), zone)
    first, last, unknown = rows.select(day.min().alias("first"), day.max().alias("last"), day.null_count()).row(0)
    if first == last and unknown in (0, rows.height):
        return [(first, rows)]
    if rows.height >= MANY_ROWS:
        days = rows.select(day).to_series()
        if len(found := days.unique()) <= FEW_DAYS:
            return [(each, rows.filter(days.eq_missing(each))) for each in found.to_list()]
    marked = rows.with_columns(_day=day)
    return [(key[0], part) for key, part in marked.partition_by("_day", as_dict=True, include_key=False).items()]
