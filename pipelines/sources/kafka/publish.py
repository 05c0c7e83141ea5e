"""A Kafka topic as an output of a stream (warehouse/outputs.py).

A message has the row's key as its key, so all versions of a row are in one partition, and its attributes as headers.
The producer is idempotent: what it sends again after a lost answer is stored once.
"""

import time
from collections.abc import Sequence
from typing import Any

from pipelines.sources.kafka.client import Connection, check_output, describe_error, is_refusal, make_producer
from pipelines.warehouse.outputs import Message
from transforms.errors import WarehouseError

LIMIT_SECONDS = 600.0  # after which a topic that takes nothing stops the stream
LOOK_SECONDS = 0.2
_AGAIN = "the rows are in the warehouse, and the next start publishes them again"


class KafkaTopic:
    """A topic by its name; connects when it is first used, so that it can be pickled without what a file holds."""

    def __init__(self, name: str, connection: Connection, limit_seconds: float = LIMIT_SECONDS):
        self.name, self.connection, self.limit_seconds = name, connection, limit_seconds
        self._producer: Any = None

    def __reduce__(self):
        return KafkaTopic, (self.name, self.connection, self.limit_seconds)

    def check(self) -> None:
        """Errors: those of `check_output`."""
        check_output(self.name, self.connection)

    def publish(self, messages: Sequence[Message]) -> None:
        """See `Topic`. A message that is longer than the topic allows is refused, so its row cannot be an output."""
        failed: list[Any] = []
        delivered = [0]

        def note(error: Any, _: Any) -> None:
            delivered[0] += 1
            if error is not None:
                failed.append(error)

        end = time.monotonic() + self.limit_seconds
        for message in messages:
            self._produce(message, note, end)
        while delivered[0] < len(messages) and time.monotonic() < end:
            self._producer.poll(LOOK_SECONDS)
        if failed:
            how = "refuses rows" if any(map(is_refusal, failed)) else "took not all rows"
            raise WarehouseError(f"topic {self.name} {how}: {describe_error(failed[0])}; {_AGAIN}")
        if delivered[0] < len(messages):
            raise WarehouseError(f"topic {self.name} took no rows for {self.limit_seconds:.0f} s; {_AGAIN}")

    def _produce(self, message: Message, note: Any, end: float) -> None:
        """Hand a message to the client, once it has room."""
        from confluent_kafka import KafkaException

        if self._producer is None:
            self._producer = make_producer(self.connection, self.limit_seconds)
        headers = list(message.attributes.items())
        while True:
            try:
                self._producer.produce(
                    self.name, message.data, message.attributes["key"], headers=headers, on_delivery=note
                )
                self._producer.poll(0)
                return
            except BufferError:
                if time.monotonic() >= end:
                    raise WarehouseError(
                        f"topic {self.name} took no rows for {self.limit_seconds:.0f} s; {_AGAIN}"
                    ) from None
                self._producer.poll(LOOK_SECONDS)
            except KafkaException as error:
                raise WarehouseError(
                    f"topic {self.name} refuses rows: {describe_error(error.args[0])}; {_AGAIN}"
                ) from None
