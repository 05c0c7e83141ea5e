"""A log published to a topic of Google's emulator: all of it, in its order, also over failures, stops and kills."""

import threading

import pytest

from pipelines.apps.collector.forward import forwarding
from pipelines.apps.collector.forward_pubsub import PubSubTarget, message_of
from pipelines.cli import main
from pipelines.sources.log.folder import READER_LOCK, Position, hold, read_position, segments
from pipelines.sources.log.frames import Entry
from pipelines.sources.log.writer import LogWriter
from pipelines.sources.pubsub.client import EMULATOR, PubSub
from tests.servers.collector import collecting, free_port
from tests.servers.needed import LIMIT, wait_until
from tests.servers.pubsub import make_emulator


def entry(number: int, payload: bytes | None = None, **attributes: str) -> Entry:
    return Entry(f"m-{number}", 1_795_954_217_918_000 + number, "shop", payload or b'{"n":%d}' % number, attributes)


def test_a_message_has_the_payload_and_what_is_known_of_it():
    made = message_of(entry(1, dialect="segment", error="ä" * 2_000, source="forged"))
    assert made.data == b'{"n":1}'
    assert dict(made.attributes) == {
        "dialect": "segment",
        "error": "ä" * 512,
        "source": "shop",
        "message_id": "m-1",
        "received_time": "1795954217918001",
    }


def test_a_log_is_published_while_it_grows_and_its_segments_are_deleted(queue, tmp_path):
    writer = LogWriter(tmp_path, most_bytes=1 << 30, segment_bytes=2_000)
    said: list[str] = []
    writer.append([entry(at) for at in range(300)]).result(LIMIT)
    with forwarding(tmp_path, lambda: PubSubTarget(queue.topic), said.append) as forwarder:
        writer.append([entry(at) for at in range(300, 305)]).result(LIMIT)
        wait_until(lambda: forwarder.published == 305, what="all is published")
        wait_until(lambda: len(segments(tmp_path)) == 1, what="the segments are deleted")
        assert forwarder.gauges() == {"forwarded_events": 305, "forward_failures": 0}
    writer.close()
    assert len(queue.wait_for(305)) == 305 and said == []


def test_the_next_one_goes_on_where_the_last_one_ended(queue, tmp_path):
    writer = LogWriter(tmp_path, most_bytes=1 << 30)
    for life in range(3):
        writer.append([entry(life * 10 + at) for at in range(10)]).result(LIMIT)
        with forwarding(tmp_path, lambda: PubSubTarget(queue.topic), print) as forwarder:
            wait_until(lambda forwarder=forwarder: forwarder.published == 10, what="ten more")
    writer.close()
    assert len(queue.wait_for(30)) == 30


def test_two_may_not_read_one_log(queue, tmp_path, capsys):
    (tmp_path / "log").mkdir()
    with hold(tmp_path / "log", READER_LOCK, "read"):
        assert main(["collect", "--log", str(tmp_path / "log"), "--topic", queue.topic, "--port", "8471"]) == 2
    assert "is read by process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("topic", "said"), [("events", "--topic: got 'events'"), ("projects/demo-project/topics/none", "does not exist")]
)
def test_a_topic_that_is_none_is_one_line_and_no_log_is_made(queue, tmp_path, capsys, topic, said):
    assert main(["collect", "--log", str(tmp_path / "log"), "--topic", topic, "--port", "8472"]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and not (tmp_path / "log").exists()


def test_a_collector_starts_while_its_topic_cannot_be_reached(queue, tmp_path):
    nobody = {EMULATOR: f"127.0.0.1:{free_port()}"}
    with collecting(tmp_path, "--topic", queue.topic, environment=nobody) as made:
        assert made.ask(body=b'{"event_id":"kept"}').status == 202
        assert "no Pub/Sub emulator answers" in made.said() and "until then the log keeps what comes" in made.said()
        assert made.end() == 0
    with collecting(tmp_path, "--topic", queue.topic):
        assert queue.wait_for(1) == [b'{"event_id":"kept"}']


def test_an_emulator_that_comes_late_is_waited_for_and_that_is_said(tmp_path, monkeypatch):
    emulator = make_emulator(tmp_path / "emulator.log")
    monkeypatch.setenv(EMULATOR, emulator.host)
    writer = LogWriter(tmp_path / "log", most_bytes=1 << 30)
    writer.append([entry(1)]).result(LIMIT)
    said: list[str] = []
    failed = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        failed.set()

    topic = "projects/demo-project/topics/late"
    with forwarding(tmp_path / "log", lambda: PubSubTarget(topic), say) as forwarder:
        assert failed.wait(LIMIT) and "it is retried, and the log keeps what comes" in said[0]
        assert read_position(tmp_path / "log") == Position(), "it is behind what nobody has"
        emulator.start()
        try:
            made = PubSub(emulator.host)
            made.make_topic(topic)
            made.close()
            wait_until(lambda: forwarder.published == 1, 60, "it is published")
            wait_until(lambda: len(said) == 2, what="it says so")
            assert said[1] == f"publishing to {topic} again" and forwarder.failures >= 1
        finally:
            emulator.kill()
    writer.close()


def test_a_collector_publishes_what_it_takes_and_after_a_kill_what_is_left(queue, tmp_path):
    sent = {b'{"event_id":"%d-%d"}' % (life, number) for life in range(2) for number in range(20)}
    answered = set()
    for life in range(2):
        with collecting(tmp_path, "--topic", queue.topic) as made:
            answered |= {body for body in sent if body[13:14] == b"%d" % life and made.ask(body=body).status == 202}
            if life:
                assert set(queue.wait_for(40)) == sent
                forwarded = "audience_collector_forwarded_events"
                wait_until(lambda: made.metrics()[forwarded] >= 20, what="it counts them")  # noqa: B023
            made.process.kill()
    assert answered == sent
