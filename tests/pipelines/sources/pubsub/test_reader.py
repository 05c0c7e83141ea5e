"""The Pub/Sub reader against Google's emulator: nothing is acknowledged too early, lost or reordered."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from apache_beam.metrics.execution import MetricsContainer
from apache_beam.metrics.metricbase import MetricName
from apache_beam.runners.worker import statesampler
from apache_beam.utils.counters import CounterFactory
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp

from pipelines.sources.in_flight import STEPS
from pipelines.sources.landing import Landing, read_landed
from pipelines.sources.pubsub import leases as pubsub_leases
from pipelines.sources.pubsub import reader as pubsub_reader
from pipelines.sources.pubsub.client import EMULATOR
from pipelines.sources.pubsub.messages import STAMPS_UNREADABLE, poll_of
from pipelines.sources.pubsub.queue import PubSubQueue
from pipelines.sources.pubsub.reader import THROUGH_SECONDS
from pipelines.sources.pubsub.source import LandAt, PubSubSource, Reading, close_all
from tests.servers.needed import LIMIT, wait_until
from tests.servers.pubsub import Queue, make_emulator
from tests.support.pubsub_hand import Hand
from transforms.block import RAW_SCHEMA
from transforms.counters import NAMESPACE
from transforms.errors import OptionError, SourceError


@pytest.fixture
def by_hand(queue):
    """Makes a Hand for the queue's subscription, of one reader if not told otherwise; closed at the end."""
    made: list[Hand] = []

    def make(mark=None, **settings) -> Hand:
        settings = {"readers": 1, "block_seconds": 0.1} | settings
        made.append(Hand(Reading(queue.subscription, **settings), mark))
        return made[-1]

    yield make
    for each in made:
        each.close()


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


def acked() -> int:
    return pubsub_leases.snapshot().acked


def test_a_message_becomes_a_row_of_a_raw_block(queue, by_hand):
    before = time.time()
    (name,) = queue.publish(b'{"event_type":"click"}', format="csv", header="x")
    block = by_hand(source="shop").read(1)
    assert block.schema == RAW_SCHEMA
    assert block.select("payload", "source", "position").row(0) == (b'{"event_type":"click"}', "shop", name)
    received = block["received_time"][0]
    assert before - 5 < received.timestamp() < time.time() + 5
    assert json.loads(block["attributes"][0]) == {
        "received_time": received.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "message": {"format": "csv", "header": "x"},  # apart from our own, by which a payload is read
    }


def test_messages_are_acknowledged_when_the_bundle_is_finalized_and_not_before(queue, by_hand):
    before = acked()
    queue.publish(*numbered(50))
    hand = by_hand()
    hand.read(50)
    marks = hand.marks()
    assert (acked() - before, pubsub_leases.snapshot().in_flight) == (0, 50)
    for mark in marks * 2:  # a runner may call twice
        mark.finalize_checkpoint()
    assert pubsub_leases.flush(LIMIT)
    assert (acked() - before, pubsub_leases.snapshot().in_flight) == (50, 0)
    hand.close()
    assert queue.left() == []


def test_what_was_handed_on_and_not_marked_is_given_back_at_a_close(queue, by_hand):
    queue.publish(*numbered(50))
    hand = by_hand()
    hand.read(50)
    hand.close()
    assert queue.wait_for(50, 5) == sorted(numbered(50))


def test_a_mark_that_is_finalized_elsewhere_acknowledges_nothing(queue, by_hand):
    before = pubsub_leases.snapshot()
    PubSubSource(Reading(queue.subscription)).get_checkpoint_mark_coder().decode(b"other:1 7 0").finalize_checkpoint()
    after = pubsub_leases.snapshot()
    assert (after.unknown - before.unknown, after.acked) == (7, before.acked)


def test_a_lease_is_extended_beyond_the_deadline_of_the_subscription(queue, by_hand):
    queue.publish(*numbered(20))
    hand = by_hand()
    hand.read(20)
    marks, before = hand.marks(), acked()
    end = time.monotonic() + 16  # the deadline is 10 s, and the emulator looks every few seconds
    while time.monotonic() < end:
        assert queue.left() == [], "delivered a second time"
        threading.Event().wait(0.2)
    assert acked() == before
    for mark in marks:
        mark.finalize_checkpoint()
    assert pubsub_leases.flush(LIMIT)
    assert pubsub_leases.snapshot().in_flight == 0


