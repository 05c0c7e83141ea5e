"""Messages as blocks: the received time of an attribute, and the payload without a byte order mark."""

from datetime import UTC, datetime

import apache_beam as beam
import pytest
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.testing.test_pipeline import TestPipeline
from google.pubsub_v1.types import PubsubMessage as Message
from google.pubsub_v1.types import ReceivedMessage

from pipelines.sources.pubsub.beam_reader import BLOCK_BYTES, BLOCK_ROWS, _Gather, poll_of_messages
from pipelines.sources.pubsub.messages import STAMPS_UNREADABLE, poll_of, received_times

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT = int(NOON.timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("stamp", "micros"),
    [
        ("2026-03-01T12:00:00Z", 0),
        ("2026-03-01T16:00:00+04:00", 0),
        ("1772366400", 0),
        ("1772366400.5", 500_000),
        ("1772366400123", 123_000),
        ("1772366400123456", 123_456),
        ("1772366400123456789", 123_456),
        ("garbage", None),
        ("5", None),  # 1970 in each unit
        ("-1772366400", None),
        ("1969-12-31T23:59:59.5Z", None),
        ("", None),
        ("9" * 19, None),
        ("9" * 30, None),
        (None, None),
    ],
)
def test_a_stamp_is_read_in_the_unit_that_is_possible_else_the_publish_time_counts(stamp, micros):
    published = AT + 7
    read = received_times([stamp, "2026-03-01T12:00:00Z"], [published] * 2)
    assert read.times == [published if micros is None else AT + micros, AT]
    assert read.unreadable == (stamp is not None and micros is None)


def test_a_byte_order_mark_is_no_part_of_a_payload():
    received = [ReceivedMessage(message=Message(data=b"\xef\xbb\xbf{}", publish_time=NOON))]
    assert poll_of([each._pb for each in received], None).payloads == [b"{}"]
    assert poll_of_messages([PubsubMessage(b"\xef\xbb\xbf{}", {})], None, 0.0).payloads == [b"{}"]


@pytest.mark.parametrize(
    ("size", "sizes"), [(2, [BLOCK_ROWS, 5]), (BLOCK_BYTES // 2, [2, 2, 1])], ids=["by rows", "by bytes"]
)
def test_a_large_bundle_is_several_blocks(size, sizes):
    gather, messages = (
        _Gather("events", None, float),
        [PubsubMessage(b"x" * size, {}, f"{n}") for n in range(sum(sizes))],
    )
    gather.start_bundle()
    made = [stamped.value for message in messages for stamped in gather.process(message)]
    made += [windowed.value for windowed in gather.finish_bundle()]
    assert [len(block) for block in made] == sizes


def test_the_reader_of_the_runner_counts_stamps_that_cannot_be_read():
    messages = [PubsubMessage(b"{}", at) for at in ({"at": "yesterday"}, {"at": "5"}, {"at": str(AT)}, {})]
    with TestPipeline() as pipeline:
        _ = pipeline | beam.Create(messages) | beam.ParDo(_Gather("shop", "at", lambda: 0.0))
    found = pipeline.result.metrics().query(MetricsFilter().with_name(STAMPS_UNREADABLE))["counters"]
    assert [counter.committed for counter in found] == [2]


def test_stamps_that_cannot_be_read_are_counted_by_both_readers_and_absent_ones_are_not():
    stamps = [{"at": "yesterday"}, {"at": ""}, {"at": "2026-03-01T12:00:00Z"}, {}]
    received = [ReceivedMessage(message=Message(data=b"{}", publish_time=NOON, attributes=at)) for at in stamps]
    raw, beams = [each._pb for each in received], [PubsubMessage(b"{}", at) for at in stamps]
    assert poll_of(raw, "at").unreadable == poll_of_messages(beams, "at", 0.0).unreadable == 2
    assert poll_of(raw, None).unreadable == poll_of_messages(beams, None, 0.0).unreadable == 0
