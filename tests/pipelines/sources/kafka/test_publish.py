"""A Kafka topic as an output: every row once with its key, and one line where it cannot be."""

import json
import pickle
import time
import uuid
from collections.abc import Generator
from contextlib import closing
from itertools import islice
from typing import Any

import pytest

from pipelines.insight.alerts import channels
from pipelines.insight.alerts.channels import sender
from pipelines.insight.alerts.outbox import Message as AlertMessage
from pipelines.insight.alerts.outbox import NotNow, Refused
from pipelines.settings.alerts import KafkaTopic as KafkaChannel
from pipelines.sources.kafka.client import Connection
from pipelines.sources.kafka.publish import KafkaTopic
from pipelines.warehouse.outputs import Message, messages_of
from tests.pipelines.warehouse.bigquery.test_run import VISITS, rows
from tests.servers.collector import free_port
from tests.servers.kafka import make_consumer
from transforms.errors import OptionError, SourceError, WarehouseError

LIMIT_SECONDS = 30.0  # without a message


def read_messages(topic) -> Generator[Any, None, None]:
    """The messages of a topic as they come, until it is closed; repeats are among them where a publisher was killed."""
    from confluent_kafka import TopicPartition

    consumer, came = make_consumer(topic.cluster, topic.group), 0
    try:
        consumer.assign([TopicPartition(topic.name, number, 0) for number in range(topic.partitions)])
        end = time.monotonic() + LIMIT_SECONDS
        while (left := end - time.monotonic()) > 0:
            for one in consumer.consume(1, left):
                if one.error() is None:
                    came += 1
                    yield one
                    end = time.monotonic() + LIMIT_SECONDS
        raise AssertionError(f"{came} messages came, and no further one within {LIMIT_SECONDS:.0f} s")
    finally:
        consumer.close()


def read_all(topic, messages: int) -> list:
    """So many messages of a topic, of one whose publisher repeats none: a repeat counts as well."""
    with closing(read_messages(topic)) as coming:
        return list(islice(coming, messages))


def test_each_row_is_a_message_with_its_key_and_versions_are_in_one_partition(topic):
    out = KafkaTopic(topic.name, Connection(topic.cluster.servers))
    out.check()
    sent = messages_of(VISITS, rows(*range(1_200)))
    out.publish(sent)
    out.publish(sent)  # as after a crash
    found = read_all(topic, 2 * len(sent))
    assert sorted(one.value() for one in found) == sorted(each.data for each in (*sent, *sent))
    partitions: dict[bytes, set[int]] = {}
    for one in found:
        headers = {name: value.decode() for name, value in one.headers()}
        assert one.key().decode() == headers["key"] and headers["table"] == VISITS.name
        assert {"id", "generation", "revision"} <= headers.keys() and isinstance(json.loads(one.value()), dict)
        partitions.setdefault(one.key(), set()).add(one.partition())
    assert all(len(where) == 1 for where in partitions.values())


def test_a_topic_that_is_not_there_is_one_line(kafka_broker):
    absent = KafkaTopic(f"absent-{uuid.uuid4().hex}", Connection(kafka_broker.servers), limit_seconds=5.0)
    with pytest.raises(SourceError, match=r"--output_kafka absent-\w+: .*create it with `kafka-topics.sh --create"):
        absent.check()
    with pytest.raises(WarehouseError, match=r"topic absent-\w+ (refuses|took).*the next start publishes them again"):
        absent.publish([Message(b"{}", {"table": "t", "key": "k"})])


def test_servers_that_do_not_answer_are_one_line():
    nobody = KafkaTopic("metrics", Connection(f"127.0.0.1:{free_port()}"), limit_seconds=1.0)
    with pytest.raises(SourceError, match=r"--output_kafka metrics: Kafka at 127.0.0.1:\d+: .*check servers"):
        nobody.check()
    with pytest.raises(WarehouseError, match="topic metrics took no"):
        nobody.publish([Message(b"{}", {"table": "t", "key": "k"})])


def test_a_message_that_is_too_long_is_refused_and_the_others_are_there(topic):
    out = KafkaTopic(topic.name, Connection(topic.cluster.servers))
    with pytest.raises(WarehouseError, match="refuses rows"):
        out.publish([Message(b"{}", {"key": "a"}), Message(b"x" * (2 << 20), {"key": "b"})])


def test_an_alert_is_a_message_with_its_id_and_a_topic_that_is_not_there_refuses_it(topic):
    alert = AlertMessage(
        "alert_1_opened", "ops", "t", 1e9, "[opened] silent", "shop: silent", '{"type":"alert.opened"}'
    )
    sender(KafkaChannel(topic.name), 20)(alert)
    [found] = read_all(topic, 1)
    assert found.value() == alert.body.encode() and found.key() == b"alert_1_opened"
    assert found.headers() == [("webhook-id", b"alert_1_opened")]
    with pytest.raises(Refused, match=f"topic {topic.name}-x: Broker: Unknown topic"):
        sender(KafkaChannel(f"{topic.name}-x"), 0)(alert)


def test_an_alert_waits_for_servers_that_do_not_answer_and_for_properties_that_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(channels, "SECONDS", 1.0)
    alert = AlertMessage("alert_1_opened", "ops", "t", 1e9, "[opened] silent", "shop: silent", "{}")
    with pytest.raises(NotNow, match=r"topic alerts: Kafka at 127.0.0.1.*check servers"):
        sender(KafkaChannel("alerts", f"127.0.0.1:{free_port()}"), 0)(alert)
    with pytest.raises(NotNow, match="absent cannot be read"):
        sender(KafkaChannel("alerts", "localhost:1", str(tmp_path / "absent")), 0)(alert)


def test_no_secret_is_pickled(topic, tmp_path):
    secret = "hunter2-canary"
    properties = tmp_path / "kafka.properties"
    properties.write_text(
        f"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=u\nsasl.password={secret}\n"
    )
    out = KafkaTopic("metrics", Connection(topic.cluster.servers, str(properties)), limit_seconds=1.0)
    with pytest.raises(WarehouseError) as refused:
        out.publish([Message(b"{}", {"key": "k"})])  # connects, and may not log in
    assert secret.encode() not in pickle.dumps(out) and secret not in str(refused.value)
    assert pickle.loads(pickle.dumps(out)).name == "metrics"


def test_a_property_that_the_client_does_not_know_is_one_line(tmp_path):
    properties = tmp_path / "kafka.properties"
    properties.write_text("no.such.thing=1\n")
    with pytest.raises(OptionError, match=r"the client refuses the property no\.such\.thing"):
        KafkaTopic("metrics", Connection("127.0.0.1:1", str(properties))).check()
