"""Range: a backfill writes only the given days, and counts the events outside them.

    PCollection[FLOW_SCHEMA block] -> passed: PCollection[FLOW_SCHEMA block], books: PCollection[packed entries]

Before deduplication, a day of margin is kept on both sides: a duplicate may have another event time than its first
copy, and the two must be compared. After it, the margin is removed.
State   none
Emits   at once
"""

from datetime import date, timedelta
from typing import NamedTuple

import apache_beam as beam
import polars as pl
from apache_beam.pvalue import TaggedOutput

from transforms.block import FLOW_COLUMNS, day_of
from transforms.quality import entries_of, pack

MARGIN = timedelta(days=1)


class Days(NamedTuple):
    """Days from `start` to `end` (exclusive), in the time zone of the warehouse."""

    start: date
    end: date
    zone: str = "UTC"

    def listed(self) -> list[date]:
        """Return each day."""
        return [self.start + timedelta(days=n) for n in range((self.end - self.start).days)]

    def widened(self) -> "Days":
        """Return the days with the margin on both sides."""
        return self._replace(start=self.start - MARGIN, end=self.end + MARGIN)

    def near(self, day: date) -> bool:
        """Return whether a day is in these days or their margin."""
        return self.start - MARGIN <= day < self.end + MARGIN

    def holds(self, time: pl.Expr) -> pl.Expr:
        """Return whether a time is in these days."""
        return day_of(time, self.zone).is_between(self.start, self.end, closed="left")


class KeepDays(beam.PTransform):
    """Stored rows are not counted."""

    def __init__(self, days: Days):
        super().__init__()
        self.days = days

    def expand(self, events):
        keep = beam.ParDo(_KeepDays(self.days)).with_output_types(pl.DataFrame, books=bytes)
        return events | "Keep days" >> keep.with_outputs("books", main="passed")


class _KeepDays(beam.DoFn):
    def __init__(self, days):
        self.days = days

    def process(self, events):
        inside = events.select(self.days.holds(pl.col("event_time"))).to_series()
        kept, outside = events.filter(inside), events.filter(~inside & ~events["stored"])
        if not outside.is_empty():
            yield TaggedOutput("books", pack(entries_of(outside, "out_of_range")))
        if not kept.is_empty():
            yield kept


def as_events(block: pl.DataFrame) -> pl.DataFrame:
    """Return a block with event times as FLOW_SCHEMA, without the raw bytes."""
    return block.with_columns(stored=pl.lit(False)).select(FLOW_COLUMNS)
