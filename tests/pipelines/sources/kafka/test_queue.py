"""Kafka by the contract of a queue, against Apache's own broker, and what only Kafka has: offsets and partitions."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from pipelines.sources import queues
from pipelines.sources.kafka import group
from pipelines.sources.kafka.queue import KafkaQueue
from pipelines.sources.kafka.source import KafkaSource
from pipelines.sources.landing import LandAt
from pipelines.streaming.status_line import Liveness, line
from tests.pipelines.sources.queue_contract import NOTHING_WRITTEN, ByHand, Clock, QueueContract, numbered
from tests.servers.kafka import Topic, make_consumer, make_producer
from tests.servers.needed import LIMIT, wait_until
from transforms.block import tag_input
from transforms.errors import SourceError, WarehouseError
from transforms.mapping import load_mapping
from transforms.parse import parse


class TestKafkaQueue(QueueContract):
    kind = KafkaQueue
    malformed = "events,,orders"
    missing = "no-such-topic"
    runners_read_it = False

    @pytest.fixture
    def broker(self, topic) -> Topic:
        return topic

    def values(self, broker) -> Mapping[str, Any]:
        return {"input_kafka": broker.name, "kafka_group": broker.group, "readers": 1}

    def source_of(self, read) -> KafkaSource:
        return KafkaSource(read.reading)

    def timed(self, queue: KafkaQueue, clock: Clock) -> KafkaQueue:
        return replace(queue, wall=clock, monotonic=clock)

    def test_bundles_finalized_in_another_order_move_the_offsets_over_what_is_complete(self, broker, opened, by_hand):
        hand = by_hand()
        marks, committed = [], []
        for number in range(3):
            broker.publish(*numbered(4, start=4 * number))
            hand.read(4 * (number + 1))
            marks.append(hand.readers[0].get_checkpoint_mark())
        for number in (2, 0, 0, 1):
            marks[number].finalize_checkpoint()
            assert opened.flush()
            committed.append(broker.committed())
        assert committed == [[0, 0], [2, 2], [2, 2], [6, 6]]

    def test_the_end_of_a_partition_commits_nothing_that_is_read_with_it(self, broker, opened, by_hand):
        hand = by_hand()
        wait_until(lambda: hand.step(0.0) or len(hand.readers[0].reader.partitions) == 2)
        other = make_consumer(broker.cluster, "other")
        other.assign([TopicPartition(broker.name, 0, 0)])
        broker.publish(*numbered(3), partition=0)
        together = []
        wait_until(lambda: together.extend(other.consume(1, 0.1)) or len(together) >= 4)
        assert [each.error() is None for each in together].count(True) == 3
        other.close()
        hand.readers[0].reader._hold(together)
        assert opened.flush()
        assert broker.committed() == [0, 0]

    def test_what_cannot_land_is_in_no_mark(self, broker, opened, by_hand, tmp_path):
        broker.publish(*numbered(4))
        (tmp_path / "landing").touch()  # no folder
        hand = by_hand(LandAt(str(tmp_path / "landing"), opened.input, "run"))
        with pytest.raises(WarehouseError, match="landing"):
            hand.read(4)
        hand.finalize()
        assert opened.flush()
        assert broker.committed() == [0, 0]

    def test_what_a_message_has_beside_its_value_is_in_its_attributes(self, broker, opened, by_hand):
        headers = [("kind", b"old"), ("kind", b"new"), ("bytes", b"\xff"), ("none", None)]
        broker.publish(b'{"a":1}', key=b"k\xc3\xa9y", headers=headers, partition=1, timestamp=1_800_000_000_123)
        broker.publish(b"\xef\xbb\xbf{}", key=b"\xff", partition=1, timestamp=1_800_000_000_456)
        block = by_hand().read(2)
        assert block["position"].to_list() == [f"{broker.name}:1:0", f"{broker.name}:1:1"]
        assert block["payload"].to_list() == [b'{"a":1}', b"{}"]
        assert block["received_time"].dt.epoch("ms").to_list() == [1_800_000_000_123, 1_800_000_000_456]
        first, second = map(json.loads, block["attributes"])
        assert first == {
            "received_time": "2027-01-15T08:00:00.123000Z",
            "topic": broker.name,
            "partition": 1,
            "timestamp": 1_800_000_000_123,
            "key": "kéy",
            "message": {"kind": "new", "bytes": "/w=="},
        }
        assert (second["key"], "message" in second) == ("/w==", False)

    def test_a_header_states_the_received_time_where_it_can_be_read(self, broker, topic, clock, tmp_path):
        values = {**self.values(broker), "timestamp_attribute": "at"}
        with KafkaQueue.of(values).open() as queue:
            queue = self.timed(queue, clock)
            for at in (b"2026-03-01T10:00:00Z", b"1800000001", b"soon"):
                broker.publish(b"{}", headers=[("at", at)], partition=0, timestamp=1_800_000_000_000)
            read = queue.read(source="shop", landing=None, again=(), drain_file=f"{tmp_path}/drain")
            block = ByHand(self.source_of(read), clock).read(3)
            assert block["received_time"].dt.epoch("s").to_list() == [1_772_359_200, 1_800_000_001, 1_800_000_000]
            assert queue.snapshot().unreadable_stamps == 1
            queue.close()

    def test_a_tombstone_is_quarantined_also_where_a_mapping_reads_headers(self, broker, opened, by_hand):
        broker.publish(None, key=b"k", headers=[("type", b"view")])
        block = tag_input(by_hand().read(1), "kafka")
        text = "source: s\nfields:\n  event_type: {path: $attributes.type}\n  user_id: {path: $key}\n"
        for mapping in (None, load_mapping(text, "m.yaml")):
            passed, rejected = parse(block, mapping, "s")
            assert (len(passed), len(rejected)) == (0, 1)
        assert json.loads(rejected["attributes"][0])["tombstone"] is True

    def test_an_idle_partition_holds_no_watermark_back(self, broker, opened, by_hand, clock):
        now = int(clock.now * 1_000)
        hand = by_hand()
        for minute in range(3):
            broker.publish(b"{}", partition=0, timestamp=now)
            hand.read(minute + 1)
            clock.now += 60
        wait_until(lambda: hand.step() or float(hand.watermarks()[0]) > clock.now - 11)

    def test_a_partition_that_waits_holds_the_watermark_back(self, broker, opened, by_hand, clock):
        hand = by_hand()
        broker.publish(b"{}", partition=0, timestamp=int((clock.now - 500) * 1_000))
        broker.publish(b"{}", partition=1, timestamp=int(clock.now * 1_000))
        wait_until(lambda: hand.step(0.0) or opened.snapshot().backlog.messages == 2)
        clock.now += 100
        assert float(hand.watermarks()[0]) == pytest.approx(clock.now - 600 - 10)

    def test_a_partition_that_is_added_is_read_from_its_beginning(self, broker, opened, by_hand, monkeypatch):
        monkeypatch.setattr(group, "LOOK_SECONDS", 0.1)
        broker.publish(*numbered(2))
        hand = by_hand()
        hand.read(2)
        broker.add_partitions(4)
        broker.publish(*numbered(8, start=2))
        assert sorted(hand.read(10)["payload"]) == numbered(10)
        hand.finalize()
        assert opened.flush()
        assert broker.committed() == [3, 3, 2, 2]

    def test_splits_share_the_partitions(self, broker, opened, clock, tmp_path):
        broker.add_partitions(5)
        broker.publish(*numbered(50))
        read = replace(opened, readers=3).read(
            source="shop", landing=None, again=(), drain_file=str(tmp_path / "drain")
        )
        hand = ByHand(self.source_of(read), clock)
        assert len(hand.readers) == 3
        assert sorted(hand.read(50)["payload"]) == numbered(50)
        owned = [{place.partition for place in reader.reader.partitions} for reader in hand.readers]
        assert sorted(map(len, owned)) == [1, 2, 2]
        assert set.union(*owned) == set(range(5))

    def test_what_an_aborted_transaction_wrote_is_not_read_and_leaves_no_lag(self, broker, opened, by_hand):
        producer = make_producer(broker.cluster, **{"transactional.id": broker.name})
        producer.init_transactions(60)
        for value, end in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
            producer.begin_transaction()
            producer.produce(broker.name, value=value, partition=0)
            producer.flush(LIMIT)
            end(60)
        hand = by_hand()
        assert hand.read(1)["payload"].to_list() == [b"committed"]
        hand.finalize()
        wait_until(lambda: hand.step() or (opened.flush() and broker.committed() == [4, 0]), what="the marks too")
        assert opened.snapshot().lag_messages == 0

    def test_offsets_that_are_deleted_are_said_before_anything_starts(self, broker, opened, by_hand):
        broker.publish(*numbered(20), partition=0)
        hand = by_hand()
        hand.step()
        wait_until(lambda: broker.committed() == [0, 0])
        opened.close()
        broker.delete_before(0, 7)
        said = (
            f"offsets 0 to 6 of {broker.name}-0 are deleted .* --group {broker.group} .*--to-earliest .*--kafka_group"
        )
        with pytest.raises(SourceError, match=said):
            queues.choose_queue(self.values(broker)).check()
        assert replace(opened, group="another").check(), "the other way out"

    def test_offsets_that_are_deleted_while_it_is_away_end_a_run(self, broker, opened, by_hand):
        broker.publish(*numbered(20), partition=0)
        hand = by_hand()
        wait_until(lambda: hand.step(0.0) or hand.readers[0].reader.group.starts)
        for each in hand.readers:
            each.reader._forget()
        broker.delete_before(0, 7)
        with pytest.raises(SourceError, match=f"offsets 0 to 6 of {broker.name}-0 are deleted and were not read"):
            wait_until(lambda: hand.step() or hand.blocks)

    @pytest.mark.parametrize("start", ["latest", 1_800_000_000.0], ids=["latest", "time"])
    def test_a_run_starts_where_it_should_and_then_where_it_ended(self, broker, opened, start, clock, tmp_path):
        before, after = 1_799_999_999_000, 1_800_000_000_000
        broker.publish(*numbered(3), timestamp=before)
        if start != "latest":
            broker.publish(*numbered(3, start=3), timestamp=after)
        for number in range(2):
            queue = replace(opened, start_at=start)
            hand = ByHand(
                self.source_of(queue.read(source="s", landing=None, again=(), drain_file=f"{tmp_path}/drain")),
                clock,
            )
            if number == 0:
                wait_until(lambda hand=hand: hand.step(0.0) or hand.readers[0].reader.partitions)
            if start == "latest" or number == 1:
                broker.publish(*numbered(3, start=3 + 3 * number), timestamp=after)
            assert sorted(hand.read(3)["payload"]) == numbered(3, start=3 + 3 * number)
            hand.finalize()
            queue.close()

    def test_topics_by_a_pattern_are_found_also_when_they_are_made_later(
        self, broker, opened, clock, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(group, "LOOK_SECONDS", 0.1)
        queue = replace(opened, topics=f"^{broker.name[:12]}")
        read = queue.read(source="shop", landing=None, again=(), drain_file=f"{tmp_path}/drain")
        hand = ByHand(self.source_of(read), clock)
        broker.publish(*numbered(2))
        hand.read(2)
        later = Topic(broker.cluster)
        later.name = f"{broker.name}-later"
        later.make()
        later.publish(*numbered(2, start=2))
        assert sorted(hand.read(4)["payload"]) == numbered(4)
        queue.close()

    def test_a_program_that_subscribes_with_the_group_delays_commits_and_loses_nothing(
        self, broker, opened, by_hand, caplog
    ):
        broker.publish(*numbered(6))
        hand = by_hand()
        hand.read(6)
        assert opened.flush()
        stranger = make_consumer(broker.cluster, broker.group)
        assigned = []
        stranger.subscribe([broker.name], on_assign=lambda _, places: assigned.extend(places))
        wait_until(lambda: stranger.poll(0.1) or assigned)
        hand.finalize()
        assert not opened.flush()
        assert f"offsets cannot be committed to the group {broker.group}" in caplog.text
        assert broker.committed() == [0, 0]
        stranger.close()
        wait_until(opened.flush)
        assert broker.committed() == [3, 3]

    def test_a_run_goes_on_where_its_warehouse_ends_whatever_the_group_has(self, broker, opened, by_hand, caplog):
        broker.publish(*numbered(6), partition=0)
        hand = by_hand()
        hand.read(6)
        hand.finalize()
        opened.close()
        broker.publish(*numbered(6, start=6), partition=0)
        stranger = make_consumer(broker.cluster, broker.group)
        stranger.commit(offsets=[TopicPartition(broker.name, 0, 10)], asynchronous=False)
        stranger.close()
        hand = by_hand()
        assert hand.read(6)["payload"].to_list() == numbered(6, start=6)
        assert f"another program has committed offsets of {broker.name}-0 to the group {broker.group}" in caplog.text
        hand.finalize()
        opened.close()
        for future in broker.cluster.admin.delete_consumer_groups([broker.group]).values():
            future.result(LIMIT)  # as Kafka itself does after some days
        broker.publish(*numbered(3, start=12), partition=0)
        hand = by_hand()
        assert hand.read(3)["payload"].to_list() == numbered(3, start=12)

    def test_deleted_offsets_are_passed_over_once_a_person_has_moved_the_group(self, broker, opened, by_hand):
        broker.publish(*numbered(20), partition=0)
        hand = by_hand()
        wait_until(lambda: hand.step(0.0) or broker.committed() == [0, 0])
        opened.close()
        broker.delete_before(0, 7)
        person = make_consumer(broker.cluster, broker.group)
        person.commit(offsets=[TopicPartition(broker.name, 0, 7)], asynchronous=False)
        person.close()
        assert opened.check()
        assert by_hand().read(13)["payload"].to_list() == numbered(13, start=7)

    def test_a_file_of_offsets_that_is_damaged_ends_a_run(self, broker, opened, by_hand, tmp_path):
        hand = by_hand()
        wait_until(lambda: hand.step() or list(tmp_path.glob("kafka-*.json")))
        opened.close()
        (path,) = tmp_path.glob("kafka-*.json")
        path.write_bytes(b"?")
        hand, said = by_hand(), f"{path} cannot be read: .*; restore it, or delete it"
        with pytest.raises(SourceError, match=said):
            wait_until(lambda: hand.step() or hand.blocks)
        path.unlink()

    def test_a_clock_that_is_set_back_takes_no_watermark_back(self, broker, opened, by_hand, clock):
        hand = by_hand()
        wait_until(lambda: hand.step() or float(hand.watermarks()[0]) > 0)
        before = float(hand.watermarks()[0])
        for reader in hand.readers:
            reader.reader.clock.wall = lambda: clock.now - 3_600
        broker.publish(*numbered(3))
        assert sorted(hand.read(3)["payload"]) == numbered(3)
        assert float(hand.watermarks()[0]) == before

    def test_no_more_is_read_than_may_be_in_flight(self, broker, opened, by_hand):
        broker.publish(*numbered(500))
        hand = by_hand()
        reading = replace(hand.source.reading, most_messages=130, block_rows=50, id="small")
        hand.readers = [KafkaSource(reading).create_reader(None, None)]
        hand.read(130)
        # 500 were published: the client has heard of the rest, so that what is not read is not wanted.
        wait_until(lambda: hand.step() or opened.snapshot().lag_messages == 370)
        for _ in range(20):
            hand.step()
        assert opened.snapshot().backlog.messages == 130
        hand.finalize()
        hand.read(260)
        assert opened.snapshot().backlog.messages == 130

    def test_messages_that_no_bundle_finalizes_are_read_again_after_the_limit(self, broker, opened, by_hand, clock):
        broker.publish(*numbered(3))
        hand = by_hand()
        hand.read(3)
        late = hand.readers[0].get_checkpoint_mark()
        clock.now += 3_700
        hand.read(6)
        late.finalize_checkpoint()
        assert hand.readers[0].reader.counts.acked == 0
        hand.finalize()
        assert opened.flush()
        assert broker.left() == []

    def test_what_waits_in_the_topics_is_the_lag(self, broker, opened, by_hand, clock):
        broker.publish(*numbered(100), partition=0, timestamp=int((clock.now - 50) * 1_000))
        hand = by_hand()
        reading = replace(hand.source.reading, most_messages=30, id="small")
        hand.readers = [KafkaSource(reading).create_reader(None, None)]
        hand.read(30)
        now = opened.snapshot()
        assert now.lag_messages == 70
        assert 50 <= now.lag_seconds < 60
        told = Liveness(lambda: NOTHING_WRITTEN, opened.snapshot).figures()
        assert told["lag_messages"] == 70
        assert "lag 70 5" in line(told)

    def test_a_topic_that_goes_while_it_is_read_is_said_in_a_line(self, broker, opened, by_hand, monkeypatch):
        monkeypatch.setattr(group, "LOOK_SECONDS", 0.1)
        monkeypatch.setattr(group, "GRACE_SECONDS", 0.5)
        hand = by_hand()
        wait_until(lambda: hand.step() or hand.readers[0].reader.partitions)
        for future in broker.cluster.admin.delete_topics([broker.name]).values():
            future.result(LIMIT)
        with pytest.raises(SourceError, match=f"{broker.name}.* (does not exist|cannot be read)"):
            wait_until(lambda: hand.step() or hand.blocks)
