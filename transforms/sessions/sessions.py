"""Sessions: each visitor's activity without a gap of 30 minutes, corrected by late events (session_summaries.py).

    PCollection[EVENT_SCHEMA block] -> PCollection[rows of the table `sessions`]

Days    a session belongs to the day of its start. A batch run writes the sessions that have an event in one of its
        days. So that none is cut at midnight, it also gets the stored `neighbor_events` of a day on both sides, and the
        `spanning_sessions` that reach into its days, or nearly: those that an event moves or merges get a tombstone.
State   of a stream: sessions_stream.py. Bounded: none, one shuffle by visitor.
Emits   bounded: once, when the input has ended. Stream: when a session closes (30 minutes after its last event), and
        again, late, when an event changes it; with `early`, open sessions too.
"""

import math
import time
from collections.abc import Callable, Collection, Sequence
from datetime import date, timedelta
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from transforms.aggregate import Launch, stamped
from transforms.block import TIME, day_of
from transforms.deduplicate import GATHER_ROWS, GROUP_ROWS
from transforms.sessions import summaries
from transforms.sessions.streaming import PublishSessions
from transforms.sessions.summaries import GAP
from transforms.shuffle_files import Part, parts, spill
from transforms.stage import in_global_window

STEPS = ("page_view", "add_to_cart", "purchase")
# Stored sessions with an event in a day that is not written, and in or near a day that is written.
SPANNING_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "key": pl.UInt64,
    "anonymous_id": pl.String,
    "user_id": pl.String,
    "start": TIME,
    "end": TIME,
}
Keyed = tuple[int, pl.DataFrame]  # (shard, VISIT_SCHEMA)
Gathered = tuple[int, tuple[bool, tuple[int, str, pl.DataFrame]]]  # shard, whether they are spanning, a spilled block


class TargetDays(NamedTuple):
    """The days that a batch run writes, in the warehouse's time zone; None means all days."""

    days: Collection[date] | None
    zone: str

    def touched(self, frame: pl.DataFrame) -> pl.Series:
        """Return whether a session, `start` to `end`, overlaps one of the days."""
        if self.days is None:
            return pl.Series([True]).new_from_index(0, len(frame))
        days = np.array(sorted(self.days), "datetime64[D]")
        first, last = (
            frame.select(day_of(pl.col(name), self.zone)).to_series().to_numpy() for name in ("start", "end")
        )
        return pl.Series(np.searchsorted(days, last, "right") > np.searchsorted(days, first, "left"))


EVERYTHING = TargetDays(None, "UTC")


class Sessions(beam.PTransform):
    """`steps` are the event types of the funnel, in order; `lateness` is how long a stream can correct a session.

    Applied to a dict of PCollections: `events`; in a batch run also, if there are any, `neighbor_events` (of the days
    on both sides) and `spanning_sessions` (SPANNING_SCHEMA frames).
    """

    def __init__(
        self,
        launch: Launch,
        steps: Sequence[str] = STEPS,
        shards: int = 4,
        streaming: bool = False,
        lateness: timedelta = timedelta(days=3),
        early: timedelta | None = None,
        target_days: TargetDays = EVERYTHING,
        spill_folder: str | None = None,
        seeds: str | None = None,
        clock: Callable[[], float] = time.time,
    ):
        super().__init__()
        self.launch, self.steps, self.shards, self.streaming = launch, tuple(steps), shards, streaming
        self.lateness, self.early, self.target_days = lateness, early, target_days
        self.spill_folder, self.seeds, self.clock = spill_folder, seeds, clock

    def expand(self, inputs):
        if self.streaming:
            keyed = beam.ParDo(_ByVisitor(self.shards)).with_output_types(Keyed)
            pieces = inputs["events"] | "Key by visitor" >> keyed
            step = PublishSessions(self.launch, self.steps, self.early, self.lateness, self.clock, self.seeds)
            publish = beam.ParDo(step)
            return pieces | "Merge and publish" >> publish.with_output_types(pl.DataFrame)
        sides = [inputs[name] for name in ("events", "neighbor_events") if name in inputs]
        gathered = [
            sides
            | "Join neighbor days" >> beam.Flatten()
            | "Key by visitor" >> beam.ParDo(_Gather(self)).with_output_types(Gathered)
        ]
        if "spanning_sessions" in inputs:
            mark = beam.FlatMap(_mark, self.shards).with_output_types(Gathered)
            gathered.append(inputs["spanning_sessions"] | "Tag spanning sessions" >> mark)
        return (
            gathered
            | "Join both" >> beam.Flatten()
            | "Gather each shard" >> beam.GroupByKey()
            | "Merge and publish" >> beam.ParDo(_PublishOnce(self)).with_output_types(pl.DataFrame)
        )


