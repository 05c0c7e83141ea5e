"""Moments: the order of what a visitor did. Pure functions.

A moment is (event_time, sequence, received_time): of two events the one with the smaller is first. An event without a
`sequence` is before those that have one. Of events with equal moments the order is undecided.

In a frame, a moment is three columns: `start`, `start_sequence`, `start_received` of a session's first event, the same
with `end` of its last, and `<name>_at`, `<name>_sequence`, `<name>_received` of what was seen. The latter are NULL
where they equal the `start`, or of what is seen last the `end`: so they are for most, and take no bytes.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from transforms.records.ragged import runs
from transforms.windows import TIME

TYPES: tuple[pl.DataType | type[pl.DataType], ...] = (TIME, pl.Int64, TIME)
BEFORE_ALL = np.iinfo(np.int64).min  # in place of a sequence that there is not


def columns_of(name: str) -> tuple[str, ...]:
    """The columns of the moment `start`, `end`, or of something seen."""
    return (name if name in ("start", "end") else f"{name}_at", f"{name}_sequence", f"{name}_received")


def schema_of(name: str) -> dict[str, pl.DataType | type[pl.DataType]]:
    """These columns with their types."""
    return dict(zip(columns_of(name), TYPES, strict=True))


class Chosen(NamedTuple):
    """The first, or last, row of each owner; and all rows of these moments, if any owner has several."""

    owners: np.ndarray
    rows: np.ndarray
    tied: tuple[np.ndarray, np.ndarray] | None  # (owners, rows)


def choose(moments: pl.DataFrame, rows: np.ndarray, owner: np.ndarray, last: bool) -> Chosen:
    """Choose among some rows of a frame of moments; `owner` of each of these rows, ascending."""
    times = _numbers(moments, 0)
    time, same = times[rows], owner[1:] == owner[:-1]
    if not np.any(same & (time[1:] <= time[:-1])):
        at = _ends_of(owner, last)
        return Chosen(owner[at], rows[at], None)
    keys = [times, _numbers(moments, 1), _numbers(moments, 2)]
    rows = _ordered(keys, rows, owner, time, same)
    at = _ends_of(owner, last)
    sizes = np.diff(np.append(runs(owner), len(owner)))
    tied = np.logical_and.reduce([key[rows] == np.repeat(key[rows[at]], sizes) for key in keys])
    return Chosen(owner[at], rows[at], (owner[tied], rows[tied]) if tied.sum() > len(at) else None)


def _ordered(
    keys: list[np.ndarray], rows: np.ndarray, owner: np.ndarray, time: np.ndarray, same: np.ndarray
) -> np.ndarray:
    """The rows in the order of owners and moments."""
    unsure: np.ndarray | slice = slice(None)
    if not np.any(same & (time[1:] < time[:-1])):  # as always of single events: only those of one time are unsure
        equal = same & (time[1:] == time[:-1])
        unsure = np.append(equal, False) | np.append(False, equal)
    some = rows[unsure]
    order = np.lexsort((*(key[some] for key in reversed(keys)), owner[unsure]))
    rows = rows.copy()
    rows[unsure] = some[order]
    return rows


def moments_of(parts: pl.DataFrame, name: str, anchor: str) -> pl.DataFrame:
    """The moments at which it was seen, with those of `anchor`, start or end, where none are stated."""
    own, its = columns_of(name), columns_of(anchor)
    if parts[own[0]].null_count() == len(parts):
        return parts.select(pl.col(base).alias(column) for column, base in zip(own, its, strict=True))
    stated = pl.col(own[0]).is_not_null()
    return parts.select(
        pl.when(stated).then(column).otherwise(base).alias(column) for column, base in zip(own, its, strict=True)
    )


def without(moments: pl.DataFrame, anchors: pl.DataFrame) -> pl.DataFrame:
    """The moments, NULL where they equal those in the same row of `anchors`."""
    pairs = zip(moments.get_columns(), anchors.get_columns(), strict=True)
    differs = np.logical_or.reduce([column.ne_missing(anchor).to_numpy() for column, anchor in pairs])
    return moments.select(pl.when(pl.lit(pl.Series(differs))).then(pl.all()))


def _numbers(moments: pl.DataFrame, column: int) -> np.ndarray:
    return moments.to_series(column).to_physical().fill_null(BEFORE_ALL).to_numpy()


def _ends_of(owner: np.ndarray, last: bool) -> np.ndarray:
    begin = runs(owner)
    return np.append(begin[1:], len(owner)) - 1 if last and len(owner) else begin
