"""Sessions: each visitor's activity without a gap of 30 minutes, corrected by late events (summaries.py).

    PCollection[EVENT_SCHEMA block] -> PCollection[rows of the table `sessions`]

Days    a session belongs to the day of its start. A batch run writes the sessions that have an event in one of its
        days. So that none is cut at midnight, it also gets the stored `neighbor_events` of a day on both sides, and the
        `spanning_sessions` that reach into its days, or nearly: those that an event moves or merges get a tombstone.
State   of a stream: streaming.py. Bounded: none, one shuffle by visitor.
Emits   bounded: once, when the input has ended. Stream: when a session closes (30 minutes after its last event), and
        again, late, when an event changes it; with `early`, open sessions too.
"""

import math
from collections.abc import Collection, Sequence
from datetime import date
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from transforms.block import TIME, compacted, day_of, empty
from transforms.publication import BOUNDED, Firing, Launch, stamp_rows
from transforms.sessions import summaries
from transforms.sessions.streaming import PACKED, PublishSessions, Visits, pack
from transforms.sessions.summaries import GAP
from transforms.shuffle_files import GATHER_ROWS, Part, parts, spill
from transforms.stage import Gathering
from transforms.windows import micros_of, to_micros

VISITS_ROWS = 250_000  # that become sessions at a time; more of a shard are split by bits of the visitor's hash
STEPS = ("page_view", "add_to_cart", "purchase")
# Stored sessions with an event in a day that is not written, and in or near a day that is written.
SPANNING_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "key": pl.UInt64,
    "anonymous_id": pl.String,
    "user_id": pl.String,
    "start": TIME,
    "end": TIME,
}
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
    """`steps` are the event types of the funnel, in order; a stream corrects a session as long as `firing.lateness`.

    Applied to a dict of PCollections: `events`; in a batch run also, if there are any, `neighbor_events` (of the days
    on both sides) and `spanning_sessions` (SPANNING_SCHEMA frames).
    """

    def __init__(
        self,
        launch: Launch,
        *,
        firing: Firing = BOUNDED,
        steps: Sequence[str] = STEPS,
        shards: int = 4,
        target_days: TargetDays = EVERYTHING,
        spill_folder: str | None = None,
    ):
        super().__init__()
        self.launch, self.firing, self.steps, self.shards = launch, firing, tuple(steps), shards
        self.target_days, self.spill_folder = target_days, spill_folder

    def expand(self, inputs):
        if self.firing.streaming:
            keyed = beam.ParDo(_ByVisitor(self.shards)).with_output_types(Visits)
            pieces = inputs["events"] | "Key by visitor" >> keyed
            step = PublishSessions(self.launch, self.steps, self.firing)
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


class _ByVisitor(Gathering):
    """Gathers a bundle and splits it by shard: elements are expensive, and a bundle has many blocks on a busy runner.

    Each output gets a new timestamp: a block has the time of a client's clock, which may be years ahead, and a draining
    runner fires the timer that frees the state before it delivers later elements."""

    def __init__(self, shards: int):
        self.shards = shards

    def hold(self, events):
        visits = summaries.select_visits(events, with_key=self.shards > 1)
        yield visits, len(visits), 0

    def flush(self, gathered, rows, size):
        visits = gathered[0] if len(gathered) == 1 else pl.concat(gathered)
        if visits.is_empty():
            return
        pieces = [(0, visits)] if self.shards == 1 else summaries.split_by_shard(visits, self.shards)
        for shard, piece in pieces:
            times = micros_of(piece["event_time"])
            first, last = int(times.min()), int(times.max())
            packed = pack(piece.select(PACKED) if self.shards > 1 else piece)
            yield TimestampedValue((shard, (first, last, packed)), Timestamp(micros=first))


class _Gather(Gathering):
    """For a batch run: GATHER_ROWS events at a time."""

    most_rows = GATHER_ROWS

    def __init__(self, options: Sessions):
        self.shards, self.folder = options.shards, options.spill_folder

    def hold(self, events):
        visits = compacted(summaries.select_visits(events), of=len(events))
        yield visits, len(visits), 0

    def flush(self, gathered, rows, size):
        for shard, partition in summaries.split_by_shard(pl.concat(gathered), self.shards):
            yield shard, (False, spill(partition, self.folder))


def _mark(frame: pl.DataFrame, shards: int):
    for shard, piece in summaries.split_by_shard(frame, shards):
        yield shard, (True, spill(piece, None))


class _PublishOnce(beam.DoFn):
    """Gets all events of a shard; many of them become sessions in parts, by other bits of the visitor's hash."""

    def __init__(self, options: Sessions):
        self.launch, self.steps = options.launch, options.steps
        self.target_days, self.clock = options.target_days, options.firing.clock

    def process(self, gathered):
        crossed = list(gathered[1])
        pieces = parts(part for reaches, part in crossed if not reaches)
        reach = [part.load() for part in parts(part for reaches, part in crossed if reaches)]
        groups = max(1, math.ceil(sum(piece.rows for piece in pieces) / VISITS_ROWS))
        for group in range(groups):
            mine = pl.col("key") // pl.lit(2**32, pl.UInt64) % groups == group if groups > 1 else pl.lit(True)
            found = self._sessions(pieces, reach, mine)
            if not found.is_empty():
                now = self.clock()
                yield stamp_rows(found, "on_time", to_micros(now), now, self.launch)

    def _sessions(self, pieces: list[Part], reach: list[pl.DataFrame], mine: pl.Expr) -> pl.DataFrame:
        visits = pl.concat([empty(summaries.VISIT_SCHEMA), *(piece.load().filter(mine) for piece in pieces)])
        # In their order before they are summaries, which have three times the columns.
        ordered = visits.sort("key", "event_time")
        merged = summaries.merge([summaries.summarize(ordered, self.steps)], ordered=True)
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
