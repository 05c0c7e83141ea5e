"""What the readers of Kafka, Kinesis and the log have in common: one for each key in a process, behind Beam's source.

A runner makes the readers of a source again and again, Prism for each bundle, and finalizes in any thread. What was
read and is not finalized belongs to the process, so `Readers` keeps it; what Beam makes (`BlockReader`) only asks it.

    KafkaSource, KinesisSource, LogSource   are each a BlockSource, with a `Readers` of its own

Metrics    namespace `audience`: `messages-received`, `bytes-received`, `messages-acked`, `messages-in-flight`,
           `watermark-lag-seconds`, `block-rows`; `lag-messages` and `lag-seconds` where the queue knows them
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import apache_beam as beam
import polars as pl
from apache_beam import coders
from apache_beam.io.unbounded_source import CheckpointMark, UnboundedReader, UnboundedSource
from apache_beam.metrics import Metrics
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp

from pipelines.sources.ask_again import ReadWhenDue, ask_again_in
from pipelines.sources.in_flight import STEPS
from pipelines.sources.landing import Again, read_landed
from pipelines.sources.queue import Snapshot
from pipelines.sources.watermark import NOT_KNOWN
from transforms.counters import NAMESPACE

COUNTERS = {"messages": "messages-received", "bytes": "bytes-received", "acked": "messages-acked"}


class Reader(Protocol):
    """What reads in this process. Any thread may call any method; the runner asks for blocks in one at a time.

    `asked` is when it was last asked, by the monotonic clock.
    """

    asked: float | None

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of its watermark, in seconds since 1970."""

    def next_block(self) -> pl.DataFrame | None:
        """The next block, landed, if there is one. Errors: SourceError for what cannot be read any more."""

    def next_look(self) -> float:
        """Seconds until it is worth to ask for a block again."""

    def advance_watermark(self) -> float:
        """The watermark, in seconds since 1970; NOT_KNOWN before there is one."""

    def is_draining(self) -> bool:
        """Whether the run is to end: nothing more is handed on then."""

    def mark(self) -> str:
        """A token, without blanks, for what was handed on since the last one."""

    def settle(self, token: str) -> None:
        """A bundle is finalized: what it handed on needs not be read again. A second call has no effect."""

    def snapshot(self) -> Snapshot:
        """What was received, and is in flight."""

    def take_counts(self) -> Any:
        """What was counted since the last call: an object with a number for each key of the source's `counters`."""

    def close(self) -> None:
        """Forget what is not finalized: the next reader reads it again."""


AReader = TypeVar("AReader", bound=Reader)


class Readers(Generic[AReader]):
    """The readers of this process, by key. Any thread may call any method."""

    def __init__(self) -> None:
        self._readers: dict[str, AReader] = {}
        self._lock = threading.Lock()

    def find_or_make(self, key: str, make: Callable[[], AReader]) -> AReader:
        """The reader of a key, made when it is first asked for. Errors: those of `make`."""
        with self._lock:
            if key not in self._readers:
                self._readers[key] = make()
            return self._readers[key]

    def find(self, key: str) -> AReader | None:
        """The reader of a key, if this process has one."""
        return self._readers.get(key)

    def those(self, fits: Callable[[AReader], bool]) -> dict[str, AReader]:
        """The readers that fit, by key."""
        with self._lock:
            return {key: reader for key, reader in self._readers.items() if fits(reader)}

    def close(self, *keys: str) -> None:
        """End the readers of these keys."""
        with self._lock:
            ending = [self._readers.pop(key) for key in keys if key in self._readers]
        for reader in ending:
            reader.close()


