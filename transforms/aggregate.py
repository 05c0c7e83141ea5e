"""Aggregate: one metric, from events to the rows of its table.

    PCollection[EVENT_SCHEMA block] -> PCollection[rows: bucket_start, bucket_end, dimensions, measures, firing,
                                                   generation i64, revision i64, emitted_time, pipeline_version]

Each block is aggregated with Polars at once; partial rows are shuffled, keyed by window and shard. The bucket is a
column. The window is only the scope of a firing: in a stream it is the bucket; in a batch run it is the larger of the
bucket and a day, since every window costs a merge and a timer. It is a number in the key, not a Beam window: Beam's
windows all stay global, so no runner drops late data, or frees state too early (Prism 2.77 frees a stateful step's
state at the end of the window, whatever the allowed lateness).

State   of a stream, per window and shard: `pending` partial frames, compacted to one above COMPACT_AT, and `published`,
        the merged rows so far; freed at the window's end + lateness. `published` starts with the restored state in
        `firing.restored`, if any (restored_state.py). Bounded: none, one shuffle. (The in-process runner of Beam 2.77
        fires the timers of only one stateful step if it fuses several into a stage: of four metrics, three stayed
        empty.)
Emits   bounded: once, when the input has ended. Stream: early (a processing-time timer after a change), on time (the
        window's end), late (a processing-time timer after a late change), and at expiry what is still pending. A firing
        emits only the groups that were pending: the changed rows. Rows are appended, never updated: the current row of
        a key is the one with the highest (generation, revision).
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple, Protocol

import apache_beam as beam
import polars as pl
from apache_beam.coders import TupleCoder, VarIntCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

from transforms import quality
from transforms import restored_state as seeds
from transforms.block import SEPARATOR, BlockCoder, hash64
from transforms.metrics import measures
from transforms.metrics.spec import MetricSpec
from transforms.publication import BOUNDED, LATE_EVERY, Firing, Launch, set_firing, stamp_rows
from transforms.shuffle_files import GATHER_ROWS
from transforms.stage import Gathering
from transforms.windows import MICROSECOND, end_of, number_of, start_of, to_micros

COMPACT_AT = 64
DAY = timedelta(days=1)
Keyed = tuple[tuple[int, int], pl.DataFrame]  # ((window, shard), partial rows); window n is [n, n + 1) times the scope


class Aggregation(Protocol):
    """Pure functions over frames; `partial` and `merge` return frames of one schema, with a column bucket_start."""

    @property
    def name(self) -> str:
        """The name of the table."""

    @property
    def bucket(self) -> timedelta:
        """The width of a bucket."""

    @property
    def shards(self) -> int:
        """The number of shards in which the rows of a window are merged."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that, with bucket_start, identify a row."""

    @property
    def early(self) -> timedelta | None:
        """How often a stream publishes an open bucket; None means never."""

    def partial(self, block: pl.DataFrame) -> pl.DataFrame:
        """Aggregate one block."""

    def merge(self, partials: list[pl.DataFrame]) -> pl.DataFrame:
        """Add partials up, in any order and any grouping."""

    def finish(self, merged: pl.DataFrame) -> pl.DataFrame:
        """Return the columns of the table, without those that a firing stamps."""


class MetricAggregation:
    """A metric of the catalog; `early` overrides its own interval of early firings."""

    def __init__(self, spec: MetricSpec, zone: str, early: timedelta | None = None):
        self.spec, self.zone = spec, zone
        self.name, self.bucket, self.shards = spec.name, spec.bucket_width, spec.shards
        self.keys, self.early = tuple(spec.dimensions), early or spec.early_interval

    def partial(self, block):
        return measures.partial(block, self.spec, self.zone)

    def merge(self, partials):
        return measures.merge(partials, self.spec)

    def finish(self, merged):
        return measures.finish(merged, self.spec, self.zone)


class BooksAggregation(NamedTuple):
    """The audit counts, `quality_1m`: its blocks are already entries."""

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


