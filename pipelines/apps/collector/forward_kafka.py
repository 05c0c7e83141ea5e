"""A Kafka topic behind a collector's log.

Message   the payload, without a key; as headers the attributes of the entry, and `source`, `message_id`, and
          `received_time` in microseconds since 1970, which `--timestamp_attribute received_time` reads
Order     that of the log within each partition, as long as nothing is published again
"""

import time
from collections.abc import Sequence
from typing import Any

from pipelines.apps.collector.forward import NotPublished, marks_of
from pipelines.sources.kafka.client import Connection, describe_error, make_producer
from pipelines.sources.log.frames import Entry

LIMIT_SECONDS = 30.0  # for an answer, after which all is published again
MESSAGE_BYTES = 10_485_760  # of a message, which may be a whole body; a topic may allow less
_LOOK_SECONDS = 0.1


class KafkaTarget:
    """A topic by its name; see forward.Target. Errors: OptionError for the properties of the connection."""

    def __init__(self, topic: str, connection: Connection, limit_seconds: float = LIMIT_SECONDS):
        self.name, self._connection, self._limit = topic, connection, limit_seconds
        self._producer: Any = self._connected()

    def publish(self, entries: Sequence[Entry]) -> None:
        """Publish entries, and wait until Kafka has stored them. Raises NotPublished."""
        from confluent_kafka import KafkaException

        failed: list[Any] = []
        left = [len(entries)]

        def note(error: Any, _: Any) -> None:
            left[0] -= 1
            if error is not None:
                failed.append(error)

        end = time.monotonic() + self._limit + 5.0  # the client itself gives a message up after the limit
        try:
            for entry in entries:
                self._produce(entry, note, end)
            while left[0] and time.monotonic() < end:
                self._producer.poll(_LOOK_SECONDS)
        except KafkaException as error:
            failed.append(error.args[0])
        if failed or left[0]:
            self.close()  # with what it still holds; one that failed for good takes nothing more
            self._producer = self._connected()
            raise NotPublished(describe_error(failed[0] if failed else None))

    def close(self) -> None:
        """End the connection; what is not stored is dropped."""
        self._producer.purge()
        self._producer.flush(_LOOK_SECONDS)

    def _connected(self) -> Any:
        more = {"message.max.bytes": MESSAGE_BYTES}
        return make_producer(self._connection, self._limit, **more)

    def _produce(self, entry: Entry, note: Any, end: float) -> None:
        """Hand an entry to the client, once it has room."""
        headers = list(marks_of(entry).items())
        while True:
            try:
                self._producer.produce(self.name, entry.payload, headers=headers, on_delivery=note)
                self._producer.poll(0)
                return
            except BufferError:
                if time.monotonic() >= end:
                    raise NotPublished(describe_error(None)) from None
                self._producer.poll(_LOOK_SECONDS)