class BlockSource(UnboundedSource, Generic[AReader]):
    """A queue, or one of its splits; its elements are blocks of RAW_SCHEMA, or of LANDED_SCHEMA where they land.

    readers    of its kind, in this process
    reading    how it is read; it travels with each bundle
    counters   attribute of what `take_counts` returns -> name of the metric
    key        names its reader in the process
    again      landed files that are read first
    """

    readers: Readers[AReader]
    counters: Mapping[str, str] = COUNTERS
    reading: Any
    key: str
    again: Sequence[Again]

    def make_reader(self) -> AReader:
        """What reads it in this process."""
        raise NotImplementedError

    def begin_reading(self, reader: AReader) -> None:
        """Called before each block that is not a landed one is asked for."""

    def has_ended(self, reader: AReader) -> bool:
        """Whether the end of time may be reported."""
        return reader.is_draining()

    def split(self, desired_num_splits, options=None):
        """This source alone, whatever the runner desires."""
        return [self]

    def create_reader(self, options, checkpoint_mark):
        """A reader from there on: what this process has in flight it still has."""
        return BlockReader(self, checkpoint_mark.again_done if checkpoint_mark is not None else 0)

    def find_reader(self) -> AReader:
        """Its reader in this process."""
        return self.readers.find_or_make(self.key, self.make_reader)

    def get_checkpoint_mark_coder(self):
        return _MarkCoder(type(self))

    def default_output_coder(self):
        return coders.registry.get_coder(pl.DataFrame)


class ReadBlocks(beam.PTransform):
    """PBegin -> PCollection[RAW_SCHEMA block], with `input` (LANDED_SCHEMA) where the source's blocks land.

    The timestamp of a block is the earliest received time in it.
    """

    def __init__(self, source: BlockSource):
        super().__init__()
        self.source, self.reading = source, source.reading

    def expand(self, begin):
        return begin | "Read the queue" >> ReadWhenDue(self.source)


@dataclass(frozen=True)
class Mark(CheckpointMark):
    """What a bundle read, by a token that only its process knows; `again_done` counts landed files that were read."""

    kind: type[BlockSource]
    key: str
    token: str
    again_done: int

    def finalize_checkpoint(self) -> None:
        """Acknowledge what the bundle holds. A second call has no effect."""
        if reader := self.kind.readers.find(self.key):
            reader.settle(self.token)


class _MarkCoder(coders.Coder):
    def __init__(self, kind: type[BlockSource]):
        self.kind = kind

    def encode(self, mark):
        return f"{mark.token} {mark.again_done} {mark.key}".encode()

    def decode(self, encoded):
        token, again_done, key = encoded.decode().split(" ", 2)
        return Mark(self.kind, key, token, int(again_done))

    def is_deterministic(self):
        return True


class BlockReader(UnboundedReader):
    """Landed files first, then what the process's reader hands on."""

    def __init__(self, source: BlockSource, again_done: int):
        self.source, self.again_done, self.block = source, again_done, pl.DataFrame()
        self.reader = source.find_reader()

    def start(self):
        return self.advance()

    def advance(self):
        self.reader.asked = time.monotonic()
        STEPS.reading()
        _report(self.reader, self.source.counters)
        block = self._next()
        if block is None:
            ask_again_in(self.reader.next_look())
            return False
        self.block = block
        Metrics.distribution(NAMESPACE, "block-rows").update(block.height)
        return True

    def _next(self) -> pl.DataFrame | None:
        if self.again_done < len(self.source.again):
            if self.reader.is_draining():
                return None
            self.again_done += 1
            STEPS.handed_on()
            return read_landed(self.source.again[self.again_done - 1])
        self.source.begin_reading(self.reader)
        return self.reader.next_block()

    def get_current(self):
        return self.block

    def get_current_timestamp(self):
        return Timestamp(micros=self.block["received_time"].dt.epoch("us").min())

    def get_watermark(self):
        if self.source.has_ended(self.reader):
            return MAX_TIMESTAMP
        seconds = self.reader.advance_watermark()
        return MIN_TIMESTAMP if seconds == NOT_KNOWN else Timestamp(micros=int(seconds * 1_000_000))

    def get_checkpoint_mark(self):
        token = self.reader.mark()
        self.block = pl.DataFrame()  # so that a parked reader holds no memory
        return Mark(type(self.source), self.source.key, token, self.again_done)


def _report(reader: Reader, counters: Mapping[str, str]) -> None:
    """Report to the runner's metrics what was counted since the last report."""
    counts = reader.take_counts()
    for attribute, name in counters.items():
        if value := getattr(counts, attribute):
            Metrics.counter(NAMESPACE, name).inc(value)
    now = reader.snapshot()
    for name, figure in (
        ("messages-in-flight", now.backlog.messages),
        ("lag-messages", now.lag_messages),
        ("lag-seconds", now.lag_seconds),
        ("watermark-lag-seconds", None if now.watermark is None else reader.clock() - now.watermark),
    ):
        if figure is not None:
            Metrics.gauge(NAMESPACE, name).set(int(figure))
