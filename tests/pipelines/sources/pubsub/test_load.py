"""What a low load is, and which reader then pulls: by rule, and by hand against Google's emulator."""

import time
from types import SimpleNamespace

import pytest
from apache_beam.utils.timestamp import MIN_TIMESTAMP

from pipelines.sources.pubsub.load import ASKED_SECONDS, BUSY_SECONDS, FRESH_SECONDS, MANY_ROWS, PATIENCE, Load, load_of
from pipelines.sources.pubsub.reader import LOOK_OFTEN, LOOK_SELDOM
from pipelines.sources.pubsub.source import Reading
from tests.servers.needed import wait_until
from tests.support.pubsub_hand import Hand


def test_the_readers_of_a_subscription_share_a_load():
    load = load_of("projects/p/subscriptions/one")
    assert load_of("projects/p/subscriptions/one") is load
    assert load_of("projects/p/subscriptions/two") is not load


def test_the_first_reader_that_the_runner_asks_leads():
    load, readers = Load(), [Standing(split, asked=100.0) for split in (2, 0, 1)]
    assert load.leader(100.0) is None
    for reader in readers:
        load.enter(reader)
    assert load.leader(100.0) is readers[1]
    load.leave(readers[1])
    assert load.leader(100.0) is readers[2]
    readers[0].asked += ASKED_SECONDS
    assert load.leader(100.1 + ASKED_SECONDS) is readers[0], "the runner has left the other one behind"
    assert load.leader(1_000.0) is readers[2], "one reads, however long a bundle takes"


def test_a_load_is_high_for_a_while():
    load = Load()
    assert not load.is_busy(0.0)
    load.note_busy(5.0)
    assert load.is_busy(5.0)
    assert not load.is_busy(5.0 + BUSY_SECONDS)


class Standing(SimpleNamespace):
    """A reader as a load sees it; it can be hashed, as readers can."""

    __hash__ = object.__hash__

    def __init__(self, split: int, asked: float):
        super().__init__(split=split, asked=asked)


@pytest.fixture
def two(queue):
    """Two readers of a subscription, whose clock of the test's own says how old messages are."""
    ahead = [0.0]
    hand = Hand(Reading(queue.subscription, readers=2, block_seconds=0.1, wall=lambda: time.time() + ahead[0]))
    hand.ahead = ahead
    yield hand
    hand.close()


def engines(hand: Hand) -> list:
    return [reader.engine for reader in hand.readers]


def step_both(hand: Hand) -> bool:
    hand.finalize()
    return any([hand.step(number) for number in (0, 1)])


def test_at_a_low_load_one_reader_pulls_and_the_other_follows_its_watermark(queue, two):
    wait_until(lambda: step_both(two) or all(reader.engine._thread for reader in two.readers))
    first, second = engines(two)
    wait_until(lambda: step_both(two) or second._resting, what="the second reader rests")
    rows = 0
    while rows < 300:
        queue.publish(*[b"{}"] * 20)
        rows += 20
        wait_until(lambda rows=rows: step_both(two) or sum(block.height for block in two.all()) >= rows)
    assert two.blocks[1] == []
    assert second.watermark() <= first.watermark()
    wait_until(lambda: two.readers[1].get_watermark() > MIN_TIMESTAMP, what="it does not hold the watermark")
    assert {first.next_look(), second.next_look()} <= {LOOK_SELDOM}, "the runner asks seldom"
    queue.publish(b"{}")
    wait_until(lambda: first._buffer and first._due_at() - time.monotonic() < LOOK_OFTEN, what="a block is nearly due")
    assert (first.next_look(), second.next_look()) == (LOOK_OFTEN, LOOK_SELDOM), "one bundle has it, not two"


def test_messages_that_have_waited_wake_the_other_reader(queue, two):
    wait_until(lambda: step_both(two) or (len(engines(two)) == 2 and engines(two)[1]._resting))
    two.ahead[0] = FRESH_SECONDS + 0.1
    queue.publish(b"{}")
    wait_until(lambda: step_both(two) or engines(two)[0]._pulled_old, what="the first reader has pulled it")
    assert not engines(two)[0].load.is_busy(time.monotonic()), "one pull may have stood still for a moment"
    queue.publish(b"{}")
    wait_until(lambda: step_both(two) or not engines(two)[1]._resting, what="the second reader pulls")
    assert engines(two)[0].load.is_busy(time.monotonic())
    assert engines(two)[1].next_look() == LOOK_OFTEN


def test_a_large_block_is_a_high_load_and_a_small_one_gathers_for_longer(queue):
    now = [1_000.0]
    hand = Hand(Reading(queue.subscription, readers=1, block_seconds=2.0, monotonic=lambda: now[0]))
    engine = hand.readers[0].engine
    try:
        queue.publish(b"{}")
        hand.step()
        wait_until(lambda: engine._buffer, what="it is pulled")
        now[0] += 2.0
        assert not hand.step()
        now[0] += 2.0 * (PATIENCE - 1)
        assert hand.step()
        queue.publish(*[b"{}"] * MANY_ROWS)
        wait_until(lambda: sum(len(poll.ack_ids) for _, poll in engine._buffer) >= MANY_ROWS, what="all are pulled")
        now[0] += 2.0
        assert hand.step()
        assert engine.load.is_busy(now[0])
    finally:
        hand.close()


def test_a_reader_that_ends_hands_over(queue, two):
    wait_until(lambda: step_both(two) or (len(engines(two)) == 2 and engines(two)[1]._resting))
    engines(two)[0].close()
    queue.publish(b"{}")
    wait_until(lambda: two.step(1), what="the second reader has it")