def test_a_message_in_flight_for_too_long_is_let_go_and_comes_again(queue, by_hand, monkeypatch):
    monkeypatch.setattr(pubsub_leases, "EXTENSION_SECONDS", 10)
    before = pubsub_leases.snapshot().expired
    queue.publish(b"1")
    hand = by_hand(lease_limit=2.0)
    hand.read(1)
    wait_until(lambda: pubsub_leases.snapshot().expired - before == 1)
    assert hand.read(2)["position"].n_unique() == 1


def test_no_more_is_pulled_than_may_be_in_hand(queue, by_hand):
    queue.publish(*numbered(1_000))
    hand = by_hand(most_messages=130)
    hand.read(130)
    for _ in range(30):
        hand.step()
        assert pubsub_leases.snapshot().in_flight <= 130
    hand.finalize()
    hand.read(260)
    assert pubsub_leases.snapshot().in_flight <= 130


def test_no_more_bytes_are_pulled_than_may_be_in_hand(queue, by_hand):
    queue.publish(*[b"x" * 10_000] * 400)
    hand = by_hand(most_bytes=1_000_000)
    hand.read(95)
    for _ in range(30):
        hand.step()
        assert pubsub_leases.snapshot().in_flight_bytes <= 1_010_000
    hand.finalize()
    hand.read(190)


def test_polls_are_merged_to_blocks(queue, by_hand):
    queue.publish(*numbered(3_000))
    hand = by_hand(block_rows=1_000, block_seconds=10.0)
    hand.read(2_900, 9)
    assert all(900 < block.height <= 1_000 for block in hand.all())


@pytest.fixture
def busy_steps():
    """Steps that are busy with a block until the test sets the event."""
    through, begun = threading.Event(), threading.Event()

    def work() -> None:
        with STEPS.bundle():
            begun.set()
            through.wait()

    worker = threading.Thread(target=work)
    with STEPS.watched():
        worker.start()
        begun.wait()
        yield through
        through.set()
        worker.join()


def buffered(messages: int) -> None:
    wait_until(lambda: pubsub_leases.snapshot().in_flight >= messages, what=f"{messages} messages are pulled")


def test_a_block_waits_for_the_steps_and_grows_meanwhile(queue, by_hand, busy_steps, monkeypatch):
    monkeypatch.setattr(pubsub_reader, "LOOK_SECONDS", 0.0)
    hand = by_hand(block_seconds=0.0)
    for start in range(0, 300, 100):
        queue.publish(*numbered(100, start))
        hand.step()
        buffered(start + 100)
        assert not hand.step()
    busy_steps.set()
    hand.read(300)
    assert [block.height for block in hand.all()] == [300]


def test_a_full_block_waits_for_the_steps_as_well_and_no_more_is_pulled(queue, by_hand, busy_steps, monkeypatch):
    monkeypatch.setattr(pubsub_reader, "LOOK_SECONDS", 0.0)
    queue.publish(*numbered(400))
    hand = by_hand(block_rows=50, most_messages=130)
    hand.step()
    buffered(130)
    for _ in range(30):
        assert not hand.step()
    assert pubsub_leases.snapshot().in_flight == 130
    busy_steps.set()
    wait_until(lambda: hand.step())
    assert hand.all()[0].height <= 50


def test_steps_that_stay_busy_do_not_hold_a_block_up_without_end(queue, by_hand, busy_steps, monkeypatch):
    monkeypatch.setattr(pubsub_reader, "LOOK_SECONDS", 0.0)
    now = [1_000.0]
    hand = by_hand(block_seconds=0.0, monotonic=lambda: now[0])
    queue.publish(*numbered(10))
    hand.step()
    buffered(10)
    now[0] += THROUGH_SECONDS - 1.0
    assert not hand.step()
    now[0] += 1.0
    assert hand.step()
    queue.publish(*numbered(10, start=10))
    buffered(20)
    now[0] += THROUGH_SECONDS - 1.0
    assert not hand.step(), "it waits as long for the block before"
    now[0] += 1.0
    assert hand.step()


def test_a_reader_whose_block_waits_for_the_steps_can_be_drained(queue, by_hand, busy_steps, tmp_path, monkeypatch):
    monkeypatch.setattr(pubsub_reader, "LOOK_SECONDS", 0.0)
    queue.publish(*numbered(10))
    hand = by_hand(drain_file=str(tmp_path / "drain"))
    hand.step()
    buffered(10)
    (tmp_path / "drain").touch()
    wait_until(lambda: not hand.step() and hand.readers[0].get_watermark() == MAX_TIMESTAMP)
    hand.finalize()
    hand.close()
    assert queue.wait_for(10, 5) == sorted(numbered(10))


