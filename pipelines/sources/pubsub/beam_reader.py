"""Pub/Sub through Beam's own reader, for the runners that have it: Dataflow, and Beam's legacy local runner.

    ReadPubSubThroughBeam(...)   PBegin -> PCollection[RAW_SCHEMA block], the rows of ReadPubSub, a bundle at a time

Dataflow reads by itself and acknowledges what it has stored; its job gathers the small blocks of its bundles
(transforms/gather.py). The legacy local runner acknowledges before anything downstream has run, hands on ten messages
at a time, and takes the clock for the watermark: it may lose what it read.
"""

import time
from codecs import BOM_UTF8
from collections.abc import Callable

import apache_beam as beam
import polars as pl
from apache_beam.io.gcp.pubsub import ReadFromPubSub
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from pipelines.sources.messages import Poll, block_of, encode_attributes
from pipelines.sources.pubsub.messages import STAMPS_UNREADABLE, Stamped, received_times
from transforms.counters import NAMESPACE
from transforms.stage import Gathering

BLOCK_ROWS, BLOCK_BYTES = 10_000, 16 << 20


class ReadPubSubThroughBeam(beam.PTransform):
    """PBegin -> PCollection[RAW_SCHEMA block] of a subscription or a topic; a timestamp is the earliest received time.

    source               the name for records that state none
    timestamp_attribute  the attribute that tells the received time, of publishers that are trusted
    on_dataflow          whether Dataflow reads: it alone takes `id_label`, an attribute whose value makes two messages
                         one, and a `timestamp_attribute` that it survives where the value is malformed
    """

    def __init__(
        self,
        subscription: str | None = None,
        topic: str | None = None,
        source: str = "events",
        timestamp_attribute: str | None = None,
        id_label: str | None = None,
        on_dataflow: bool = False,
        clock: Callable[[], float] = time.time,
    ):
        super().__init__()
        self.read = ReadFromPubSub(
            topic=topic,
            subscription=subscription,
            id_label=id_label if on_dataflow else None,
            with_attributes=True,
            timestamp_attribute=timestamp_attribute if on_dataflow else None,
        )
        self.gather = _Gather(source, timestamp_attribute, clock)

    def expand(self, begin):
        messages = begin | "Read messages" >> self.read
        return messages | "Gather blocks" >> beam.ParDo(self.gather).with_output_types(pl.DataFrame)


class _Gather(Gathering):
    """The messages of a bundle as blocks. The clock is for a message that lost its time of publishing on the way."""

    most_rows, most_bytes = BLOCK_ROWS, BLOCK_BYTES

    def __init__(self, source: str, timestamp_attribute: str | None, clock: Callable[[], float]):
        self.source, self.timestamp_attribute, self.clock = source, timestamp_attribute, clock

    def hold(self, message):
        yield message, 1, len(message.data or b"")

    def flush(self, messages, rows, size):
        poll = poll_of_messages(messages, self.timestamp_attribute, self.clock())
        if poll.unreadable:
            Metrics.counter(NAMESPACE, STAMPS_UNREADABLE).inc(poll.unreadable)
        block = block_of([poll], self.source)
        yield TimestampedValue(block, Timestamp(micros=block["received_time"].dt.epoch("us").min()))


def poll_of_messages(messages: list, timestamp_attribute: str | None, now: float) -> Poll:
    """Beam's PubsubMessages as a Poll. `now`, in seconds since 1970, for one without a time of publishing."""
    times = [message.publish_time for message in messages]
    published = [int((time.timestamp() if time is not None else now) * 1_000_000) for time in times]
    payloads = [(message.data or b"").removeprefix(BOM_UTF8) for message in messages]
    attributes = [encode_attributes(message.attributes or {}, message.ordering_key or "") for message in messages]
    stamped = Stamped(published)
    if timestamp_attribute is not None:
        stamps = [(message.attributes or {}).get(timestamp_attribute) for message in messages]
        stamped = received_times(stamps, published)
    ids = [message.message_id or "" for message in messages]
    return Poll([], payloads, ids, stamped.times, attributes, sum(map(len, payloads)), stamped.unreadable)
