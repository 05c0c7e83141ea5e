"""The stream's step of Sessions: summaries in state, published when a session is over and again when it changes.

    PCollection[(shard, summaries)] -> PCollection[rows of the table `sessions`]

State   a shard's, in the global window. `pending` summaries since the last firing; `hot` ones, which the next firing
        reads: not over, or for less than HOT; `cold` ones, older, read only when an event comes for one of their
        visitors that is later than that. Those for which no event may come any more, GAP + lateness after their end,
        are freed. `cold` is a bag: of rows of one session the last counts, and one without events takes it away. About
        95 bytes a session; Beam's metric `sessions-held` tells how many.
Emits   at whole minutes of event time in which a session is over (`on_time`; after longer stretches while the stream is
        far behind), at whole minutes of the clock after an event came for one that was over already (`late`), with
        `early` set also the open ones. With a corrected session come the tombstones of those it has taken in.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import apache_beam as beam
import polars as pl
from apache_beam.coders import TupleCoder, VarIntCoder
from apache_beam.metrics import Metrics
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from transforms import seeds
from transforms import session_summaries as summaries
from transforms.aggregate import COMPACT_AT, LATE_EVERY, Launch, fires_soon, stamped
from transforms.block import BlockCoder, empty
from transforms.session_summaries import GAP, SUMMARY_SCHEMA

HOT = timedelta(hours=1)
PENDING_FRAMES = 1024  # above it they are merged; a firing does that anyway, and each merge sorts all of them
NAME = "sessions"
_CATCH_UP = 8  # a stream that is behind fires each time it has made up so small a part of its delay
_MINUTE, _SWEEP = 60_000_000, 6 * 3_600_000_000  # microseconds
_GAP, _HOT = GAP // timedelta(microseconds=1), HOT // timedelta(microseconds=1)
_SESSION = ["key", "start"]


class Progress(NamedTuple):
    """How far a shard has come, whole numbers in one cell of state. Times in microseconds since 1970; 0: none yet."""

    pending: int = 0  # frames
    over: int = 0  # sessions that ended GAP before this have been published
    cold: int = 0  # frames in the bag
    cold_rows: int = 0  # rows in them
    oldest: int = 0  # end of the first summary that is held
    due: int = 0  # for which the firing in event time is set
    waiting: int = 0  # whether a firing of the clock is set
    revision: int = 0  # of the last publication


class PublishSessions(beam.DoFn):
    """Keyed by shard."""

    PENDING = BagStateSpec("pending", BlockCoder())
    HOT = ReadModifyWriteStateSpec("hot", BlockCoder())
    COLD = BagStateSpec("cold", BlockCoder())
    PROGRESS = ReadModifyWriteStateSpec("progress", TupleCoder([VarIntCoder()] * len(Progress._fields)))
    SOON = TimerSpec("soon", TimeDomain.REAL_TIME)
    DUE = TimerSpec("due", TimeDomain.WATERMARK)

    def __init__(
        self,
        launch: Launch,
        early: timedelta | None,
        lateness: timedelta,
        now: Callable[[], float] = time.time,
        seeds: str | None = None,
    ):
        self.launch, self.early, self.now, self.seeds = launch, early, now, seeds
        self.kept_for = (GAP + lateness) // timedelta(microseconds=1)
        self.held = Metrics.distribution("audience", "sessions-held")

    def process(
        self,
        keyed,
        pending=beam.DoFn.StateParam(PENDING),
        progress=beam.DoFn.StateParam(PROGRESS),
        soon=beam.DoFn.TimerParam(SOON),
        due=beam.DoFn.TimerParam(DUE),
    ):
        _, pieces = keyed
        so_far = _read(progress)
        pending.add(pieces)
        count = so_far.pending + 1
        if count > PENDING_FRAMES:
            merged = summaries.merge(list(pending.read()))
            pending.clear()
            pending.add(merged)
            count = 1
        ends = pieces["end"].dt.epoch("us") + _GAP
        coming = ends.filter(ends > so_far.over)
        late = len(coming) < len(ends)
        wanted = self._firing_for(int(coming.min())) if len(coming) else 0
        if not wanted and not so_far.due:
            wanted = so_far.over  # at once: without a firing in event time a drain would wait for the clock
        waiting = so_far.waiting or fires_soon(LATE_EVERY if late else self.early, self.now(), soon)
        progress.write(so_far._replace(pending=count, due=self._set_due(so_far, wanted, due), waiting=waiting))

    def _firing_for(self, micros: int) -> int:
        """When what is over at `micros` is published: at the next whole minute, or the next of longer stretches in a
        stream that is far behind, which would else fire for each minute that it has to catch up with."""
        behind = int(self.now() * 1_000_000) - micros
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
        # Nothing is left for it to show, and a runner that drains would wait for it: Prism 2.77 does.
        soon.clear()
        so_far = _read(progress)
        over = max(so_far.over, so_far.due)
        yield from self._fire(shard, so_far._replace(due=0, waiting=0), over, pending, hot, cold, progress, due)

    def _fire(self, shard, so_far, over, pending, hot, cold, progress, due):
        """Merge what is pending, publish what is over and changed, and settle what is kept where."""
        sessions, so_far = self._merged(shard, so_far, pending, hot, cold)
        ended = pl.col("end").dt.epoch("us") + _GAP
        shown = pl.col("changed") & ((ended <= over) | pl.lit(self.early is not None))
        show = sessions.filter(shown)
        now, stamp = self.now(), so_far.revision
        if not show.is_empty():
            stamp = max(int(now * 1_000_000), (stamp or seeds.revision(self.seeds)) + 1)
            firing = pl.when(ended > over).then(pl.lit("early")).when(ended > so_far.over).then(pl.lit("on_time"))
            named = show.select(firing.otherwise(pl.lit("late")).alias("firing")).to_series()
            gone = summaries.tombstones(show)
            yield stamped(summaries.table_rows(show), "late", stamp, now, self.launch).with_columns(named)
            if not gone.is_empty():
                yield stamped(gone, "late", stamp, now, self.launch)
            sessions = sessions.with_columns(
                standing=pl.when(shown).then(pl.concat_list("start")).otherwise("standing"),
                changed=pl.col("changed") & ~shown,
            )
        so_far = self._keep(sessions, so_far._replace(pending=0, over=over, revision=stamp), hot, cold)
        pending.clear()
        wanted = [self._firing_for(end + _GAP) for end in [_least(sessions.filter(ended > over))] if end]
        if so_far.oldest:
            wanted.append(_up(so_far.oldest + self.kept_for, _SWEEP))
        progress.write(so_far._replace(due=self._set_due(so_far, min(wanted, default=0), due)))

    def _merged(self, shard, so_far, pending, hot, cold) -> tuple[pl.DataFrame, Progress]:
        """The hot sessions with what is pending, and the cold ones that it changes: these leave the bag."""
        before = hot.read()
        if before is None:
            before = seeds.published(self.seeds, NAME, seeds.Place(0, shard))
        fresh = list(pending.read()) if so_far.pending else []
        frames = [*fresh, *([] if before is None else [before])]
        visitors = [_before(each, so_far.over - _HOT).select("key") for each in fresh] if so_far.cold else []
        if not any(len(each) for each in visitors):
            return summaries.merge(frames), so_far
        old = standing_in(list(cold.read())).join(pl.concat(visitors), on="key", how="semi")
        merged = summaries.merge([*frames, old])
        # A cold one that nothing has touched stays where it is.
        same = merged.filter((pl.col("members") == 1) & ~pl.col("changed")).join(old, on=_SESSION, how="semi")
        moved = old.join(same, on=_SESSION, how="anti")
        if not moved.is_empty():
            cold.add(moved.with_columns(events=pl.lit(0, pl.Int64)))
            so_far = so_far._replace(cold=so_far.cold + 1, cold_rows=so_far.cold_rows + len(moved))
        return merged.join(same, on=_SESSION, how="anti"), so_far

    def _keep(self, sessions: pl.DataFrame, so_far: Progress, hot, cold) -> Progress:
        """Divide them into hot and cold, and free those whose time is over."""
        ended = pl.col("end").dt.epoch("us")
        alive = (ended + self.kept_for > so_far.over) | pl.col("changed")
        cools = (ended + _GAP <= so_far.over - _HOT) & ~pl.col("changed")
        sessions = sessions.select(SUMMARY_SCHEMA.keys()).filter(alive)
        warm, cooled = sessions.filter(~cools), sessions.filter(cools)
        hot.write(warm)
        frames, rows = so_far.cold, so_far.cold_rows
        if not cooled.is_empty():
            cold.add(cooled)
            frames, rows = frames + 1, rows + len(cooled)
        oldest = min(filter(None, (so_far.oldest, _least(sessions))), default=0)
        expired = 0 < oldest <= so_far.over - self.kept_for
        if frames and (frames > COMPACT_AT or expired):
            left = standing_in(list(cold.read())).filter(alive)
            cold.clear()
            if len(left):
                cold.add(left)
            frames, rows = int(len(left) > 0), len(left)
            oldest = min(filter(None, (_least(left), _least(warm))), default=0)
        elif expired:
            oldest = _least(warm)
        self.held.update(len(warm) + rows)
        return so_far._replace(cold=frames, cold_rows=rows, oldest=oldest)


def standing_in(bag: list[pl.DataFrame]) -> pl.DataFrame:
    """The sessions of a cold bag: of each the last row, if it has events."""
    if not bag:
        return empty(SUMMARY_SCHEMA)
    last = pl.concat(bag).unique(_SESSION, keep="last", maintain_order=True)
    return last.filter(pl.col("events") > 0)


def _before(pieces: pl.DataFrame, micros: int) -> pl.DataFrame:
    return pieces.filter(pl.col("start").dt.epoch("us") < micros)


def _least(sessions: pl.DataFrame) -> int:
    """The first end, in microseconds; 0 if there is none."""
    return 0 if sessions.is_empty() else int(sessions["end"].dt.epoch("us").min())  # type: ignore[arg-type]


def _up(micros: int, whole: int) -> int:
    return -(-micros // whole) * whole


def _read(progress) -> Progress:
    held = progress.read()
    return Progress() if held is None else Progress(*held)
