"""Aggregate: one metric, from events to the rows of its table.

    PCollection[EVENT_SCHEMA block] -> PCollection[rows: bucket_start, bucket_end, dimensions, measures, firing,
                                                   generation i64, revision i64, emitted_time, pipeline_version]

Each block is aggregated at once with Polars; what crosses the shuffle are partial rows, per shard and window.
The bucket is a column. The Beam window is only the scope of a firing: in a stream it is the bucket, in a bounded run
the larger of the bucket and a day, since a window costs a timer and a state read whatever it holds.

State   a stream's, per shard and window: `pending` partial frames, compacted to one above COMPACT_AT, and `published`,
        the merged rows so far; freed at the window's end + lateness. `published` starts as what `seeds` hold, if
        there are any (seeds.py). Bounded: none, one shuffle. (The in-process
        runner of Beam 2.77 fires the timers of one stateful step only where it fuses several into a stage: of four
        metrics three stayed empty.)
Emits   bounded: once, when the input has ended. Stream: early (a processing-time timer after a change), on time (the
        window's end), late (a processing-time timer after a late change), and at the last moment what is still
        pending. A firing emits only the groups that were pending: the changed rows. Rows are appended, never mended:
        the current truth of a key is its row of the highest (generation, revision).
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple, Protocol

import apache_beam as beam
import polars as pl
from apache_beam.coders import BooleanCoder, VarIntCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

from transforms import measures, quality, seeds
from transforms.block import SEPARATOR, TIME, BlockCoder, hash64
from transforms.metrics import MetricSpec

COMPACT_AT = 64
DAY = timedelta(days=1)
LATE_EVERY = timedelta(minutes=1)


class Aggregation(Protocol):
    """Pure functions over frames; `partial` and `merge` yield frames of one shape, with a column bucket_start."""

    @property
    def name(self) -> str:
        """The table's."""

    @property
    def bucket(self) -> timedelta:
        """The width of a bucket."""

    @property
    def shards(self) -> int:
        """Parts that the rows of a window are merged in."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that, with bucket_start, say what a row is about."""

    @property
    def early(self) -> timedelta | None:
        """How often a stream shows an open bucket; None for never."""

    def partial(self, block: pl.DataFrame) -> pl.DataFrame:
        """Aggregate one block."""

    def merge(self, partials: list[pl.DataFrame]) -> pl.DataFrame:
        """Add partials up, in any order and any grouping."""

    def finish(self, merged: pl.DataFrame) -> pl.DataFrame:
        """The columns of the table, without those that a firing stamps."""


class MetricAggregation:
    """A metric of the catalogue."""

    def __init__(self, spec: MetricSpec, zone: str):
        self.spec, self.zone = spec, zone
        self.name, self.bucket, self.shards = spec.name, spec.bucket_width, spec.shards
        self.keys, self.early = tuple(spec.dimensions), spec.early_interval

    def partial(self, block):
        return measures.partial(block, self.spec, self.zone)

    def merge(self, partials):
        return measures.merge(partials, self.spec)

    def finish(self, merged):
        return measures.finish(merged, self.spec, self.zone)


class BooksAggregation(NamedTuple):
    """The ledger `quality_1m`: its blocks are entries already."""

    name: str = "quality_1m"
    bucket: timedelta = quality.MINUTE
    shards: int = 1
    keys: tuple[str, ...] = ("source", "input")
    early: timedelta | None = timedelta(seconds=10)

    def partial(self, block):
        return quality.merge([block])

    def merge(self, partials):
        return quality.merge(partials)

    def finish(self, merged):
        return merged.with_columns(bucket_end=pl.col("bucket_start") + quality.MINUTE)


class Launch(NamedTuple):
    """What a run stamps on the rows it publishes: `generation` outlives an update, and is the newest in a backfill."""

    generation: int
    version: str


