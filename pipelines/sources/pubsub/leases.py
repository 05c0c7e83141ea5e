"""What was pulled from Pub/Sub and is not acknowledged yet: leased, extended, acknowledged or nacked.

Leases       of one reader: a thread acknowledges what is settled, nacks what is returned, and extends the rest
mark, settle what a bundle holds, under a token; the runner settles it when it has finalized the bundle
snapshot()   what this process has in flight, for a display

A reader's leases outlive it: a runner finalizes the last bundle after it closed the reader.
"""

import atexit
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import grpc

from pipelines.sources.messages import Poll
from pipelines.sources.pubsub.client import MOST_ACK_IDS, PubSub, describe_error, is_refusal
from pipelines.sources.retries import waits

EXTENSION_SECONDS = 30  # so long after a process died its messages are redelivered
MARGIN_SECONDS = 10.0  # before a lease ends it is extended; less where the subscription's deadline is short
DEADLINE_SECONDS = 10.0  # of a subscription whose deadline is not known: the shortest that Pub/Sub has
LIMIT_SECONDS = 3_600.0  # a lease expires after it, so that the queue delivers the message again
FLUSH_SECONDS = 5.0  # at most, for the requests that are still to be sent when the process ends
_log = logging.getLogger(__name__)


@dataclass
class Counts:
    """What the readers of this process did since it began."""

    messages: int = 0
    bytes: int = 0
    acked: int = 0
    nacked: int = 0
    expired: int = 0  # in flight for too long, or refused by the queue, which delivers them again
    unknown: int = 0  # finalized in a process that did not pull them: the queue delivers them again
    unreadable: int = 0  # with a stamp of the received time that cannot be read: it is the publish time


class Snapshot(NamedTuple):
    """Counts, and what is in flight now; times in seconds since 1970, None where there is nothing. `asked`: when the
    runner last asked a reader for records, by the monotonic clock."""

    messages: int
    bytes: int
    acked: int
    nacked: int
    expired: int
    unknown: int
    unreadable: int
    in_flight: int
    in_flight_bytes: int
    oldest_received: float | None
    watermark: float | None
    asked: float | None


class _Lease(NamedTuple):
    poll: Poll
    since: float
    ends: float
    earliest: int  # received time, in us since 1970