def test_a_bundle_hands_on_one_block_where_its_steps_are_watched(queue, by_hand):
    queue.publish(*numbered(100))
    hand = by_hand(block_rows=20, block_seconds=0.0)
    with STEPS.watched(), STEPS.bundle():
        wait_until(lambda: hand.step())
        buffered(60)
        assert not hand.step()
    with STEPS.watched(), STEPS.bundle():
        wait_until(lambda: hand.step())
    hand.read(100)


def test_messages_with_a_key_stay_in_order(pubsub_emulator, monkeypatch):
    monkeypatch.setenv(EMULATOR, pubsub_emulator.host)
    queue = Queue(pubsub_emulator.host, enable_message_ordering=True)
    for start in range(0, 600, 50):
        for key in "abc":
            queue.publish(*[key.encode() + b"%d" % number for number in range(start, start + 50)], key=key)
    hand = Hand(Reading(queue.subscription, readers=2, block_rows=130, block_seconds=0.05))

    def all_read() -> bool:
        for number in (0, 1):
            hand.step(number)
        hand.finalize()  # of a key no more is delivered until what came before is acknowledged
        return sum(block.height for block in hand.all()) >= 1_800

    wait_until(all_read, 60)
    for blocks in hand.blocks:
        payloads = [payload.decode() for block in blocks for payload in block["payload"]]
        for key in "abc":
            numbers = [int(payload[1:]) for payload in payloads if payload[0] == key]
            assert numbers == sorted(numbers)
    assert json.loads(hand.all()[0]["attributes"][0])["ordering_key"] in "abc"
    hand.close()


def test_payloads_of_no_bytes_and_of_ten_million(queue, by_hand):
    large = bytes(range(250)) * 40_000
    queue.publish(b"", kind="empty")
    queue.publish(large[: 10_000_000 - 300])
    found = by_hand().read(2)["payload"].sort()
    assert found.to_list() == [b"", large[: 10_000_000 - 300]]


@contextmanager
def counted() -> Iterator[MetricsContainer]:
    """The metrics of what this thread does, as a worker of Beam collects them."""
    metrics, sampler = MetricsContainer("test"), statesampler.StateSampler("test", CounterFactory())
    statesampler.set_current_tracker(sampler)
    try:
        with sampler.scoped_state("test", "read", metrics_container=metrics):
            yield metrics
    finally:
        statesampler.set_current_tracker(None)


def test_a_stamp_that_cannot_be_read_falls_back_to_the_time_of_publishing(queue, by_hand):
    stamps = {"0": "2026-03-01T10:00:00.5Z", "1": "1772359200500", "2": "yesterday", "3": "", "4": "9" * 30}
    for payload, stamp in stamps.items():
        queue.publish(payload.encode(), at=stamp)
    queue.publish(b"5")
    before, hand = pubsub_leases.snapshot().unreadable, by_hand(timestamp_attribute="at")
    with counted() as metrics:
        block = hand.read(6).sort("payload")
        hand.step()
    assert pubsub_leases.snapshot().unreadable - before == 3
    assert metrics.get_counter(MetricName(NAMESPACE, STAMPS_UNREADABLE)).get_cumulative() == 3
    times = block["received_time"].dt.to_string("%Y-%m-%dT%H:%M:%S%.3f").to_list()
    assert times[:2] == ["2026-03-01T10:00:00.500"] * 2
    assert all(abs(each.timestamp() - time.time()) < 60 for each in block["received_time"][2:])


def test_two_readers_share_a_subscription(queue, by_hand):
    hand = by_hand(readers=2, block_rows=500)
    published = 0

    def both_have_some() -> bool:
        # Either may take a whole batch before the other asks, so batches come until both have one.
        nonlocal published
        queue.publish(*(b"%d" % number for number in range(published, published + 1_000)))
        published += 1_000
        hand.read(published)
        return all(hand.blocks)

    wait_until(both_have_some, 60, "both readers to hand on a block")
    assert sorted(map(int, pl.concat(hand.all())["payload"].to_list())) == list(range(published))


def test_a_reader_hands_on_in_the_order_of_its_pulls(queue, by_hand, monkeypatch):
    pulled: list[str] = []

    def noted(received, *how):
        pulled.extend(each.message.message_id for each in received)
        return poll_of(received, *how)

    monkeypatch.setattr(pubsub_reader, "poll_of", noted)
    queue.publish(*numbered(3_000))
    assert by_hand(block_rows=700).read(3_000)["position"].to_list() == pulled


