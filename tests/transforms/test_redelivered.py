"""Redelivered: one row of quarantine for a message however often it is delivered, and the audit counts balance."""

from datetime import UTC, datetime, timedelta

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from transforms import restored_state as seeds
from transforms.block import REJECTED_SCHEMA, BlockCoder
from transforms.publication import Firing
from transforms.quality import unpack
from transforms.quarantine import identify
from transforms.redelivered import NAME, KeepFirstRefusal, claim_entries, keep_first, seen_entries, split_refusals
from transforms.seen import CLAIM, Claims, Seen

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NO_CLAIMS = Claims(np.empty(0, CLAIM))


def refused(*messages: str, input: str = "f", at: datetime = NOON, payload: bytes = b"{") -> pl.DataFrame:
    """Rows of quarantine of messages by their id."""
    rows = [
        {"payload": payload, "position": each, "input": input, "attempt": 1, "received_time": at, "source": "events"}
        | {"stage": "parse", "code": "invalid_json"}
        for each in messages
    ]
    return identify(pl.DataFrame(rows, schema=REJECTED_SCHEMA), "1", 0.0)


def keyed(rows: pl.DataFrame) -> pl.DataFrame:
    [(_, partition)] = split_refusals(rows, DAY, 1)
    return partition


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=12), st.integers(0, 12))
def test_the_first_of_each_id_stays_wherever_blocks_are_cut(messages, cut):
    seen, kept, repeats = Seen(), [], 0
    for part in (messages[:cut], messages[cut:]):
        if part:
            new, others, entries = keep_first(keyed(refused(*part)), seen, NO_CLAIMS)
            seen = seen.with_(entries)
            kept += new["position"].to_list()
            repeats += others.height
    assert kept == list(dict.fromkeys(messages))
    assert len(kept) + repeats == len(messages)


@given(st.permutations(["f@1", "f@2", "f@3"]), st.integers(0, 3))
def test_of_a_message_that_is_read_again_the_stored_delivery_stays_wherever_it_comes(inputs, cut):
    claims = Claims(claim_entries(keyed(refused("a", input="f@2"))))
    seen, kept = Seen(), []
    for part in (inputs[:cut], inputs[cut:]):
        if part:
            block = pl.concat([refused("a", input=input) for input in part])
            new, _, entries = keep_first(keyed(block), seen, claims)
            seen = seen.with_(entries)
            kept += new["input"].to_list()
    assert kept == ["f@2"]


def test_what_differs_in_payload_place_or_window_is_another_refusal():
    block = pl.concat([refused("a"), refused("a", payload=b"["), refused("b"), refused("a", at=NOON + DAY)])
    found = list(split_refusals(block, DAY, 1))
    assert [partition.height for _, partition in found] == [3, 1]
    assert keep_first(found[0][1], Seen(), NO_CLAIMS)[0].height == 3


def test_a_record_without_a_received_time_has_a_window_too():
    [((window, _), partition)] = split_refusals(
        refused("a").with_columns(received_time=pl.lit(None, pl.Datetime("us", "UTC"))), DAY, 1
    )
    assert (window, partition.height) == (0, 1)


def outcomes(source: TestStream, *, expected: list[str], books: list[int], **options) -> None:
    keep = KeepFirstRefusal(
        window=DAY,
        shards=2,
        firing=Firing(streaming=True, clock=options.get("clock", float), restored=options.get("seeds")),
    )
    streaming = PipelineOptions(["--streaming"])
    with beam.Pipeline("BundleBasedDirectRunner", options=streaming) as pipeline:
        kept = pipeline | source.with_output_types(pl.DataFrame) | keep
        positions = kept.passed | beam.FlatMap(lambda block: block["position"].to_list())
        assert_that(positions, equal_to(expected))
        duplicates = kept.books | beam.FlatMap(
            lambda entries: [n for *_, outcome, n in unpack(entries) if outcome == "duplicates"]
        )
        assert_that(duplicates, equal_to(books), label="books")


def delivered(*blocks: pl.DataFrame, marks: tuple[float, ...] = ()) -> TestStream:
    stream = TestStream(coder=BlockCoder())
    for at, block in enumerate(blocks):
        stream = stream.add_elements([block])
        if at < len(marks):
            stream = stream.advance_watermark_to(marks[at])
    return stream.advance_watermark_to_infinity()


def test_a_message_that_comes_again_is_a_duplicate_in_the_books():
    outcomes(delivered(refused("a", "b"), refused("a"), refused("a", "c")), expected=["a", "b", "c"], books=[1, 1])


def test_what_is_in_quarantine_before_the_stream_starts_is_known(tmp_path):
    for (window, shard), partition in split_refusals(refused("a"), DAY, 2):
        seeds.add_seen(str(tmp_path), seeds.Place(window, shard), seen_entries(partition).tobytes(), NAME)
    outcomes(delivered(refused("a"), refused("b")), expected=["b"], books=[1], seeds=str(tmp_path))


def test_what_was_received_days_ago_is_remembered_by_the_clock_and_forgotten_in_the_end():
    old = refused("a", at=NOON - 30 * DAY)
    now = NOON.timestamp()
    marks = (now + 2 * 86_400, now + 4 * 86_400)
    outcomes(delivered(old, old, old, marks=marks), expected=["a", "a"], books=[1], clock=lambda: now)