class Aggregate(beam.PTransform):
    """`streaming` decides when it fires, never what it says; `lateness` is how long a stream keeps a window."""

    def __init__(
        self,
        what: Aggregation,
        launch: Launch,
        streaming: bool = False,
        lateness: timedelta = 3 * DAY,
        clock: Callable[[], float] = time.time,
        seeds: str | None = None,
    ):
        super().__init__()
        self.what, self.launch, self.streaming, self.lateness, self.clock = what, launch, streaming, lateness, clock
        self.seeds = seeds

    def expand(self, blocks):
        scope = self.what.bucket if self.streaming else max(self.what.bucket, DAY)
        window = beam.WindowInto(
            FixedWindows(scope.total_seconds()), allowed_lateness=Duration(self.lateness.total_seconds())
        )
        partials = (
            blocks
            | "Aggregate each block"
            >> beam.ParDo(_Partial(self.what, scope)).with_output_types(tuple[int, pl.DataFrame])
            | "Window by bucket" >> window.with_output_types(tuple[int, pl.DataFrame])
        )
        if self.streaming:
            publish = beam.ParDo(
                Publish(self.what, self.launch, self.what.early, self.lateness, self.clock, self.seeds)
            )
        else:
            partials = partials | "Gather each window and shard" >> beam.GroupByKey()
            publish = beam.ParDo(PublishOnce(self.what, self.launch, self.clock))
        return partials | "Merge and publish" >> publish.with_output_types(pl.DataFrame)


