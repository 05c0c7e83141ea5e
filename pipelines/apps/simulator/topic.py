"""Publish simulated lines to a Pub/Sub topic: one message per line, in order, as fast as possible or at a rate.

The attribute `received_time` (milliseconds since 1970) is that of the line; a line without one has no attribute, and
its publish time counts. A message published twice because a response was lost is a repeat that no ledger counts.
"""

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import grpc

from pipelines.apps.simulator.output import paced
from pipelines.sources.pubsub.client import (
    REQUEST_MESSAGES,
    PubSub,
    PubsubMessage,
    describe_error,
    is_refusal,
    requests_of,
)
from pipelines.sources.retries import waits
from transforms.errors import SourceError

ATTRIBUTE = "received_time"
TRIES_SECONDS = 30.0

Line = tuple[int | None, bytes]  # received_us, line


def publish_lines(topic: str, lines: Iterable[Line], rate: float | None = None) -> None:
    """Publish the lines, `rate` per second or as fast as possible. Errors: SourceError if the topic accepts none."""
    pubsub = PubSub()
    try:
        publish_batches(pubsub, topic, _batches(lines) if rate is None else paced(lines, rate))
    finally:
        pubsub.close()


def publish_batches(pubsub: PubSub, topic: str, batches: Iterable[list[Line]]) -> None:
    """Publish each batch when it arrives. Errors as above."""
    for batch in batches:
        for request in requests_of([_message(*line) for line in batch]):
            _publish(pubsub, topic, request)


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    waiting = iter(lines)
    while batch := list(islice(waiting, REQUEST_MESSAGES)):
        yield batch


def _message(received_us: int | None, line: bytes) -> Any:
    attributes = {ATTRIBUTE: str(received_us // 1000)} if received_us is not None else {}
    return PubsubMessage(data=line, attributes=attributes)


def _publish(pubsub: PubSub, topic: str, messages: list) -> None:
    end = time.monotonic() + TRIES_SECONDS
    for wait in waits():
        try:
            pubsub.publish(topic, messages)
            return
        except grpc.RpcError as error:
            if is_refusal(error) or time.monotonic() > end:
                raise SourceError(
                    f"topic {topic} accepts no messages: {describe_error(error)}; fix it and start again"
                ) from error
        time.sleep(wait)
