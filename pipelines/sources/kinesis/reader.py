"""The reader of a stream in this process: records as blocks, and marks that follow what is finalized.

Blocks  one is handed on once it is old enough and the steps behind are through with those before it (in_flight.py),
        or it is full; in the order in which the records were received
Marks   see marks.py: stored when a bundle is finalized
Bounds  no shard is asked while `most_messages` or `most_bytes` are in flight: received and not finalized. Beyond them
        is what the answers bring that were asked for by then, each of 10 MB at most
Limit   records in flight for LIMIT_SECONDS are received again, with all that follows them in their shard: no bundle
        finalized them

A reader belongs to the process: a runner may create the source's readers again, and finalizes in any thread.
"""

import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipelines.sources.in_flight import STEPS
from pipelines.sources.kinesis.marks import Marks, write_marks
from pipelines.sources.kinesis.messages import Part
from pipelines.sources.kinesis.shards import Shard, Shards, Taken
from pipelines.sources.landing import Again, LandAt, Lander
from pipelines.sources.messages import Poll, block_of
from pipelines.sources.queue import Backlog, Snapshot
from pipelines.sources.readers import Readers
from pipelines.sources.watermark import NOT_KNOWN, SteadyClock, Watermark

THROUGH_SECONDS = 60.0  # steps that are not through for so long do not hold the next block up any more
LOOK_SECONDS = 0.15  # so long a bundle waits for steps that are not through; the next one waits on
LIMIT_SECONDS = 3_600.0
FRESH_SECONDS = 2.0  # an answer that is older does not say that a shard has nothing
STORE_SECONDS = 60.0  # between two writes of marks that say only until when a shard is known
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """How a stream is read. It travels with each bundle, so it is small.

    stream          its name or its ARN
    start_at        where to begin without marks: `earliest`, `latest`, or seconds since 1970
    source          the name for records that state none
    expected_delay  seconds by which a record may be late and still be in time
    landing         where each block is written before it is handed on; None: the runner's state is durable
    again           landed files that are read first
    drain_file      a path: once the file exists, the reader ends. Its folder has the marks
    block_rows, block_bytes, block_seconds   a block has to reach one of them before it is handed on
    most_messages, most_bytes                in flight
    """

    stream: str
    drain_file: str
    start_at: str | float = "earliest"
    source: str = "events"
    expected_delay: float = 10.0
    landing: LandAt | None = None
    again: tuple[Again, ...] = ()
    block_rows: int = 10_000
    block_bytes: int = 16 << 20
    block_seconds: float = 0.5
    most_messages: int = 40_000
    most_bytes: int = 128 << 20
    limit: float = LIMIT_SECONDS
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


@dataclass
class Counts:
    """What a reader did since it began."""

    messages: int = 0
    bytes: int = 0
    acked: int = 0
    throttled: int = 0  # requests that Kinesis refused for now
    failed: int = 0  # requests that failed otherwise, and were sent again


class Waiting:
    """A part of an answer that waits to be handed on."""

    def __init__(self, shard: Shard, taken: Taken, poll: Poll):
        self.shard, self.taken, self.poll = shard, taken, poll