def scatter(partial: pl.DataFrame, bucket: timedelta, scope: timedelta, shards: int, keys: tuple[str, ...]):
    """[(shard, partial rows of one window and shard, time in seconds inside that window)]"""
    width = int(scope.total_seconds() * 1_000_000)
    # The window in which a bucket ends: a day of another time zone begins in one window and ends in the next, which
    # alone is open as long as its last events may come.
    last = (pl.col("bucket_start") + bucket - timedelta(microseconds=1)).dt.epoch("us").fill_null(0)
    marked = partial.with_columns(_window=last // width, _shard=_shard(partial, shards, keys))
    pieces = marked.partition_by("_window", "_shard", as_dict=True, include_key=False)
    # Sorted, so that the same block makes the same elements in the same order when it is tried again.
    ordered = sorted(pieces.items(), key=lambda piece: piece[0])
    return [(int(shard), piece, window * scope.total_seconds()) for (window, shard), piece in ordered]


def _shard(partial: pl.DataFrame, shards: int, keys: tuple[str, ...]) -> pl.Series:
    if shards == 1 or partial.is_empty():
        return pl.Series("_shard", [0], dtype=pl.UInt64).new_from_index(0, len(partial))
    texts = [pl.col(key).cast(pl.String).fill_null("\x00") for key in keys]
    return hash64(partial.select(pl.concat_str(texts, separator=SEPARATOR)).to_series()) % shards


class _Partial(beam.DoFn):
    def __init__(self, what: Aggregation, scope: timedelta):
        self.what, self.scope = what, scope

    def process(self, block):
        partial = self.what.partial(block)
        for shard, rows, at in scatter(partial, self.what.bucket, self.scope, self.what.shards, self.what.keys):
            yield TimestampedValue((shard, rows), at)


class PublishOnce(beam.DoFn):
    """The bounded step: all partials of a window and shard are there."""

    def __init__(self, what: Aggregation, launch: Launch, now: Callable[[], float] = time.time):
        self.what, self.launch, self.now = what, launch, now

    def process(self, gathered):
        now = self.now()
        rows = self.what.finish(self.what.merge(list(gathered[1])))
        yield stamped(rows, "on_time", int(now * 1_000_000), now, self.launch)


class Publish(beam.DoFn):
    """The stream's step: keyed by shard, in the window of the firing."""

    PENDING = BagStateSpec("pending", BlockCoder())
    COUNT = ReadModifyWriteStateSpec("pending_count", VarIntCoder())
    PUBLISHED = ReadModifyWriteStateSpec("published", BlockCoder())
    REVISION = ReadModifyWriteStateSpec("revision", VarIntCoder())
    ENDED = ReadModifyWriteStateSpec("ended", BooleanCoder())
    WAITING = ReadModifyWriteStateSpec("waiting", BooleanCoder())
    SOON = TimerSpec("soon", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)
    EXPIRE = TimerSpec("expire", TimeDomain.WATERMARK)

    def __init__(
        self,
        what: Aggregation,
        launch: Launch,
        early: timedelta | None,
        lateness: timedelta,
        now: Callable[[], float] = time.time,
        seeds: str | None = None,
    ):
        self.what, self.launch, self.early = what, launch, early
        self.lateness, self.now, self.seeds = Duration(lateness.total_seconds()), now, seeds

    def process(
        self,
        keyed,
        window=beam.DoFn.WindowParam,
        pending=beam.DoFn.StateParam(PENDING),
        counted=beam.DoFn.StateParam(COUNT),
        ended=beam.DoFn.StateParam(ENDED),
        waiting=beam.DoFn.StateParam(WAITING),
        soon=beam.DoFn.TimerParam(SOON),
        end=beam.DoFn.TimerParam(END),
        expire=beam.DoFn.TimerParam(EXPIRE),
    ):
        pending.add(keyed[1])
        count = (counted.read() or 0) + 1
        if count > COMPACT_AT:
            merged = self.what.merge(list(pending.read()))
            pending.clear()
            pending.add(merged)
            count = 1
        counted.write(count)
        if not ended.read():
            end.set(self._end_of(keyed[1], window))
        expire.set(window.end + self.lateness)
        self._fire_soon(ended.read(), waiting, soon)

    def _end_of(self, partial, window):
        """When the last bucket of `partial` ends; an hour off where clocks change on a day of a time zone."""
        start = partial["bucket_start"].max()
        width = Duration(self.what.bucket.total_seconds())
        return window.end if start is None else min(window.end, Timestamp.of(start.timestamp()) + width)

    def _fire_soon(self, ended, waiting, soon):
        wait = LATE_EVERY if ended else self.early
        if wait is not None and not waiting.read():
            soon.set(Timestamp.of(self.now()) + Duration(wait.total_seconds()))
            waiting.write(True)

    @on_timer(SOON)
    def fire_soon(
        self,
        shard=beam.DoFn.KeyParam,
        window=beam.DoFn.WindowParam,
        pending=beam.DoFn.StateParam(PENDING),
        counted=beam.DoFn.StateParam(COUNT),
        published=beam.DoFn.StateParam(PUBLISHED),
        revision=beam.DoFn.StateParam(REVISION),
        ended=beam.DoFn.StateParam(ENDED),
        waiting=beam.DoFn.StateParam(WAITING),
    ):
        waiting.clear()
        firing = "late" if ended.read() else "early"
        yield from self._publish(firing, _place(window, shard), pending, counted, published, revision)

    @on_timer(END)
    def fire_on_time(
        self,
        shard=beam.DoFn.KeyParam,
        window=beam.DoFn.WindowParam,
        pending=beam.DoFn.StateParam(PENDING),
        counted=beam.DoFn.StateParam(COUNT),
        published=beam.DoFn.StateParam(PUBLISHED),
        revision=beam.DoFn.StateParam(REVISION),
        ended=beam.DoFn.StateParam(ENDED),
    ):
        ended.write(True)
        yield from self._publish("on_time", _place(window, shard), pending, counted, published, revision)

    @on_timer(EXPIRE)
    def expire(
        self,
        shard=beam.DoFn.KeyParam,
        window=beam.DoFn.WindowParam,
        pending=beam.DoFn.StateParam(PENDING),
        counted=beam.DoFn.StateParam(COUNT),
        published=beam.DoFn.StateParam(PUBLISHED),
        revision=beam.DoFn.StateParam(REVISION),
        ended=beam.DoFn.StateParam(ENDED),
        waiting=beam.DoFn.StateParam(WAITING),
    ):
        # What is still pending would go with the state: a drain and a quiet end come here too.
        yield from self._publish("late", _place(window, shard), pending, counted, published, revision)
        for state in (published, revision, ended, waiting):
            state.clear()

    def _publish(self, firing, place, pending, counted, published, revision):
        partials = list(pending.read())
        if not partials:  # a timer may fire twice on the legacy local runner
            return
        pending.clear()
        counted.clear()
        changed = self.what.merge(partials)
        before, last = published.read(), revision.read()
        if before is None:
            before = seeds.published(self.seeds, self.what.name, place)
        stamp = max(int(self.now() * 1_000_000), (seeds.revision(self.seeds) if last is None else last) + 1)
        merged = changed if before is None else self.what.merge([before, changed])
        published.write(merged)
        revision.write(stamp)
        keys = ["bucket_start", *self.what.keys]
        touched = merged.join(changed.select(keys), on=keys, how="semi", nulls_equal=True)
        yield stamped(self.what.finish(touched), firing, stamp, self.now(), self.launch)


def _place(window, shard):
    return seeds.Place(window.start.micros // (window.end.micros - window.start.micros), shard)


def stamped(rows: pl.DataFrame, firing: str, revision: int, now: float, launch: Launch) -> pl.DataFrame:
    """The rows with the columns that say which publication of their key they are."""
    return rows.with_columns(
        firing=pl.lit(firing),
        generation=pl.lit(launch.generation, pl.Int64),
        revision=pl.lit(revision, pl.Int64),
        emitted_time=pl.lit(int(now * 1_000_000)).cast(TIME),
        pipeline_version=pl.lit(launch.version),
    )
