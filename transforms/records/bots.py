"""Bots: flag bot traffic of any source, by conditions on the events' own columns. Flagged events are not dropped."""

from collections.abc import Sequence

import polars as pl

from transforms.block import FIELDS
from transforms.records.match import Match, holds

COLUMNS = ("source", *(name for name in FIELDS if name != "is_bot"))


def check_column(name: str) -> None:
    """Raise ValueError if a condition cannot use this column."""
    if name not in COLUMNS:
        raise ValueError(f"got the unknown column {name!r}, allowed {', '.join(COLUMNS)}")


def flag_bots(block: pl.DataFrame, bots: Sequence[Match]) -> pl.DataFrame:
    """Set is_bot where one of the matches holds; it is never cleared."""
    for match in bots:
        found = holds(match, block.get_column)
        if found.any():
            block = block.with_columns(is_bot=pl.when(found).then(True).otherwise("is_bot"))
    return block