class _ByVisitor(beam.DoFn):
    """Gathers a bundle and splits it by shard: elements are expensive, and a bundle has many blocks on a busy runner.

    Each output gets a new timestamp: a block has the time of a client's clock, which may be years ahead, and a draining
    runner fires the timer that frees the state before it delivers later elements."""

    def __init__(self, shards: int):
        self.shards = shards

    def start_bundle(self):
        self.gathered: list[pl.DataFrame] = []

    def process(self, events):
        self.gathered.append(summaries.select_visits(events))

    def finish_bundle(self):
        if self.gathered:
            for shard, visits in summaries.split_by_shard(pl.concat(self.gathered), self.shards):
                earliest = Timestamp(micros=visits.select(pl.col("event_time").dt.epoch("us").min()).item())
                yield WindowedValue((shard, visits), earliest, [GlobalWindow()])


class _Gather(beam.DoFn):
    """GATHER_ROWS events at a time: small frames cost as much as large ones."""

    def __init__(self, options: Sessions):
        self.shards, self.folder = options.shards, options.spill_folder

    def start_bundle(self):
        self.gathered: list[pl.DataFrame] = []
        self.rows = 0

    def process(self, events):
        self.gathered.append(summaries.select_visits(events))
        self.rows += len(self.gathered[-1])
        if self.rows >= GATHER_ROWS:
            yield from self._flush()

    def finish_bundle(self):
        return map(in_global_window, self._flush())

    def _flush(self):
        if self.rows:
            frame = pl.concat(self.gathered)
            self.start_bundle()
            for shard, piece in summaries.split_by_shard(frame, self.shards):
                yield shard, (False, spill(piece, self.folder))


def _mark(frame: pl.DataFrame, shards: int):
    for shard, piece in summaries.split_by_shard(frame, shards):
        yield shard, (True, spill(piece, None))


class _PublishOnce(beam.DoFn):
    """Gets all events of a shard; many of them become sessions in parts, by other bits of the visitor's hash."""

    def __init__(self, options: Sessions):
        self.launch, self.steps = options.launch, options.steps
        self.target_days, self.clock = options.target_days, options.clock

    def process(self, gathered):
        crossed = list(gathered[1])
        pieces = parts(part for reaches, part in crossed if not reaches)
        reach = [part.load() for part in parts(part for reaches, part in crossed if reaches)]
        groups = max(1, math.ceil(sum(piece.rows for piece in pieces) / GROUP_ROWS))
        for group in range(groups):
            mine = pl.col("key") // pl.lit(2**32, pl.UInt64) % groups == group
            found = self._sessions(pieces, reach, mine)
            if not found.is_empty():
                now = self.clock()
                yield stamped(found, "on_time", int(now * 1_000_000), now, self.launch)

    def _sessions(self, pieces: list[Part], reach: list[pl.DataFrame], mine: pl.Expr) -> pl.DataFrame:
        merged = summaries.merge([summaries.summarize(piece.load().filter(mine), self.steps) for piece in pieces])
        standing = pl.concat([pl.DataFrame(schema=SPANNING_SCHEMA), *reach]).filter(mine)
        return pl.concat(_correct(merged, standing, self.target_days))


def _correct(merged: pl.DataFrame, standing: pl.DataFrame, target_days: TargetDays) -> list[pl.DataFrame]:
    """Return the rows to write: the sessions of the target days, changed spanning sessions, and their tombstones."""
    ours = pl.Series(target_days.touched(merged))
    if standing.is_empty():
        return [summaries.table_rows(merged.filter(ours))]
    # The rest of a session that lost its events in the target days is stored under its start, but its end differs.
    stands = standing.select("key", "start", stood="end")
    changed = merged.join(stands, on=["key", "start"], how="left", maintain_order="left")["stood"].ne_missing(
        merged["end"]
    )
    near = (
        merged.select("key", "start", "end")
        .with_row_index("row")
        .join(standing.select("key", since="start", until="end"), on="key")
    )
    reached = near.filter((pl.col("start") - pl.col("until") < GAP) & (pl.col("since") - pl.col("end") < GAP))["row"]
    ours |= changed & pl.Series(range(len(merged)), dtype=reached.dtype).is_in(reached.implode())
    gone = standing.join(merged, on=["key", "start"], how="anti")
    return [summaries.table_rows(merged.filter(ours)), summaries.retractions(gone)]
