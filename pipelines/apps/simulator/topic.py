"""Publish simulated lines to a Pub/Sub topic: one message per line, in order, as fast as possible or at a rate.

The attribute `received_time` (milliseconds since 1970) is that of the line; a line without one has no attribute, and
its publish time counts. A message published twice because a response was lost is a repeat that no ledger counts.
"""

import time
from collections.abc import Iterable, Iterator
from itertools import islice

import grpc

from pipelines.apps.simulator.output import paced
from pipelines.sources.pubsub.client import PubSub, PubsubMessage, describe_error, is_refusal, waits
from transforms.errors import SourceError

ATTRIBUTE = "received_time"
MOST_MESSAGES = 500  # of a request
MOST_BYTES = 5_000_000  # of a request, whose limit is 10 MB
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
        for part in requests(batch):
            _publish(pubsub, topic, part)


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    waiting = iter(lines)
    while batch := list(islice(waiting, MOST_MESSAGES)):
        yield batch


def requests(lines: Iterable[Line]) -> Iterator[list]:
    """The lines as PubsubMessages, in lists that fit into a request."""
    messages: list = []
    size = 0
    for received_us, line in lines:
        if messages and (len(messages) == MOST_MESSAGES or size + len(line) > MOST_BYTES):
            yield messages
            messages, size = [], 0
        attributes = {ATTRIBUTE: str(received_us // 1000)} if received_us is not None else {}
        messages.append(PubsubMessage(data=line, attributes=attributes))
        size += len(line)
    if messages:
        yield messages


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
