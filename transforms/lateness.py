"""Lateness: reject late events, which go to quarantine.

    block with event_time, received_time -> the same, and what is late as REJECTED_SCHEMA (stage `late`)

A part of the step settle.py. There are two rules. `too_late` depends only on the record's own fields, so it is the same
in a stream and in a backfill. `too_late_for_stream` applies only to a stream, just before its first window: the
watermark follows the clock, and a redelivered message may have been received days ago. Without this rule, a runner
would drop such an event in a windowed step without a counter. A recompute accepts both kinds.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import polars as pl

from transforms.block import REJECTED_SCHEMA, empty
from transforms.days import Days
from transforms.json_objects import errors_json
from transforms.stage import rejections

MARGIN = timedelta(hours=1)  # how long an event may wait inside the graph before its first window


def allowed_lateness(max_lateness: timedelta) -> timedelta:
    """Return how long a stream keeps its windows: the window of every event that passes both rules is still open."""
    return max_lateness + timedelta(days=2)


class Lateness:
    """Rejects late events; see the module.

    max_lateness   the first rule; None: every event passes it, as in a recompute
    stream         the second rule: `allowed_lateness` of the stream; None in a batch run
    days           events outside these days are rejected: records of other days stay in quarantine (a replay)
    clock          seconds since 1970, for the second rule
    """

    def __init__(
        self,
        max_lateness: timedelta | None,
        *,
        stream: timedelta | None = None,
        days: Days | None = None,
        clock: Callable[[], float] = time.time,
    ):
        self.limit, self.days, self.clock = max_lateness, days, clock
        self.kept = None if stream is None else stream - MARGIN

    def __call__(self, block: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return (events in time, the others as REJECTED_SCHEMA): a block with event_time and received_time."""
        rejected = [empty(REJECTED_SCHEMA)]
        for late, code, errors in self._rules():
            found = block.select(late).to_series()
            if found.any():
                rejected.append(rejections(block.filter(found), "late", code, errors))
                block = block.filter(~found)
        return block, pl.concat(rejected)

    def clean(self) -> pl.Expr:
        """Whether all events of a block are in time: one Boolean."""
        return ~pl.any_horizontal(pl.lit(False), *(late.any() for late, _, _ in self._rules()))

    @property
    def late(self) -> pl.Expr:
        """Which events of a block are late; null of one without a time."""
        return pl.any_horizontal(pl.lit(False), *(late for late, _, _ in self._rules()))

    def _rules(self) -> Iterator[tuple[pl.Expr, str, str]]:
        """Yield (whether an event is late, code, errors)."""
        if self.limit is not None:
            message = f"received more than {self.limit} after it happened"
            late = pl.col("received_time") - pl.col("event_time") > self.limit
            yield late, "too_late", errors_json("$.event_time", "too_late", message)
        if self.kept is not None:
            message = "its windows may be closed: recompute its day"
            late = pl.col("event_time") < datetime.fromtimestamp(self.clock(), UTC) - self.kept
            yield late, "too_late_for_stream", errors_json("$.event_time", "too_late_for_stream", message)
        if self.days is not None:
            message = f"not from {self.days.start} to {self.days.end}, {self.days.zone}"
            outside = ~self.days.holds(pl.col("event_time"))
            yield outside, "out_of_range", errors_json("$.event_time", "out_of_range", message)
