"""Aggregate: metrics, or the audit counts, from blocks to the rows of their tables.

    PCollection[EVENT_SCHEMA block] -> for each metric PCollection[rows: bucket_start, bucket_end, dimensions, measures,
                                       firing, generation i64, revision i64, emitted_time, pipeline_version]

One step takes a block for all metrics, and one step merges and publishes them: a step and an element cost as much as
many rows. Partial rows, or the events themselves where those are few, are shuffled, keyed by window and shard. The
bucket is a column. The window is only the scope of a firing: in a stream it is the bucket; in a batch run it is the
larger of the bucket and a day, since every window costs a merge and a timer. It is a number in the key, not a Beam
window: Beam's windows all stay global, so no runner drops late data, or frees state too early (Prism 2.77 frees a
stateful step's state at the end of the window, whatever the allowed lateness).

Scope   metrics whose windows, early firings and shards are equal share elements, state and timers (scopes.py).
State   of a stream, per scope, window and shard: `pending`, packed as they came, compacted to one above COMPACT_AT, and
        `published`, the merged rows so far; freed at the window's end + lateness. `published` starts with the restored
        state in `firing.restored`, if any (restored_state.py). Bounded: none, one shuffle. (The in-process runner of
        Beam 2.77 fires the timers of only one stateful step if it fuses several into a stage.)
Emits   bounded: once, when the input has ended. Stream: early (a processing-time timer after a change), on time (the
        window's end), late (a processing-time timer after a late change), and at expiry what is still pending. A firing
        emits only the groups that were pending: the changed rows. Rows are appended, never updated: the current row of
        a key is the one with the highest (generation, revision).
"""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NamedTuple

import apache_beam as beam
import polars as pl
from apache_beam.coders import BytesCoder, TupleCoder, VarIntCoder
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

from transforms import quality
from transforms import restored_state as seeds
from transforms.metrics.aggregations import Aggregation
from transforms.metrics.scopes import Events, Scope, columns_of, pack, scatter, scopes_of, unpack
from transforms.publication import BOUNDED, LATE_EVERY, Firing, Launch, set_firing, stamp_rows
from transforms.shuffle_files import GATHER_ROWS, parts, spill
from transforms.stage import Gathering
from transforms.windows import FOLD, end_of, start_of, to_micros

COMPACT_AT = 64  # elements: of events as they are FEW_EVENTS each, or rows that are aggregated already
PLACE_ROWS = 20_000  # of events that are placed together
DAY = timedelta(days=1)
Placed = tuple[tuple[int, int, int], tuple[int, bytes]]  # (scope, window, shard), (last bucket, packed)
# (number of the metric, window, shard), spilled partial rows
Gathered = tuple[tuple[int, int, int], tuple[int, str, pl.DataFrame]]


class Aggregate(beam.PTransform):
    """Apply it to PCollections of blocks: what it returns has a PCollection of rows under each metric's name. In a
    stream each of several is placed where it is made: a stage of its own would be one more bundle for each block.

    spill_folder  a batch run on this machine keeps shuffled rows there, and windows whose numbers differ by FOLD share
                  a key; without one, each window has its own, as where a worker holds all rows of a key in memory
    """

    def __init__(
        self,
        metrics: Sequence[Aggregation],
        launch: Launch,
        firing: Firing = BOUNDED,
        spill_folder: str | None = None,
    ):
        super().__init__()
        self.metrics, self.launch, self.firing, self.spill_folder = tuple(metrics), launch, firing, spill_folder

    def expand(self, blocks):
        names = [what.name for what in self.metrics]
        blocks = [blocks] if isinstance(blocks, beam.PCollection) else blocks
        if self.firing.streaming:
            scopes = scopes_of(self.metrics)
            place = beam.ParDo(_Place(scopes)).with_output_types(Placed)
            numbers = ["", *(f" {n}" for n in range(2, len(blocks) + 1))]
            placed = _flatten([part | f"Place in windows{n}" >> place for part, n in zip(blocks, numbers, strict=True)])
            publish = beam.ParDo(Publish(scopes, self.launch, self.firing))
        else:
            partial = beam.ParDo(_Partial(self.metrics, self.spill_folder)).with_output_types(Gathered)
            placed = (
                _flatten(blocks)
                | "Aggregate each block" >> partial
                | "Gather each window and shard" >> beam.GroupByKey()
            )
            publish = beam.ParDo(PublishOnce(self.metrics, self.launch, self.firing.clock))
        typed = publish.with_output_types(pl.DataFrame, **dict.fromkeys(names, pl.DataFrame))
        return placed | "Merge and publish" >> typed.with_outputs(*names)


def _flatten(parts: Sequence[beam.PCollection]) -> beam.PCollection:
    """One PCollection of all; a Flatten of one alone would part what a runner fuses."""
    return parts[0] if len(parts) == 1 else parts | "Join" >> beam.Flatten()


class _Place(Gathering):
    """Gathers a bundle: the deduplication hands on a block for each of its shards."""

    most_rows = PLACE_ROWS

    def __init__(self, scopes: Sequence[Scope]):
        self.scopes = scopes
        self.columns = columns_of(scopes)

    def hold(self, block):
        yield block, 0 if isinstance(block, bytes) else len(block), 0

    def flush(self, blocks, rows, size):
        joined = self._join(blocks)
        for number, scope in enumerate(self.scopes):
            for piece in scope.place(joined):
                element = (number, piece.window, piece.shard), (piece.last, piece.packed)
                yield TimestampedValue(element, start_of(piece.window, scope.bucket))

    def _join(self, blocks: list) -> bytes | Events:
        if isinstance(blocks[0], bytes):
            return quality.pack(entry for each in blocks for entry in quality.unpack(each))
        return Events(blocks[0] if len(blocks) == 1 else pl.concat(blocks), self.columns)


