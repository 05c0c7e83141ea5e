"""A log published to a topic of a real Kafka broker: all of it, with its marks, also over a kill."""

import threading
from contextlib import closing
from itertools import islice

import pytest

from pipelines.apps.collector.forward import forwarding
from pipelines.apps.collector.forward_kafka import KafkaTarget
from pipelines.cli import main
from pipelines.sources.kafka.client import Connection
from pipelines.sources.log.folder import Position, read_position
from pipelines.sources.log.writer import LogWriter
from tests.pipelines.apps.collector.test_forward import entry
from tests.pipelines.sources.kafka.test_publish import read_messages
from tests.servers.collector import collecting, free_port
from tests.servers.needed import LIMIT, wait_until


def read_different(topic, messages: int) -> dict[bytes, dict[str, bytes]]:
    """payload -> headers, once so many different ones came: after a kill some are published twice."""
    found: dict[bytes, dict[str, bytes]] = {}
    with closing(read_messages(topic)) as coming:
        for message in islice(coming, 10 * messages):
            found[message.value()] = dict(message.headers())
            if len(found) >= messages:
                break
    return found


def test_a_collector_publishes_what_it_takes_and_after_a_kill_what_is_left(topic, tmp_path):
    given = ("--output_kafka", topic.name, "--kafka_servers", topic.cluster.servers)
    sent = {b'{"event_id":"%d-%d"}' % (life, number) for life in range(2) for number in range(10)}
    for life in range(2):
        with collecting(tmp_path, *given) as made:
            mine = [body for body in sorted(sent) if body[13:14] == b"%d" % life]
            assert {made.ask(body=body).status for body in mine} == {202}
            if life:  # all of it is there while this one still runs
                found = read_different(topic, len(sent))
                forwarded = "audience_collector_forwarded_events"
                wait_until(lambda: made.metrics()[forwarded] >= len(mine), what="it counts them")  # noqa: B023
            made.process.kill()
    assert found.keys() == sent
    for marks in found.values():
        assert marks["dialect"] == b"native" and marks["source"] == b"events"
        assert int(marks["received_time"]) > 1_700_000_000_000_000 and marks["message_id"]


def test_a_broker_that_is_absent_is_said_and_nothing_is_marked_as_published(tmp_path):
    pytest.importorskip("confluent_kafka")
    writer = LogWriter(tmp_path, most_bytes=1 << 30)
    writer.append([entry(1)]).result(20)
    said: list[str] = []
    failed = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        failed.set()

    nobody = Connection(f"127.0.0.1:{free_port()}")
    with forwarding(tmp_path, lambda: KafkaTarget("t", nobody, limit_seconds=1.0), say) as forwarder:
        assert failed.wait(LIMIT) and said[0].startswith("cannot publish to t: ")
        assert "it is retried, and the log keeps what comes" in said[0]
        wait_until(lambda: forwarder.failures >= 2, what="it is retried")
        assert forwarder.published == 0
    writer.close()
    assert read_position(tmp_path) == Position()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--topic", "projects/p-roject/topics/t", "--output_kafka", "t"], "not allowed with argument"),
        (["--kafka_servers", "localhost:9"], "--kafka_servers: only with --output_kafka TOPIC"),
        (["--kafka_properties", "f"], "--kafka_properties: only with --output_kafka TOPIC"),
        (["--output_kafka", "t"], "--kafka_servers is missing"),
    ],
)
def test_options_that_do_not_fit_are_one_line_and_no_log_is_made(tmp_path, capsys, monkeypatch, more, said):
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    assert main(["collect", "--log", str(tmp_path / "log"), "--port", str(free_port()), *more]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "log").exists()


def test_a_topic_that_is_not_there_is_one_line_and_no_log_is_made(kafka_broker, tmp_path, capsys):
    argv = ["collect", "--log", str(tmp_path / "log"), "--port", str(free_port()), "--output_kafka", "absent"]
    assert main([*argv, "--kafka_servers", kafka_broker.servers]) == 2
    told = capsys.readouterr().err
    assert "--output_kafka absent" in told and "kafka-topics.sh --create" in told and not (tmp_path / "log").exists()