def test_the_watermark_waits_for_the_first_answer_and_follows_the_clock_when_there_is_nothing(queue, by_hand):
    hand = by_hand()
    hand.step()
    assert hand.readers[0].get_watermark() == MIN_TIMESTAMP
    wait_until(lambda: hand.readers[0].get_watermark() > MIN_TIMESTAMP)
    assert 9 < time.time() - float(hand.readers[0].get_watermark()) < 12
    queue.publish(*numbered(3))
    hand.read(3)
    earliest = hand.all()[0]["received_time"].dt.epoch("us").min()
    assert hand.readers[0].get_current_timestamp() == Timestamp(micros=earliest)


def test_a_drain_gives_back_what_was_not_handed_on_and_ends_the_stream(queue, by_hand, tmp_path):
    queue.publish(*numbered(900))
    hand = by_hand(drain_file=str(tmp_path / "drain"), block_rows=300)
    found = hand.read(300)
    wait_until(lambda: pubsub_leases.snapshot().in_flight == 900, what="the rest is in the buffer")
    (tmp_path / "drain").touch()
    wait_until(lambda: not hand.step() and hand.readers[0].get_watermark() == MAX_TIMESTAMP)
    hand.finalize()
    hand.close()
    assert sorted([*found["payload"], *queue.wait_for(900 - len(found), 5)]) == sorted(numbered(900))


def test_a_reader_that_the_runner_left_behind_is_taken_over_with_all_it_holds(queue, by_hand):
    queue.publish(*numbered(200))
    hand = by_hand(block_rows=100)
    hand.read(100)
    (mark,) = hand.marks()
    (left,) = hand.readers
    hand.readers, hand.begun = [hand.sources[0].create_reader(None, mark)], set()
    assert hand.readers[0].engine is left.engine
    left.close()  # the runner evicts it from its cache
    assert pubsub_leases.snapshot().in_flight >= 100
    found = hand.read(200)
    assert sorted(map(int, found["payload"].to_list())) == list(range(200))
    mark.finalize_checkpoint()
    hand.finalize()
    assert pubsub_leases.snapshot().in_flight == 0


READ_AND_DIE = """
import sys
from tests.support.pubsub_hand import Hand, Reading
hand = Hand(Reading(sys.argv[1], readers=1, block_seconds=0.1))
hand.read(100)
print("read", flush=True)
sys.stdin.read()
"""


def test_what_a_reader_held_when_it_died_comes_again(queue, by_hand):
    queue.publish(*numbered(100))
    command = [sys.executable, "-c", READ_AND_DIE, queue.subscription]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[4], env=os.environ
    )
    assert process.stdout.readline() == b"read\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert sorted(map(int, by_hand().read(100)["payload"].to_list())) == list(range(100))


def test_an_emulator_that_is_killed_and_comes_back_is_read_on(tmp_path, monkeypatch):
    emulator = make_emulator(tmp_path / "emulator.log")
    emulator.start()
    monkeypatch.setenv(EMULATOR, emulator.host)
    try:
        queue = Queue(emulator.host)
        queue.publish(*numbered(10))
        hand = Hand(Reading(queue.subscription, readers=1, block_seconds=0.1))
        hand.read(10)
        hand.finalize()
        emulator.kill()
        hand.step()
        assert hand.readers[0].engine.failure is None
        emulator.start()
        queue.make()
        queue.publish(*numbered(10, start=10))
        hand.read(20)
        hand.finalize()
        hand.close()
    finally:
        emulator.kill()


def test_a_subscription_that_is_gone_is_named(queue, by_hand, monkeypatch):
    monkeypatch.setattr(pubsub_reader, "GRACE_SECONDS", 0.5)
    hand = by_hand()
    hand.step()
    queue.pubsub.delete_subscription(queue.subscription)
    with pytest.raises(SourceError, match=rf"subscription {queue.subscription} is gone: .* --input_subscription"):
        wait_until(lambda: hand.step())


def test_a_fault_of_the_thread_that_pulls_ends_the_reader(queue, by_hand, monkeypatch):
    def fault(*_):
        raise MemoryError("as it may be")

    monkeypatch.setattr(pubsub_reader, "poll_of", fault)
    queue.publish(b"1")
    hand = by_hand()
    with pytest.raises(MemoryError, match="as it may be"):
        wait_until(lambda: hand.step())


class Panic(BaseException):
    """As Polars raises it: no Exception."""


def test_a_panic_in_the_thread_that_pulls_ends_the_reader(queue, by_hand, monkeypatch):
    def panic(*_):
        raise Panic("as it may be")

    monkeypatch.setattr(pubsub_reader, "poll_of", panic)
    queue.publish(b"1")
    hand = by_hand()
    with pytest.raises(SourceError, match=r"the reader failed: Panic\('as it may be'\)"):
        wait_until(lambda: hand.step())