class _Partial(beam.DoFn):
    def __init__(self, metrics: Sequence[Aggregation], folder: str | None):
        self.metrics, self.folder, self.fold = metrics, folder, FOLD if folder else 0

    def process(self, block):
        for number, what in enumerate(self.metrics):
            window = max(what.bucket, DAY)
            partial = what.partial(block)
            for (at, shard), rows in scatter(partial, what.bucket, window, what.shards, what.keys, self.fold):
                yield TimestampedValue(((number, at, shard), spill(rows, self.folder)), start_of(at, window))


class PublishOnce(Gathering):
    """The step of a batch run: gets all partials of a metric, window and shard; small ones are merged together."""

    most_rows = GATHER_ROWS

    def __init__(self, metrics: Sequence[Aggregation], launch: Launch, now: Callable[[], float] = time.time):
        self.metrics, self.launch, self.now = metrics, launch, now

    def hold(self, gathered):
        (number, _, _), partials = gathered
        for part in parts(partials):
            yield (number, part), part.rows, 0

    def flush(self, held, rows, size):
        partials: dict[int, list[pl.DataFrame]] = {}
        for number, part in held:
            partials.setdefault(number, []).append(part.load())
        now = self.now()
        for number, frames in sorted(partials.items()):
            what = self.metrics[number]
            made = what.finish(what.merge(frames))
            yield TaggedOutput(what.name, stamp_rows(made, "on_time", to_micros(now), now, self.launch))


class Progress(NamedTuple):
    """The progress of a window and shard of a stream: whole numbers in one state cell, read once per element."""

    pending: int = 0  # elements
    revision: int = 0  # of the last publication
    ends: int = 0  # microseconds for which the firing on time is set; 0: not yet
    ended: int = False  # it has fired
    waiting: int = False  # a firing in processing time is set


class Publish(beam.DoFn):
    """The step of a stream, keyed by scope, window (the bucket) and shard."""

    PENDING = BagStateSpec("pending", BytesCoder())
    PUBLISHED = ReadModifyWriteStateSpec("published", BytesCoder())
    PROGRESS = ReadModifyWriteStateSpec("progress", TupleCoder([VarIntCoder()] * len(Progress._fields)))
    SOON = TimerSpec("soon", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)
    EXPIRE = TimerSpec("expire", TimeDomain.WATERMARK)

    def __init__(self, scopes: Sequence[Scope], launch: Launch, firing: Firing):
        self.scopes, self.launch = scopes, launch
        self.now, self.restored = firing.clock, firing.restored
        self.lateness = Duration(firing.lateness.total_seconds())

    def process(
        self,
        placed,
        pending=beam.DoFn.StateParam(PENDING),
        progress=beam.DoFn.StateParam(PROGRESS),
        soon=beam.DoFn.TimerParam(SOON),
        end=beam.DoFn.TimerParam(END),
        expire=beam.DoFn.TimerParam(EXPIRE),
    ):
        (number, window, _), (last, packed) = placed
        scope, so_far = self.scopes[number], _read(progress)
        if so_far == Progress():
            expire.set(self._expiry(scope, window))
        ends = _end_of(scope, last, window)
        if not so_far.ended and ends.micros > so_far.ends:
            end.set(ends)
            so_far = so_far._replace(ends=ends.micros)
        pending.add(packed)
        count = so_far.pending + 1
        if count > COMPACT_AT:
            merged = scope.merge(pending.read())
            pending.clear()
            pending.add(pack(merged))
            count = 1
        waiting = so_far.waiting or set_firing(LATE_EVERY if so_far.ended else scope.early, self.now(), soon)
        progress.write(so_far._replace(pending=count, waiting=waiting))

    def _expiry(self, scope, window):
        """Return the window's end plus lateness; for an expired window, such as audit counts of old messages, now plus
        lateness, so that many bundles add up."""
        end, now = Timestamp.of(end_of(window, scope.bucket)), Timestamp.of(self.now())
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
        number, window, shard = key
        scope, place = self.scopes[number], seeds.Place(window, shard)
        before = published.read()
        held = self._restored(scope, place) if before is None else unpack(before)
        stamp = max(to_micros(self.now()), (so_far.revision or seeds.read_revision(self.restored)) + 1)
        changed = scope.merge(partials)
        merged = {
            what.name: what.merge([held[what.name], changed[what.name]]) if what.name in held else changed[what.name]
            for what in scope.members
        }
        published.write(pack(merged))
        progress.write(so_far._replace(pending=0, revision=stamp))
        for what in scope.members:
            keys, touched = ["bucket_start", *what.keys], merged[what.name]
            if what.name in held:
                touched = touched.join(changed[what.name].select(keys), on=keys, how="semi", nulls_equal=True)
            if not touched.is_empty():
                rows = stamp_rows(what.finish(touched), firing, stamp, self.now(), self.launch)
                yield TaggedOutput(what.name, rows)

    def _restored(self, scope: Scope, place: seeds.Place) -> dict[str, pl.DataFrame]:
        found = {what.name: seeds.read_published(self.restored, what.name, place) for what in scope.members}
        return {name: rows for name, rows in found.items() if rows is not None}


def _end_of(scope: Scope, last: int, window: int) -> Timestamp:
    """Return when the bucket that begins at `last` ends, in its window; an hour off on days when clocks change."""
    end = Timestamp.of(end_of(window, scope.bucket))
    return min(end, Timestamp(micros=last + to_micros(scope.bucket)))


def _read(progress) -> Progress:
    held = progress.read()
    return Progress() if held is None else Progress(*held)
