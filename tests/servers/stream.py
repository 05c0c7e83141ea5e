"""`audience run` as a person starts it: a process, on Prism, that reads the emulator."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stderr
from pathlib import Path

import duckdb
import msgspec

from pipelines.cli import main
from pipelines.sources.pubsub.client import PubsubMessage
from pipelines.warehouse.local.duckdb_connection import ask as ask_duckdb
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.servers.kafka import Topic
from tests.servers.kinesis import DataStream
from tests.servers.needed import LIMIT, wait_until
from tests.servers.pubsub import Queue

ROOT = Path(__file__).parents[2]
A_QUERY = 0.25  # seconds between two: one takes so much of a core that the stream would have half of it


class Stream:
    """A stream that runs; `log` is what it says."""

    def __init__(self, process: subprocess.Popen, warehouse: Path, log: Path):
        self.process, self.warehouse, self.log = process, warehouse, log

    def until(self, holds: Callable[[], object], seconds: float = 300, what: str = "", every: float = 0.01) -> None:
        """Wait until something holds; fails if the stream ends before."""
        wait_until(lambda: self._lives() and holds(), seconds, f"{what}\n{self.said()}", every)

    def until_counted(self, sql: str, count: int, seconds: float = 300) -> None:
        """Wait until a query's one number has reached `count`. Nothing is asked where nothing was committed since."""
        asked: tuple[int, int] | None = None

        def counted() -> bool:
            nonlocal asked
            now = committed(self.warehouse)
            if now == asked:
                return False
            asked = now
            return (ask(self.warehouse, sql) or 0) >= count

        self.until(counted, seconds, f"{sql}: {count}", A_QUERY)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the end: its exit status."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT)

    def said(self) -> str:
        """What it has said so far."""
        return self.log.read_text() if self.log.exists() else ""

    def _lives(self) -> bool:
        assert self.process.poll() is None, f"the stream ended with {self.process.returncode}: {self.said()}"
        return True


@contextmanager
def streaming(
    queue: Queue | Topic | DataStream | Path, prism: str, folder: Path, *options: str, dataset: str | None = None
) -> Iterator[Stream]:
    """A stream of a queue, or of the folder of a log, into `folder`/warehouse, or into a dataset; what is left of it at
    the end is killed."""
    log = folder / "run.log"
    command = [sys.executable, "-m", "pipelines.cli", "run", *_named(queue)]
    local = ["--warehouse", str(folder / "warehouse")]
    into = ["--dataset", dataset, "--landing", str(folder / "landing")] if dataset else local
    words = [*command, *into, "--prism_location", prism, *options]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", str(ROOT))])
    with log.open("ab") as out:
        process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, stdout=out, stderr=out)
    try:
        yield Stream(process, folder / "warehouse", log)
    finally:
        process.kill()
        process.wait()


def _named(queue: Queue | Topic | DataStream | Path) -> list[str]:
    """The options that name a queue."""
    if isinstance(queue, Path):
        return ["--input_log", str(queue)]
    if isinstance(queue, Topic):
        return ["--input_kafka", queue.name, "--kafka_servers", queue.cluster.servers, "--kafka_group", queue.group]
    if isinstance(queue, DataStream):
        return ["--input_kinesis", queue.name]
    return ["--input_subscription", queue.subscription]


def committed(warehouse: Path) -> tuple[int, int] | None:
    """What tells one commit of a warehouse from the next; None before the first."""
    try:
        found = (warehouse / "manifest.json").stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def ask(warehouse: Path, sql: str):
    """The first value of a query; None where there is no warehouse yet. All views would cost four times as much."""
    if not (warehouse / "warehouse.json").exists():
        return None
    try:
        answer = ask_duckdb(LocalWarehouse.open(warehouse), sql)
        with closing(answer.connection):
            rows = answer.rows.limit(1).fetchall() if answer.rows is not None else []
    except duckdb.Error:
        return None
    return rows[0][0] if rows else None


def drain_as_a_person(warehouse: Path) -> None:
    """From another terminal."""
    command = [sys.executable, "-m", "pipelines.cli", "stop", "--drain", "--warehouse", str(warehouse)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert "closes" in done.stderr


def drain(*where: str) -> None:
    """The same command in this process, which has imported what it needs; `where` are its options."""
    with redirect_stderr(io.StringIO()) as said:
        status = main(["stop", "--drain", *where])
    assert status == 0, said.getvalue()
    assert "closes" in said.getvalue()


def publish(queue: Queue, lines: list[bytes], received: list[str | None]) -> None:
    """Publish lines, each with the time that it was received at as an attribute."""
    messages = [
        PubsubMessage(data=line, attributes={"received_time": time} if time else {})
        for line, time in zip(lines, received, strict=True)
    ]
    for start in range(0, len(messages), 500):
        queue.pubsub.publish(queue.topic, messages[start : start + 500])


def received_times(lines: list[bytes]) -> list[str | None]:
    """When each line says that it was received."""
    return [_received(line) for line in lines]


def _received(line: bytes) -> str | None:
    try:
        told = msgspec.json.decode(line)["received_time"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return None
    return told if isinstance(told, str) else None
