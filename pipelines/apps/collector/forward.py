"""Publish a log to a Pub/Sub topic, for a stream on another machine or on Dataflow.

    with forwarding(folder, topic, say) as forwarder: ...   a thread publishes what is in the log, in its order

Position  is stored after Pub/Sub has acknowledged the messages. After a crash some are published again, with the same
          attribute `message_id`; the stream counts an event id once
Failure   is retried without end, with a line for the operator when it begins and when it ends; meanwhile the log grows
Message   the payload; as attributes those of the entry, and `source`, `message_id`, and `received_time` in microseconds
          since 1970, which `--timestamp_attribute received_time` reads
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from pipelines.sources.log.folder import READER_LOCK, hold, read_position, segments, write_position
from pipelines.sources.log.follow import Follower
from pipelines.sources.log.frames import Entry
from pipelines.sources.pubsub.client import PubSub, PubsubMessage, describe_error, waits

MOST_ENTRIES = 1_000  # of a request, which may have as many messages
MOST_BYTES = 4_000_000  # of payloads read at once; a larger entry goes alone
REQUEST_BYTES = 9_500_000  # of a request, which may have 10 MB
LONGEST_VALUE = 1_024  # bytes of an attribute
LOOK_SECONDS = 0.05  # between two looks at a log that is read to its end


class Forwarder:
    """Publishes a log in a thread. `published` and `failures` are counts since it began."""

    def __init__(self, folder: Path, topic: str, pubsub: PubSub, say: Callable[[str], None]):
        self.folder, self.topic, self._pubsub, self._say = folder, topic, pubsub, say
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
                for request in requests_of(entries):
                    if not self._until_done(partial(self._publish, request)):
                        return
                if not self._until_done(self._store):
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
            except (grpc.RpcError, OSError) as error:
                self._failed(describe_error(error) if isinstance(error, grpc.RpcError) else str(error.strerror))
            else:
                if self._is_failing:
                    self._is_failing = False
                    self._say(f"publishing to {self.topic} again")
                return True
            if self._stopping.wait(wait):
                return False
        return False

    def _failed(self, why: str) -> None:
        self.failures += 1
        if not self._is_failing:
            self._is_failing = True
            self._say(f"cannot publish to {self.topic}: {why}; it is retried, and the log keeps what comes")

    def _publish(self, messages: Sequence[Any]) -> None:
        self._pubsub.publish(self.topic, messages)
        self.published += len(messages)

    def _store(self) -> None:
        if (position := self._follower.position) == self._stored:
            return
        write_position(self.folder, position)
        self._stored = position
        for number, path in segments(self.folder).items():
            if number < position.segment:
                path.unlink(missing_ok=True)


def requests_of(entries: Sequence[Entry]) -> Iterator[list[Any]]:
    """The entries as PubsubMessages, in lists that fit into a request."""
    messages: list[Any] = []
    size = 0
    for entry in entries:
        message = message_of(entry)
        bytes = message.ByteSize() + 16  # with what frames it in a request
        if messages and size + bytes > REQUEST_BYTES:
            yield messages
            messages, size = [], 0
        messages.append(message)
        size += bytes
    if messages:
        yield messages


def message_of(entry: Entry) -> Any:
    """An entry as a PubsubMessage."""
    own = {"source": entry.source, "message_id": entry.message_id, "received_time": str(entry.received)}
    attributes = {name: _cut(value) for name, value in (entry.attributes | own).items()}
    return PubsubMessage(data=entry.payload, attributes=attributes)


def _cut(text: str) -> str:
    return text.encode("utf-8", "replace")[:LONGEST_VALUE].decode("utf-8", "ignore")


@contextmanager
def forwarding(folder: Path, topic: str, say: Callable[[str], None]) -> Iterator[Forwarder]:
    """Publish a log while the context lasts. Errors: SourceError for a log that another process reads, or without
    credentials."""
    with hold(folder, READER_LOCK, "read"):
        pubsub = PubSub()
        try:
            forwarder = Forwarder(folder, topic, pubsub, say)
            forwarder.start()
            try:
                yield forwarder
            finally:
                forwarder.close()
        finally:
            pubsub.close()
