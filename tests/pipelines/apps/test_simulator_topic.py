"""Simulated lines on a topic: the lines of the file, in order, each with the received time that it tells."""

import json

import pytest

from pipelines.apps.simulator.faults import faults
from pipelines.apps.simulator.simulate import simulate, simulate_lines
from pipelines.apps.simulator.topic import publish_lines
from pipelines.cli import main
from pipelines.sources.pubsub.client import EMULATOR
from transforms.errors import SourceError

GIVEN = ["simulate", "--events", "1200", "--seed", "3"]


def pulled(queue) -> list:
    """All messages of the queue, in the order of their ids, which the emulator numbers."""
    found: list = []
    while True:
        call = queue.pubsub.pull(queue.subscription, 1_000)
        received = call.result(20).received_messages
        if received:
            queue.pubsub.acknowledge(queue.subscription, [each.ack_id for each in received])
        found += [each.message for each in received]
        if any(each.message.data == b"end" for each in received):
            return sorted(found, key=lambda message: int(message.message_id))[:-1]


@pytest.mark.parametrize("rate", [[], ["--rate", "1e6"]])
def test_the_messages_are_the_lines_of_the_file(queue, tmp_path, capsys, rate):
    simulate(1_200, 3, tmp_path / "events.jsonl", tmp_path / "file.json")
    assert main([*GIVEN, *rate, "--output_topic", queue.topic, "--ledger", str(tmp_path / "topic.json")]) == 0
    queue.publish(b"end")
    messages = pulled(queue)
    assert [each.data for each in messages] == (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert (tmp_path / "topic.json").read_bytes() == (tmp_path / "file.json").read_bytes()
    assert f"lines in {queue.topic}:" in capsys.readouterr().err


def test_the_attribute_is_the_received_time_that_the_line_tells(queue):
    lines = list(simulate_lines(300, 1, faults=faults("none", no_time=0.2, truncated=0.2)))
    publish_lines(queue.topic, lines)
    queue.publish(b"end")
    told = [each.attributes.get("received_time") for each in pulled(queue)]
    assert told == [None if received is None else str(received // 1000) for received, _ in lines]
    assert {None} < set(told)
    assert sum(json.loads(line)["received_time"] is not None for received, line in lines if received is not None) > 50


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            [],
            "error: give one of a file with --output, a topic with --output_topic and a collector with --output_url\n",
        ),
        (["--output", "e.jsonl", "--output_topic", "projects/demo-project/topics/t-1"], "error: give one of a file"),
        (["--output_topic", "events"], "error: --output_topic: got 'events'; allowed: projects/PROJECT/topics/NAME"),
        (["--output_topic", "projects/demo-project/topics/none"], "make it with `gcloud pubsub topics create none"),
    ],
)
def test_a_topic_that_will_not_do_is_refused_in_one_line(queue, capsys, given, told):
    assert main([*GIVEN, *given]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_topic_that_accepts_nothing_is_named(queue, monkeypatch):
    monkeypatch.setenv(EMULATOR, queue.pubsub.emulator)
    gone = queue.topic + "-gone"
    with pytest.raises(SourceError, match=f"topic {gone} accepts no messages: NOT_FOUND"):
        publish_lines(gone, [(None, b"1")])
