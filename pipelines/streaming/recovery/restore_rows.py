"""Rows of a restart: what restore.py, restore_sessions.py and restore_refused.py share."""

from collections.abc import Callable, Iterable, Iterator
from datetime import date

import polars as pl

BLOCK_ROWS = 100_000
MERGE_ROWS = 200_000  # rows that are gathered before they are merged
NOW = "#now"  # suffix of what a table states now, next to what it should state; no column of a table can end so

Days = Iterable[date | None]  # None: the day of rows without a time


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
