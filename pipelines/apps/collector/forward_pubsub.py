"""A Pub/Sub topic behind a collector's log.

Message   the payload; as attributes those of the entry, and `source`, `message_id`, and `received_time` in microseconds
          since 1970, which `--timestamp_attribute received_time` reads
"""

from collections.abc import Sequence
from typing import Any

import grpc

from pipelines.apps.collector.forward import NotPublished, marks_of
from pipelines.sources.log.frames import Entry
from pipelines.sources.pubsub.client import PubSub, PubsubMessage, describe_error, requests_of

LONGEST_VALUE = 1_024  # bytes of an attribute


class PubSubTarget:
    """A topic by its full name; see forward.Target. Errors: SourceError without credentials."""

    def __init__(self, topic: str):
        self.name, self._pubsub = topic, PubSub()

    def publish(self, entries: Sequence[Entry]) -> None:
        """Publish entries, in requests that Pub/Sub takes. Raises NotPublished."""
        try:
            for request in requests_of(list(map(message_of, entries))):
                self._pubsub.publish(self.name, request)
        except grpc.RpcError as error:
            raise NotPublished(describe_error(error)) from None

    def close(self) -> None:
        """End the connection."""
        self._pubsub.close()


def message_of(entry: Entry) -> Any:
    """An entry as a PubsubMessage."""
    attributes = {name: _cut(value) for name, value in marks_of(entry).items()}
    return PubsubMessage(data=entry.payload, attributes=attributes)


def _cut(text: str) -> str:
    return text.encode("utf-8", "replace")[:LONGEST_VALUE].decode("utf-8", "ignore")
