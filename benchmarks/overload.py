"""A stream that is sent more than it can hold: whether it recovers by itself, loses nothing, and keeps its memory.

    python -m benchmarks.overload [--seconds 120] [--factor 2] [--rate N] [--write]

Events of now are published to Kafka at `factor` times the rate that the stream holds, for so long; then at half of that
rate, until nothing waits and half a minute more. The rate that is held is --rate, or else that of RESULTS-stream.md: a
backlog is cleared faster, but then nobody publishes. All of it runs on this machine, so the publisher and the broker
take a part of what the stream could have. Each half second: rows that can be queried, and the memory of the stream and
its runner. At the end every event has to be there once. `--write` adds the figures to RESULTS-stream.md. Needs what
`make tools` installs.
"""

import argparse
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.kafka import PARTITIONS
from benchmarks.machine import describe, measure_speed
from benchmarks.stream_publisher import bodies
from pipelines.runners.choose import PRISM_HERE
from tests.servers.kafka import Cluster, Topic, make_producer, single_node
from tests.servers.stream import Stream, ask, streaming

HELD = 15_000.0
EVERY = 0.5  # seconds between two looks
CALM_SECONDS = 30.0
BEHIND_SECONDS = 5.0  # of the rate: so far behind is what a stream is that keeps up
LONGEST = 3_600.0
STORED, ONCE = "SELECT count(*) FROM events", "SELECT count(DISTINCT event_id) FROM events"
PAGE = Path(__file__).parent / "RESULTS-stream.md"


class Look(NamedTuple):
    """One look: seconds of a clock, events that were published, rows that can be queried, bytes of memory."""

    at: float
    published: int
    rows: int
    memory: int


class Publisher:
    """Publishes events of now in a thread, at a rate that may change."""

    def __init__(self, topic: Topic, rate: float):
        self.topic, self.rate, self.published = topic, rate, 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End once all is stored."""
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        producer, parts, due, before = make_producer(self.topic.cluster), bodies(), 0.0, time.monotonic()
        while not self._stopping.wait(0.01):
            now = time.monotonic()
            due, before = due + (now - before) * self.rate, now
            moment = datetime.now(UTC).isoformat().encode()
            for number in range(self.published, int(due)):
                body = b'{"event_id":"%d","event_time":"%s",%s' % (number, moment, parts[number % len(parts)])
                self._produce(producer, body, number % PARTITIONS)
            self.published = max(self.published, int(due))
        assert producer.flush(60) == 0

    def _produce(self, producer, body: bytes, partition: int) -> None:
        while True:
            try:
                return producer.produce(self.topic.name, value=body, partition=partition)
            except BufferError:  # it holds as many as it may
                producer.poll(0.05)


def look(stream: Stream, publisher: Publisher) -> Look:
    """Look at both now."""
    if stream.process.poll() is not None:
        raise SystemExit(f"the stream ended: {stream.said()}")
    process = psutil.Process(stream.process.pid)
    memory = sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
    return Look(time.monotonic(), publisher.published, ask(stream.warehouse, STORED) or 0, memory)


def watched(stream: Stream, publisher: Publisher, seconds: float, until_held: bool = False) -> list[Look]:
    """Looks for so long, or until the stream is not behind."""
    looks, end = [look(stream, publisher)], time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(EVERY)
        looks.append(look(stream, publisher))
        if until_held and looks[-1].published - looks[-1].rows <= publisher.rate * BEHIND_SECONDS:
            return looks
    if until_held:
        raise SystemExit(f"after {seconds:.0f} s the stream is behind: {looks[-1]}; {stream.said()}")
    return looks


def overloaded(topic: Topic, held: float, factor: float, seconds: float) -> list[str]:
    """What a stream does that is sent so much, a line each."""
    with tempfile.TemporaryDirectory() as folder, streaming(topic, str(PRISM_HERE), Path(folder)) as stream:
        publisher = Publisher(topic, held / 2)
        watched(stream, publisher, LONGEST, until_held=True)
        calm = watched(stream, publisher, CALM_SECONDS)
        publisher.rate = held * factor
        over = watched(stream, publisher, seconds)
        publisher.rate = held / 2
        after = watched(stream, publisher, LONGEST, until_held=True)
        last = watched(stream, publisher, CALM_SECONDS)
        publisher.stop()
        stream.until(lambda: (ask(stream.warehouse, STORED) or 0) >= publisher.published, LONGEST, every=EVERY)
        stored, once = ask(stream.warehouse, STORED), ask(stream.warehouse, ONCE)
    rates = [(over[-1][column] - over[0][column]) / (over[-1].at - over[0].at) for column in (1, 2)]
    if stored != publisher.published or once != stored:
        raise SystemExit(f"published {publisher.published:,}; rows {stored:,}; different events {once:,}")
    phases = {"before": calm, "meanwhile": over, "while it recovered": after, "afterwards": last}
    memory = ", ".join(f"{name} {max(each.memory for each in looks) >> 20:,} MB" for name, looks in phases.items())
    return [
        f"held {held:,.0f} events/s; sent {rates[0]:,.0f}/s for {seconds:.0f} s, of which {rates[1]:,.0f}/s could be "
        f"queried in that time; {over[-1].published - over[-1].rows:,} waited at its end",
        f"at half the rate that is held again, the stream kept up after {after[-1].at - after[0].at:.0f} s",
        f"all {stored:,} events that were published are there, each once",
        f"memory of the stream and its runner at most: {memory}",
    ]


def main() -> None:
    """Overload a stream, print what it did, and fail if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--factor", type=float, default=2.0)
    parser.add_argument(
        "--rate", type=float, default=HELD, help=f"events a second that are held (default: {HELD:,.0f})"
    )
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster([single_node(Path(folder) / "node")])
        try:
            cluster.start()
            lines = overloaded(Topic(cluster, PARTITIONS), asked.rate, asked.factor, asked.seconds)
        finally:
            cluster.kill()
    command = (
        f"python -m benchmarks.overload --seconds {asked.seconds:g} --factor {asked.factor:g} --rate {asked.rate:g}"
    )
    text = "\n".join([f"`{command}`:", "", *(f"- {line}" for line in [*lines, describe(measure_speed())])])
    print(text)
    if asked.write:
        PAGE.write_text(f"{PAGE.read_text()}\n{text}\n")


if __name__ == "__main__":
    main()
