"""The step of Sessions in a stream: keeps events as summaries, and publishes a session when it closes or changes.

    PCollection[(shard, (first and last time in microseconds, packed visits))] -> PCollection[rows of `sessions`]

State   per shard, in the global window. `pending` events since the last firing; `hot` sessions, which the next firing
        reads: open, or closed for less than HOT; older `cold` ones, which are searched for a visitor when an event
        arrives that late, at most every COLD_EVERY of event time. Sessions that can get no more events, GAP + lateness
        + COLD_EVERY after their end, are freed every SWEEP. About 72 bytes per session; Beam's metric `sessions-held`
        counts them. `cold` is a bag (cold.py).
Emits   at whole minutes of event time in which a session closes (`on_time`; less often while the stream is far behind),
        at whole minutes of the clock after an event for a closed session (`late`; later if it waits for COLD_EVERY),
        and with `early` also open sessions. A corrected session is followed by the tombstones of those merged into it.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import apache_beam as beam
import polars as pl
from apache_beam.coders import BytesCoder, TupleCoder, VarIntCoder
from apache_beam.metrics import Metrics
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from transforms import restored_state as seeds
from transforms.block import BlockCoder, empty
from transforms.counters import NAMESPACE
from transforms.publication import LATE_EVERY, Firing, Launch, set_firing, stamp_rows
from transforms.sessions import cold as cold_sessions
from transforms.sessions import summaries
from transforms.sessions.cold import FRAME_ROWS, SESSION
from transforms.sessions.packed import SummaryCoder
from transforms.sessions.summaries import GAP, SUMMARY_SCHEMA, VISIT_SCHEMA
from transforms.windows import micros_of, to_micros

HOT = timedelta(minutes=15)
COLD_EVERY = timedelta(minutes=15)  # a look at the cold sessions reads all of a shard's
PENDING_FRAMES = 1024  # above it they are merged into one
SWEEP = timedelta(hours=6)  # interval at which expired sessions are freed
COLD_FRAMES = 256  # with so many more frames than its rows need, the bag is rewritten in longer frames
NAME = "sessions"
_CATCH_UP = 8  # a stream that is behind fires each time it has caught up this fraction of its delay
_MINUTE, _APART = to_micros(timedelta(minutes=1)), to_micros(timedelta(minutes=7))
_GAP, _HOT, _COLD_EVERY, _SWEEP = map(to_micros, (GAP, HOT, COLD_EVERY, SWEEP))
_UNMERGED = pl.lit(1, pl.UInt32).alias("members")


Visits = tuple[int, tuple[int, int, bytes]]
PACKED = list(VISIT_SCHEMA)[1:]  # the columns of packed visits: the key is computed when many are unpacked
pack, unpack = BlockCoder().encode, BlockCoder().decode


class Progress(NamedTuple):
    """The progress of a shard: whole numbers in one state cell. Times are in microseconds since 1970; 0: none yet."""

    pending: int = 0  # frames
    over: int = 0  # sessions that ended GAP before this have been published
    cold: int = 0  # frames in the bag
    cold_rows: int = 0  # rows in them
    oldest: int = 0  # end of the first summary that is held
    due: int = 0  # for which the firing in event time is set
    waiting: int = 0  # whether a firing of the clock is set
    revision: int = 0  # of the last publication
    looked: int = 0  # what was over when the cold sessions were last read


class PublishSessions(beam.DoFn):
    """Keyed by shard."""

    PENDING = BagStateSpec("pending", BytesCoder())
    HOT = ReadModifyWriteStateSpec("hot", SummaryCoder())
    COLD = BagStateSpec("cold", BytesCoder())
    PROGRESS = ReadModifyWriteStateSpec("progress", TupleCoder([VarIntCoder()] * len(Progress._fields)))
    SOON = TimerSpec("soon", TimeDomain.REAL_TIME)
    DUE = TimerSpec("due", TimeDomain.WATERMARK)

    def __init__(
        self,
        launch: Launch,
        steps: Sequence[str],
        firing: Firing,
    ):
        self.launch, self.steps, self.early = launch, tuple(steps), firing.early
        self.now, self.restored = firing.clock, firing.restored
        # An event that comes in time may wait COLD_EVERY for the lookup that finds its session.
        self.kept_for = to_micros(GAP + firing.lateness) + _COLD_EVERY
        self.held = Metrics.distribution(NAMESPACE, "sessions-held")

    def process(
        self,
        keyed,
        pending=beam.DoFn.StateParam(PENDING),
        progress=beam.DoFn.StateParam(PROGRESS),
        soon=beam.DoFn.TimerParam(SOON),
        due=beam.DoFn.TimerParam(DUE),
    ):
        _, (first, last, packed) = keyed
        so_far = _read(progress)
        pending.add(packed)
        count = so_far.pending + 1
        if count > PENDING_FRAMES:
            gathered = pack(pl.concat(map(unpack, pending.read())))
            pending.clear()
            pending.add(gathered)
            count = 1
        late, coming = first + _GAP <= so_far.over, first + _GAP
        if late and last + _GAP > so_far.over:
            ends = micros_of(unpack(packed)["event_time"]) + _GAP
            coming = int(ends[ends > so_far.over].min())
        wanted = self._firing_for(coming) if last + _GAP > so_far.over else 0
        if not wanted and not so_far.due:
            wanted = so_far.over  # at once: without a firing in event time a drain would wait for the clock
        waiting = so_far.waiting or set_firing(LATE_EVERY if late else self.early, self.now(), soon)
        progress.write(so_far._replace(pending=count, due=self._set_due(so_far, wanted, due), waiting=waiting))

    def _firing_for(self, micros: int) -> int:
        """Return when sessions that close at `micros` are published: at the next whole minute, or less often in a
        stream that is far behind, which would otherwise fire for each minute of its delay."""
        behind = to_micros(self.now()) - micros
        return _up(micros, max(_MINUTE, behind // _CATCH_UP // _MINUTE * _MINUTE))

    def _set_due(self, so_far: Progress, wanted: int, due) -> int:
        if wanted and (not so_far.due or wanted < so_far.due):
            due.set(Timestamp(micros=wanted))
            return wanted
        return so_far.due

    @on_timer(SOON)
    def fire_soon(
        self,
        shard=beam.DoFn.KeyParam,
        pending=beam.DoFn.StateParam(PENDING),
        hot=beam.DoFn.StateParam(HOT),
        cold=beam.DoFn.StateParam(COLD),
        progress=beam.DoFn.StateParam(PROGRESS),
        due=beam.DoFn.TimerParam(DUE),
    ):
        so_far = _read(progress)._replace(waiting=0)
        yield from self._fire(shard, so_far, so_far.over, pending, hot, cold, progress, due)

    @on_timer(DUE)
    def fire_due(
        self,
        shard=beam.DoFn.KeyParam,
        pending=beam.DoFn.StateParam(PENDING),
        hot=beam.DoFn.StateParam(HOT),
        cold=beam.DoFn.StateParam(COLD),
        progress=beam.DoFn.StateParam(PROGRESS),
        soon=beam.DoFn.TimerParam(SOON),
        due=beam.DoFn.TimerParam(DUE),
    ):
        # It has nothing left to publish, and a draining runner (Prism 2.77) would wait for it.
        soon.clear()
        so_far = _read(progress)
        over = max(so_far.over, so_far.due)
        yield from self._fire(shard, so_far._replace(due=0, waiting=0), over, pending, hot, cold, progress, due)

    def _fire(self, shard, so_far, over, pending, hot, cold, progress, due):
        """Merge pending events, publish closed and changed sessions, and update the state."""
        sessions, waits, so_far = self._merged(shard, so_far, over, pending, hot, cold)
        ended = pl.col("end").dt.epoch("us") + _GAP
        shown = pl.col("changed") & ((ended <= over) | pl.lit(self.early is not None))
        show = sessions.filter(shown)
        now, stamp = self.now(), so_far.revision
        if not show.is_empty():
            stamp = max(to_micros(now), (stamp or seeds.read_revision(self.restored)) + 1)
            firing = pl.when(ended > over).then(pl.lit("early")).when(ended > so_far.over).then(pl.lit("on_time"))
            named = show.select(firing.otherwise(pl.lit("late")).alias("firing")).to_series()
            gone = summaries.tombstones(show)
            yield stamp_rows(summaries.table_rows(show), "late", stamp, now, self.launch).with_columns(named)
            if not gone.is_empty():
                yield stamp_rows(gone, "late", stamp, now, self.launch)
            sessions = sessions.with_columns(
                standing=pl.when(shown).then(pl.concat_list("start")).otherwise("standing"),
                changed=pl.col("changed") & ~shown,
            )
        left = int(not waits.is_empty())
        so_far = self._keep(shard, sessions, so_far._replace(pending=left, over=over, revision=stamp), hot, cold)
        pending.clear()
        if left:
            pending.add(pack(waits.select(PACKED)))
        wanted = [self._firing_for(end + _GAP) for end in [_least(sessions.filter(ended > over))] if end]
        if left:
            wanted.append(so_far.looked + _COLD_EVERY)
        if so_far.oldest:
            wanted.append(self._sweep(shard, so_far.oldest))
        progress.write(so_far._replace(due=self._set_due(so_far, min(wanted, default=0), due)))

    def _merged(self, shard, so_far, over, pending, hot, cold) -> tuple[pl.DataFrame, pl.DataFrame, Progress]:
        """Return the hot sessions merged with pending events, including the cold ones that change, which leave the
        bag; and the events that wait for the next lookup of cold sessions."""
        before = hot.read()
        if before is None:
            before = seeds.read_published(self.restored, NAME, seeds.Place(0, shard))
        visits = empty(VISIT_SCHEMA)
        if so_far.pending:
            visits = summaries.add_keys(pl.concat(map(unpack, pending.read())))
        old = visits.filter(pl.col("event_time").dt.epoch("us") < so_far.over - _HOT) if so_far.cold else visits.clear()
        waits = old if over - so_far.looked < _COLD_EVERY else old.clear()
        if not waits.is_empty():
            visits = visits.filter(pl.col("event_time").dt.epoch("us") >= so_far.over - _HOT)
        # Most visitors have no new events: merging would sort them all.
        before = empty(SUMMARY_SCHEMA) if before is None else before
        came = visits.select(pl.col("key").unique())
        rest = before.join(came, on="key", how="anti", maintain_order="left").with_columns(_UNMERGED)
        touched = before.join(came, on="key", how="semi", maintain_order="left")
        frames = [summaries.summarize(visits, self.steps), touched]
        if old.is_empty() or not waits.is_empty():
            return pl.concat([rest, summaries.merge(frames)]), waits, so_far
        so_far = so_far._replace(looked=over)
        found = cold_sessions.select_visitors(cold.read(), old.select(pl.col("key").unique()))
        merged = summaries.merge([*frames, found])
        # A cold session that does not change stays in the bag.
        same = merged.filter((pl.col("members") == 1) & ~pl.col("changed")).join(found, on=SESSION, how="semi")
        moved = found.join(same, on=SESSION, how="anti")
        if not moved.is_empty():
            cold.add(cold_sessions.removals(moved))
            so_far = so_far._replace(cold=so_far.cold + 1, cold_rows=so_far.cold_rows + len(moved))
        return pl.concat([rest, merged.join(same, on=SESSION, how="anti")]), waits, so_far

    def _keep(self, shard: int, sessions: pl.DataFrame, so_far: Progress, hot, cold) -> Progress:
        """Divide sessions into hot and cold, and free the expired ones."""
        ended = pl.col("end").dt.epoch("us")
        alive = (ended + self.kept_for > so_far.over) | pl.col("changed")
        cools = (ended + _GAP <= so_far.over - _HOT) & ~pl.col("changed")
        sessions = sessions.select(SUMMARY_SCHEMA.keys()).filter(alive)
        warm, cooled = sessions.filter(~cools), sessions.filter(cools)
        hot.write(warm)
        frames, rows = so_far.cold, so_far.cold_rows
        if not cooled.is_empty():
            cold.add(cold_sessions.encode(cooled))
            frames, rows = frames + 1, rows + len(cooled)
        oldest = min(filter(None, (so_far.oldest, _least(sessions))), default=0)
        expired = oldest > 0 and self._sweep(shard, oldest) <= so_far.over
        if frames and (frames > COLD_FRAMES + rows // FRAME_ROWS or expired):
            left = cold_sessions.compact(cold.read, alive)
            cold.clear()
            for frame in left.frames:
                cold.add(frame)
            frames, rows = len(left.frames), left.rows
            oldest = min(filter(None, (left.oldest, _least(warm))), default=0)
        elif expired:
            oldest = _least(warm)
        self.held.update(len(warm) + rows)
        return so_far._replace(cold=frames, cold_rows=rows, oldest=oldest)

    def _sweep(self, shard: int, oldest: int) -> int:
        """Return when the oldest session is freed; shards are staggered, since each reads all its sessions then."""
        return _up(oldest + self.kept_for, _SWEEP) + shard * _APART % _SWEEP


def _least(sessions: pl.DataFrame) -> int:
    """Return the earliest end in microseconds; 0 if there is none."""
    return 0 if sessions.is_empty() else int(sessions["end"].dt.epoch("us").min())  # type: ignore[arg-type]


def _up(micros: int, whole: int) -> int:
    return -(-micros // whole) * whole


def _read(progress) -> Progress:
    held = progress.read()
    return Progress() if held is None else Progress(*held)
