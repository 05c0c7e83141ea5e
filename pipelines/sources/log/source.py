"""A log as raw blocks, on a runner whose workers are on this machine: acknowledged when a bundle is finalized.

    ReadLog(Reading(folder, ...))   PBegin -> PCollection[RAW_SCHEMA block]; LANDED_SCHEMA where blocks land

Delivery   at least once. If a bundle fails or a process dies, its entries are not acknowledged, and are read again.
Watermark  see watermark.py: received times less `expected_delay`; the clock's while the log is read to its end
End        once `drain_file` exists, the reader hands on nothing more and reports the end of time, so that all windows
           close. After a pipeline failed or was cancelled: close_reader().
Metrics    namespace `audience`, as of Pub/Sub's readers; `bytes-passed-over` counts wrong frames.
"""

import time
from dataclasses import dataclass

import apache_beam as beam
import polars as pl
from apache_beam import coders
from apache_beam.io.unbounded_source import CheckpointMark, UnboundedReader, UnboundedSource
from apache_beam.metrics import Metrics
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp

from pipelines.sources.ask_again import ReadWhenDue, ask_again_in
from pipelines.sources.in_flight import STEPS
from pipelines.sources.landing import read_landed
from pipelines.sources.log.reader import LogReader, Reading, known_reader, reader_of
from pipelines.sources.watermark import NOT_KNOWN

NAMESPACE = "audience"


class ReadLog(beam.PTransform):
    """PBegin -> PCollection[RAW_SCHEMA block], with `input` (LANDED_SCHEMA) where the reading has a landing folder.

    A block has one source. Its timestamp is the earliest received time in it.
    """

    def __init__(self, reading: Reading):
        super().__init__()
        self.reading = reading

    def expand(self, begin):
        return begin | "Read the queue" >> ReadWhenDue(LogSource(self.reading))


@dataclass(frozen=True)
class Mark(CheckpointMark):
    """What a bundle read, by a token that only its process knows; `again_done` counts landed files that were read."""

    folder: str
    token: str
    again_done: int

    def finalize_checkpoint(self) -> None:
        """Acknowledge what the bundle holds. A second call has no effect."""
        if reader := known_reader(self.folder):
            reader.settle(self.token)


class _MarkCoder(coders.Coder):
    def encode(self, mark):
        return f"{mark.token} {mark.again_done} {mark.folder}".encode()

    def decode(self, encoded):
        token, again_done, folder = encoded.decode().split(" ", 2)
        return Mark(folder, token, int(again_done))

    def is_deterministic(self):
        return True


class LogSource(UnboundedSource):
    """A log. It has one reader, so that its entries are handed on in their order."""

    def __init__(self, reading: Reading):
        self.reading = reading

    def split(self, desired_num_splits, options=None):
        """This source alone, whatever the runner desires."""
        return [self]

    def create_reader(self, options, checkpoint_mark):
        """A reader from there on: what this process has in flight it still has."""
        return _Reader(self.reading, checkpoint_mark.again_done if checkpoint_mark is not None else 0)

    def get_checkpoint_mark_coder(self):
        return _MarkCoder()

    def default_output_coder(self):
        return coders.registry.get_coder(pl.DataFrame)


class _Reader(UnboundedReader):
    def __init__(self, reading: Reading, again_done: int):
        self.reading, self.again_done, self.block = reading, again_done, pl.DataFrame()
        self.log = reader_of(reading)

    def start(self):
        return self.advance()

    def advance(self):
        self.log.asked = time.monotonic()
        STEPS.reading()
        _report(self.log)
        block = self._next()
        if block is None:
            ask_again_in(self.log.next_look())
            return False
        self.block = block
        Metrics.distribution(NAMESPACE, "block-rows").update(block.height)
        return True

    def _next(self) -> pl.DataFrame | None:
        if self.log.is_draining():
            return None
        if self.again_done < len(self.reading.again):
            self.again_done += 1
            STEPS.handed_on()
            return read_landed(self.reading.again[self.again_done - 1])
        return self.log.next_block()

    def get_current(self):
        return self.block

    def get_current_timestamp(self):
        return Timestamp(micros=self.block["received_time"].dt.epoch("us").min())

    def get_watermark(self):
        if self.log.is_draining():
            return MAX_TIMESTAMP
        seconds = self.log.advance_watermark()
        return MIN_TIMESTAMP if seconds == NOT_KNOWN else Timestamp(micros=int(seconds * 1_000_000))

    def get_checkpoint_mark(self):
        token = self.log.mark()
        self.block = pl.DataFrame()  # so that a parked reader holds no memory
        return Mark(self.reading.folder, token, self.again_done)


def _report(reader: LogReader) -> None:
    """Report to the runner's metrics what was counted since the last report."""
    counts = reader.take_counts()
    for name, value in (
        ("messages-received", counts.messages),
        ("bytes-received", counts.bytes),
        ("messages-acked", counts.acked),
        ("bytes-passed-over", counts.passed_over),
    ):
        if value:
            Metrics.counter(NAMESPACE, name).inc(value)
    now = reader.snapshot()
    Metrics.gauge(NAMESPACE, "messages-in-flight").set(now.backlog.messages)
    if now.watermark is not None:
        Metrics.gauge(NAMESPACE, "watermark-lag-seconds").set(int(reader.reading.wall() - now.watermark))
