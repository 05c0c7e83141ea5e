"""The reader of a split in this process: messages of its partitions as blocks; offsets follow what is finalized.

Split     owns the partitions that `split_of` gives it, also those that are found while it reads. It is assigned them,
          and never subscribes: a group with members refuses the commits of others
Blocks    one is handed on once it is old enough and the steps behind are through with those before it (in_flight.py),
          or it is full
Offsets   of a partition: the first that is not finalized. What is not finalized is read again after a restart
Bounds    nothing is read while `most_messages` or `most_bytes` are in flight: read and not finalized
Limit     messages in flight for `limit` seconds are read again, with all that follows them: no bundle finalized them
Idle      a partition that is read to its end, of a cluster that answers, holds no watermark back

A reader belongs to the process: a runner may create the source's readers again, and finalizes in any thread.
"""

import logging
import os
import threading
import uuid
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.sources.in_flight import STEPS
from pipelines.sources.kafka.client import describe_error, is_refusal, make_consumer, refusal
from pipelines.sources.kafka.group import Group, close_groups, group_of
from pipelines.sources.kafka.messages import poll_of
from pipelines.sources.kafka.reading import Reading
from pipelines.sources.kafka.registry import registry_of
from pipelines.sources.kafka.topics import Place, split_of
from pipelines.sources.landing import Lander
from pipelines.sources.messages import Poll, block_of
from pipelines.sources.queue import Backlog, Snapshot
from pipelines.sources.readers import Readers
from pipelines.sources.watermark import NOT_KNOWN, SteadyClock, Watermark

THROUGH_SECONDS = 60.0  # steps that are not through for so long do not hold the next block up any more
LOOK_SECONDS = 0.15  # so long a bundle waits for steps that are not through; the next one waits on
MOST_AT_ONCE = 1_000  # messages of one call to the client
FETCHING = {
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 100,
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 32 << 10,
    "max.poll.interval.ms": 86_400_000,
}
_log = logging.getLogger(__name__)


@dataclass
class Counts:
    """What a reader did since it began."""

    messages: int = 0
    bytes: int = 0
    acked: int = 0
    unreadable: int = 0  # stamps


@dataclass(eq=False)
class Taken:
    """Messages that were read together: since when, how many, where each partition goes on, whether finalized."""

    since: float
    messages: int = 0
    bytes: int = 0
    earliest: int = 0  # received time, us since 1970
    ends: dict[Place, int] = field(default_factory=dict)
    is_done: bool = False


@dataclass(eq=False)
class Partition:
    """What a reader knows of a partition: the next offset, whether that is the end, and the watermark."""

    next_offset: int
    watermark: Watermark
    is_at_end: bool = False
    waiting: int | None = None  # the earliest received time in the buffer, us since 1970
    latest: int | None = None  # of the last message