class Aggregate(beam.PTransform):
    """One metric, or the audit counts. `what` states its own interval of early firings.

    fold  of a batch run, see `scatter`; 0 on a cluster, where a worker holds a group in memory
    """

    def __init__(self, what: Aggregation, launch: Launch, firing: Firing = BOUNDED, fold: int = 0):
        super().__init__()
        self.what, self.launch, self.firing, self.fold = what, launch, firing, fold

    def expand(self, blocks):
        scope = self.what.bucket if self.firing.streaming else max(self.what.bucket, DAY)
        partial = beam.ParDo(_Partial(self.what, scope, 0 if self.firing.streaming else self.fold))
        partials = blocks | "Aggregate each block" >> partial.with_output_types(Keyed)
        if self.firing.streaming:
            publish = beam.ParDo(Publish(self.what, self.launch, self.firing))
        else:
            partials = partials | "Gather each window and shard" >> beam.GroupByKey()
            publish = beam.ParDo(PublishOnce(self.what, self.launch, self.firing.clock))
        return partials | "Merge and publish" >> publish.with_output_types(pl.DataFrame)


def scatter(
    partial: pl.DataFrame, bucket: timedelta, scope: timedelta, shards: int, keys: tuple[str, ...], fold: int = 0
):
    """Split partial rows into [((window, shard), rows)]; with `fold`, windows whose numbers differ by it are one."""
    # Use the window in which a bucket ends: a day of another time zone begins in one window and ends in the next, and
    # only the latter stays open until its last events may arrive.
    last = number_of(pl.col("bucket_start") + bucket - MICROSECOND, scope).fill_null(0)
    marked = partial.with_columns(_window=last % fold if fold else last, _shard=_shard(partial, shards, keys))
    pieces = marked.partition_by("_window", "_shard", as_dict=True, include_key=False)
    # Sorted, so that a retried block yields the same elements in the same order.
    ordered = sorted(pieces.items(), key=lambda piece: piece[0])
    return [((int(window), int(shard)), piece) for (window, shard), piece in ordered]


def _shard(partial: pl.DataFrame, shards: int, keys: tuple[str, ...]) -> pl.Series:
    if shards == 1 or partial.is_empty():
        return pl.Series("_shard", [0], dtype=pl.UInt64).new_from_index(0, len(partial))
    texts = [pl.col(key).cast(pl.String).fill_null("\x00") for key in keys]
    return hash64(partial.select(pl.concat_str(texts, separator=SEPARATOR)).to_series()) % shards


class _Partial(beam.DoFn):
    def __init__(self, what: Aggregation, scope: timedelta, fold: int = 0):
        self.what, self.scope, self.fold = what, scope, fold

    def process(self, block):
        partial = self.what.partial(block)
        for key, rows in scatter(partial, self.what.bucket, self.scope, self.what.shards, self.what.keys, self.fold):
            yield TimestampedValue((key, rows), start_of(key[0], self.scope))


class PublishOnce(Gathering):
    """The step of a batch run: gets all partials of a window and shard; small ones are merged together."""

    most_rows = GATHER_ROWS

    def __init__(self, what: Aggregation, launch: Launch, now: Callable[[], float] = time.time):
        self.what, self.launch, self.now = what, launch, now

    def hold(self, gathered):
        for rows in gathered[1]:
            yield rows, len(rows), 0

    def flush(self, partials, rows, size):
        now = self.now()
        merged = self.what.finish(self.what.merge(partials))
        yield stamp_rows(merged, "on_time", to_micros(now), now, self.launch)


class Progress(NamedTuple):
    """The progress of a window and shard of a stream: whole numbers in one state cell, read once per element."""

    pending: int = 0  # frames
    revision: int = 0  # of the last publication
    ends: int = 0  # microseconds for which the firing on time is set; 0: not yet
    ended: int = False  # it has fired
    waiting: int = False  # a firing in processing time is set


