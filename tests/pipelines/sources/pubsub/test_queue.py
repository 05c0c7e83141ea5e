"""Pub/Sub by the contract of a queue, against Google's emulator, and what only Pub/Sub has: leases and topics."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pipelines import launcher
from pipelines.apps.doctor import launch as preflight
from pipelines.apps.doctor import machine as doctor
from pipelines.apps.doctor import project as preflight_project
from pipelines.dataflow import job as dataflow
from pipelines.dataflow import template
from pipelines.settings.resolve import resolve
from pipelines.sources import queues
from pipelines.sources.pubsub import leases as pubsub_leases
from pipelines.sources.pubsub.queue import PubSubQueue
from pipelines.sources.pubsub.source import PubSubSource
from pipelines.streaming import status_line as liveness
from pipelines.streaming import stop, stream
from tests.pipelines.sources.queue_contract import Clock, QueueContract
from tests.servers.needed import wait_until
from transforms.errors import SourceError


class TestPubSubQueue(QueueContract):
    kind = PubSubQueue
    malformed = "projects/demo-project/topics/events"
    missing = "projects/demo-project/subscriptions/none"

    @pytest.fixture
    def broker(self, queue):
        return queue

    def values(self, broker) -> Mapping[str, Any]:
        return {"input_subscription": broker.subscription, "readers": 1}

    def source_of(self, read) -> PubSubSource:
        return PubSubSource(read.reading)

    def timed(self, queue: PubSubQueue, clock: Clock) -> PubSubQueue:
        return replace(queue, wall=clock, monotonic=clock)

    def test_a_message_in_flight_beyond_the_limit_of_a_lease_leaves_the_backlog(self, broker, opened, by_hand, clock):
        broker.publish(b"1")
        hand = by_hand()
        hand.read(1)
        before = pubsub_leases.snapshot().expired
        clock.now += pubsub_leases.LIMIT_SECONDS - 60
        assert opened.snapshot().backlog.messages == 1
        clock.now += 120
        wait_until(lambda: opened.snapshot().backlog.messages == 0)
        assert pubsub_leases.snapshot().expired - before == 1

    def test_a_topic_is_read_by_a_subscription_that_ends_with_the_run(self, broker):
        topic = PubSubQueue.of({"input_topic": broker.topic})
        assert (topic.input, topic.check()) == (broker.topic, f"topic {broker.topic}")
        with topic.open() as opened:
            assert opened.check() == f"of {broker.topic}"
            assert "/subscriptions/audience-" in opened.input
        with pytest.raises(SourceError, match="does not exist"):
            opened.check()


@pytest.mark.parametrize(
    "module", [dataflow, doctor, launcher, liveness, preflight, preflight_project, stop, stream, template]
)
def test_who_reads_a_queue_knows_no_kind_of_it(module):
    assert re.findall(r"pubsub\w*|input_subscription|input_topic", inspect.getsource(module)) == []


def test_the_options_of_a_stream_reach_the_reader():
    values = {
        "input_subscription": "projects/demo-project/subscriptions/events",
        "readers": "3",
        "expected_delay": "30s",
        "batch_delay": "700ms",
        "timestamp_attribute": "at",
        "id_label": "key",
    }
    queue = queues.choose_queue(resolve(values, "run")._asdict())
    assert queue == PubSubQueue(
        values["input_subscription"],
        timestamp_attribute="at",
        id_label="key",
        readers=3,
        expected_delay=timedelta(seconds=30),
        batch_delay=timedelta(milliseconds=700),
    )
    assert queue.google_project == "demo-project"
    reading = queue.read(source="shop", landing=None, again=(), drain_file="drain").reading
    assert (reading.readers, reading.expected_delay, reading.block_seconds) == (3, 30.0, 0.7)
    assert (reading.timestamp_attribute, reading.source, reading.drain_file) == ("at", "shop", "drain")
    assert queue.read_by_runner(source="shop", on_dataflow=True).read._source.id_label == "key"
    assert queue.read_by_runner(source="shop").read._source.id_label is None
