"""Messages as blocks: the received time of an attribute, and the payload without a byte order mark."""

from datetime import UTC, datetime

import pytest
from apache_beam.io.gcp.pubsub import PubsubMessage
from google.pubsub_v1.types import PubsubMessage as Message
from google.pubsub_v1.types import ReceivedMessage

from pipelines.sources.pubsub.beam_reader import BLOCK_BYTES, BLOCK_ROWS, _Gather, poll_of_messages
from pipelines.sources.pubsub.messages import poll_of, received_times

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
        ("9" * 19, None),
        ("9" * 30, None),
        (None, None),
    ],
)
def test_a_stamp_is_read_in_the_unit_that_is_possible_else_the_publish_time_counts(stamp, micros):
    published = AT + 7
    assert received_times([stamp, "2026-03-01T12:00:00Z"], [published] * 2) == [
        published if micros is None else AT + micros,
        AT,
    ]


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
