"""The systems that the streaming benchmark measures, each started on a subscription, and what each has made readable.

A system is a context manager (queue, folder) -> System, stopped at the end.
"""

import contextlib
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
import psutil

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from pipelines.runners import choose as runners  # noqa: E402
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse  # noqa: E402
from pipelines.warehouse.local.manifest import load  # noqa: E402
from pipelines.warehouse.local.warehouse import LocalWarehouse  # noqa: E402
from tests.servers.pubsub import Queue  # noqa: E402
from transforms.errors import AudienceError  # noqa: E402

METRIC = "activity_1m"


_COUNTED = f"SELECT SUM(events) FROM {METRIC}_current"


class Counter:
    """Counts what a system has made readable so far."""

    def look(self) -> tuple[int, int, int]:
        """(events, events counted in the metric, files)"""
        raise NotImplementedError

    def ask(self) -> float:
        """Milliseconds that a question takes to what is readable now; 0 where none can be asked."""
        return 0.0


class System(NamedTuple):
    """A system that runs: its process, what it has made readable, and its runner where that is no child of it."""

    process: psutil.Process
    counter: Counter
    runner: psutil.Process | None = None


class OfWarehouse(Counter):
    """Of a local warehouse: files that became live since the last look."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.read: set[str] = set()
        self.current: dict[tuple, tuple[int, int]] = {}

    def look(self):
        files = load(self.folder).files
        events = sum(file.rows for days in files.get("events", {}).values() for file in days)
        for day in files.get(METRIC, {}).values():
            for file in day:
                if file.path not in self.read:
                    self.read.add(file.path)
                    with contextlib.suppress(OSError):  # merged meanwhile
                        self._take(self.folder / file.path)
        every = sum(len(day) for days in files.values() for day in days.values())
        return events, sum(count for _, count in self.current.values()), every

    def ask(self):
        started = time.monotonic()
        connection = LocalWarehouse.open(self.folder).connect()
        connection.execute("SELECT channel, count(*) FROM events GROUP BY ALL").fetchall()
        return (time.monotonic() - started) * 1000

    def _take(self, path: Path) -> None:
        rows = pl.read_parquet(path, columns=["bucket_start", "channel", "event_type", "revision", "events"])
        for start, channel, kind, revision, count in rows.rows():
            key = (start, channel, kind)
            if revision >= self.current.get(key, (0, 0))[0]:
                self.current[key] = (revision, count)


class OfDataset(Counter):
    """Counts the rows of a BigQuery dataset with queries."""

    def __init__(self, dataset: str):
        self.dataset = dataset
        self.warehouse: BigQueryWarehouse | None = None

    def look(self):
        try:
            self.warehouse = self.warehouse or BigQueryWarehouse.open(self.dataset)
            return self._number("SELECT COUNT(*) FROM events"), self._number(_COUNTED), 0
        except AudienceError:  # not made yet
            return 0, 0, 0

    def _number(self, sql: str) -> int:
        assert self.warehouse is not None
        return pl.concat(self.warehouse.ask(sql)).item() or 0


class OfLines(Counter):
    """Of the per-event graph: lines of its files."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.places: dict[Path, int] = {}
        self.events = 0
        self.current: dict[tuple, int] = {}

    def look(self):
        for path in self.folder.glob("*.jsonl"):
            with path.open("rb") as file:
                file.seek(self.places.get(path, 0))
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self.places[path] = self.places.get(path, 0) + len(whole)
            if path.name.startswith("events"):
                self.events += whole.count(b"\n")
            else:
                for line in whole.splitlines():
                    row = json.loads(line)
                    key = (row["channel"], row["event_type"], int(row["at"]) // 60)
                    self.current[key] = max(self.current.get(key, 0), row["events"])
        return self.events, sum(self.current.values()), len(self.places)


@contextlib.contextmanager
def ours(queue: Queue, folder: Path) -> Iterator[System]:
    """`audience run` into a local warehouse."""
    with _into_files("pipelines.cli", queue, folder) as running:
        yield running


@contextlib.contextmanager
def without_sessions(queue: Queue, folder: Path) -> Iterator[System]:
    """The same without sessions, to measure their cost."""
    with _into_files("benchmarks.without_sessions", queue, folder) as running:
        yield running


@contextlib.contextmanager
def _into_files(program: str, queue: Queue, folder: Path) -> Iterator[System]:
    warehouse = folder / "warehouse"
    words = [sys.executable, "-m", program, "run", "--input_subscription", queue.subscription]
    with _running([*words, "--warehouse", str(warehouse)], folder) as process:
        yield System(process, OfWarehouse(warehouse))


@contextlib.contextmanager
def into_bigquery(queue: Queue, folder: Path) -> Iterator[System]:
    """`audience run` into a dataset of the BigQuery emulator, which the environment names."""
    dataset = f"demo-project.stream_{uuid.uuid4().hex[:8]}"
    words = [sys.executable, "-m", "pipelines.cli", "run", "--input_subscription", queue.subscription]
    with _running([*words, "--dataset", dataset, "--landing", str(folder / "landing")], folder) as process:
        yield System(process, OfDataset(dataset))


@contextlib.contextmanager
def per_event_on_prism(queue: Queue, folder: Path) -> Iterator[System]:
    """The usual graph on Prism, read by our reader."""
    binary = runners.choose("PrismRunner").program
    with runners.prism_at(binary, folder / "prism.log") as (endpoint, runner):
        words = [
            sys.executable,
            "benchmarks/per_event_stream.py",
            queue.subscription,
            str(folder),
            "PrismRunner",
            endpoint,
        ]
        with _running(words, folder) as process:
            yield System(process, OfLines(folder), psutil.Process(runner.pid))


@contextlib.contextmanager
def per_event_on_legacy(queue: Queue, folder: Path) -> Iterator[System]:
    """The usual graph on Beam's legacy local runner, read by Beam's own reader."""
    words = [
        sys.executable,
        "benchmarks/per_event_stream.py",
        queue.subscription,
        str(folder),
        "BundleBasedDirectRunner",
    ]
    with _running(words, folder) as process:
        yield System(process, OfLines(folder))


@contextlib.contextmanager
def _running(words: list[str], folder: Path) -> Iterator[psutil.Process]:
    with (folder / "run.log").open("ab") as log:
        process = psutil.Popen(words, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except psutil.TimeoutExpired:
            process.kill()
