"""Cold sessions: a bag of encoded frames of SUMMARY_SCHEMA, read one frame at a time. Pure functions.

If a session (key, start) has several rows, the last one counts; a row without events removes the session, and only
after such a row can the same session be added again.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import polars as pl

from transforms.block import BlockCoder, empty
from transforms.sessions.packed import SummaryCoder
from transforms.sessions.summaries import SUMMARY_SCHEMA

FRAME_ROWS = 50_000
SESSION = ["key", "start"]
encode = SummaryCoder().encode
_read = BlockCoder().decode  # without the columns in which no row of the frame has a value: joined first, then filled


def removals(sessions: pl.DataFrame) -> bytes:
    """Return the rows that remove these sessions."""
    return encode(sessions.with_columns(events=pl.lit(0, pl.Int64)))


def select_visitors(bag: Iterable[bytes], keys: pl.DataFrame) -> pl.DataFrame:
    """Return the sessions of the visitors with these keys."""
    found = [_read(frame).join(keys, on="key", how="semi") for frame in bag]
    last = pl.concat([empty(SUMMARY_SCHEMA), *found], how="diagonal").unique(SESSION, keep="last", maintain_order=True)
    return last.filter(pl.col("events") > 0)


class Compacted(NamedTuple):
    """Frames of at least FRAME_ROWS rows, except the last; their rows, and the earliest end in microseconds, or 0."""

    frames: list[bytes]
    rows: int
    oldest: int


def compact(read: Callable[[], Iterable[bytes]], alive: pl.Expr) -> Compacted:
    """Compact a bag to the rows that count and are alive; `read` reads it again. Memory: the result and one frame."""
    gone = _find_removed(read())
    made, gathered, rows, oldest = Compacted([], 0, 0), [empty(SUMMARY_SCHEMA)], 0, []
    for place, data in enumerate(read()):
        left = _read(data).filter((pl.col("events") > 0) & alive)
        left = left.join(gone.filter(pl.col("place") > place), on=SESSION, how="anti", maintain_order="left")
        gathered.append(left)
        rows += len(left)
        oldest += left.select(pl.col("end").dt.epoch("us").min()).to_series().drop_nulls().to_list()
        if sum(map(len, gathered)) >= FRAME_ROWS:
            made.frames.append(encode(pl.concat(gathered, how="diagonal")))
            gathered.clear()
    if any(len(frame) for frame in gathered):
        made.frames.append(encode(pl.concat(gathered, how="diagonal")))
    return made._replace(rows=rows, oldest=min(oldest, default=0))


def _find_removed(bag: Iterable[bytes]) -> pl.DataFrame:
    """Return the sessions that were removed, and in which frame."""
    marks = [
        _read(data).filter(pl.col("events") == 0).select(*SESSION, place=pl.lit(place))
        for place, data in enumerate(bag)
    ]
    return pl.concat([empty(SUMMARY_SCHEMA).select(*SESSION, place=pl.lit(0)), *marks])
