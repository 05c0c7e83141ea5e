"""Rows of a restart: what resume.py does for metrics and resume_sessions.py for sessions alike."""

from collections.abc import Callable

import polars as pl

MERGE_ROWS = 200_000  # rows that are gathered before they are merged
NOW = "#now"  # suffix of what a table says now, beside what it is to say; no column of a table can end so


def take_in(
    gathered: list[pl.DataFrame], part: pl.DataFrame, merge: Callable[[list[pl.DataFrame]], pl.DataFrame]
) -> list[pl.DataFrame]:
    """`gathered` with one more, merged now and then."""
    gathered = [*gathered, part]
    # The merged ones before do not count: else all of a large table would be merged with every block.
    if sum(each.height for each in gathered[1:]) > max(MERGE_ROWS, gathered[0].height):
        return [merge(gathered)]
    return gathered


def current(rows: pl.LazyFrame, keys: list[str], columns: list[str]) -> pl.DataFrame:
    """The rows that count now, as the `_current` views choose them; tombstones among them."""
    ordered = rows.select(*columns, "generation", "revision").collect().sort("generation", "revision")
    return ordered.unique(keys, keep="last", maintain_order=True).select(columns)
