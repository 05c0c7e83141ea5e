"""The reader of a log in this process: entries as blocks, and a position that follows what is finalized.

Blocks    one is handed on once it is old enough and the steps behind are through with those before it (in_flight.py),
          or it is full. A block is of one source, which chooses the mapping
Position  the first entry that is not finalized. It is stored before a segment that lies wholly behind it is deleted
Bounds    nothing is read while `most_messages` or `most_bytes` are in flight: read and not finalized
Limit     entries in flight for LIMIT_SECONDS are read again, with all that follows them: no bundle finalized them

A reader belongs to the process: a runner may create the source's readers again, and finalizes in any thread.
"""

import logging
import os
import threading
import time
import uuid
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipelines.sources.in_flight import STEPS
from pipelines.sources.landing import Again, LandAt, Lander
from pipelines.sources.log.folder import (
    Position,
    read_position,
    segments,
    write_position,
)
from pipelines.sources.log.follow import Follower
from pipelines.sources.log.frames import Entry
from pipelines.sources.messages import Poll, block_of, encode_attributes
from pipelines.sources.queue import Backlog, Snapshot
from pipelines.sources.readers import Readers
from pipelines.sources.watermark import NOT_KNOWN, SteadyClock, Watermark
from transforms.errors import SourceError

THROUGH_SECONDS = 60.0  # steps that are not through for so long do not hold the next block up any more
LOOK_SECONDS = 0.15  # so long a bundle waits for steps that are not through; the next one waits on
LIMIT_SECONDS = 3_600.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """How a log is read. It travels with each bundle, so it is small.

    source          the name for entries that state none
    expected_delay  seconds by which an entry may be late and still be in time
    landing         where each block is written before it is handed on; None: the runner's state is durable
    again           landed files that are read first
    drain_file      a path: once the file exists, the reader ends
    block_rows, block_bytes, block_seconds   a block has to reach one of them before it is handed on
    most_messages, most_bytes                in flight
    """

    folder: str
    source: str = "events"
    expected_delay: float = 10.0
    landing: LandAt | None = None
    again: tuple[Again, ...] = ()
    drain_file: str | None = None
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
    passed_over: int = 0  # bytes of wrong frames


@dataclass(eq=False)
class Taken:
    """Entries that were read together: from where, how many, since when, and whether they are finalized."""

    begin: Position
    since: float
    messages: int = 0
    bytes: int = 0
    earliest: int = 0  # received time, us since 1970
    is_done: bool = False


