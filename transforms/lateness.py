"""Lateness: what is too late is set aside, and quarantine keeps it.

    PCollection[block with event_time, received_time] -> passed, rejected (stage `late`)

Two rules. `too_late` is a function of the record's own fields, so it is the same in a stream and in a backfill.
`too_late_for_stream` is only for a stream, just before its first window: the watermark follows the clock, and a message
delivered again may have been received days ago. Without it a runner drops such an event in a windowed step without
a counter. A recompute takes both kinds in.
State   none
Emits   at once
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl

from transforms.records.payloads import errors_json
from transforms.stage import Sieve, rejections

MARGIN = timedelta(hours=1)  # how long an event may wait inside the graph before its first window


def allowed_lateness(max_lateness: timedelta) -> timedelta:
    """How long a stream keeps its windows: every event that passes both rules still finds its window open."""
    return max_lateness + timedelta(days=2)


def too_late(max_lateness: timedelta) -> Sieve:
    """Reject what was received more than `max_lateness` after it happened."""
    return _TooLate(max_lateness)


def never_late(block: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Let everything pass: a recompute takes in what was too late."""
    return block, rejections(block.clear(), "late", "", "")


def too_late_for_stream(lateness: timedelta, clock: Callable[[], float] = time.time) -> Sieve:
    """Reject what a window of this stream might no longer take; `clock` gives seconds since 1970."""
    return _TooLateForStream(lateness, clock)


class _TooLate:
    def __init__(self, max_lateness: timedelta):
        self.limit = max_lateness
        self.errors = errors_json("$.event_time", "too_late", f"received more than {max_lateness} after it happened")

    def __call__(self, block: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        late = block["received_time"] - block["event_time"] > self.limit
        return _part(block, late, "too_late", self.errors)


class _TooLateForStream:
    def __init__(self, lateness: timedelta, clock: Callable[[], float]):
        self.limit, self.clock = lateness - MARGIN, clock
        self.errors = errors_json("$.event_time", "too_late_for_stream", "its windows may be closed: recompute its day")

    def __call__(self, block: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        late = block["event_time"] < datetime.fromtimestamp(self.clock(), UTC) - self.limit
        return _part(block, late, "too_late_for_stream", self.errors)


def _part(block: pl.DataFrame, late: pl.Series, code: str, errors: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    if not late.any():
        return block, rejections(block.clear(), "late", code, errors)
    return block.filter(~late), rejections(block.filter(late), "late", code, errors)
