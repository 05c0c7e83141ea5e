"""Pub/Sub as raw blocks, on any runner of splittable DoFns: acknowledged when a bundle is finalized, never before.

    ReadPubSub(Reading(subscription, ...))   PBegin -> PCollection[RAW_SCHEMA block]; LANDED_SCHEMA where blocks land

Beam's own reader runs on Dataflow, and on a local runner that acknowledges a message before the graph has it; this one
runs on Prism and the in-process runner. The readers share the subscription: each is a split with a thread that pulls.

Delivery   at least once. If a bundle fails, a process dies or another process finalizes a checkpoint, the messages
           are not acknowledged, and the queue delivers them again.
Watermark  see watermark.py: received times less `expected_delay`; the clock's while the queue is empty.
End        once `drain_file` exists, each reader nacks what it has not handed on and reports the end of time, so that
           all windows close. After a pipeline failed or was cancelled: close_all(), which nacks everything.
Metrics    namespace `audience`; the same figures for a display in the same process: pubsub_leases.snapshot().
"""

import threading
from dataclasses import dataclass

import apache_beam as beam
import polars as pl
from apache_beam import coders
from apache_beam.io.unbounded_source import CheckpointMark, UnboundedReader, UnboundedSource
from apache_beam.metrics import Metrics
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp

from pipelines.sources.ask_again import ReadWhenDue, ask_again_in
from pipelines.sources.in_flight import STEPS
from pipelines.sources.landing import LandAt
from pipelines.sources.pubsub import leases as pubsub_leases
from pipelines.sources.pubsub.messages import STAMPS_UNREADABLE
from pipelines.sources.pubsub.reader import Engine, Reading, close_all
from pipelines.sources.watermark import NOT_KNOWN
from transforms.counters import NAMESPACE

__all__ = ["LandAt", "PubSubSource", "ReadPubSub", "Reading", "close_all"]


class ReadPubSub(beam.PTransform):
    """PBegin -> PCollection[RAW_SCHEMA block], with `input` (LANDED_SCHEMA) where the reading has a landing folder.

    The timestamp of a block is the earliest received time in it.
    """

    def __init__(self, reading: Reading):
        super().__init__()
        self.reading = reading

    def expand(self, begin):
        return begin | "Read the queue" >> ReadWhenDue(PubSubSource(self.reading))


@dataclass(frozen=True)
class Mark(CheckpointMark):
    """What a bundle read, by a token that only its process knows; `again_done` counts landed files that were read."""

    token: str
    messages: int
    again_done: int

    def finalize_checkpoint(self) -> None:
        """Acknowledge what the bundle holds. A second call has no effect."""
        pubsub_leases.settle(self.token, self.messages)


class _MarkCoder(coders.Coder):
    def encode(self, mark):
        return f"{mark.token} {mark.messages} {mark.again_done}".encode()

    def decode(self, encoded):
        token, messages, again_done = encoded.decode().split(" ")
        return Mark(token, int(messages), int(again_done))

    def is_deterministic(self):
        return True


class PubSubSource(UnboundedSource):
    """A subscription, or one of the splits that share it."""

    def __init__(self, reading: Reading, split: int | None = None):
        self.reading, self.number = reading, split

    def split(self, desired_num_splits, options=None):
        """As many sources as the reading has readers, whatever the runner desires."""
        if self.number is not None:
            return [self]
        return [PubSubSource(self.reading, number) for number in range(self.reading.readers)]

    def create_reader(self, options, checkpoint_mark):
        """A reader from there on; the one that is running already, if this is its process."""
        engine = _take_over(checkpoint_mark.token) if checkpoint_mark is not None else None
        if engine is None:
            again_done = checkpoint_mark.again_done if checkpoint_mark is not None else 0
            engine = Engine(self.reading, self.number or 0, again_done)
        return _Reader(engine)

    def get_checkpoint_mark_coder(self):
        return _MarkCoder()

    def default_output_coder(self):
        return coders.registry.get_coder(pl.DataFrame)


# Engines between two bundles, by the token of the checkpoint. A runner may continue a split in another instance of the
# DoFn, which does not know the reader that the first one parked: two would read where one should.
_parked: dict[str, Engine] = {}
_parked_lock = threading.Lock()


def _take_over(token: str) -> Engine | None:
    with _parked_lock:
        return _parked.pop(token, None)


class _Reader(UnboundedReader):
    def __init__(self, engine: Engine):
        self.engine, self.block, self.token = engine, pl.DataFrame(), ""
        engine.owner = self

    def start(self):
        return self.advance()

    def advance(self):
        with _parked_lock:
            _parked.pop(self.token, None)
        pubsub_leases.note_asked()
        STEPS.reading()
        _report(self.engine)
        block = None if self.engine.is_draining() else self.engine.next_block()
        if block is None:
            ask_again_in(self.engine.next_look())
            return False
        self.block = block
        Metrics.distribution(NAMESPACE, "block-rows").update(block.height)
        return True

    def get_current(self):
        return self.block

    def get_current_timestamp(self):
        return Timestamp(micros=self.block["received_time"].dt.epoch("us").min())

    def get_watermark(self):
        if self.engine.is_draining() and self.engine.is_drained():
            return MAX_TIMESTAMP
        seconds = self.engine.watermark()
        return MIN_TIMESTAMP if seconds == NOT_KNOWN else Timestamp(micros=int(seconds * 1_000_000))

    def get_checkpoint_mark(self):
        token, messages = self.engine.checkpoint()
        self.block = pl.DataFrame()  # so that a parked reader holds no memory
        with _parked_lock:
            _parked[token] = self.engine
        self.token = token
        return Mark(token, messages, self.engine.again_done)

    def close(self):
        with _parked_lock:
            _parked.pop(self.token, None)
            is_mine = self.engine.owner is self
        if is_mine:
            self.engine.close()


def _report(engine: Engine) -> None:
    """Report to the runner's metrics what any reader of this process counted since the last report."""
    counts = pubsub_leases.take_counts()
    for name, value in (
        ("messages-received", counts.messages),
        ("bytes-received", counts.bytes),
        ("messages-acked", counts.acked),
        ("messages-nacked", counts.nacked),
        ("messages-expired", counts.expired),
        ("messages-finalized-elsewhere", counts.unknown),
        (STAMPS_UNREADABLE, counts.unreadable),
    ):
        if value:
            Metrics.counter(NAMESPACE, name).inc(value)
    Metrics.gauge(NAMESPACE, "messages-in-flight").set(pubsub_leases.in_flight())
    lag = engine.lag()
    if lag is not None:
        Metrics.gauge(NAMESPACE, "watermark-lag-seconds").set(int(lag))