class LogReader:
    """What reads a log in this process. Any thread may call any method; the runner asks for blocks in one at a time."""

    def __init__(self, reading: Reading):
        self.reading, self.name, at = reading, uuid.uuid4().hex, reading.landing
        self.folder = Path(reading.folder)
        self.stored = read_position(self.folder)
        self.follower = Follower(self.folder, self.stored)
        self.lander = Lander(at.folder, at.input, at.run, 0, reading.monotonic) if at else None
        self.clock = SteadyClock(reading.wall, reading.monotonic)
        self.watermark = Watermark(reading.expected_delay, self.clock)
        self.counts, self.reported = Counts(), Counts()
        self.asked: float | None = None
        self._lock = threading.RLock()
        self._taken: deque[Taken] = deque()  # in order, the first one not finalized; with what is in the buffer
        self._buffer: list[Entry] = []  # the entries of the last of them, until they are handed on
        self._blocks: deque[pl.DataFrame] = deque()
        self._unmarked: list[Taken] = []  # handed on since the last mark
        self._marked: dict[str, list[Taken]] = {}
        self._marks = 0
        self._handed_on = 0.0

    def next_block(self) -> pl.DataFrame | None:
        """The next block, landed, if there is one. Errors: SourceError for a log that cannot be read any more."""
        if not self._blocks:
            if self.is_draining():
                return None
            try:
                self._read()
            except OSError as error:
                raise SourceError(
                    f"{self.folder} can no longer be read: {error.strerror}; fix that and restart"
                ) from error
            due = self._due()
            if due is None or not self._may_hand_on(due):
                return None
            self._cut()
        with self._lock:
            block = self._blocks.popleft()
            if not self._blocks:  # only now, so that a mark holds all that was read together
                self._unmarked.append(self._taken[-1])
        self._handed_on = self.reading.monotonic()
        STEPS.handed_on()
        return block if self.lander is None else self.lander.land(block)

    def next_look(self) -> float:
        """Seconds until it is worth to ask for a block again: when one is due, or when there may be entries."""
        with self._lock:
            rest = self.reading.block_seconds
            if self._buffer:
                rest = self._taken[-1].since + rest - self.reading.monotonic()
            return max(rest, LOOK_SECONDS)

    def advance_watermark(self) -> float:
        """The watermark, in seconds since 1970."""
        with self._lock:
            waiting = self._taken[-1].earliest if self._buffer or self._blocks else None
            is_empty = self.follower.is_at_end and waiting is None
            return self.watermark.advance(None if waiting is None else waiting / 1e6, is_empty)

    def is_draining(self) -> bool:
        """Whether the run is to end: nothing more is read then."""
        path = self.reading.drain_file
        return path is not None and os.path.exists(path) and not self._blocks

    def mark(self) -> str:
        """A token for what was handed on since the last one."""
        with self._lock:
            self._marks += 1
            token, taken, self._unmarked = f"{self.name}:{self._marks}", self._unmarked, []
            if taken:
                self._marked[token] = taken
            return token

    def settle(self, token: str) -> None:
        """A bundle is finalized: what it handed on needs not be read again. A second call has no effect."""
        with self._lock:
            for each in self._marked.pop(token, ()):
                each.is_done = True
                self.counts.acked += each.messages
            self.store()

    def store(self) -> bool:
        """Store how far the log is finalized, and delete the segments before it; False if that failed."""
        with self._lock:
            while self._taken and self._taken[0].is_done:
                self._taken.popleft()
            position = self._taken[0].begin if self._taken else self.follower.position
            if position == self.stored:
                return True
            try:
                write_position(self.folder, position)
                self.stored = position
                for number, path in segments(self.folder).items():
                    if number < position.segment:
                        path.unlink(missing_ok=True)
            except OSError as error:
                _log.warning("%s: what is finalized cannot be noted: %s; trying again", self.folder, error.strerror)
                return False
            return True

    def snapshot(self) -> Snapshot:
        """What was read, and is in flight."""
        with self._lock:
            held, value = [each for each in self._taken if not each.is_done], self.watermark.value
            oldest = min((each.earliest for each in held), default=None)
            backlog = Backlog(*self._in_flight(), None if oldest is None else oldest / 1e6)
            return Snapshot(self.counts.messages, backlog, None if value == NOT_KNOWN else value, self.asked)

    def take_counts(self) -> Counts:
        """What was counted since the last call."""
        with self._lock:
            self.counts.passed_over = self.follower.passed_over
            now = Counts(**vars(self.counts))
            since = Counts(**{name: value - getattr(self.reported, name) for name, value in vars(now).items()})
            self.reported = now
            return since

    def close(self) -> None:
        """Forget what is not finalized: the next reader reads it again."""
        with self._lock:
            self.store()
            for held in (self._taken, self._buffer, self._blocks, self._unmarked, self._marked):
                held.clear()
            self.follower.close()

    def _in_flight(self) -> tuple[int, int]:
        held = [each for each in self._taken if not each.is_done]
        return sum(each.messages for each in held), sum(each.bytes for each in held)

    def _read(self) -> None:
        """Read into the buffer, as far as there is room."""
        with self._lock:
            self._expire()
            while room := self._room():
                found = self.follower.read(*room)
                if not found:
                    return
                if not self._buffer:
                    self._taken.append(Taken(self.follower.begin, self.reading.monotonic()))
                self._hold(found)

    def _room(self) -> tuple[int, int] | None:
        """How many entries and bytes may be read now; None if none may."""
        reading, (messages, size) = self.reading, self._in_flight()
        buffered = self._taken[-1].bytes if self._buffer else 0
        rows = min(reading.block_rows - len(self._buffer), reading.most_messages - messages)
        room = min(reading.block_bytes - buffered, reading.most_bytes - size)
        if rows > 0 and room > 0:
            return rows, room
        self.follower.is_at_end = False  # not known
        return None

    def _hold(self, found: Sequence[Entry]) -> None:
        taken, earliest = self._taken[-1], min(entry.received for entry in found)
        size = sum(len(entry.payload) for entry in found)
        taken.earliest = min(taken.earliest, earliest) if taken.messages else earliest
        taken.messages += len(found)
        taken.bytes += size
        self._buffer += found
        self.counts.messages += len(found)
        self.counts.bytes += size
        self.watermark.pulled(earliest / 1e6)

    def _expire(self) -> None:
        """Go back to the first entry that was in flight for too long."""
        now = self.reading.monotonic()
        if self._taken and now - self._taken[0].since > self.reading.limit and not self._buffer:
            _log.warning("%s: entries were in flight for %.0f s; they are read again", self.folder, self.reading.limit)
            passed_over = self.follower.passed_over
            self.follower.close()
            self.follower = Follower(self.folder, self._taken[0].begin)
            self.follower.passed_over = passed_over
            self._taken.clear()
            self._unmarked.clear()
            self._marked.clear()

    def _due(self) -> float | None:
        """Since when there is a block that is old enough or full; None while there is none."""
        reading = self.reading
        with self._lock:
            if not self._buffer:
                return None
            taken, now = self._taken[-1], reading.monotonic()
            if taken.messages >= reading.block_rows or taken.bytes >= reading.block_bytes:
                return min(taken.since + reading.block_seconds, now)
            due = taken.since + reading.block_seconds
            return due if due <= now else None

    def _may_hand_on(self, due: float) -> bool:
        """Whether the steps are through with the blocks before; a block waits THROUGH_SECONDS at most."""
        waits_since = max(due, self._handed_on)
        return STEPS.are_through(LOOK_SECONDS) or self.reading.monotonic() - waits_since >= THROUGH_SECONDS

    def _cut(self) -> None:
        """Make blocks of the buffer, one for each source."""
        with self._lock:
            entries, self._buffer = self._buffer, []
            by_source: dict[str, list[Entry]] = {}
            for entry in entries:
                by_source.setdefault(entry.source or self.reading.source, []).append(entry)
            self._blocks.extend(block_of([poll_of(each)], source) for source, each in by_source.items())


def poll_of(entries: Sequence[Entry]) -> Poll:
    """Entries by column, as what reads Pub/Sub has messages."""
    payloads = [entry.payload.removeprefix(BOM_UTF8) for entry in entries]
    attributes = [encode_attributes(entry.attributes, "") for entry in entries]
    ids, received = [entry.message_id for entry in entries], [entry.received for entry in entries]
    return Poll([], payloads, ids, received, attributes, sum(map(len, payloads)))


READERS: Readers[LogReader] = Readers()  # of this process, by folder
