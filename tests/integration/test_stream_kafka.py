"""A stream from Kafka into a local warehouse: the rows of a backfill and of SQL, and offsets never ahead of the rows.

STREAM_KILLS and STREAM_SEED are those of test_stream_faults.py.
"""

import json
import os
import random
import signal
import time
from pathlib import Path

from pipelines.sources.landing import Landing, read_landed
from pipelines.system.disk import write_atomically
from tests.integration.records import write_github
from tests.integration.streams import (
    BAD,
    EVENTS,
    LONG,
    RECEIVED,
    TRUSTED,
    assert_nothing_lost_or_double,
    assert_those_of_github,
    assert_those_of_sql,
    drained,
    until_all_is_there,
    until_balanced,
)
from tests.integration.test_stream_faults import KILLS, SEED, prism_of
from tests.integration.test_stream_kinesis import jumping_clock
from tests.servers.kafka import Cluster, Topic, make_subscriber
from tests.servers.needed import LIMIT, wait_until
from tests.servers.stream import ROOT, Stream, ask, received_times, streaming

MOST_KILLS = min(KILLS, 2)  # of the process; the paths behind them are those of test_stream_faults.py
# The time-outs that a longer absence adds, the client's and ours, are those of kafka/test_faults.py, made shorter.
GONE_SECONDS = 5.0
GITHUB_LINES = 3_000  # some minutes: test_stream.py replays the whole hour


def send(topic: Topic, lines: list[bytes], received: list[str | None] | None = None) -> None:
    """Publish lines to the partitions in turn, each with the time that it was received at as a header."""
    errors: list[object] = []
    for number, (line, time_) in enumerate(zip(lines, received or received_times(lines), strict=True)):
        topic.producer.produce(
            topic.name,
            value=line,
            partition=number % topic.partitions,
            headers=[("received_time", time_.encode())] if time_ else None,
            on_delivery=lambda error, _: errors.append(error) if error else None,
        )
        topic.producer.poll(0)
    assert topic.producer.flush(LIMIT) == 0
    assert not errors, errors


def assert_committed_is_landed_or_counted(topic: Topic, warehouse: Path) -> None:
    """Each message before the committed offsets is in the landing folder, or in the audit counts."""
    committed = sum(max(offset, 0) for offset in topic.committed())
    landing = Landing(warehouse / "landing")
    undone = sum(read_landed(each).height for each in landing.to_read_again(landing.counts()))
    counted = ask(warehouse, RECEIVED) or 0
    assert committed <= undone + counted


def test_stream_and_runner_are_killed_offsets_expire_and_the_rows_are_those_of_a_backfill_and_of_sql(
    records, topic, prism, tmp_path
):
    lines, rand = records.lines, random.Random(SEED)
    parts = [records.part(part, MOST_KILLS + 3) for part in range(MOST_KILLS + 3)]
    print(f"STREAM_SEED={SEED}")
    for number, part in enumerate(parts[:-1]):
        send(topic, part)
        with streaming(topic, prism, tmp_path, *TRUSTED) as stream:
            seen = ask(stream.warehouse, EVENTS) or 0
            stream.until_counted(EVENTS, seen + 1, LONG)
            moment = time.monotonic() + rand.uniform(0.0, 1.0)
            stream.until(lambda moment=moment: time.monotonic() >= moment, LONG)
            if number == MOST_KILLS:
                os.kill(prism_of(stream), signal.SIGKILL)
                assert stream.process.wait(LIMIT) == 2
            elif number == MOST_KILLS + 1:
                stream.until(lambda: not topic.left(), LONG, "all is committed", 0.5)
                assert stream.end(signal.SIGTERM) == 0
            else:
                assert stream.end(signal.SIGKILL) == -signal.SIGKILL
        assert_committed_is_landed_or_counted(topic, stream.warehouse)
    what_was_not_read_expires(topic, prism, tmp_path, parts[-1])
    topic.add_partitions(topic.partitions + 1)
    with streaming(topic, prism, tmp_path, *TRUSTED) as stream:
        send(topic, parts[-1])
        send(topic, lines[:100])  # of a producer that did not hear an answer
        until_all_is_there(stream, records)
        stream.until(lambda: not topic.left(), LONG, "all is committed", 0.5)  # a count has what was read twice
        stream.until_counted(RECEIVED, len(lines) + 100, LONG)
        until_balanced(stream)
        drained(stream)
    assert "Traceback" not in stream.said()
    assert_nothing_lost_or_double(stream.warehouse, records.batch, BAD)
    assert_those_of_sql(stream.warehouse, records.file)
    assert topic.left() == []


