"""A Pub/Sub topic as an output of a stream (warehouse/outputs.py).

Messages have no ordering key: all messages of a request would need the same one, and a request for each row would take
longer than the stream. Their generation and revision state the order.
"""

import time
from collections.abc import Sequence

import grpc

from pipelines.sources.pubsub.client import PubSub, PubsubMessage, describe_error, is_refusal, requests_of
from pipelines.sources.retries import waits
from pipelines.warehouse.outputs import Message
from transforms.errors import SourceError, WarehouseError

LIMIT_SECONDS = 600.0  # after which a topic that takes nothing stops the stream


class PubSubTopic:
    """projects/.../topics/...; connects when it is first used, so that it can be pickled."""

    def __init__(self, name: str, limit_seconds: float = LIMIT_SECONDS):
        self.name, self.limit_seconds = name, limit_seconds
        self._client: PubSub | None = None

    def __reduce__(self):
        return PubSubTopic, (self.name, self.limit_seconds)

    def check(self) -> None:
        """Raises SourceError if the topic is not there, or may not be used."""
        try:
            self._connected().topic(self.name)
        except grpc.RpcError as error:
            raise SourceError(
                f"--output_topic {self.name}: {describe_error(error)}; create it with `gcloud pubsub topics create "
                f"{self.name}`, or check for the role roles/pubsub.editor"
            ) from error

    def publish(self, messages: Sequence[Message]) -> None:
        """See `Topic`. A message of more than 10 MB is refused by Pub/Sub, so its row cannot be an output."""
        made = [PubsubMessage(data=each.data, attributes=each.attributes) for each in messages]
        for request in requests_of(made):
            self._publish(request)

    def _publish(self, request: list) -> None:
        until = time.monotonic() + self.limit_seconds
        for wait in waits():
            try:
                self._connected().publish(self.name, request)
                return
            except grpc.RpcError as error:
                if is_refusal(error) or time.monotonic() >= until:
                    how = "refuses rows" if is_refusal(error) else f"took no rows for {self.limit_seconds:.0f} s"
                    raise WarehouseError(
                        f"topic {self.name} {how}: {describe_error(error)}; the rows are in the warehouse, and the "
                        "next start publishes them again"
                    ) from error
                time.sleep(wait)

    def _connected(self) -> PubSub:
        if self._client is None:
            self._client = PubSub()
        return self._client
