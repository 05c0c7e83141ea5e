"""The streaming benchmark: the highest rate that is held without growing backlog, and how fresh the rows are.

    python benchmarks/stream.py [--rates 5000,10000,15000,20000,25000] [--step 45] [--minutes 10] [--write]

On this machine alone: Google's Pub/Sub emulator, a publisher, `audience run` on Prism into a local warehouse, and this
program, which watches. Each rate is tried for `--step` seconds; the highest whose backlog does not grow is held for
`--minutes`. Then the usual per-event graph, on Prism and on Beam's legacy runner with its own reader, climbs a ladder
of its own. Freshness is told by counts alone: if n events were published at t and n rows can be read at u, then the
n-th took u - t. Memory is that of the processes; state is what Prism grew by an event.

It fails below the floor: 5,000 events/s, rows within 5 s (half) and 15 s (99 %).
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import polars as pl
import psutil

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from pipelines import runners  # noqa: E402
from pipelines.sources.pubsub_client import EMULATOR  # noqa: E402
from pipelines.warehouse.local import LocalWarehouse  # noqa: E402
from pipelines.warehouse.manifest import load  # noqa: E402
from tests.servers.pubsub import Queue, make_emulator  # noqa: E402

LOOK_SECONDS = 0.25
CATCH_UP_SECONDS = 60.0
FIRINGS_SECONDS = 15.0  # for the last metric rows
BEHIND_SECONDS = 5.0  # of its rate: a backlog above that at the end of a step is one that grows
FLOOR = (5_000, 5.0, 15.0)
METRIC = "activity_1m"


class Sample(NamedTuple):
    """A look: seconds since 1970, events and metric counts that can be read, files, bytes of memory of each part."""

    at: float
    events: int
    counted: int
    files: int
    worker: int
    runner: int


class Held(NamedTuple):
    """One rate, tried."""

    name: str
    rate: float
    published: int
    written: int
    behind: int
    row: tuple[float, float]
    metric: tuple[float, float]
    samples: list[Sample]

    @property
    def holds(self) -> bool:
        return self.behind <= self.rate * BEHIND_SECONDS


class Counter:
    """What a system has made readable so far."""

    def look(self) -> tuple[int, int, int]:
        """(events, events counted in the metric, files)"""
        raise NotImplementedError


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

    def _take(self, path: Path) -> None:
        rows = pl.read_parquet(path, columns=["bucket_start", "channel", "event_type", "revision", "events"])
        for start, channel, kind, revision, count in rows.rows():
            key = (start, channel, kind)
            if revision >= self.current.get(key, (0, 0))[0]:
                self.current[key] = (revision, count)


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
def ours(queue: Queue, folder: Path) -> Iterator[tuple[psutil.Process, Counter]]:
    """`audience run` into a local warehouse."""
    warehouse = folder / "warehouse"
    words = [sys.executable, "-m", "pipelines.cli", "run", "--input_subscription", queue.subscription]
    with _running([*words, "--warehouse", str(warehouse)], folder) as process:
        yield process, OfWarehouse(warehouse)


@contextlib.contextmanager
def per_event_on_prism(queue: Queue, folder: Path) -> Iterator[tuple[psutil.Process, Counter]]:
    """The usual graph on Prism, read by our reader."""
    binary = runners.choose("PrismRunner").prism
    assert binary is not None
    with runners.prism_at(binary, folder / "prism.log") as (endpoint, _):
        words = [
            sys.executable,
            "benchmarks/per_event_stream.py",
            queue.subscription,
            str(folder),
            "PrismRunner",
            endpoint,
        ]
        with _running(words, folder) as process:
            yield process, OfLines(folder)


@contextlib.contextmanager
def per_event_on_legacy(queue: Queue, folder: Path) -> Iterator[tuple[psutil.Process, Counter]]:
    """The usual graph on Beam's legacy local runner, read by Beam's own reader."""
    words = [
        sys.executable,
        "benchmarks/per_event_stream.py",
        queue.subscription,
        str(folder),
        "BundleBasedDirectRunner",
    ]
    with _running(words, folder) as process:
        yield process, OfLines(folder)


def _per_event(queue: Queue, folder: Path) -> list[str]:
    return [sys.executable, "benchmarks/per_event_stream.py", queue.subscription, str(folder)]


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


def hold(name: str, start: Callable, queue: Queue, folder: Path, rate: float, seconds: float) -> Held:
    """Publish at a rate for so long, watch, and let it catch up."""
    folder.mkdir(parents=True)
    with start(queue, folder) as (process, counter):
        _warm_up(queue, process, counter)
        before = counter.look()
        published, samples = _watch(queue, process, counter, rate, seconds)
    samples = [s._replace(events=s.events - before[0], counted=s.counted - before[1]) for s in samples]
    end = published[-1][0]
    at_end = next(s for s in reversed(samples) if s.at <= end + LOOK_SECONDS)
    held = Held(
        name,
        rate,
        published[-1][1],
        samples[-1].events,
        published[-1][1] - at_end.events,
        _fresh(published, [(s.at, s.events) for s in samples]),
        _fresh(published, [(s.at, s.counted) for s in samples]),
        samples,
    )
    print(f"  {told(held)}", file=sys.stderr, flush=True)
    return held


def _warm_up(queue: Queue, process: psutil.Process, counter: Counter) -> None:
    """Wait until events come through."""
    end = time.monotonic() + 120
    subprocess.run(_publisher(queue, 50, 2), cwd=ROOT, check=True, capture_output=True, env=_environ())
    while counter.look()[0] < 90:
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError("nothing comes through; see run.log")
        time.sleep(LOOK_SECONDS)


def _watch(queue: Queue, process, counter: Counter, rate: float, seconds: float):
    """([(when, published so far)], [Sample])"""
    published: list[tuple[float, int]] = []
    samples: list[Sample] = []
    with tempfile.TemporaryFile("w+b") as out:
        publisher = subprocess.Popen(_publisher(queue, rate, seconds), cwd=ROOT, stdout=out, env=_environ())
        end = None
        while True:
            events, counted, files = counter.look()
            samples.append(Sample(time.time(), events, counted, files, *_memory(process)))
            if publisher.poll() is not None and end is None:
                end = time.monotonic() + CATCH_UP_SECONDS
            done = end is not None and samples[-1].events - samples[0].events >= int(rate * seconds) * 0.999
            now = time.monotonic()
            if end is not None and (now > end or (done and now > end - CATCH_UP_SECONDS + FIRINGS_SECONDS)):
                break
            time.sleep(LOOK_SECONDS)
        out.seek(0)
        published = [(row["at"], row["published"]) for row in map(json.loads, out)]
    return published, samples


def _publisher(queue: Queue, rate: float, seconds: float) -> list[str]:
    return [sys.executable, "benchmarks/stream_publisher.py", queue.topic, str(rate), str(seconds)]


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _memory(process: psutil.Process) -> tuple[int, int]:
    """(the worker's, the runner's) bytes."""
    with contextlib.suppress(psutil.NoSuchProcess):
        runner = sum(child.memory_info().rss for child in process.children(recursive=True))
        return process.memory_info().rss, runner
    return 0, 0


def _fresh(published: list[tuple[float, int]], readable: list[tuple[float, int]]) -> tuple[float, float]:
    """(half, 99 %) of the seconds from publishing to being readable."""
    counts, best = [], 0
    for _, count in readable:
        best = max(best, count)
        counts.append(best)
    took = []
    for at, count in published:
        place = bisect_left(counts, count)
        took.append(readable[place][0] - at if place < len(counts) else float("inf"))
    took.sort()
    return took[len(took) // 2], took[min(len(took) - 1, int(len(took) * 0.99))]


def told(held: Held) -> str:
    """A line."""
    rows, metric = (f"{half:.1f} s ({most:.1f} s)" for half, most in (held.row, held.metric))
    return (
        f"{held.name:<26} {held.rate:>7,.0f}/s  behind {max(held.behind, 0):>9,}  rows {rows}  {METRIC} {metric}"
        f"  {held.written:,} of {held.published:,}"
    )


def climb(name: str, start: Callable, queues: Callable[[], Queue], folder: Path, rates, step: float) -> Held | None:
    """The highest of the rates that is held."""
    best = None
    for rate in rates:
        held = hold(name, start, queues(), folder / f"{name}-{rate}".replace(" ", "-"), rate, step)
        if not held.holds:
            break
        best = held
    return best


def report(best: Held, rivals: list[Held | None], query_ms: list[float]) -> str:
    """The results as Markdown."""
    lines = [
        "| what | events/s held | publish to row, half (99 %) | to metric row, half (99 %) |",
        "|---|---:|---:|---:|",
    ]
    for held in [best, *filter(None, rivals)]:
        lines.append(
            f"| {held.name} | {held.rate:,.0f} | {held.row[0]:.1f} s ({held.row[1]:.1f} s) |"
            f" {held.metric[0]:.1f} s ({held.metric[1]:.1f} s) |"
        )
    first, last = best.samples[len(best.samples) // 5], best.samples[-1]
    grown = (last.runner - first.runner) / max(last.events - first.events, 1)
    lines += [
        "",
        f"Held for {(last.at - best.samples[0].at) / 60:.0f} min: files {max(s.files for s in best.samples)} at most, "
        f"{last.files} at the end; a count by channel {statistics.median(query_ms):.0f} ms; memory of the worker "
        f"{first.worker / 2**20:,.0f} to {last.worker / 2**20:,.0f} MiB, of Prism {first.runner / 2**20:,.0f} to "
        f"{last.runner / 2**20:,.0f} MiB, which is {grown:,.0f} bytes an event.",
        f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB; Python "
        f"{platform.python_version()}, apache-beam {version('apache-beam')}, polars {version('polars')}; the emulator, "
        "the publisher and the watcher share the cores.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print, and fail below the floor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="5000,10000,15000,20000,25000")
    parser.add_argument("--rival_rates", default="100,200,500,1000,2000,4000")
    parser.add_argument("--step", type=float, default=45)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--folder", help="Where runs are kept (default: a temporary folder)")
    options = parser.parse_args()
    scratch = Path(options.folder or tempfile.mkdtemp())
    scratch.mkdir(parents=True, exist_ok=True)
    emulator = make_emulator(scratch / "emulator.log")
    emulator.memory = "15g"  # for ten minutes at 15,000 messages a second
    emulator.start()
    os.environ[EMULATOR] = emulator.host
    try:
        rates = [float(rate) for rate in options.rates.split(",")]
        highest = climb("audience on Prism", ours, lambda: Queue(emulator.host), scratch, rates, options.step)
        rate = highest.rate if highest else rates[0]
        queue = Queue(emulator.host)
        best = hold("audience on Prism", ours, queue, scratch / "held", rate, options.minutes * 60)
        slower = [float(rate) for rate in options.rival_rates.split(",")]
        rivals = [
            climb(name, start, lambda: Queue(emulator.host), scratch, slower, options.step)
            for name, start in (
                ("per event on Prism", per_event_on_prism),
                ("per event, legacy runner", per_event_on_legacy),
            )
        ]
        print(report(best, rivals, asked(scratch / "held" / "warehouse")))
    finally:
        emulator.kill()
        if not options.folder:
            shutil.rmtree(scratch, ignore_errors=True)
    rate, half, most = FLOOR
    if best.rate < rate or best.row[0] > half or best.row[1] > most or not best.holds:
        print(f"below the floor of {rate:,} events/s, {half:.0f} s, {most:.0f} s", file=sys.stderr)
        return 1
    return 0


def asked(warehouse: Path) -> list[float]:
    """Milliseconds of a question to the warehouse as it stands, five times."""
    took = []
    for _ in range(5):
        started = time.monotonic()
        connection = LocalWarehouse.open(warehouse).connect()
        connection.execute("SELECT channel, count(*) FROM events GROUP BY ALL").fetchall()
        took.append((time.monotonic() - started) * 1000)
    return took


if __name__ == "__main__":
    sys.exit(main())
