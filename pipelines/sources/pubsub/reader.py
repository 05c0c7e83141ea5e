"""One reader of a subscription: a thread pulls into a buffer, the runner's thread takes blocks out of it.

Blocks  one is handed on once it is old enough and the steps behind are through with those before it (in_flight.py), or
        it is full: a machine that falls behind gets larger blocks, which cost less a record
Load    while it is low (load.py), only the first reader pulls, with pauses, and a small block gathers for longer
Order   one pull at a time, blocks in the order of the pulls: messages with an ordering key are never reordered
Bounds  nothing is pulled while `most_messages` or `most_bytes` are in flight: pulled and not acknowledged
Errors  a transient error is retried without limit; a refusal that lasts GRACE_SECONDS is a SourceError for the runner
"""

import logging
import os
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import polars as pl

from pipelines.sources.in_flight import STEPS
from pipelines.sources.landing import Again, LandAt, Lander, read_landed
from pipelines.sources.messages import Poll, block_of, drop_payloads
from pipelines.sources.pubsub import leases as pubsub_leases
from pipelines.sources.pubsub.client import PubSub, describe_error, is_refusal
from pipelines.sources.pubsub.leases import Leases
from pipelines.sources.pubsub.load import FRESH_SECONDS, MANY_ROWS, PATIENCE, PAUSE_SECONDS, load_of
from pipelines.sources.pubsub.messages import poll_of
from pipelines.sources.retries import waits
from pipelines.sources.watermark import NOT_KNOWN, SteadyClock, Watermark
from transforms.errors import OptionError, SourceError

MOST_OF_A_PULL = 1_000  # messages, by the protocol
FIRST_PULL = 10  # messages: their size shows how many fit
GRACE_SECONDS = 5.0  # a subscription may be recreated, or a permission granted
IDLE_SECONDS = 1.0  # a queue that has not answered for so long is empty
THROUGH_SECONDS = 60.0  # steps that are not through for so long do not hold the next block up any more
LOOK_SECONDS = 0.15  # so long a bundle waits for steps that are not through; the next one waits on
REST_SECONDS = 0.2  # so soon a reader that rests looks whether it is to pull
# Seconds between two questions of the runner for a block. Of an empty buffer none is due before a pause and the time
# that a small block gathers.
LOOK_OFTEN, LOOK_SELDOM = 0.2, 1.25
STOP_SECONDS = 0.5  # for the pull in flight: what a cancelled one was given is redelivered late
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """How a subscription is read. It travels with each bundle, so it is small.

    source               the name for records that state none
    readers              splits that share the subscription
    timestamp_attribute  the attribute that states the received time, of publishers that are trusted
    expected_delay       seconds by which a message may be late and still be in time
    landing              where each block is written before it is handed on; None: the runner's state is durable
    again                landed files that are read first; split k takes each k-th
    drain_file           a path: once the file exists, the readers nack what they hold and end
    block_rows, block_bytes, block_seconds   a block has to reach one of them before it is handed on; one of fewer than
                                             MANY_ROWS gathers PATIENCE times as long
    most_messages, most_bytes                in flight of one reader
    lease_limit          seconds after which the lease of a message in flight expires
    id                   names the readers of one run: once `close_all` closed one of them, no other begins
    """

    subscription: str
    source: str = "events"
    readers: int = 2
    timestamp_attribute: str | None = None
    expected_delay: float = 10.0
    landing: LandAt | None = None
    again: tuple[Again, ...] = ()
    drain_file: str | None = None
    block_rows: int = 10_000
    block_bytes: int = 16 << 20
    block_seconds: float = 0.5
    most_messages: int = 20_000
    most_bytes: int = 64 << 20
    lease_limit: float = pubsub_leases.LIMIT_SECONDS
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        if self.readers < 1:
            raise OptionError(f"readers: got {self.readers}; allowed: a whole number from 1")


_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()
_closed: set[str] = set()  # readings


