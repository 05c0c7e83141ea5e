"""Bots: flag events of any source as made by a program, by conditions on their own columns. They are not dropped."""

from collections.abc import Sequence

import polars as pl

from transforms.block import FIELDS
from transforms.records.match import Match, holds

COLUMNS = ("source", *(name for name in FIELDS if name != "is_bot"))


def check_column(name: str) -> None:
    """Errors: ValueError if a condition cannot be on this column."""
    if name not in COLUMNS:
        raise ValueError(f"got the unknown column {name!r}, allowed {', '.join(COLUMNS)}")


def flag_bots(block: pl.DataFrame, bots: Sequence[Match]) -> pl.DataFrame:
    """Set is_bot where one of the matches holds; nothing is ever cleared."""
    for match in bots:
        found = holds(match, block.get_column)
        if found.any():
            block = block.with_columns(is_bot=pl.when(found).then(True).otherwise("is_bot"))
    return block
