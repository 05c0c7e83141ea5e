"""Settled: which minutes of an input have every record that landed in its final place, as the committed books prove.

A minute is settled when its books have received at least what landed and their balance is 0, over all sources of the
input. Books are committed together with, or after, the rows that they tell of (notes.py), so a settled minute needs its
landed records no longer, whatever is killed next.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import reduce
from operator import or_

import polars as pl

from pipelines.warehouse.local import LocalWarehouse
from pipelines.warehouse.tables import QUALITY_1M
from transforms.block import day_of
from transforms.quality import COUNTS, MINUTE

_KEYS = ["bucket_start", "source"]
_COLUMNS = [*_KEYS, "input", *COUNTS, "generation", "revision"]
_ENDED = ("events", "duplicates", "quarantined", "out_of_range", "replaced", "erased")


class Settled:
    """The current books of one input, kept in memory: read once, then fed with the rows of each commit.

    since  the earliest minute that will be asked for; None reads the books of all time
    """

    def __init__(self, warehouse: LocalWarehouse, input: str, since: datetime | None = None):
        self.input = input
        books = warehouse.scan(QUALITY_1M.name, _days_since(warehouse, since))
        self._current = _latest(books.filter(pl.col("input") == input).select(_COLUMNS).collect())

    def add(self, rows: pl.DataFrame) -> None:
        """Take in rows of quality_1m that a commit made live; `Appender` calls it with them."""
        own = rows.filter(pl.col("input") == self.input).select(_COLUMNS)
        if not own.is_empty():
            self._current = _latest(pl.concat([self._current, own]))

    def done(self, landed: Mapping[datetime, int]) -> set[datetime]:
        """The minutes of `landed` that are settled; `landed` tells for each minute all records that ever landed in it,
        also those whose files are gone."""
        balance = pl.sum_horizontal("received", "exploded") - pl.sum_horizontal(_ENDED)
        told = (
            self._current.filter(pl.col("bucket_start").is_in(list(landed)))
            .group_by("bucket_start")
            .agg(pl.col("received").sum(), balance.sum().alias("balance"))
            .filter(pl.col("balance") == 0)
        )
        received = dict(zip(told["bucket_start"], told["received"], strict=True))
        return {minute for minute, count in landed.items() if received.get(minute, -1) >= count}

    def undone(self, landed: Mapping[datetime, int]) -> set[datetime]:
        """The minutes of `landed` whose records have to be read again if the stream is killed now."""
        return set(landed) - self.done(landed)


def received_in(minutes: Iterable[datetime], column: str) -> pl.Expr:
    """Whether a time lies in one of the minutes; as ranges, so that files without such a row are told by their
    statistics."""
    ordered = sorted(minutes)
    starts = [at for at in ordered if at - MINUTE not in set(ordered)]
    ends = [at + MINUTE for at in ordered if at + MINUTE not in set(ordered)]
    time = pl.col(column)
    ranges = [(time >= start) & (time < end) for start, end in zip(starts, ends, strict=True)]
    return reduce(or_, ranges, pl.lit(False))


def _days_since(warehouse: LocalWarehouse, since: datetime | None):
    if since is None:
        return None
    first = pl.select(day_of(pl.lit(since, pl.Datetime("us", "UTC")), warehouse.time_zone)).item()
    return [day for day in warehouse.rows_by_day(QUALITY_1M.name) if day and day >= first]


def _latest(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("generation", "revision").unique(_KEYS, keep="last", maintain_order=True)
