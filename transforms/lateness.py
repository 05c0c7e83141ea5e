"""Lateness: reject late events, which go to quarantine.

    PCollection[block with event_time, received_time] -> passed, rejected (stage `late`)

There are two rules. `too_late` depends only on the record's own fields, so it is the same in a stream and in a
backfill. `too_late_for_stream` applies only to a stream, just before its first window: the watermark follows the clock,
and a redelivered message may have been received days ago. Without this rule, a runner would drop such an event in a
windowed step without a counter. A recompute accepts both kinds.
State   none
Emits   at once
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl

from transforms.records.payloads import errors_json
from transforms.stage import RecordFilter, rejections

MARGIN = timedelta(hours=1)  # how long an event may wait inside the graph before its first window


def allowed_lateness(max_lateness: timedelta) -> timedelta:
    """Return how long a stream keeps its windows: the window of every event that passes both rules is still open."""
    return max_lateness + timedelta(days=2)


def too_late(max_lateness: timedelta) -> RecordFilter:
    """Reject events received more than `max_lateness` after their event time."""
    return _TooLate(max_lateness)


def never_late(block: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Pass everything: a recompute accepts late events."""
    return block, rejections(block.clear(), "late", "", "")


def too_late_for_stream(lateness: timedelta, clock: Callable[[], float] = time.time) -> RecordFilter:
    """Reject events whose window in this stream may be closed; `clock` returns seconds since 1970."""
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
