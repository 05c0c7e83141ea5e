"""Kafka through Beam's own reader, which is in Java: for a job on Dataflow, where our reader's marks are not known.

    ReadKafkaThroughBeam(...)   PBegin -> PCollection[RAW_SCHEMA block], the rows of ReadKafka, a bundle at a time

Beam's expansion service makes the reader's steps when the job is made: a jar that you have, or one that runs. What it
is given is stored in the job, so that no password may be among it: servers, topics and the group are all.

Delivery   at least once: Dataflow keeps the offsets in its state, and commits them to the group when a bundle is final
Watermark  Beam's, by the messages' timestamps
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import polars as pl
from apache_beam.io.kafka import ReadFromKafka
from apache_beam.metrics import Metrics
from apache_beam.transforms.external import JavaJarExpansionService
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from pipelines.sources.kafka.client import SERVERS, Connection, configure
from pipelines.sources.kafka.messages import poll_of
from pipelines.sources.messages import block_of
from pipelines.sources.pubsub.messages import STAMPS_UNREADABLE
from transforms.counters import NAMESPACE
from transforms.errors import OptionError, RunnerError
from transforms.stage import Gathering

BLOCK_ROWS, BLOCK_BYTES = 10_000, 16 << 20
JAR = f"beam-sdks-java-io-expansion-service-{beam.__version__}.jar"
GET_JAR = (
    "`mvn dependency:copy -Dartifact=org.apache.beam:beam-sdks-java-io-expansion-service:"
    f"{beam.__version__} -DoutputDirectory=.`"
)
_ADDRESS = re.compile(r"[^\s/]+:\d{1,5}")


def check_connection(connection: Connection) -> str:
    """The servers. Errors: OptionError for more than them, which may be a secret, and would be stored in the job."""
    more = sorted(configure(connection).keys() - {SERVERS})
    named = "schema.registry.url" if connection.registry else more[0] if more else None
    if named:
        raise OptionError(
            f"--kafka_reader beam: got the property {named}, which would be stored in the job; allowed: "
            "--kafka_servers alone, of a network that asks for no login"
        )
    return connection.where


def find_service(service: str | None) -> str | JavaJarExpansionService:
    """The expansion service that `--kafka_expansion_service` names. Errors: OptionError for one that is not there."""
    if service is None:
        raise OptionError(
            f"--kafka_expansion_service is missing: Beam's reader of Kafka is in its expansion service, {JAR}; "
            f"download it with {GET_JAR} and name it, or name one that runs as HOST:PORT"
        )
    if _ADDRESS.fullmatch(service):
        return service
    if not os.path.isfile(service):
        raise OptionError(
            f"--kafka_expansion_service: got {service!r}, which is no file; allowed: the path of {JAR}, or HOST:PORT; "
            f"download it with {GET_JAR}"
        )
    if shutil.which("java") is None:
        raise OptionError("--kafka_expansion_service: java, which runs the jar, is not on the PATH; install version 17")
    return JavaJarExpansionService(service)


class ReadKafkaThroughBeam(beam.PTransform):
    """PBegin -> PCollection[RAW_SCHEMA block] of topics by name; a timestamp is the earliest received time.

    start_at             earliest, latest, or seconds since 1970: where the group has committed nothing
    source               the name for records that state none
    timestamp_attribute  the header that states the received time, of producers that are trusted
    service              of find_service
    Errors: RunnerError where the service does not answer.
    """

    def __init__(
        self,
        servers: str,
        topics: Sequence[str],
        group: str,
        start_at: str | float,
        source: str,
        timestamp_attribute: str | None,
        service: str | JavaJarExpansionService,
        clock: Callable[[], float] = time.time,
    ):
        super().__init__()
        is_named = isinstance(start_at, str)
        consumer = {
            "bootstrap.servers": servers,
            "group.id": group,
            "auto.offset.reset": start_at if is_named else "earliest",
            "enable.auto.commit": "false",
            "isolation.level": "read_committed",
        }
        self.read = ReadFromKafka(
            consumer,
            list(topics),
            start_read_time=None if is_named else int(float(start_at) * 1_000),
            commit_offset_in_finalize=True,
            timestamp_policy=ReadFromKafka.create_time_policy,
            with_metadata=True,
            expansion_service=service,
        )
        self.gather = _Gather(source, timestamp_attribute, clock)

    def expand(self, begin):
        try:
            messages = begin | "Read messages" >> self.read
        except Exception as problem:
            raise RunnerError(
                f"--kafka_expansion_service: it does not make Beam's reader of Kafka: {_last_line(problem)}; "
                f"check that it is that of Beam {beam.__version__}"
            ) from problem
        return messages | "Gather blocks" >> beam.ParDo(self.gather).with_output_types(pl.DataFrame)


def _last_line(problem: Exception) -> str:
    """What a service says of its failure: the message below its traceback."""
    return next(reversed(f"{problem}".strip().splitlines()), type(problem).__name__)


class _Gather(Gathering):
    """The messages of a bundle as blocks."""

    most_rows, most_bytes = BLOCK_ROWS, BLOCK_BYTES

    def __init__(self, source: str, timestamp_attribute: str | None, clock: Callable[[], float]):
        self.source, self.timestamp_attribute, self.clock = source, timestamp_attribute, clock

    def hold(self, message):
        yield _Message(message), 1, len(message.value or b"")

    def flush(self, messages, rows, size):
        poll = poll_of(messages, self.timestamp_attribute, self.clock())
        if poll.unreadable:
            Metrics.counter(NAMESPACE, STAMPS_UNREADABLE).inc(poll.unreadable)
        block = block_of([poll], self.source)
        yield TimestampedValue(block, Timestamp(micros=block["received_time"].dt.epoch("us").min()))


class _Message(NamedTuple):
    """A row of Beam's reader, asked as a message of the client of Kafka is."""

    row: Any

    def value(self) -> bytes | None:
        return self.row.value

    def key(self) -> bytes | None:
        return self.row.key

    def topic(self) -> str:
        return self.row.topic

    def partition(self) -> int:
        return self.row.partition

    def offset(self) -> int:
        return self.row.offset

    def timestamp(self) -> tuple[int, int]:
        return self.row.timestampTypeId, self.row.timestamp

    def headers(self) -> list[tuple[str, bytes]] | None:
        return [(each.key, each.value) for each in self.row.headers] if self.row.headers else None