class KinesisReader:
    """What reads a stream in this process. Any thread may call any method; the runner asks for blocks in one at a time.

    What asks Kinesis (pull.py) sets `shards` and `path` when it knows them, and `failure` when it gives up.
    """

    def __init__(self, reading: Reading):
        self.reading, self.name, at = reading, uuid.uuid4().hex, reading.landing
        self.lander = Lander(at.folder, at.input, at.run, 0, reading.monotonic) if at else None
        self.clock = SteadyClock(reading.wall, reading.monotonic)
        self.counts, self.reported = Counts(), Counts()
        self.asked: float | None = None
        self.failure: Exception | None = None
        self.shards: Shards | None = None
        self.path: Path | None = None
        self.lock = threading.RLock()
        self.stopping = threading.Event()
        self.is_pulled = False
        self._storing = threading.Lock()
        self._stored: Marks | None = None
        self._stored_at = 0.0
        self._messages = self._bytes = 0  # in flight
        self._buffer: deque[Waiting] = deque()
        self._unmarked: list[Taken] = []  # handed on since the last mark
        self._marked: dict[str, list[Taken]] = {}
        self._marks = 0
        self._watermark = NOT_KNOWN
        self._handed_on = 0.0

    def new_watermark(self) -> Watermark:
        """Of a shard. All follow one clock."""
        return Watermark(self.reading.expected_delay, self.clock)

    def begin(self, shards: Shards, path: Path, stored: Marks | None) -> None:
        """Read these shards, and keep their marks there. `stored`: what the file holds now."""
        with self.lock:
            self.shards, self.path, self._stored = shards, path, stored

    def room(self) -> int:
        """How many records may be received now."""
        with self.lock:
            left = self.reading.most_messages - self._messages
            return left if self._bytes < self.reading.most_bytes else 0

    def hold(self, shard: Shard, part: Part, known: float | None) -> None:
        """Keep what was received, to be handed on. `known`: all that arrived before is received with it."""
        with self.lock:
            poll, before = part.poll, shard.mark
            shard.mark = type(before)(part.last, known)
            earliest = min(poll.received, default=0)
            taken = Taken(before, self.reading.monotonic(), part.rows, poll.bytes, earliest, is_done=not part.rows)
            shard.taken.append(taken)
            if not part.rows:
                return
            self._messages += part.rows
            self._bytes += poll.bytes
            self.counts.messages += part.rows
            self.counts.bytes += poll.bytes
            shard.watermark.pulled(earliest / 1e6)
            self._buffer.append(Waiting(shard, taken, poll))

    def next_block(self) -> pl.DataFrame | None:
        """The next block, landed, if there is one. Errors: SourceError for a stream that cannot be read any more."""
        if self.failure is not None:
            raise self.failure
        if self.is_draining():
            return None
        self._expire()
        due = self._due()
        if due is None or not self._may_hand_on(due):
            return None
        polls = self._take()
        self._handed_on = self.reading.monotonic()
        STEPS.handed_on()
        block = block_of(polls, self.reading.source)
        return block if self.lander is None else self.lander.land(block)

    def next_look(self) -> float:
        """Seconds until it is worth to ask for a block again: when one is due, or when there may be records."""
        with self.lock:
            rest = self.reading.block_seconds
            if self._buffer:
                rest = self._buffer[0].taken.since + rest - self.reading.monotonic()
            return max(rest, LOOK_SECONDS)

    def advance_watermark(self) -> float:
        """The watermark, in seconds since 1970: the earliest of the shards that are read. It never goes back, and rests
        while a shard has not answered yet."""
        with self.lock:
            open_shards = self.shards.readable() if self.shards is not None else []
            waiting: dict[str, float] = {}
            for each in self._buffer:
                at = each.taken.earliest / 1e6
                waiting[each.shard.id] = min(waiting.get(each.shard.id, at), at)
            values = [self._advance(shard, waiting.pop(shard.id, None)) for shard in open_shards]
            values += [at - self.reading.expected_delay for at in waiting.values()]  # of shards that have ended
            if values and NOT_KNOWN not in values:
                self._watermark = max(self._watermark, min(values))
            return self._watermark

    def _advance(self, shard: Shard, waiting: float | None) -> float:
        is_fresh = time.monotonic() - shard.answered < FRESH_SECONDS
        return shard.watermark.advance(waiting, shard.is_at_tip and is_fresh and waiting is None)

    def is_draining(self) -> bool:
        """Whether the run is to end: nothing more is received or handed on then."""
        if not self.stopping.is_set() and os.path.exists(self.reading.drain_file):
            self.stopping.set()
        return self.stopping.is_set()

    def mark(self) -> str:
        """A token for what was handed on since the last one."""
        with self.lock:
            self._marks += 1
            token, taken, self._unmarked = f"{self.name}:{self._marks}", self._unmarked, []
            if taken:
                self._marked[token] = taken
            return token

    def settle(self, token: str) -> None:
        """A bundle is finalized: what it handed on needs not be read again. A second call has no effect."""
        with self.lock:
            for each in self._marked.pop(token, ()):
                each.is_done = True
                self._messages, self._bytes = self._messages - each.rows, self._bytes - each.bytes
                self.counts.acked += each.rows
        self.store()

    def store(self) -> bool:
        """Store how far each shard is finalized; False if that failed."""
        with self._storing:
            with self.lock:
                if self.shards is None or self.path is None:
                    return True
                marks = self.shards.finalized()
            is_due = time.monotonic() - self._stored_at >= STORE_SECONDS
            if marks == self._stored or not (is_due or _have_moved(self._stored, marks)):
                return True
            try:
                write_marks(self.path, marks)
            except OSError as error:
                _log.warning("%s: what is finalized cannot be noted: %s; trying again", self.path, error.strerror)
                return False
            self._stored, self._stored_at = marks, time.monotonic()
            return True

    def snapshot(self) -> Snapshot:
        """What was received, and is in flight."""
        with self.lock:
            shards = list(self.shards.by_id.values()) if self.shards is not None else []
            oldest = min((one.earliest for each in shards for one in each.taken if not one.is_done), default=None)
            backlog = Backlog(self._messages, self._bytes, None if oldest is None else oldest / 1e6)
            value = None if self._watermark == NOT_KNOWN else self._watermark
            behind = [each.behind for each in shards if each.behind is not None and not each.mark.ended]
            return Snapshot(self.counts.messages, backlog, value, self.asked, lag_seconds=max(behind, default=None))

    def take_counts(self) -> Counts:
        """What was counted since the last call."""
        with self.lock:
            now = Counts(**vars(self.counts))
            since = Counts(**{name: value - getattr(self.reported, name) for name, value in vars(now).items()})
            self.reported = now
            return since

    def close(self) -> None:
        """Forget what is not finalized: the next reader reads it again."""
        self.stopping.set()
        self.store()
        with self.lock:
            self._messages = self._bytes = 0
            self.shards = None
            for held in (self._buffer, self._unmarked, self._marked):
                held.clear()

    def _take(self) -> list[Poll]:
        """The records of the next block, in order."""
        rows, size = 0, 0
        polls: list[Poll] = []
        with self.lock:
            while self._buffer:
                taken = self._buffer[0].taken
                rows, size = rows + taken.rows, size + taken.bytes
                if polls and (rows > self.reading.block_rows or size > self.reading.block_bytes):
                    break
                self._unmarked.append(taken)
                polls.append(self._buffer.popleft().poll)
        return polls

    def _due(self) -> float | None:
        """Since when there is a block that is old enough or full; None while there is none."""
        reading = self.reading
        with self.lock:
            if not self._buffer:
                return None
            due, now = self._buffer[0].taken.since + reading.block_seconds, reading.monotonic()
            held = sum(each.taken.rows for each in self._buffer), sum(each.taken.bytes for each in self._buffer)
            if held[0] >= reading.block_rows or held[1] >= reading.block_bytes:
                return min(due, now)
            return due if due <= now else None

    def _may_hand_on(self, due: float) -> bool:
        """Whether the steps are through with the blocks before; a block waits THROUGH_SECONDS at most."""
        waits_since = max(due, self._handed_on)
        return STEPS.are_through(LOOK_SECONDS) or self.reading.monotonic() - waits_since >= THROUGH_SECONDS

    def _expire(self) -> None:
        """Receive again what was handed on and is in flight for too long."""
        now = self.reading.monotonic()
        with self.lock:
            for shard in self.shards.by_id.values() if self.shards is not None else ():
                first = next((each for each in shard.taken if not each.is_done), None)
                if first is None or now - first.since <= self.reading.limit:
                    continue
                _log.warning("%s: records were in flight for %.0f s; they are read again", shard.id, now - first.since)
                self._forget({id(each) for each in shard.taken})
                shard.go_back()

    def _forget(self, gone: set[int]) -> None:
        """Take parts (by their `id`) out of the buffer and of the marks."""
        lists = [self._unmarked, *self._marked.values()]
        for held in lists:
            held[:] = [each for each in held if id(each) not in gone]
        self._buffer = deque(each for each in self._buffer if id(each.taken) not in gone)
        if self.shards is not None:
            for shard in self.shards.by_id.values():
                for each in shard.taken:
                    if id(each) in gone and not each.is_done:
                        self._messages, self._bytes = self._messages - each.rows, self._bytes - each.bytes


def _have_moved(before: Marks | None, after: Marks) -> bool:
    """Whether more differs than until when a shard is known."""
    if before is None or before.shards.keys() != after.shards.keys():
        return True
    pairs = ((before.shards[name], mark) for name, mark in after.shards.items())
    return any((one.sequence, one.ended) != (other.sequence, other.ended) for one, other in pairs)


READERS: Readers[KinesisReader] = Readers()  # of this process, by stream
