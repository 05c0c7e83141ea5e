"""What the readers of Pub/Sub, Kafka and Kinesis cost, a block and a message, for `audience plan`.

    python -m benchmarks.readers [EVENTS]

Each reads as many events of about 330 bytes in this process, in blocks of two sizes, without landing or a graph:
received, made into blocks, acknowledged. A cost is the processor time of the process, with the threads of its client,
fitted as an amount for a block and one for a message. Of Kinesis it is an answer: asked for, parsed, and made a block.
Prints JSON. Needs what `make tools` installs, Java and Google's Pub/Sub emulator.
"""

import base64
import http.server
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.kafka import events
from benchmarks.machine import describe, measure_speed
from pipelines.apps.demo.emulators import pubsub_emulator
from pipelines.sources.kinesis.messages import parts_of
from pipelines.sources.messages import block_of
from pipelines.sources.pubsub.client import EMULATOR
from pipelines.sources.queues import choose_queue
from tests.servers.kafka import Cluster, Topic, single_node
from tests.servers.kinesis import client_of
from tests.servers.pubsub import Queue

EVENTS = 40_000
SIZES = (250, 5_000)  # rows a block
LONGEST = 600.0
Publish = Callable[[list[bytes]], dict[str, Any]]  # returns the options that name what is published


def read_all(values: dict[str, Any], count: int, rows: int, folder: Path) -> tuple[int, int, float]:
    """(blocks, messages, processor seconds) of a reader, from its second block to the last."""
    with choose_queue(values).open() as queue:
        made = queue.read(source="events", landing=None, again=(), drain_file=str(folder / "drain"))
        source = _source_of(replace(made.reading, block_rows=rows, block_seconds=60.0))
        readers = [each.create_reader(None, None) for each in source.split(1)]
        begun, end = [False] * len(readers), time.monotonic() + LONGEST
        blocks = seen = 0
        since, before = 0.0, 0
        while seen < count - rows * len(readers):  # what is left fills no block
            if time.monotonic() > end:
                raise SystemExit(f"{seen:,} of {count:,} messages were read")
            found = 0
            for number, reader in enumerate(readers):
                if reader.advance() if begun[number] else reader.start():
                    height = reader.get_current().height
                    found += 1
                    seen += height
                    if not since:
                        since, before = time.process_time(), height
                    else:
                        blocks += 1
                    reader.get_checkpoint_mark().finalize_checkpoint()
                begun[number] = True
            if not found:
                time.sleep(0.02)
        cost = time.process_time() - since
        queue.close()
        return blocks, seen - before, cost


def _source_of(reading: Any) -> Any:
    """The unbounded source of a reading of either kind."""
    from pipelines.sources.kafka.reading import Reading as OfKafka
    from pipelines.sources.kafka.source import KafkaSource
    from pipelines.sources.pubsub.source import PubSubSource

    return (KafkaSource if isinstance(reading, OfKafka) else PubSubSource)(reading)


def fitted(points: list[tuple[int, int, float]]) -> dict[str, float]:
    """Microseconds a block and a message, of two measurements."""
    (one_blocks, one, one_seconds), (two_blocks, two, two_seconds) = points
    block = (one_seconds * two - two_seconds * one) / (one_blocks * two - two_blocks * one)
    return {"block_us": round(block * 1e6), "message_us": round((one_seconds - block * one_blocks) / one * 1e6, 1)}


@contextmanager
def kafka(folder: Path) -> Iterator[Publish]:
    cluster = Cluster([single_node(folder / "node")])

    def publish(lines: list[bytes]) -> dict[str, Any]:
        topic = Topic(cluster, 2)
        topic.publish(*lines)
        return {"input_kafka": topic.name, "kafka_servers": cluster.servers, "kafka_group": topic.group, "readers": 1}

    try:
        cluster.start()
        yield publish
    finally:
        cluster.kill()


@contextmanager
def pubsub(folder: Path) -> Iterator[Publish]:
    def publish(lines: list[bytes]) -> dict[str, Any]:
        queue = Queue(os.environ[EMULATOR])
        queue.publish(*lines)
        return {"input_subscription": queue.subscription, "readers": 1}

    with pubsub_emulator(folder / "emulator.log") as emulator:
        os.environ[EMULATOR] = emulator.host
        yield publish


def of_kinesis(lines: list[bytes], rows: int) -> tuple[int, int, float]:
    """(answers, records, processor seconds) of answers of so many records, from a server that gives one again and
    again: the emulator takes minutes for a few thousand records."""
    with answering(lines[:rows]) as url:
        client = client_of(url)

        def block() -> int:
            records = client.get_records(ShardIterator="none")["Records"]
            polls = [part.poll for part in parts_of(records, "shardId-000000000000", rows, 16 << 20)]
            return block_of(polls, "events").height

        block()
        since = time.process_time()
        seen = sum(block() for _ in range(len(lines) // rows))
        return len(lines) // rows, seen, time.process_time() - since


@contextmanager
def answering(lines: list[bytes]) -> Iterator[str]:
    """A server in a process of its own, which answers GetRecords with these lines: its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = multiprocessing.get_context("fork").Process(target=answer, args=(listening, lines), daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            process.kill()
            process.join()


def answer(listening: socket.socket, lines: list[bytes]) -> None:
    """The body of that process."""
    records = [
        {
            "SequenceNumber": f"{number:056d}",
            "ApproximateArrivalTimestamp": time.time(),
            "Data": base64.b64encode(line).decode(),
            "PartitionKey": f"{number}",
        }
        for number, line in enumerate(lines)
    ]
    body = json.dumps({"Records": records, "NextShardIterator": "none", "MillisBehindLatest": 0}).encode()

    class Answers(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "application/x-amz-json-1.1")
            self.send_header("content-length", f"{len(body)}")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Answers, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    server.serve_forever()


def main(count: int) -> None:
    """Measure all, and print it."""
    lines = events(count)
    points = [of_kinesis(lines, rows) for rows in SIZES]
    costs: dict[str, Any] = {"kinesis": fitted(points) | {"points": points}}
    for kind in (pubsub, kafka):
        with tempfile.TemporaryDirectory() as name, kind(Path(name)) as publish:
            points = [read_all(publish(lines), count, rows, Path(name)) for rows in SIZES]
            costs[kind.__name__] = fitted(points) | {"points": points}
    about = {"load": os.getloadavg(), "machine": describe(measure_speed())}
    print(json.dumps({"events": count, "costs": costs, **about}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS)