@dataclass
class _InProcess:
    """All readers of this process. A reader may be passed from one thread of the runner to another."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: Counts = field(default_factory=Counts)
    reported: Counts = field(default_factory=Counts)  # what of them the runner's metrics have
    leases: "list[Leases]" = field(default_factory=list)
    marked: "dict[str, tuple[Leases, list[Poll]]]" = field(default_factory=dict)
    watermarks: dict[str, float] = field(default_factory=dict)  # reader -> seconds
    asked: float | None = None


_HERE = _InProcess()


class Leases:
    """The leases of one reader. Its thread ends once it is closed and nothing is in flight.

    deadline  seconds that the subscription gives from the pull on; set when it is known
    """

    def __init__(
        self,
        pubsub: PubSub,
        subscription: str,
        limit_seconds: float = LIMIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.pubsub, self.subscription, self.limit, self.clock = pubsub, subscription, limit_seconds, clock
        self.deadline = DEADLINE_SECONDS
        self.messages = self.bytes = 0  # in flight
        self._changed = threading.Condition()
        self._held: dict[int, _Lease] = {}
        self._settled: list[Poll] = []
        self._returned: list[Poll] = []
        self._is_closed = self._is_busy = False
        with _HERE.lock:
            _HERE.leases.append(self)
        self._thread = threading.Thread(target=self._work, name=f"leases of {subscription}", daemon=True)
        self._thread.start()

    def hold(self, poll: Poll) -> None:
        """Lease what was pulled just now."""
        now = self.clock()
        with self._changed:
            self._held[id(poll)] = _Lease(poll, now, now + self.deadline, min(poll.received))
            self.messages += len(poll.ack_ids)
            self.bytes += poll.bytes
        with _HERE.lock:
            _HERE.counts.messages += len(poll.ack_ids)
            _HERE.counts.bytes += poll.bytes
            _HERE.counts.unreadable += poll.unreadable

    def settle(self, polls: Sequence[Poll]) -> None:
        """Acknowledge soon."""
        self._add(self._settled, polls)

    def nack(self, polls: Sequence[Poll]) -> None:
        """Have the queue deliver the messages again soon, in this order."""
        self._add(self._returned, polls)

    def wait_for_room(self, most_messages: int, most_bytes: int, seconds: float) -> None:
        """Wait until less than that is in flight, but not longer than `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self.messages < most_messages and self.bytes < most_bytes, seconds)

    def close(self) -> None:
        """Lease nothing more; what is in flight stays leased until it is settled, nacked or expired."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def wait_until_sent(self, seconds: float) -> bool:
        """Wait until all that is settled or nacked was sent to the queue."""
        with self._changed:
            idle = self._changed.wait_for(lambda: not (self._settled or self._returned or self._is_busy), seconds)
        return bool(idle)

    def earliest(self) -> float | None:
        """The earliest received time in flight, in microseconds since 1970."""
        with self._changed:
            return min((lease.earliest for lease in self._held.values()), default=None)

    def _add(self, waiting: list[Poll], polls: Sequence[Poll]) -> None:
        with self._changed:
            waiting.extend(polls)
            self._changed.notify_all()

    def _work(self) -> None:
        tries = waits()
        while True:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._settled or self._returned or self._is_done(), 1.0)
                if self._is_done():
                    break
                self._is_busy = True
                ending = self._ending()
            try:
                self._send(ending)
                tries = waits()
            except grpc.RpcError as error:
                _log.info("%s: %s; trying again", self.subscription, describe_error(error))
                time.sleep(next(tries))
            except BaseException:  # a thread that dies would leave all leases to end
                _log.exception("%s: trying again", self.subscription)
                time.sleep(next(tries))
        with _HERE.lock:
            _HERE.leases.remove(self)
        self.pubsub.close()

    def _is_done(self) -> bool:
        return self._is_closed and not (self._held or self._settled or self._returned)

    def _ending(self) -> list[Poll]:
        """The polls that have to be extended now; those in flight for too long expire."""
        now, margin = self.clock(), min(MARGIN_SECONDS, self.deadline / 2)
        old = [lease.poll for lease in self._held.values() if now - lease.since > self.limit]
        self._drop(old, "expired")
        if old:
            _log.warning("%s: leases of messages expired after %.0f s in flight", self.subscription, self.limit)
            _forget(self, {id(poll) for poll in old})
        kept = {id(poll) for poll in (*self._settled, *self._returned)}
        return [lease.poll for key, lease in self._held.items() if lease.ends - now < margin and key not in kept]

    def _send(self, ending: list[Poll]) -> None:
        """Send to the queue; raises grpc.RpcError for what is worth a retry, and keeps all that is not sent yet."""
        for waiting, seconds, counted in ((self._settled, None, "acked"), (self._returned, 0, "nacked")):
            for polls in _batches(waiting):
                done = self._request(polls, seconds)
                with self._changed:
                    del waiting[: len(polls)]
                    self._drop(polls, counted if done else "expired")
                    self._changed.notify_all()
        for polls in _batches(ending):
            done = self._request(polls, EXTENSION_SECONDS)
            with self._changed:
                for poll in polls:
                    lease = self._held.get(id(poll))
                    if lease is not None:
                        self._held[id(poll)] = lease._replace(ends=self.clock() + EXTENSION_SECONDS)
                if not done:
                    self._drop(polls, "expired")

    def _request(self, polls: list[Poll], seconds: int | None) -> bool:
        """Acknowledge (None) or set the deadline of some polls. False if the queue refuses for good."""
        ids = [ack_id for poll in polls for ack_id in poll.ack_ids]
        try:
            for start in range(0, len(ids), MOST_ACK_IDS):
                part = ids[start : start + MOST_ACK_IDS]
                if seconds is None:
                    self.pubsub.acknowledge(self.subscription, part)
                else:
                    self.pubsub.extend(self.subscription, part, seconds)
        except grpc.RpcError as error:
            if not is_refusal(error):
                raise
            _log.warning(
                "%s: %s for %d messages; they will be redelivered", self.subscription, describe_error(error), len(ids)
            )
            return False
        return True

    def _drop(self, polls: Iterable[Poll], counted: str) -> None:
        """Remove them from what is in flight; the caller holds the lock."""
        for poll in polls:
            if self._held.pop(id(poll), None) is not None:
                self.messages -= len(poll.ack_ids)
                self.bytes -= poll.bytes
                with _HERE.lock:
                    setattr(_HERE.counts, counted, getattr(_HERE.counts, counted) + len(poll.ack_ids))


def _batches(polls: list[Poll]) -> Iterator[list[Poll]]:
    """The polls in order, in lists of about MOST_ACK_IDS messages; taken from a copy, so the list may change."""
    batch: list[Poll] = []
    size = 0
    for poll in list(polls):
        if batch and size + len(poll.ack_ids) > MOST_ACK_IDS:
            yield batch
            batch, size = [], 0
        batch.append(poll)
        size += len(poll.ack_ids)
    if batch:
        yield batch


def abandon(leases: Leases) -> None:
    """Nack what is marked: its bundles will not be finalized any more."""
    with _HERE.lock:
        tokens = [token for token, (owner, _) in _HERE.marked.items() if owner is leases]
        polls = [poll for token in tokens for poll in _HERE.marked.pop(token)[1]]
    leases.nack(polls)


def _forget(leases: Leases, polls: set[int]) -> None:
    """Take polls (by their `id`) out of the marks: their bundles will not be finalized any more."""
    with _HERE.lock:
        for token, (owner, marked) in list(_HERE.marked.items()):
            if owner is leases:
                marked[:] = [poll for poll in marked if id(poll) not in polls]
                if not marked:
                    del _HERE.marked[token]


def mark(token: str, leases: Leases, polls: list[Poll]) -> None:
    """Remember what a bundle holds until it is finalized."""
    with _HERE.lock:
        _HERE.marked[token] = (leases, polls)


def settle(token: str, messages: int) -> None:
    """A bundle is finalized: acknowledge what it holds. Elsewhere than in the process that pulled it, only count."""
    with _HERE.lock:
        leases, polls = _HERE.marked.pop(token, (None, []))
        if leases is None:
            _HERE.counts.unknown += messages
    if leases is not None:
        leases.settle(polls)


def note_watermark(reader: str, watermark: float | None) -> None:
    """Note a reader's watermark for the snapshot; None: it ended."""
    with _HERE.lock:
        if watermark is None:
            _HERE.watermarks.pop(reader, None)
        else:
            _HERE.watermarks[reader] = watermark


def note_asked() -> None:
    """Note that the runner asks a reader for records."""
    _HERE.asked = time.monotonic()


def take_counts() -> Counts:
    """What was counted since the last call: the runner's metrics get each count once, from whichever reader asks."""
    with _HERE.lock:
        now = Counts(**vars(_HERE.counts))
        since = Counts(**{name: value - getattr(_HERE.reported, name) for name, value in vars(now).items()})
        _HERE.reported = now
    return since


def snapshot() -> Snapshot:
    """What the readers of this process have read and have in flight."""
    with _HERE.lock:
        counts, leases, watermarks = dict(vars(_HERE.counts)), list(_HERE.leases), list(_HERE.watermarks.values())
    earliest = [time for each in leases if (time := each.earliest()) is not None]
    return Snapshot(
        **counts,
        in_flight=sum(each.messages for each in leases),
        in_flight_bytes=sum(each.bytes for each in leases),
        oldest_received=min(earliest) / 1e6 if earliest else None,
        watermark=min(watermarks, default=None),
        asked=_HERE.asked,
    )


def in_flight() -> int:
    """Messages that the readers of this process pulled and that are not acknowledged."""
    with _HERE.lock:
        return sum(each.messages for each in _HERE.leases)


def flush(seconds: float = FLUSH_SECONDS) -> bool:
    """Wait until all that is acknowledged or nacked was sent to the queue; False if that took too long."""
    with _HERE.lock:
        leases = list(_HERE.leases)
    end = time.monotonic() + seconds
    return all([each.wait_until_sent(max(end - time.monotonic(), 0.0)) for each in leases])


atexit.register(flush)
