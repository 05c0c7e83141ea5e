"""Publication: when a step shows its rows, and what identifies each showing.

Firing                    what decides when the steps of a graph emit: one value for all of them
set_firing(...)           the processing-time timer of the next firing
stamp_rows(...)           rows with firing, generation, revision, emitted_time and pipeline_version
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import polars as pl
from apache_beam.utils.timestamp import Timestamp

from transforms.block import TIME
from transforms.windows import to_micros

LATE_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Firing:
    """When the steps of a graph emit; it never changes the values.

    streaming   by windows and timers; else once, when the input has ended
    lateness    how long a stream keeps a window after its end
    early       how often a stream publishes an open session, and a metric that does not state it; None: never
    clock       the time, in seconds since 1970
    restored    the folder of the state that a stream starts from (restored_state.py), if any
    """

    streaming: bool = False
    lateness: timedelta = timedelta(days=3)
    early: timedelta | None = None
    clock: Callable[[], float] = time.time
    restored: str | None = None


BOUNDED = Firing()


class Launch(NamedTuple):
    """What a run stamps on its rows: `generation` survives an update, and is the newest in a backfill."""

    generation: int
    version: str


def set_firing(wait: timedelta | None, now: float, soon) -> bool:
    """Set a firing in processing time, and return whether it is set. All keys fire together, in one bundle."""
    if wait is None:
        return False
    every = wait.total_seconds()
    soon.set(Timestamp.of((now // every + 1) * every))
    return True


def stamp_rows(rows: pl.DataFrame, firing: str, revision: int, now: float, launch: Launch) -> pl.DataFrame:
    """Return the rows with the columns that identify the publication of their key."""
    return rows.with_columns(
        firing=pl.lit(firing),
        generation=pl.lit(launch.generation, pl.Int64),
        revision=pl.lit(revision, pl.Int64),
        emitted_time=pl.lit(to_micros(now)).cast(TIME),
        pipeline_version=pl.lit(launch.version),
    )
