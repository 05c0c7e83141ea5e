"""Outputs of a stream, on Prism: each row that is shown in the end is in the topic, whenever the stream was killed."""

import json
import random
import signal
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from confluent_kafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.pubsub.client import PubSub
from pipelines.sources.pubsub.publish import PubSubTopic
from pipelines.streaming.republish import REACH, publish_again
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.outputs import Message, Outputs, messages_of
from pipelines.warehouse.tables import QUALITY_1M, QUARANTINE, SESSIONS, polars_schema
from tests.pipelines.warehouse.bigquery.test_run import VISITS, rows
from tests.servers.kafka import make_consumer
from tests.servers.needed import LIMIT, wait_until
from tests.servers.pubsub import Queue
from tests.servers.stream import drain, streaming
from transforms.errors import SourceError, WarehouseError

OUT = ("--early_firing", "1s", "--output_tables", "activity_1m,sessions,quarantine,events")


class Outlet:
    """The topic of the outputs, and what has arrived there: table -> key -> messages, in order of arrival."""

    def __init__(self, host: str):
        self.queue = Queue(host)
        self.found: dict[str, dict[str, list[tuple[dict, dict]]]] = {}

    def pull(self) -> None:
        pubsub: PubSub = self.queue.pubsub
        while received := pubsub.pull(self.queue.subscription, 1_000).result().received_messages:
            for each in received:
                attributes = dict(each.message.attributes)
                found = self.found.setdefault(attributes["table"], {}).setdefault(attributes["key"], [])
                found.append((attributes, json.loads(each.message.data)))
            pubsub.acknowledge(self.queue.subscription, [each.ack_id for each in received])

    def newest(self, table: str) -> list[dict[str, Any]]:
        """The row of each key with the highest generation and revision."""
        by_key = self.found.get(table, {}).values()
        return [max(all, key=lambda one: (int(one[0]["generation"]), int(one[0]["revision"])))[1] for all in by_key]


class KafkaOutlet(Outlet):
    """The same of a topic of Kafka."""

    def __init__(self, topic):
        self.topic, self.found, self.consumer = topic, {}, make_consumer(topic.cluster, topic.group)
        self.read = {TopicPartition(topic.name, number): 0 for number in range(topic.partitions)}  # up to which offset
        self.consumer.assign([TopicPartition(each.topic, each.partition, 0) for each in self.read])

    def pull(self) -> None:
        ends = {each: self.consumer.get_watermark_offsets(each, timeout=LIMIT)[1] for each in self.read}
        wait_until(lambda: self._take() or all(self.read[each] >= end for each, end in ends.items()), what="its end")

    def _take(self) -> None:
        while received := self.consumer.consume(1_000, 0.2):
            for each in (one for one in received if one.error() is None):
                self.read[TopicPartition(each.topic(), each.partition())] = each.offset() + 1
                attributes = {name: value.decode() for name, value in each.headers()}
                found = self.found.setdefault(attributes["table"], {}).setdefault(each.key().decode(), [])
                found.append((attributes, json.loads(each.value())))


@pytest.fixture
def outlet(queue, pubsub_emulator) -> Iterator[Outlet]:
    made = Outlet(pubsub_emulator.host)
    yield made
    made.queue.pubsub.close()


@pytest.fixture
def kafka_outlet(topic) -> Iterator[KafkaOutlet]:
    made = KafkaOutlet(topic)
    yield made
    made.consumer.close()


def event(number: int) -> bytes:
    now = datetime.now(UTC).isoformat()
    kind = "nonsense " * 40 if number % 10 == 3 else "click"
    told = {"event_id": f"e{number}", "event_type": kind, "event_time": now, "user_id": f"u{number % 5}"}
    return json.dumps(told).encode()


@pytest.mark.parametrize("kind", ["local", "bigquery", "kafka"])
def test_killed_at_any_moment_it_publishes_each_row_that_is_shown_in_the_end(
    kind, queue, outlet, prism, tmp_path, request
):
    dataset = None
    if kind == "bigquery":
        request.getfixturevalue("bigquery")
        dataset = f"demo-project.outputs_{uuid.uuid4().hex[:12]}"
    out = ("--output_topic", outlet.queue.topic, *OUT)
    if kind == "kafka":
        outlet = request.getfixturevalue("kafka_outlet")
        out = ("--output_kafka", outlet.topic.name, "--kafka_servers", outlet.topic.cluster.servers, *OUT)
    kept, moment = 135, random.Random(3).randint(10, 80)
    with streaming(queue, prism, tmp_path, *out, dataset=dataset) as stream:
        queue.publish(*map(event, range(100)))
        stream.until(lambda: outlet.pull() or len(outlet.found.get("events", {})) >= moment, what="events")
        stream.end(signal.SIGKILL)
    with streaming(queue, prism, tmp_path, *out, dataset=dataset) as stream:
        queue.publish(*map(event, range(100, 150)))
        stream.until(lambda: outlet.pull() or len(outlet.found.get("events", {})) >= kept, what="all events")
        place = ["--dataset", dataset, "--landing", str(tmp_path / "landing")] if dataset else None
        drain(*(place or ["--warehouse", str(stream.warehouse)]))
        assert stream.process.wait(LIMIT) == 0, stream.said()
    outlet.pull()
    with closing(BigQueryWarehouse.open(dataset) if dataset else LocalWarehouse.open(tmp_path / "warehouse")) as stored:
        assert_all_is_published(stored, outlet)