def what_was_not_read_expires(topic: Topic, prism: str, folder: Path, lines: list[bytes]) -> None:
    """Lines that are sent while no stream runs are deleted: the next run says so and ends, until a person resets the
    group as it says."""
    assert topic.left() == []
    send(topic, lines)
    ends = topic.ends()
    for number, end in enumerate(ends):
        topic.delete_before(number, end)
    said = (folder / "run.log").stat().st_size
    with streaming(topic, prism, folder, *TRUSTED) as stream:
        assert stream.process.wait(LIMIT) == 2
    (error,) = (line for line in stream.said()[said:].splitlines() if line.startswith("error:"))
    assert f"of {topic.name}-0 (and some of 1 more partitions) are deleted and were not read; to go on" in error
    assert f"--group {topic.group} --topic {topic.name} --reset-offsets --to-earliest --execute" in error
    assert "--kafka_group with a new name" in error
    topic.commit(ends)


class Stranger:
    """Another program that subscribes to a topic with the group of a stream, and commits nothing."""

    def __init__(self, topic: Topic):
        self.consumer = make_subscriber(topic)
        self.given: list[bytes] = []
        wait_until(self.look, LONG, "the stranger is a member")

    def look(self) -> bool:
        """Ask for messages; whether it has partitions."""
        message = self.consumer.poll(0.1)
        if message is not None and message.error() is None:
            self.given.append(message.value())
        return bool(self.consumer.assignment())


def test_the_cluster_fails_a_stranger_joins_the_clock_jumps_and_the_rows_are_those_of_a_backfill_and_of_sql(
    few_records, kafka_cluster, prism, tmp_path, monkeypatch
):
    topic, parts = Topic(kafka_cluster, partitions=3), [few_records.part(part, 5) for part in range(5)]
    with jumping_clock(tmp_path, monkeypatch) as clock, streaming(topic, prism, tmp_path, *TRUSTED) as stream:
        send(topic, parts[0])
        stream.until(lambda: not topic.left(), LONG, "all is committed", 0.5)
        stranger = Stranger(topic)
        send(topic, parts[1])
        stream.until(lambda: stranger.look() and "No other program may read with it" in stream.said(), LONG)
        write_atomically(clock, b"-3600")
        killed = next(node for node in kafka_cluster.brokers if node.number == topic.coordinator())
        killed.kill()
        seen = ask(stream.warehouse, EVENTS) or 0
        send(topic, parts[2])
        stream.until_counted(EVENTS, seen + 1, LONG)
        gone_for_a_while(kafka_cluster, stream)
        stranger.consumer.close()
        topic.add_partitions(4)
        send(topic, parts[3])
        stream.until(lambda: not topic.left(), LONG, "all is committed", 0.5)
        write_atomically(clock, b"0")
        send(topic, parts[4])
        until_all_is_there(stream, few_records)
        drained(stream)
    assert stranger.given, "it was given messages that were committed by nobody: they are in the tables all the same"
    assert "Traceback" not in stream.said()
    assert_nothing_lost_or_double(stream.warehouse, few_records.batch, BAD)
    assert_those_of_sql(stream.warehouse, few_records.file)
    assert topic.left() == []


def gone_for_a_while(cluster: Cluster, stream: Stream) -> None:
    """No broker answers for some seconds; then all are back."""
    for node in cluster.brokers:
        if node.process.poll() is None:
            node.kill()
    moment = time.monotonic() + GONE_SECONDS
    stream.until(lambda: time.monotonic() >= moment, LONG)
    for node in cluster.brokers:
        node.start()
    cluster.wait(len(cluster.brokers), LONG)


def test_github_events_replayed_through_kafka_give_the_rows_of_a_backfill_and_of_sql(topic, prism, tmp_path):
    file, mapping = write_github(tmp_path, GITHUB_LINES), str(ROOT / "templates/mappings/github-events.yaml")
    lines = file.read_bytes().splitlines()
    with streaming(topic, prism, tmp_path, "--mapping", mapping, *TRUSTED) as stream:
        send(topic, lines, [json.loads(line)["dt"] for line in lines])
        stream.until_counted(RECEIVED, len(lines))
        until_balanced(stream)
        drained(stream)
    assert_those_of_github(stream.warehouse, file, mapping)
