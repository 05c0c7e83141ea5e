"""How fast a stream clears a backlog: from Kafka and from Pub/Sub into a local warehouse, beside a bare poll loop.

    python -m benchmarks.kafka [EVENTS]

Each reads as many events, which are published before it starts; one after the other, on the same machine. A rate is
that from the first to the last row that can be queried, so the start of a process is not in it; of the poll loop, from
the first to the last message. Prints JSON. Needs what `make tools` installs, Java and Google's Pub/Sub emulator.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, measure_speed
from benchmarks.stream_publisher import bodies
from pipelines.apps.demo.emulators import pubsub_emulator
from pipelines.runners.choose import PRISM_HERE
from pipelines.sources.pubsub.client import EMULATOR
from tests.servers.kafka import Cluster, Topic, make_consumer, single_node
from tests.servers.pubsub import Queue
from tests.servers.stream import ask, committed, streaming

EVENTS = 400_000
PARTITIONS = 4
QUEUED = 50_000  # messages: the client holds 100,000 at most
EVERY = 0.25  # seconds between two looks at the warehouse
LONGEST = 1_800.0
COUNT = "SELECT count(*) FROM events"


def events(count: int) -> list[bytes]:
    """Native events of about 330 bytes, of now."""
    parts, moment = bodies(), datetime.now(UTC).isoformat().encode()
    return [
        b'{"event_id":"%d","event_time":"%s",%s' % (number, moment, parts[number % len(parts)])
        for number in range(count)
    ]


def rate_of_poll_loop(topic: Topic, count: int) -> float:
    """Messages a second of a consumer that does nothing with them."""
    from confluent_kafka import TopicPartition

    consumer = make_consumer(topic.cluster, "poll loop")
    consumer.assign([TopicPartition(topic.name, number, 0) for number in range(topic.partitions)])
    seen, begun = 0, 0.0
    while seen < count:
        found = consumer.consume(1_000, 1.0)
        begun = begun or time.monotonic()
        seen += sum(message.error() is None and len(message.value()) > 0 for message in found)
    seconds = time.monotonic() - begun
    consumer.close()
    return count / seconds


def rate_of_stream(queue: Any, count: int) -> float:
    """Rows a second that a stream makes ready to query."""
    with tempfile.TemporaryDirectory() as folder, streaming(queue, str(PRISM_HERE), Path(folder)) as stream:
        first: tuple[float, int] | None = None
        seen, rows, end = None, 0, time.monotonic() + LONGEST
        while rows < count:
            if stream.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the stream has {rows:,} of {count:,} rows: {stream.said()}")
            time.sleep(EVERY)
            now = committed(stream.warehouse)
            if now != seen:
                seen, rows = now, ask(stream.warehouse, COUNT) or 0
                first = first or ((time.monotonic(), rows) if rows else None)
        assert first is not None
        return (rows - first[1]) / max(time.monotonic() - first[0], EVERY)


def of_kafka(lines: list[bytes], folder: Path) -> dict[str, float]:
    """The rates of the poll loop and of a stream from Kafka."""
    cluster = Cluster([single_node(folder / "node")])
    try:
        cluster.start()
        topic = Topic(cluster, PARTITIONS)
        for at in range(0, len(lines), QUEUED):
            topic.publish(*lines[at : at + QUEUED])
        return {"kafka_poll_loop": rate_of_poll_loop(topic, len(lines)), "kafka": rate_of_stream(topic, len(lines))}
    finally:
        cluster.kill()


def of_pubsub(lines: list[bytes], folder: Path) -> dict[str, float]:
    """The rate of a stream from Pub/Sub's emulator."""
    with pubsub_emulator(folder / "emulator.log") as emulator:
        emulator.memory = "1g"
        os.environ[EMULATOR] = emulator.host
        queue = Queue(emulator.host)
        queue.publish(*lines)
        return {"pubsub": rate_of_stream(queue, len(lines))}


def main(count: int) -> None:
    """Measure all, and print it."""
    rates: dict[str, float] = {}
    measured: tuple[Callable[[list[bytes], Path], dict[str, float]], ...] = (of_kafka, of_pubsub)
    for measure in measured:
        with tempfile.TemporaryDirectory() as folder:
            rates |= measure(events(count), Path(folder))
    rounded = {name: round(rate) for name, rate in rates.items()}
    about = {"load": os.getloadavg(), "machine": describe(measure_speed())}
    print(json.dumps({"events": count, "a_second": rounded, **about}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS)