def assert_all_is_published(stored: Warehouse, outlet: Outlet) -> None:
    assert set(outlet.found) == {"activity_1m", "sessions", "quarantine", "events"}
    assert_same_rows(stored, "activity_1m", outlet.newest("activity_1m"))
    assert_same_rows(stored, "sessions", [row for row in outlet.newest("sessions") if not row["is_tombstone"]])
    published = {row["event_id"] for all in outlet.found["events"].values() for _, row in all}
    assert published == {f"e{number}" for number in range(150) if number % 10 != 3}
    refused = {row["payload"] for all in outlet.found["quarantine"].values() for _, row in all}
    assert len(refused) == 15
    # A repeat has the id of the first one.
    for messages in outlet.found["activity_1m"].values():
        ids = {(one["generation"], one["revision"], one["id"]) for one, _ in messages}
        assert len(ids) == len({(generation, revision) for generation, revision, _ in ids})


def assert_same_rows(warehouse: Warehouse, table: str, published: list[dict[str, Any]]) -> None:
    stored = pl.concat(warehouse.ask(f"SELECT * FROM {table}_current"))
    names = [
        column.name
        for column in warehouse.table(table).columns
        if column.type in ("INT64", "STRING", "BOOL") and column.mode != "REPEATED"
    ]
    found = pl.DataFrame(
        [{name: row.get(name) for name in names} for row in published], {name: stored.schema[name] for name in names}
    )
    assert found.height > 0
    assert found.sort(names).equals(stored.select(names).sort(names)), table


class Kept:
    """A topic that keeps what it gets."""

    def __init__(self):
        self.messages: list[Message] = []

    def publish(self, messages) -> None:
        self.messages += messages


def test_a_start_publishes_again_what_was_stored_at_the_end_of_the_run_before_and_nothing_older(tmp_path):
    last = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with closing(LocalWarehouse.open(tmp_path / "w", create=True)) as warehouse:
        with warehouse.writer() as run:
            run.declare([VISITS, QUALITY_1M])
        topic = Kept()
        assert publish_again(warehouse, Outputs(topic, frozenset([VISITS.name]))) == 0  # nothing has run yet
        with warehouse.writer() as run:
            run.declare([VISITS, QUALITY_1M])
            ages = {"old": REACH + timedelta(minutes=1), "new": timedelta(minutes=14), "last": timedelta()}
            made = [
                rows(1, channel=name).with_columns(emitted_time=pl.lit(last - age).dt.cast_time_unit("us"))
                for name, age in ages.items()
            ]
            counted = pl.DataFrame(schema=polars_schema(QUALITY_1M)).clear(1)
            counted = counted.with_columns(
                bucket_start=pl.lit(last).cast(counted.schema["bucket_start"]),
                emitted_time=pl.lit(last).cast(counted.schema["emitted_time"]),
            )
            day = last.date()
            files = [write_file(run.staging, VISITS.name, day, pl.concat(made).cast(dict(polars_schema(VISITS))))]
            run.commit([*files, write_file(run.staging, QUALITY_1M.name, day, counted)])
        assert publish_again(warehouse, Outputs(topic, frozenset([VISITS.name]))) == 2
    assert {json.loads(each.data)["channel"] for each in topic.messages} == {"new", "last"}


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(0, 20))
def test_where_blocks_are_cut_does_not_matter(counts, cut):
    block = rows(*counts)
    assert messages_of(VISITS, block) == messages_of(VISITS, block[:cut]) + messages_of(VISITS, block[cut:])


def test_a_key_is_of_the_table_s_key_and_an_id_of_the_version_too():
    first, newer = messages_of(VISITS, rows(5)), messages_of(VISITS, rows(6).with_columns(revision=pl.lit(2)))
    assert first[0].attributes["key"] == newer[0].attributes["key"]
    assert first[0].attributes["id"] != newer[0].attributes["id"]
    assert [each[0].attributes["revision"] for each in (first, newer)] == ["1", "2"]
    assert json.loads(newer[0].data)["n"] == 6
    assert messages_of(VISITS, rows(5, channel="mail"))[0].attributes["key"] != first[0].attributes["key"]


def test_rows_of_every_kind_of_table_are_messages():
    for table in (QUARANTINE, SESSIONS):
        empty = pl.DataFrame(schema=polars_schema(table)).clear(1)
        (message,) = messages_of(table, empty)
        assert message.attributes["table"] == table.name and json.loads(message.data) == {}


def test_a_topic_that_is_not_there_is_one_line_at_the_start(queue):
    absent = f"{queue.topic}-{uuid.uuid4().hex[:6]}"
    with pytest.raises(SourceError, match=r"--output_topic .*NOT_FOUND.*gcloud pubsub topics create"):
        PubSubTopic(absent).check()
    with pytest.raises(WarehouseError, match=r"refuses rows: NOT_FOUND.*the next start publishes them again"):
        PubSubTopic(absent).publish([Message(b"{}", {"table": "t"})])


def test_more_rows_than_a_request_takes_are_published_in_several(outlet):
    PubSubTopic(outlet.queue.topic).publish(messages_of(VISITS, rows(*range(2_500))))
    wait_until(lambda: outlet.pull() or sum(map(len, outlet.found[VISITS.name].values())) >= 2_500, 30, "messages")