def close_all() -> None:
    """After a pipeline failed or was cancelled: close the readers of this process, nack what is not acknowledged.

    A runner may leave its readers open, and their leases would be extended for as long as the process lives.
    """
    engines = list(_engines)
    _closed.update(engine.reading.id for engine in engines)  # a bundle may still begin with the next split
    for engine in engines:
        engine.close()
        pubsub_leases.abandon(engine.leases)


class Engine:
    """What reads a split, from its first bundle to its last. The runner's threads use it one at a time.

    again_from  how many of the split's landed files have been read again already
    """

    def __init__(self, reading: Reading, split: int, again_from: int = 0):
        self.reading, self.split, self.name = reading, split, uuid.uuid4().hex
        self.load, self.asked = load_of(reading.subscription), reading.monotonic()
        self.owner: object = None  # the reader that the runner holds; one that it left behind may not close this
        self.again = list(reading.again[split :: reading.readers])
        self.again_done = again_from
        self.pubsub = PubSub()
        self.leases = Leases(self.pubsub, reading.subscription, reading.lease_limit, reading.monotonic)
        self.lander = _lander(reading, split)
        self.clock = SteadyClock(reading.wall, reading.monotonic)
        self.mark = Watermark(reading.expected_delay, self.clock)
        self.unmarked: list[Poll] = []  # handed on since the last checkpoint
        self.marks = 0
        self.failure: Exception | None = None
        self._lock = threading.Lock()
        self._buffer: deque[tuple[float, Poll]] = deque()  # with when it was pulled
        self._asking: float | None = None  # since when the queue has been asked and has given nothing
        self._message_bytes = 0.0
        self._handed_on = 0.0  # when the last block was
        self._resting = False
        self._pulled_old = False  # the last pull, messages that had waited
        self._call: grpc.Future | None = None
        self._stopping = threading.Event()
        self._stop_by = 0.0
        self._thread: threading.Thread | None = None
        _engines.add(self)
        if reading.id in _closed:
            self._stop()

    def next_block(self) -> pl.DataFrame | None:
        """The next block, landed, if there is one: first what is read again, then what was pulled."""
        if self.again_done < len(self.again):
            self.again_done += 1
            STEPS.handed_on()
            return read_landed(self.again[self.again_done - 1])
        self.asked = self.reading.monotonic()
        if self._thread is None and not self._stopping.is_set():
            self.load.enter(self)
            self._thread = threading.Thread(target=self._pull, name=f"pull {self.reading.subscription}", daemon=True)
            self._thread.start()
        if self.failure is not None:
            raise self.failure
        polls = self._take()
        if not polls:
            return None
        self.unmarked += polls
        block = block_of(polls, self.reading.source)
        for poll in polls:
            drop_payloads(poll)
        return block if self.lander is None else self.lander.land(block)

    def next_look(self) -> float:
        """Seconds until it is worth to ask for a block again: at a low load, when one of any reader may be due."""
        now = self.reading.monotonic()
        leader = self.load.leader(now)
        if self.load.is_busy(now) or not isinstance(leader, Engine):
            return LOOK_OFTEN
        mine, due = self._due_at(), leader._due_at()
        if leader is not self and mine is None:  # it has nothing to hand on when the leader has
            return LOOK_SELDOM if due is None or due - now < LOOK_OFTEN else min(due - now, LOOK_SELDOM)
        soonest = min(at for at in (mine, due, now + LOOK_SELDOM) if at is not None)
        return max(soonest - now, LOOK_OFTEN)

    def watermark(self) -> float:
        """The watermark, in seconds since 1970; not known while landed files are read again."""
        now = self.reading.monotonic()
        with self._lock:
            waiting = [min(poll.received) for _, poll in self._buffer]
            leader = self.load.leader(now) if self._resting and not waiting else None
            if isinstance(leader, Engine) and leader is not self:
                value = self.mark.follow(leader.mark.value)
            else:
                is_empty = not waiting and self._asking is not None and now - self._asking >= IDLE_SECONDS
                value = self.mark.advance(min(waiting) / 1e6 if waiting else None, is_empty)
        pubsub_leases.note_watermark(self.name, value)
        return value

    def lag(self) -> float | None:
        """Seconds that the watermark is behind the clock; None while it is not known."""
        return None if self.mark.value == NOT_KNOWN else self.clock() - self.mark.value

    def checkpoint(self) -> tuple[str, int]:
        """A token for what was handed on since the last one, and how many messages that is."""
        self.marks += 1
        token, polls = f"{self.name}:{self.marks}", self.unmarked
        self.unmarked = []
        if polls:
            pubsub_leases.mark(token, self.leases, polls)
        return token, sum(len(poll.ack_ids) for poll in polls)

    def is_draining(self) -> bool:
        """Whether the run must end. Once it must, it stays so; nothing more is handed on then."""
        path = self.reading.drain_file
        if not self._stopping.is_set() and path is not None and os.path.exists(path):
            self._stop()
        return self._stopping.is_set()

    def is_drained(self) -> bool:
        """Whether the pull has ended, so that nothing more is received. Does not wait."""
        if self._thread is not None and self._thread.is_alive():
            if self.reading.monotonic() >= self._stop_by and self._call is not None:
                self._call.cancel()
            return False
        return True

    def close(self) -> None:
        """Stop pulling and nack all that is not under a token; what is stays leased."""
        self._stop()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
            if self._call is not None:
                self._call.cancel()
            self._thread.join(STOP_SECONDS)
        with self._lock:
            self.leases.nack(self.unmarked + [poll for _, poll in self._buffer])
            self.unmarked = []
            self._buffer.clear()
        self.leases.close()
        self.load.leave(self)
        pubsub_leases.note_watermark(self.name, None)

    def _stop(self) -> None:
        if not self._stopping.is_set():
            self._stop_by = self.reading.monotonic() + STOP_SECONDS
            self._stopping.set()
            self.load.leave(self)

    def _take(self) -> list[Poll]:
        """The polls of the next block, in order; none while it may still grow."""
        reading, rows, size = self.reading, 0, 0
        taken: list[Poll] = []
        due = self._due()
        if due is None or not self._may_hand_on(due):
            return []
        with self._lock:
            while self._buffer:
                poll = self._buffer[0][1]
                rows, size = rows + len(poll.ack_ids), size + poll.bytes
                if taken and (rows > reading.block_rows or size > reading.block_bytes):
                    break
                taken.append(self._buffer.popleft()[1])
        self._handed_on = reading.monotonic()
        if sum(len(poll.ack_ids) for poll in taken) >= MANY_ROWS:
            self.load.note_busy(self._handed_on)
        STEPS.handed_on()
        return taken

    def _due(self) -> float | None:
        """Since when there is a block that is old enough or full; None while there is none."""
        due = self._due_at()
        return due if due is not None and due <= self.reading.monotonic() else None

    def _due_at(self) -> float | None:
        """When what was pulled is old enough, or since when it is full; None if there is nothing."""
        reading = self.reading
        with self._lock:
            if not self._buffer:
                return None
            held = sum(len(poll.ack_ids) for _, poll in self._buffer)
            due = self._buffer[0][0] + reading.block_seconds * (PATIENCE if held < MANY_ROWS else 1)
            full = held >= reading.block_rows or sum(poll.bytes for _, poll in self._buffer) >= reading.block_bytes
            if full:
                due = min(due, self._buffer[-1][0])
        return due

    def _may_hand_on(self, due: float) -> bool:
        """Whether the steps are through with the blocks before; a block waits THROUGH_SECONDS at most."""
        waits_since = max(due, self._handed_on)
        if STEPS.are_through(LOOK_SECONDS):
            return True
        now = self.reading.monotonic()
        if now - waits_since >= self.reading.block_seconds:
            self.load.note_busy(now)
        return now - waits_since >= THROUGH_SECONDS

    def _pull(self) -> None:
        """Pull until stopped: the body of the thread."""
        try:
            self._pull_until_stopped()
        except grpc.FutureCancelledError:
            pass
        except BaseException as error:  # for the runner's thread: a thread that dies would be an empty queue
            self.failure = error if isinstance(error, Exception) else SourceError(f"the reader failed: {error!r}")

    def _pull_until_stopped(self) -> None:
        tries, refused_at, is_reached = waits(), None, False
        while not self._stopping.is_set():
            try:
                if not is_reached:
                    self._learn_deadline()
                    is_reached = True  # only now does no answer mean that there is nothing
                if self._rest():
                    continue
                if self._pull_once():
                    tries, refused_at = waits(), None
            except grpc.RpcError as error:
                self._asking, is_reached = None, False
                if self._stopping.is_set():
                    break
                now = self.reading.monotonic()
                refused_at = (refused_at if refused_at is not None else now) if is_refusal(error) else None
                if refused_at is not None and now - refused_at >= GRACE_SECONDS:
                    raise describe_loss(self.reading.subscription, error) from error
                _log.info("%s: %s; trying again", self.reading.subscription, describe_error(error))
                self._stopping.wait(next(tries))

    def _rest(self) -> bool:
        """Wait for a while if another reader pulls alone. Whether there was a wait."""
        now = self.reading.monotonic()
        self._resting = not self.load.is_busy(now) and self.load.leader(now) is not self
        if self._resting:
            self._asking = None
            self._stopping.wait(REST_SECONDS)
        return self._resting

    def _pull_once(self) -> bool:
        """Pull, if there is room, and wait for the answer. Whether there was one."""
        most = self._room()
        if most < 1:
            self._asking = None
            self.leases.wait_for_room(self.reading.most_messages, self.reading.most_bytes, 0.2)
            return False
        if self._asking is None:
            self._asking = self.reading.monotonic()
        self._call = self.pubsub.pull(self.reading.subscription, most)
        try:
            received = self._call.result().received_messages
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            received = ()  # the server waited for longer than we do
        if not received:
            self._stopping.wait(0.05)  # a server may answer at once that it has nothing
            return True
        poll = poll_of(received, self.reading.timestamp_attribute)
        self.leases.hold(poll)
        self._message_bytes = poll.bytes / len(poll.ack_ids)
        with self._lock:
            self._asking = self.reading.monotonic()
            self.mark.pulled(min(poll.received) / 1e6)
            self._buffer.append((self._asking, poll))
        self._pause(len(received) < most, received[-1].message.publish_time)
        return True

    def _pause(self, had_room: bool, published: Any) -> None:
        """Wait before the next pull, so that it brings more, unless the queue has messages that wait already."""
        now, pulled_old = self.reading.monotonic(), self._pulled_old
        self._pulled_old = self.clock() - published.seconds >= FRESH_SECONDS + published.nanos / 1e9
        if pulled_old and self._pulled_old:  # a process that stood still for a moment finds old messages once
            self.load.note_busy(now)
        if had_room and not self._pulled_old and not self.load.is_busy(now):
            self._stopping.wait(PAUSE_SECONDS)

    def _room(self) -> int:
        """How many messages may be pulled now."""
        if not self._message_bytes:
            return FIRST_PULL
        messages = self.reading.most_messages - self.leases.messages
        room = self.reading.most_bytes - self.leases.bytes
        return min(messages, MOST_OF_A_PULL, max(int(room / max(self._message_bytes, 1.0)), 1) if room > 0 else 0)

    def _learn_deadline(self) -> None:
        """Ask for the ack deadline: also whether the queue can be reached. Raises grpc.RpcError if it cannot."""
        try:
            self.leases.deadline = float(self.pubsub.subscription(self.reading.subscription).ack_deadline_seconds)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.PERMISSION_DENIED:  # a reader need not be allowed to see it
                raise


def _lander(reading: Reading, split: int) -> Lander | None:
    at = reading.landing
    return Lander(at.folder, at.input, at.run, split, reading.monotonic) if at is not None else None


def describe_loss(subscription: str, error: grpc.RpcError) -> SourceError:
    """The error for a subscription that refuses to be read while a stream reads it."""
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return SourceError(
            f"subscription {subscription} is gone: it was deleted while it was read;"
            " recreate it, or read another one with --input_subscription"
        )
    return SourceError(
        f"subscription {subscription} can no longer be read: {describe_error(error)}; fix that and restart"
    )
