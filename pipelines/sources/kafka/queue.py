"""Kafka as a queue (queue.py): topics, whose partitions the readers of one run share.

The offsets of what is finalized are committed to a group. Each warehouse has a group of its own: two that shared one
would each miss what the other has read.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from pipelines.sources.queue import Backlog, Snapshot, join
from transforms.errors import OptionError

if TYPE_CHECKING:
    import apache_beam as beam

    from pipelines.sources.kafka.bounded import Between
    from pipelines.sources.kafka.client import Connection
    from pipelines.sources.landing import Again, LandAt

_FIELDS = {  # option -> field
    "input_kafka": "topics",
    "kafka_servers": "servers",
    "kafka_group": "group",
    "kafka_properties": "properties",
    "kafka_registry": "registry",
    "kafka_reader": "reader",
    "kafka_expansion_service": "service",
    "start_at": "start_at",
    "timestamp_attribute": "timestamp_attribute",
    "readers": "readers",
    "expected_delay": "expected_delay",
    "batch_delay": "batch_delay",
}


@dataclass(frozen=True)
class KafkaQueue:
    """See `Queue`."""

    title: ClassVar[str] = "Kafka"
    options: ClassVar[tuple[str, ...]] = ("input_kafka",)
    launch_option: ClassVar[str | None] = None
    parameter_type: ClassVar[str] = ""
    google_services: ClassVar[tuple[str, ...]] = ()
    google_project: ClassVar[None] = None

    topics: str
    servers: str | None = None
    group: str | None = None
    properties: str | None = None
    registry: str | None = None
    reader: str = "own"
    service: str | None = None
    start_at: str | float = "earliest"
    timestamp_attribute: str | None = None
    readers: int = 2
    expected_delay: timedelta = timedelta(seconds=10)
    batch_delay: timedelta = timedelta(milliseconds=500)
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "KafkaQueue":
        """The queue that the values of options name."""
        return cls(**{field: values[name] for name, field in _FIELDS.items() if values.get(name) is not None})

    @property
    def input(self) -> str:
        """`kafka:` and the topics."""
        return f"kafka:{self.topics}"

    @property
    def _connection(self) -> "Connection":
        from pipelines.sources.kafka.client import Connection

        return Connection(self.servers, self.properties, self.registry)

    def check(self) -> str:
        """A line about it. Errors: OptionError for its name or its properties, SourceError for all else."""
        from pipelines.sources.kafka.check import check

        return check(self._connection, self.topics, self.group)

    @contextmanager
    def open(self) -> "Iterator[KafkaQueue]":
        """Check it. Errors: as `check`; OptionError without a group, or for Beam's reader."""
        if self.reader == "beam":
            raise OptionError("--kafka_reader beam is only for --runner=DataflowRunner; leave it out")
        self.check()
        self._named_group()
        yield self

    def _named_group(self) -> str:
        if self.group is None:
            raise OptionError(
                "--kafka_group is missing: what is read is committed to it; give each warehouse a group of its own, "
                "e.g. --kafka_group audience"
            )
        return self.group

    def read(
        self, *, source: str, landing: "LandAt | None", again: "Sequence[Again]", drain_file: str
    ) -> "beam.PTransform":
        """Read with our own reader (source.py)."""
        from pipelines.sources.kafka.reading import Reading
        from pipelines.sources.kafka.source import ReadKafka

        return ReadKafka(
            Reading(
                connection=self._connection,
                topics=self.topics,
                group=self._named_group(),
                start_at=self.start_at,
                source=source,
                readers=self.readers,
                timestamp_attribute=self.timestamp_attribute,
                expected_delay=self.expected_delay.total_seconds(),
                block_seconds=self.batch_delay.total_seconds(),
                landing=landing,
                again=tuple(again),
                drain_file=drain_file,
                wall=self.wall,
                monotonic=self.monotonic,
            )
        )

    def read_by_runner(self, *, source: str, on_dataflow: bool = False) -> "beam.PTransform":
        """Read with Beam's reader (beam_reader.py), on Dataflow. Errors: OptionError."""
        if not on_dataflow or self.reader != "beam":
            raise OptionError(
                "--input_kafka: no runner reads Kafka itself; allowed: with --runner PrismRunner, or on Dataflow with "
                "--kafka_reader beam"
            )
        if self.topics.startswith("^"):
            raise OptionError(f"--input_kafka: got {self.topics!r}; allowed with --kafka_reader beam: names of topics")
        from pipelines.sources.kafka.beam_reader import ReadKafkaThroughBeam, check_connection, find_service

        return ReadKafkaThroughBeam(
            check_connection(self._connection),
            self.topics.split(","),
            self._named_group(),
            self.start_at,
            source,
            self.timestamp_attribute,
            find_service(self.service),
        )

    def between(self, stop_at: str | float | None) -> "Between":
        """What a backfill reads: from `start_at` to `stop_at`, by the end as it is now where that is None. Errors: as
        `check`."""
        from pipelines.sources.kafka.bounded import find_between

        stop = "latest" if stop_at is None else stop_at
        return find_between(self._connection, self.topics, self.start_at, stop, self.timestamp_attribute)

    def snapshot(self) -> Snapshot:
        """What the readers of this process have received, hold now, and leave in the topics."""
        from pipelines.sources.kafka.reader import readers_of

        found = [reader.snapshot() for reader in readers_of(self.input)]
        return join(found) if found else Snapshot(0, Backlog(0, 0, None), None)

    def flush(self) -> bool:
        """Wait until Kafka has committed what is finalized; False if that took too long."""
        from pipelines.sources.kafka.group import flush_groups

        return flush_groups(self.input)

    def close(self) -> None:
        """End the readers of this process; the next ones read what is not finalized again."""
        from pipelines.sources.kafka.reader import close_readers

        close_readers(self.input)
