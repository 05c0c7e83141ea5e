"""Publish a log, for a stream on another machine or on Dataflow: to Pub/Sub or to Kafka.

    with forwarding(folder, target, say) as forwarder: ...   a thread publishes what is in the log, in its order

Position  is stored after the target has acknowledged the messages. After a crash some are published again, with the
          same `message_id`; the stream counts an event id once
Failure   is retried without end, with a line for the operator when it begins and when it ends; meanwhile the log grows
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pipelines.sources.log.folder import READER_LOCK, hold, read_position, segments, write_position
from pipelines.sources.log.follow import Follower
from pipelines.sources.log.frames import Entry
from pipelines.sources.retries import waits

MOST_ENTRIES = 1_000  # published together
MOST_BYTES = 4_000_000  # of payloads read at once; a larger entry goes alone
LOOK_SECONDS = 0.05  # between two looks at a log that is read to its end


class NotPublished(Exception):
    """A target did not take all of what it was given; the text says why, without a value of a message."""


class Target(Protocol):
    """Where a log is published.

    name     for the operator
    publish  returns once all entries are stored there. Raises NotPublished, or OSError: some may be stored all the same
    close    ends the connection
    """

    name: str

    def publish(self, entries: Sequence[Entry]) -> None: ...

    def close(self) -> None: ...


def marks_of(entry: Entry) -> dict[str, str]:
    """What a message says beside its payload: the attributes of the entry, and where, when and as what it was taken."""
    own = {"source": entry.source, "message_id": entry.message_id, "received_time": str(entry.received)}
    return entry.attributes | own


class Forwarder:
    """Publishes a log in a thread. `published` and `failures` are counts since it began."""

    def __init__(self, folder: Path, target: Target, say: Callable[[str], None]):
        self.folder, self.target, self._say = folder, target, say
        self.published = self.failures = 0
        self._stored = read_position(folder)
        self._follower = Follower(folder, self._stored)
        self._stopping = threading.Event()
        self._is_failing = False
        self._thread = threading.Thread(target=self._work, name="forward", daemon=True)

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def close(self) -> None:
        """End after the request in flight; what is not published stays in the log."""
        self._stopping.set()
        self._thread.join()
        self._follower.close()

    def gauges(self) -> dict[str, float]:
        """Return what /metrics shows."""
        return {"forwarded_events": self.published, "forward_failures": self.failures}

    def _work(self) -> None:
        while not self._stopping.is_set():
            for entries in iter(self._next, []):
                if not self._until_done(partial(self._publish, entries)) or not self._until_done(self._store):
                    return
            self._stopping.wait(LOOK_SECONDS)

    def _next(self) -> list[Entry]:
        found: list[Entry] = []
        if not self._stopping.is_set():
            self._until_done(lambda: found.extend(self._follower.read(MOST_ENTRIES, MOST_BYTES)))
        if not found:
            self._until_done(self._store)  # segments that hold nothing more
        return found

    def _until_done(self, action: Callable[[], Any]) -> bool:
        """Do something until it succeeds; False if the process stops before."""
        for wait in waits():
            try:
                action()
            except (NotPublished, OSError) as error:
                self._failed(str(error if isinstance(error, NotPublished) else error.strerror))
            else:
                if self._is_failing:
                    self._is_failing = False
                    self._say(f"publishing to {self.target.name} again")
                return True
            if self._stopping.wait(wait):
                return False
        return False

    def _failed(self, why: str) -> None:
        self.failures += 1
        if not self._is_failing:
            self._is_failing = True
            self._say(f"cannot publish to {self.target.name}: {why}; it is retried, and the log keeps what comes")

    def _publish(self, entries: Sequence[Entry]) -> None:
        self.target.publish(entries)
        self.published += len(entries)

    def _store(self) -> None:
        if (position := self._follower.position) == self._stored:
            return
        write_position(self.folder, position)
        self._stored = position
        for number, path in segments(self.folder).items():
            if number < position.segment:
                path.unlink(missing_ok=True)


@contextmanager
def forwarding(folder: Path, target: Callable[[], Target], say: Callable[[str], None]) -> Iterator[Forwarder]:
    """Publish a log while the context lasts. Errors: SourceError for a log that another process reads, and those of
    `target`, which connects."""
    with hold(folder, READER_LOCK, "read"):
        connected = target()
        try:
            forwarder = Forwarder(folder, connected, say)
            forwarder.start()
            try:
                yield forwarder
            finally:
                forwarder.close()
        finally:
            connected.close()