def test_a_panic_in_the_thread_of_the_leases_is_followed_by_the_acknowledgement(queue, by_hand, monkeypatch):
    before, hand = acked(), by_hand()
    queue.publish(b"1")
    hand.read(1)
    real = hand.readers[0].engine.leases._send

    def panic(*ending):
        monkeypatch.setattr(hand.readers[0].engine.leases, "_send", real)
        raise Panic("as it may be")

    monkeypatch.setattr(hand.readers[0].engine.leases, "_send", panic)
    hand.finalize()
    assert acked() - before == 1


def test_a_runner_that_asks_is_noted(queue, by_hand):
    begun = time.monotonic()
    by_hand().step()
    assert begun <= PubSubQueue(subscription=queue.subscription).snapshot().asked <= time.monotonic()


def test_what_is_in_flight_holds_no_payloads(queue, by_hand):
    queue.publish(*[b"x" * 10_000] * 20)
    hand = by_hand()
    hand.read(20)
    assert [poll.payloads for poll in hand.readers[0].engine.unmarked] == [[]] * len(hand.readers[0].engine.unmarked)
    assert pubsub_leases.snapshot().in_flight_bytes >= 200_000


def test_readers_without_number_are_refused():
    with pytest.raises(OptionError, match="readers: got 0; allowed: a whole number from 1"):
        Reading("projects/demo-project/subscriptions/events", readers=0)


def test_what_landed_is_read_first_and_does_not_land_again(queue, by_hand, tmp_path):
    at = LandAt(str(tmp_path), "pubsub:sub", "one")
    queue.publish(*numbered(30))
    hand = by_hand(landing=at)
    landed = hand.read(30)
    hand.finalize()
    hand.close()
    queue.publish(*numbered(30, start=30))
    here = Landing(tmp_path)
    again = tuple(here.to_read_again(here.counts()))
    hand = by_hand(landing=LandAt(str(tmp_path), "pubsub:sub", "two"), again=again)
    found = hand.read(60)
    assert found[:30].equals(landed)
    assert sorted(map(int, found["payload"].to_list())) == list(range(60))
    assert here.counts()["landed"].sum() == 60
    by_run = here.counts().group_by(pl.col("input").str.extract("@(one|two)")).agg(pl.col("landed").sum())
    assert dict(by_run.rows()) == {"one": 30, "two": 30}


def test_files_to_read_again_are_dealt_to_the_readers_and_hold_the_watermark(queue, by_hand, tmp_path):
    queue.publish(*numbered(40))
    hand = by_hand(landing=LandAt(str(tmp_path), "in", "one"), block_rows=10)
    hand.read(40)
    hand.finalize()
    hand.close()
    here = Landing(tmp_path)
    again = tuple(here.to_read_again(here.counts()))
    hand = by_hand(readers=2, again=again)
    assert hand.step(0) and hand.step(1)
    read = {int(payload) for block in hand.all() for payload in block["payload"]}
    first = {int(payload) for each in again[:2] for payload in read_landed(each)["payload"]}
    assert read == first, "each reader began with a file of its own"
    assert hand.readers[0].get_watermark() == MIN_TIMESTAMP
    assert hand.marks()[0].again_done == 1
    assert len(hand.read(40)) == 40


def test_a_checkpoint_elsewhere_reads_on_behind_what_was_read_again(queue, by_hand, tmp_path):
    queue.publish(*numbered(20))
    hand = by_hand(landing=LandAt(str(tmp_path), "in", "one"), block_rows=10)
    hand.read(20)
    hand.finalize()
    hand.close()
    here = Landing(tmp_path)
    again = tuple(here.to_read_again(here.counts()))
    mark = PubSubSource(Reading(queue.subscription)).get_checkpoint_mark_coder().decode(b"other:1 0 1")
    hand = by_hand(mark=mark, again=again)
    assert hand.step()
    rest = [payload for each in again[1:2] for payload in read_landed(each)["payload"]]
    assert hand.all()[0]["payload"].to_list() == rest


def test_a_reader_that_begins_after_all_were_closed_pulls_nothing(queue):
    queue.publish(*numbered(100))
    reading = Reading(queue.subscription, readers=2)
    first, second = PubSubSource(reading).split(2)
    reader = first.create_reader(None, None)
    wait_until(lambda: reader.start() or reader.advance())
    close_all()
    late = second.create_reader(None, None)
    assert not late.start()
    assert late.get_watermark() == MAX_TIMESTAMP
    assert late.engine._thread is None
    assert queue.wait_for(100, 20) == sorted(numbered(100))
