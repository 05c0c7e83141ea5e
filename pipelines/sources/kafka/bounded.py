"""Kafka as a bounded input: partitions between two offsets that are fixed before the run, for a backfill.

    find_between(...)    the offsets, by `start_at` and `stop_at` as they are now
    ReadBetween          PBegin -> PCollection[RAW_SCHEMA block]

Nothing is committed, and no group is read. Every part is a range of offsets, so a part that is read again has the same
messages, whatever came meanwhile. Offsets that are deleted before they are read fail the run.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import apache_beam as beam
import msgspec
import polars as pl

from pipelines.sources.files.received import Received
from pipelines.sources.kafka.client import Connection, is_refusal, make_admin, make_consumer, refusal
from pipelines.sources.kafka.messages import poll_of
from pipelines.sources.kafka.registry import registry_of
from pipelines.sources.kafka.topics import (
    Part,
    ask,
    check_names,
    choose_parts,
    find_cluster,
    find_offsets,
    find_places,
)
from pipelines.sources.messages import Poll, block_of
from pipelines.system.progress import Notes
from transforms.errors import SourceError

PART_OFFSETS = 100_000
BLOCK_ROWS, BLOCK_BYTES = 10_000, 16 << 20
MESSAGE_BYTES = 400  # of one that nobody has read yet: for the number of workers
STALL_SECONDS = 60.0  # without a message, an end or an answer
_NO_GROUP = "audience-backfill"  # the client asks for a name; nothing is committed to it
_FETCHING = {"enable.partition.eof": True, "fetch.wait.max.ms": 100, "queued.max.messages.kbytes": 32 << 10}


@dataclass(frozen=True)
class Between:
    """What a backfill reads. `digest` names the cluster and the offsets: the same messages are the same input."""

    connection: Connection
    topics: str
    parts: tuple[Part, ...]
    digest: str
    timestamp_attribute: str | None = None

    @property
    def input(self) -> str:
        """The name of the input."""
        return f"kafka:{self.topics} #{self.digest}"

    @property
    def bytes(self) -> int:
        """About how many there are."""
        return sum(part.stop - part.start for part in self.parts) * MESSAGE_BYTES


def find_between(
    connection: Connection, topics: str, start: str | float, stop: str | float, timestamp_attribute: str | None = None
) -> Between:
    """The offsets from `start` to before `stop`, as they are now. Errors: OptionError, SourceError."""
    check_names(topics)
    admin, where = make_admin(connection, lambda error: None), f"Kafka at {connection.where}"
    places = ask(where, lambda: find_places(admin, topics))
    cluster = ask(where, lambda: find_cluster(admin))
    starts = ask(where, lambda: find_offsets(admin, places, start))
    stops = ask(where, lambda: find_offsets(admin, places, stop))
    parts = [part for place in places for part in choose_parts(place, starts[place], stops[place], PART_OFFSETS)]
    named = msgspec.json.encode([cluster, [(*place, starts[place], stops[place]) for place in places]])
    digest = blake2b(named, digest_size=8).hexdigest()
    return Between(connection, topics, tuple(parts), digest, timestamp_attribute)


class ReadBetween(beam.PTransform):
    """PBegin -> PCollection[RAW_SCHEMA block] of the parts.

    source    the name for records that state none
    notes     record what was read
    received  counts the records of each partition
    """

    def __init__(self, between: Between, source: str, notes: Notes, received: Received):
        super().__init__()
        self.between, self.source, self.notes, self.received = between, source, notes, received

    def expand(self, begin):
        read = beam.ParDo(_Read(self)).with_output_types(pl.DataFrame)
        return (
            begin
            | "List ranges" >> beam.Create(self.between.parts)
            | "Spread ranges" >> beam.Reshuffle()
            | "Read ranges" >> read
        )


class _Read(beam.DoFn):
    def __init__(self, how: ReadBetween):
        self.between, self.source, self.notes, self.received = how.between, how.source, how.notes, how.received

    def process(self, part):
        rows = 0
        for polls in read_part(self.between, part):
            block = block_of(polls, self.source)
            rows += len(block)
            self.notes(sum(poll.bytes for poll in polls), len(block))
            yield block
        self.received(f"{part.place.topic}:{part.place.partition}", rows)

    def finish_bundle(self):
        self.notes.flush()


def read_part(between: Between, part: Part) -> Iterator[list[Poll]]:
    """The messages of a part, in order, in pieces of a block each. Errors: SourceError."""
    from confluent_kafka import TopicPartition

    failures: list[Any] = []
    registry = registry_of(between.connection)
    decode = None if registry is None else registry.decode
    consumer = make_consumer(between.connection, _NO_GROUP, failures.append, **_FETCHING)
    try:
        consumer.assign([TopicPartition(*part.place, part.start)])
        polls: list[Poll] = []
        for messages in _messages_of(consumer, part, failures):
            polls.append(poll_of(messages, between.timestamp_attribute, time.time(), decode))
            rows, size = sum(len(poll.ids) for poll in polls), sum(poll.bytes for poll in polls)
            if rows >= BLOCK_ROWS or size >= BLOCK_BYTES:
                yield polls
                polls = []
        if polls:
            yield polls
    finally:
        consumer.close()


def _messages_of(consumer: Any, part: Part, failures: list[Any]) -> Iterator[list[Any]]:
    """The messages before `stop`, some at a time; the last offsets may be the marks of transactions."""
    asked = time.monotonic()
    while True:
        found = consumer.consume(1_000, 0.5)
        if found:
            asked = time.monotonic()
        elif time.monotonic() - asked >= STALL_SECONDS:
            if failures:
                raise refusal(f"{part.place}", failures[-1])
            raise SourceError(f"{part.place} gave no message for {STALL_SECONDS:.0f} s; check the cluster and restart")
        messages = [each for each in found if each.error() is None and each.offset() < part.stop]
        if messages:
            yield messages
        if any(_is_end(each, part) for each in found):
            return


def _is_end(event: Any, part: Part) -> bool:
    """Whether a message or the client says that the part is read. Errors: SourceError."""
    from confluent_kafka import KafkaError

    error = event.error()
    if error is None:
        return event.offset() >= part.stop - 1
    if error.code() == KafkaError._PARTITION_EOF:
        return event.offset() >= part.stop
    if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION):
        raise SourceError(f"offsets of {part.place} from {part.start:,} on were deleted before they were read; restart")
    if is_refusal(error):
        raise refusal(f"{part.place}", error)
    return False
