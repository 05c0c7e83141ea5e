"""Settled: which minutes of a stream have all that was received in its final place, as committed audit counts prove.

A minute is settled when its balance is 0 over all sources. Where as many records were received as landed, nothing of
that minute is under way any more, and its landed files are needed no longer. Audit counts are committed together with,
or after, the rows that they count (notes.py), so this stays true whatever is killed next.

An input is a name, or a part of it behind an @, as the readers of a stream cut it.
"""

import threading
from collections.abc import Collection
from datetime import datetime

import polars as pl

from pipelines.warehouse.conditions import days_from, of_input
from pipelines.warehouse.interface import Restorable
from pipelines.warehouse.tables import QUALITY_1M
from transforms.quality import COUNTS

_KEYS = ["bucket_start", "source", "input"]
_COLUMNS = [*_KEYS, *COUNTS, "generation", "revision"]
_ENDED = ("events", "duplicates", "quarantined", "out_of_range", "replaced", "erased")


class SettledMinutes:
    """The current audit counts of some inputs, kept in memory: read once, then fed with the rows of each commit.

    since  the earliest minute that will be asked for; None reads the counts of all time
    """

    def __init__(self, warehouse: Restorable, inputs: Collection[str], since: datetime | None = None):
        self.own = pl.any_horizontal(pl.lit(False), *map(of_input, sorted(inputs)))
        days = None if since is None else days_from(warehouse, QUALITY_1M.name, since)
        counts = warehouse.scan(QUALITY_1M.name, days).filter(self.own)
        self._current = _latest(counts.select(_COLUMNS).collect())
        self._changing = threading.Lock()

    def add(self, rows: pl.DataFrame) -> None:
        """Take in rows of quality_1m that a commit made live; an `Appender` calls it with them, from its thread."""
        own = rows.filter(self.own).select(_COLUMNS)
        with self._changing:
            if not own.is_empty():
                self._current = _latest(pl.concat([self._current, own]))

    def forget(self, inputs: Collection[str]) -> None:
        """Forget the counts of inputs (a name with its part) that nobody asks for any more."""
        with self._changing:
            self._current = self._current.filter(~pl.col("input").is_in(list(inputs)))

    def received(self) -> pl.DataFrame:
        """(input, bucket_start, received) of every minute whose balance is 0, sources added up."""
        balance = pl.sum_horizontal("received", "exploded") - pl.sum_horizontal(_ENDED)
        minutes = self._current.group_by("input", "bucket_start").agg(
            pl.col("received").sum(), balance.sum().alias("balance")
        )
        return minutes.filter(pl.col("balance") == 0).drop("balance").sort("input", "bucket_start")


def _latest(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("generation", "revision").unique(_KEYS, keep="last", maintain_order=True)