class KafkaReader:
    """Reads a split. Any thread may call any method; the runner asks for blocks in one at a time."""

    def __init__(self, reading: Reading, split: int):
        self.reading, self.split, self.name = reading, split, uuid.uuid4().hex
        folder = Path(reading.drain_file).parent
        make = partial(Group, reading.connection, reading.topics, reading.group, reading.start_at, folder)
        self.group = group_of(reading.id, make)
        registry, at = registry_of(reading.connection), reading.landing
        self.decode = None if registry is None else registry.decode
        self.lander = Lander(at.folder, at.input, at.run, split, reading.monotonic) if at else None
        self.clock = SteadyClock(reading.wall, reading.monotonic)
        self.idle = Watermark(reading.expected_delay, self.clock)  # of a split without partitions
        self.value = NOT_KNOWN
        self.counts, self.reported = Counts(), Counts()
        self.asked: float | None = None
        self.consumer: Any = None
        self.partitions: dict[Place, Partition] = {}
        self._lock = threading.RLock()
        self._done: dict[Place, int] = {}  # the first offsets that are not finalized
        self._taken: deque[Taken] = deque()  # in order, the first one not finalized; with what is in the buffer
        self._buffer: list[Poll] = []  # of the last of them, until it is handed on
        self._unmarked: list[Taken] = []  # handed on since the last mark
        self._marked: dict[str, list[Taken]] = {}
        self._marks = 0
        self._handed_on = 0.0
        self._is_closed = False

    def next_block(self) -> pl.DataFrame | None:
        """The next block, landed, if there is one. Errors: SourceError for topics that cannot be read any more."""
        if self.is_draining():
            return None
        if self.group.failure is not None:
            raise self.group.failure
        if self._is_closed:
            return None
        self._read()
        due = self._due()
        if due is None or not self._may_hand_on(due):
            return None
        with self._lock:
            polls, self._buffer = self._buffer, []
            for partition in self.partitions.values():
                partition.waiting = None
            taken = self._taken[-1]
        self._handed_on = self.reading.monotonic()
        STEPS.handed_on()
        block = block_of(polls, self.reading.source)
        if self.lander is not None:
            block = self.lander.land(block)
        self._unmarked.append(taken)  # only now: what did not land is in no mark
        return block

    def next_look(self) -> float:
        """Seconds until it is worth to ask for a block again: when one is due, or when there may be messages."""
        with self._lock:
            rest = self.reading.block_seconds
            if self._buffer:
                rest = self._taken[-1].since + rest - self.reading.monotonic()
            return max(rest, LOOK_SECONDS)

    def advance_watermark(self) -> float:
        """The watermark, in seconds since 1970: that of the partition that is behind all others."""
        with self._lock:
            reached = self.group.is_reached
            found = [
                each.watermark.advance(
                    None if each.waiting is None else each.waiting / 1e6,
                    reached and each.is_at_end and each.waiting is None,
                )
                for each in self.partitions.values()
            ]
            if not found and reached and not self._owned(self.group.starts):
                found = [self.idle.advance(None, True)]
            # A partition that is found later begins behind the others; what was said is said.
            self.value = max(self.value, min(found, default=NOT_KNOWN))
            return self.value

    def is_draining(self) -> bool:
        """Whether the run is to end: nothing more is handed on then."""
        return os.path.exists(self.reading.drain_file)

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
            self._store()

    def snapshot(self) -> Snapshot:
        """What was read, is in flight, and waits in the topics."""
        with self._lock:
            held = [each for each in self._taken if not each.is_done]
            oldest = min((each.earliest for each in held), default=None)
            backlog = Backlog(*self._in_flight(), None if oldest is None else oldest / 1e6)
            lag_messages, lag_seconds = self._lag()
            value = None if self.value == NOT_KNOWN else self.value
            return Snapshot(
                self.counts.messages,
                backlog,
                value,
                self.asked,
                self.counts.unreadable,
                lag_messages=lag_messages,
                lag_seconds=lag_seconds,
            )

    def take_counts(self) -> Counts:
        """What was counted since the last call."""
        with self._lock:
            now = Counts(**vars(self.counts))
            since = Counts(**{name: value - getattr(self.reported, name) for name, value in vars(now).items()})
            self.reported = now
            return since

    def close(self) -> None:
        """Forget what is not finalized: the next reader reads it again."""
        with self._lock:
            self._is_closed = True
            self._store()
            self._forget()

    def _forget(self) -> None:
        for held in (self._taken, self._buffer, self._unmarked, self._marked, self.partitions):
            held.clear()
        if self.consumer is not None:
            self.consumer.close()
            self.consumer = None

    def _store(self) -> None:
        """Have the offsets of what is finalized committed."""
        while self._taken and self._taken[0].is_done:
            self._done |= self._taken.popleft().ends
        if not self._taken:  # then also what holds no message: the marks of transactions
            self._done |= {place: each.next_offset for place, each in self.partitions.items()}
        self.group.commit(self._done)

    def _in_flight(self) -> tuple[int, int]:
        held = [each for each in self._taken if not each.is_done]
        return sum(each.messages for each in held), sum(each.bytes for each in held)

    def _lag(self) -> tuple[int | None, float | None]:
        """Messages that wait in the topics, and how far behind the clock the partition is that is behind all others."""
        from confluent_kafka import TopicPartition

        messages, behind = 0, 0.0
        for place, each in self.partitions.items():
            if each.is_at_end or self.consumer is None:
                continue
            _, end = self.consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            messages += max(end - each.next_offset, 0)
            if each.latest is not None:
                behind = max(behind, self.clock() - each.latest / 1e6)
        return (messages, behind) if self.partitions else (None, None)

    def _owned(self, starts: dict[Place, int]) -> dict[Place, int]:
        splits = self.reading.readers
        return {place: offset for place, offset in starts.items() if split_of(place, splits) == self.split}

    def _assign(self) -> None:
        """Begin to read the partitions that were found since."""
        from confluent_kafka import TopicPartition

        starts = self.group.starts
        new = {place: offset for place, offset in self._owned(starts).items() if place not in self.partitions}
        if not new:
            return
        if self.consumer is None:
            reading = self.reading
            self.consumer = make_consumer(reading.connection, reading.group, self.group.note_error, **FETCHING)
        begin = {place: self._done.get(place, offset) for place, offset in new.items()}
        for place, offset in begin.items():
            self.partitions[place] = Partition(offset, Watermark(self.reading.expected_delay, self.clock))
        self.consumer.incremental_assign([TopicPartition(*place, offset) for place, offset in begin.items()])

    def _read(self) -> None:
        """Read into the buffer, as far as there is room."""
        with self._lock:
            self._expire()
            self._assign()
            if self.consumer is None:
                return
            while room := self._room():
                found = self.consumer.consume(min(room, MOST_AT_ONCE), 0)
                if not found:
                    return
                self._hold(found)

    def _room(self) -> int:
        """How many messages may be read now."""
        reading, (messages, size) = self.reading, self._in_flight()
        taken = self._taken[-1] if self._buffer else Taken(0.0)
        if taken.bytes >= reading.block_bytes or size >= reading.most_bytes:
            return 0
        return max(min(reading.block_rows - taken.messages, reading.most_messages - messages), 0)

    def _hold(self, found: list[Any]) -> None:
        by_place: dict[Place, list[Any]] = {}
        events = []
        for message in found:
            if message.error() is not None:
                events.append(message)
            else:
                by_place.setdefault(Place(message.topic(), message.partition()), []).append(message)
        for place, messages in by_place.items():
            self._hold_of(place, messages)
        for event in events:  # only now: the end of a partition may follow messages
            self._note(event)

    def _hold_of(self, place: Place, messages: list[Any]) -> None:
        """Hold messages of a partition, in their order."""
        partition = self.partitions[place]
        poll = poll_of(messages, self.reading.timestamp_attribute, self.clock(), self.decode)
        if not self._buffer:
            self._taken.append(Taken(self.reading.monotonic()))
        taken, earliest = self._taken[-1], min(poll.received)
        self._buffer.append(poll)
        partition.next_offset, partition.is_at_end = messages[-1].offset() + 1, False
        partition.waiting = earliest if partition.waiting is None else min(partition.waiting, earliest)
        partition.latest = poll.received[-1]
        partition.watermark.pulled(earliest / 1e6)
        taken.ends[place] = partition.next_offset
        taken.earliest = min(taken.earliest, earliest) if taken.messages else earliest
        taken.messages += len(messages)
        taken.bytes += poll.bytes
        self.counts.messages += len(messages)
        self.counts.bytes += poll.bytes
        self.counts.unreadable += poll.unreadable

    def _note(self, event: Any) -> None:
        """What the client says in place of a message. Errors: SourceError for offsets that are gone, or a refusal."""
        from confluent_kafka import KafkaError

        error = event.error()
        place = Place(event.topic(), event.partition()) if event.topic() is not None else None
        partition = self.partitions.get(place) if place is not None else None
        if error.code() == KafkaError._PARTITION_EOF:
            if partition is not None and event.offset() >= partition.next_offset:
                partition.next_offset, partition.is_at_end = event.offset(), True
                self._store()
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION) and partition is not None:
            assert place is not None
            raise self.group.describe_gone(place, partition.next_offset)
        elif is_refusal(error):
            raise refusal(f"{self.group.name}: {place}" if place else self.group.name, error)
        else:
            self.group.note_error(error)
            _log.info("%s: %s; trying again", self.group.name, describe_error(error))

    def _expire(self) -> None:
        """Go back to the first messages that were in flight for too long."""
        now = self.reading.monotonic()
        if self._taken and now - self._taken[0].since > self.reading.limit and not self._buffer:
            limit = self.reading.limit
            _log.warning("%s: messages were in flight for %.0f s; they are read again", self.group.name, limit)
            self._forget()

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


READERS: Readers[KafkaReader] = Readers()  # of this process, by reading and split


def readers_of(name: str) -> list[KafkaReader]:
    """The readers of these topics in this process."""
    return list(_of(name).values())


def close_readers(name: str) -> None:
    """End the readers of these topics in this process."""
    ending = _of(name)
    READERS.close(*ending)
    close_groups({reader.reading.id for reader in ending.values()})


def _of(name: str) -> dict[str, KafkaReader]:
    return READERS.those(lambda reader: reader.group.name == name)
