"""Rows of a restart: what resume.py, resume_sessions.py and resume_refused.py share, and what they need of a warehouse
and of the run that writes it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Protocol

import polars as pl

from pipelines.warehouse.local import FileEntry
from pipelines.warehouse.tables import Table

BLOCK_ROWS = 100_000
MERGE_ROWS = 200_000  # rows that are gathered before they are merged
NOW = "#now"  # suffix of what a table states now, next to what it should state; no column of a table can end so

Days = Iterable[date | None]  # None: the day of rows without a time


class StoredRows(Protocol):
    """The rows of a warehouse, without those that are read again."""

    time_zone: str

    def table(self, name: str) -> Table:
        """The declaration of a table."""

    def rows_by_day(self, table: str) -> dict[date | None, int]:
        """How many rows a table has on each day that has any."""

    def files(self, table: str, days: Days | None = None) -> list[Path]:
        """Parquet files with the rows of a table, of all days or of `days`."""

    def scan(self, table: str, days: Days | None = None, columns: Sequence[str] | None = None) -> pl.LazyFrame:
        """The rows of a table, in its declared columns or these."""

    def scan_files(self, table: str, paths: Sequence[Path]) -> pl.LazyFrame:
        """The rows of some of these files."""


class RestoringRun(Protocol):
    """The run by which a restart writes."""

    @property
    def warehouse(self) -> StoredRows:
        """What it reads, and writes."""

    @property
    def staging(self) -> Path:
        """Its local folder."""

    def commit(
        self,
        entries: Iterable[FileEntry],
        replace_days: Mapping[str, Days | None] | None = None,
        *,
        drop: Mapping[str, pl.Expr] | None = None,
    ) -> None:
        """Make staged files live and, of days of a table, drop the rows that meet a condition, all at once."""


def blocks(scan: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Rows in blocks, in any order."""
    for block in scan.collect_batches(chunk_size=BLOCK_ROWS, maintain_order=False):
        if not block.is_empty():
            yield block


def take_in(
    gathered: list[pl.DataFrame], part: pl.DataFrame, merge: Callable[[list[pl.DataFrame]], pl.DataFrame]
) -> list[pl.DataFrame]:
    """`gathered` with one more, merged now and then."""
    gathered = [*gathered, part]
    # Rows that are merged already do not count: otherwise all of a large table would be merged with every block.
    if sum(each.height for each in gathered[1:]) > max(MERGE_ROWS, gathered[0].height):
        return [merge(gathered)]
    return gathered


def current(rows: pl.LazyFrame, keys: list[str], columns: list[str]) -> pl.DataFrame:
    """The rows that are current, as the `_current` views choose them; tombstones among them."""
    ordered = rows.select(*columns, "generation", "revision").collect().sort("generation", "revision")
    return ordered.unique(keys, keep="last", maintain_order=True).select(columns)
