"""A Kinesis stream by the contract of a queue, and what only a stream has: shards, marks, a start."""

import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines.sources.kinesis.marks import path_of, read_marks
from pipelines.sources.kinesis.queue import KinesisQueue
from pipelines.sources.kinesis.source import KinesisSource
from tests.pipelines.sources.kinesis.packed import pack
from tests.pipelines.sources.queue_contract import ByHand, Clock, QueueContract, numbered
from tests.servers.kinesis import DataStream
from tests.servers.needed import wait_until


@dataclass
class Broker:
    stream: DataStream
    folder: Path

    def publish(self, *payloads: bytes) -> None:
        self.stream.put(payloads)

    def left(self) -> list[bytes]:
        marks = read_marks(path_of(self.folder, self.stream.arn))
        done = {name: mark.sequence for name, mark in marks.shards.items()} if marks is not None else {}
        return [
            record["Data"]
            for record in self.stream.records()
            if int(record["SequenceNumber"]) > int(done.get(record["ShardId"]) or 0)
        ]

    def wait_for(self, messages: int, seconds: float = 40.0) -> list[bytes]:
        wait_until(lambda: len(self.left()) >= messages, seconds)
        return sorted(self.left())


class TestKinesisQueue(QueueContract):
    kind = KinesisQueue
    malformed = "arn:aws:sqs:eu-west-1:000000000000:stream/events"
    missing = "no-such-stream"
    runners_read_it = False

    @pytest.fixture
    def broker(self, data_stream, tmp_path) -> Iterator[Broker]:
        return Broker(data_stream, tmp_path)

    def values(self, broker):
        return {"input_kinesis": broker.stream.name}

    def source_of(self, read):
        return KinesisSource(read.reading)

    def timed(self, queue: KinesisQueue, clock: Clock):
        return replace(queue, wall=clock, monotonic=clock)

    def marks(self, broker: Broker) -> dict[str, str | None]:
        """Shard -> the sequence number of its mark."""
        found = read_marks(path_of(broker.folder, broker.stream.arn))
        assert found is not None
        return {name: mark.sequence for name, mark in found.shards.items()}

    def test_a_record_keeps_its_place_its_key_and_its_time(self, broker, by_hand):
        (put,) = broker.stream.put([b"\xef\xbb\xbf{}"], ["ann"])
        shard, number = put["ShardId"], put["SequenceNumber"]
        block = by_hand().read(1)
        assert block.select("payload", "source", "position").row(0) == (b"{}", "shop", f"{shard}:{number}")
        (arrived,) = (one["ApproximateArrivalTimestamp"] for one in broker.stream.records())
        assert block["received_time"].to_list() == [arrived]
        told = json.loads(block["attributes"][0])["message"]
        assert datetime.fromisoformat(told.pop("kinesis_arrival_time")) == arrived
        assert told == {
            "kinesis_partition_key": "ann",
            "kinesis_sequence_number": number,
            "kinesis_shard": shard,
        }

    def test_packed_records_are_rows_of_their_own_and_one_without_any_moves_the_mark(self, broker, opened, by_hand):
        broker.publish(pack([("a", b"1"), ("b", b"2")]), b"3")
        hand = by_hand()
        assert sorted(hand.read(3)["payload"]) == [b"1", b"2", b"3"]
        hand.finalize()
        last = broker.stream.put([pack([])])[0]
        wait_until(lambda: opened.flush() and self.marks(broker)[last["ShardId"]] == last["SequenceNumber"])

    def test_marks_are_private_and_follow_what_is_finalized_in_whichever_order(self, broker, opened, by_hand):
        hand, bundles, ends = by_hand(), [], []
        for number in range(3):
            ends.append(broker.stream.put(numbered(2))[-1])
            hand.read(2 * (number + 1))
            bundles.append(hand.readers[0].get_checkpoint_mark())
        shard, seen = ends[0]["ShardId"], []
        for number in (2, 0, 0, 1):
            bundles[number].finalize_checkpoint()
            seen.append(self.marks(broker).get(shard))
        numbers = [end["SequenceNumber"] for end in ends]
        assert seen == [None, numbers[0], numbers[0], numbers[2]]
        file = path_of(broker.folder, broker.stream.arn)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_marks_that_cannot_be_stored_are_stored_later(self, broker, opened, by_hand, caplog):
        broker.publish(*numbered(3))
        hand = by_hand()
        hand.read(3)
        aside = path_of(broker.folder, broker.stream.arn).with_suffix(".json.tmp")
        aside.mkdir()
        hand.finalize()
        assert not opened.flush()
        assert "what is finalized cannot be noted: Is a directory; trying again" in caplog.text
        aside.rmdir()
        assert opened.flush()
        assert broker.left() == []

    def test_a_stream_is_split_and_merged_while_it_is_read_and_no_child_comes_before_its_parents(
        self, broker, opened, by_hand
    ):
        stream, hand, sent = broker.stream, by_hand(), 0

        def publish(count: int = 40) -> None:
            nonlocal sent
            broker.publish(*numbered(count, start=sent))
            sent += count

        publish()
        hand.read(sent)
        publish()
        (root,) = (each["ShardId"] for each in stream.open_shards())
        left, right = stream.split(root)
        publish()
        hand.read(sent)
        publish()
        merged = stream.merge(left, right)
        publish()
        block = hand.read(sent)
        assert sorted(block["payload"]) == numbered(sent)
        order = [position.partition(":")[0] for position in block["position"]]
        last = {name: len(order) - order[::-1].index(name) for name in (root, left, right)}
        assert order.index(left) >= last[root] and order.index(right) >= last[root]
        assert order.index(merged) >= max(last[left], last[right])
        hand.finalize()
        opened.close()
        found = read_marks(path_of(broker.folder, stream.arn))
        assert {name for name, mark in found.shards.items() if mark.ended} == {root, left, right}
        publish()
        assert sorted(by_hand().read(40)["payload"]) == numbered(40, start=sent - 40)

    def test_a_stream_that_was_split_and_merged_before_is_read_in_the_order_of_its_shards(
        self, broker, opened, by_hand
    ):
        stream = broker.stream
        broker.publish(*numbered(30))
        (root,) = (each["ShardId"] for each in stream.shards())
        left, right = stream.split(root)
        broker.publish(*numbered(30, start=30))
        merged = stream.merge(left, right)
        broker.publish(*numbered(30, start=60))
        hand = by_hand()
        opened.close()
        # Each shard is asked several times, so that one that came too early would be seen.
        hand.readers = [KinesisSource(replace(hand.source.reading, most_messages=10)).create_reader(None, None)]
        wait_until(lambda: hand.step() or hand.finalize() or sum(block.height for block in hand.blocks) >= 90)
        block = pl.concat(hand.blocks)
        assert sorted(block["payload"]) == numbered(90)
        order = list(dict.fromkeys(position.partition(":")[0] for position in block["position"]))
        assert order in ([root, left, right, merged], [root, right, left, merged])

    def test_many_shards_are_read_by_few_threads(self, aws, broker, opened, by_hand):
        broker.stream = DataStream(aws.url, shards=12)
        queue = replace(opened, input=broker.stream.name)
        read = queue.read(source="shop", landing=None, again=(), drain_file=str(broker.folder / "drain"))
        hand = ByHand(KinesisSource(read.reading), opened.wall)
        broker.publish(*numbered(120))
        assert sorted(hand.read(120)["payload"]) == numbered(120)
        hand.finalize()
        assert len(self.marks(broker)) == 12
        queue.close()

    def test_no_more_is_read_than_may_be_in_flight(self, broker, opened, by_hand):
        broker.publish(*numbered(500))
        hand = by_hand()
        opened.close()
        hand.readers = [KinesisSource(replace(hand.source.reading, most_messages=130)).create_reader(None, None)]
        hand.read(130)
        wait_until(lambda: hand.step() or opened.snapshot().lag_seconds is not None)
        for _ in range(20):
            hand.step()
        assert opened.snapshot().backlog.messages == 130
        hand.finalize()
        hand.read(260)
        assert opened.snapshot().backlog.messages == 130

    def test_records_that_no_bundle_finalizes_are_read_again_after_the_limit(self, broker, opened, by_hand, clock):
        broker.publish(*numbered(3))
        hand = by_hand()
        hand.read(3)
        late = hand.readers[0].get_checkpoint_mark()
        clock.now += 3_700
        hand.read(6)
        late.finalize_checkpoint()
        assert hand.readers[0].reader.counts.acked == 0
        assert opened.snapshot().backlog.messages == 3
        assert self.marks(broker).get(broker.stream.shards()[0]["ShardId"]) is None
        hand.finalize()
        assert broker.left() == []
        assert opened.snapshot().backlog == (0, 0, None)

    def test_what_is_finalized_after_a_close_acknowledges_nothing(self, broker, opened, by_hand):
        broker.publish(*numbered(3))
        hand = by_hand()
        hand.read(3)
        late = hand.readers[0].get_checkpoint_mark()
        opened.close()
        late.finalize_checkpoint()
        assert len(broker.left()) == 3

    def test_the_latest_stays_what_it_was_when_the_first_run_began(self, broker, opened, by_hand):
        broker.publish(*numbered(5))
        queue = replace(opened, start_at="latest")

        def hand() -> ByHand:
            read = queue.read(source="shop", landing=None, again=(), drain_file=str(broker.folder / "drain"))
            return ByHand(KinesisSource(read.reading), opened.wall)

        before = broker.stream.records()[-1]["ApproximateArrivalTimestamp"]
        wait_until(lambda: datetime.now(UTC) - before > timedelta(seconds=1.5), what="the server states whole seconds")
        first = hand()
        wait_until(lambda: first.step() or queue.snapshot().lag_seconds is not None)
        assert read_marks(path_of(broker.folder, broker.stream.arn)).start is not None, "before anything is read"
        queue.close()
        broker.publish(*numbered(5, start=5))
        assert sorted(hand().read(5)["payload"]) == numbered(5, start=5)

    def test_a_start_at_a_time_reads_what_came_from_then_on(self, broker, opened):
        broker.publish(*numbered(5))
        before = broker.stream.records()[-1]["ApproximateArrivalTimestamp"]
        wait_until(lambda: datetime.now(UTC) - before > timedelta(seconds=0.1))
        start = datetime.now(UTC).timestamp()
        broker.publish(*numbered(5, start=5))
        queue = replace(opened, start_at=start)
        read = queue.read(source="shop", landing=None, again=(), drain_file=str(broker.folder / "drain"))
        hand = ByHand(KinesisSource(read.reading), opened.wall)
        assert sorted(hand.read(5)["payload"]) == numbered(5, start=5)

    def test_the_watermark_stays_behind_what_waits_and_never_goes_back(self, broker, opened, by_hand, clock):
        hand = by_hand()
        wait_until(lambda: hand.step() or float(hand.watermarks()[0]) > 0)
        high = float(hand.watermarks()[0])
        clock.now -= 3_600
        for _ in range(3):
            hand.step()
            assert float(hand.watermarks()[0]) == high
        arrived = clock.now = datetime.now(UTC).timestamp()
        opened.close()
        hand = by_hand()
        broker.publish(*numbered(1))
        wait_until(lambda: hand.step() or opened.snapshot().backlog.messages == 1)
        clock.now += 10_000
        assert float(hand.watermarks()[0]) < arrived + 60 - 10

    def test_the_lag_is_how_far_the_reader_is_behind_the_tip(self, broker, opened, by_hand):
        assert opened.snapshot().lag_seconds is None
        hand = by_hand()
        wait_until(lambda: hand.step() or opened.snapshot().lag_seconds is not None)
        assert opened.snapshot().lag_seconds == 0