class Publish(beam.DoFn):
    """The step of a stream, keyed by window (the bucket) and shard."""

    PENDING = BagStateSpec("pending", BlockCoder())
    PUBLISHED = ReadModifyWriteStateSpec("published", BlockCoder())
    PROGRESS = ReadModifyWriteStateSpec("progress", TupleCoder([VarIntCoder()] * len(Progress._fields)))
    SOON = TimerSpec("soon", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)
    EXPIRE = TimerSpec("expire", TimeDomain.WATERMARK)

    def __init__(self, what: Aggregation, launch: Launch, firing: Firing):
        self.what, self.launch = what, launch
        self.now, self.restored = firing.clock, firing.restored
        self.lateness = Duration(firing.lateness.total_seconds())

    def process(
        self,
        keyed,
        pending=beam.DoFn.StateParam(PENDING),
        progress=beam.DoFn.StateParam(PROGRESS),
        soon=beam.DoFn.TimerParam(SOON),
        end=beam.DoFn.TimerParam(END),
        expire=beam.DoFn.TimerParam(EXPIRE),
    ):
        (window, _), partial = keyed
        so_far = _read(progress)
        if so_far == Progress():
            expire.set(self._expiry(window))
        ends = self._end_of(partial, window)
        if not so_far.ended and ends.micros > so_far.ends:
            end.set(ends)
            so_far = so_far._replace(ends=ends.micros)
        pending.add(partial)
        count = so_far.pending + 1
        if count > COMPACT_AT:
            merged = self.what.merge(list(pending.read()))
            pending.clear()
            pending.add(merged)
            count = 1
        waiting = so_far.waiting or set_firing(LATE_EVERY if so_far.ended else self.what.early, self.now(), soon)
        progress.write(so_far._replace(pending=count, waiting=waiting))

    def _end_of(self, partial, window):
        """Return when the last bucket of `partial` ends; an hour off on days when clocks change."""
        start = partial["bucket_start"].max()
        width = Duration(self.what.bucket.total_seconds())
        end = self._end(window)
        return end if start is None else min(end, Timestamp.of(start.timestamp()) + width)

    def _end(self, window):
        return Timestamp.of(end_of(window, self.what.bucket))

    def _expiry(self, window):
        """Return the window's end plus lateness; for an expired window, such as audit counts of old messages, now plus
        lateness, so that many bundles add up."""
        end, now = self._end(window), Timestamp.of(self.now())
        return (end if end + self.lateness > now else now) + self.lateness

    @on_timer(SOON)
    def fire_soon(
        self,
        key=beam.DoFn.KeyParam,
        pending=beam.DoFn.StateParam(PENDING),
        published=beam.DoFn.StateParam(PUBLISHED),
        progress=beam.DoFn.StateParam(PROGRESS),
    ):
        so_far = _read(progress)._replace(waiting=False)
        firing = "late" if so_far.ended else "early"
        yield from self._publish(firing, key, so_far, pending, published, progress)

    @on_timer(END)
    def fire_on_time(
        self,
        key=beam.DoFn.KeyParam,
        pending=beam.DoFn.StateParam(PENDING),
        published=beam.DoFn.StateParam(PUBLISHED),
        progress=beam.DoFn.StateParam(PROGRESS),
        soon=beam.DoFn.TimerParam(SOON),
    ):
        # It has nothing left to publish, and a draining runner (Prism 2.77) would wait for it.
        soon.clear()
        so_far = _read(progress)._replace(ended=True, waiting=False)
        yield from self._publish("on_time", key, so_far, pending, published, progress)

    @on_timer(EXPIRE)
    def expire(
        self,
        key=beam.DoFn.KeyParam,
        pending=beam.DoFn.StateParam(PENDING),
        published=beam.DoFn.StateParam(PUBLISHED),
        progress=beam.DoFn.StateParam(PROGRESS),
        soon=beam.DoFn.TimerParam(SOON),
    ):
        soon.clear()
        # Pending rows would be lost with the state: a drain and a quiet end come here too.
        yield from self._publish("late", key, _read(progress), pending, published, progress)
        for state in (published, progress):
            state.clear()

    def _publish(self, firing, key, so_far, pending, published, progress):
        partials = list(pending.read()) if so_far.pending else []
        if not partials:
            if so_far.ends:  # else its window has expired
                progress.write(so_far)
            return
        pending.clear()
        changed = self.what.merge(partials)
        before = published.read()
        if before is None:
            before = seeds.read_published(self.restored, self.what.name, seeds.Place(*key))
        last = so_far.revision or seeds.read_revision(self.restored)
        stamp = max(to_micros(self.now()), last + 1)
        merged = changed if before is None else self.what.merge([before, changed])
        published.write(merged)
        progress.write(so_far._replace(pending=0, revision=stamp))
        keys = ["bucket_start", *self.what.keys]
        touched = merged.join(changed.select(keys), on=keys, how="semi", nulls_equal=True)
        yield stamp_rows(self.what.finish(touched), firing, stamp, self.now(), self.launch)


def _read(progress) -> Progress:
    held = progress.read()
    return Progress() if held is None else Progress(*held)
