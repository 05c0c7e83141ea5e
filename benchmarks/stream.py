"""The streaming benchmark: the highest rate that is held without growing backlog, and how fresh the rows are.

    python benchmarks/stream.py [--rates 5000,10000,15000,20000,25000] [--step 45] [--minutes 10] [--write]

(and `make tools` before it)

On this machine alone: Google's Pub/Sub emulator, a publisher, `audience run` on Prism into a local warehouse, and this
program, which watches. Each rate is tried for `--step` seconds; the highest whose backlog does not grow is held for
`--minutes`, and again without sessions. The same is measured into the BigQuery emulator. Then the usual per-event
graph climbs its own rates on Prism, and on Beam's legacy runner with Beam's own reader.

Freshness is derived from counts: if n events were published at t and n rows can be read at u, the n-th took u - t.
Memory is that of the processes; state is the growth of Prism per event.

It fails below the floor: 5,000 events/s, rows within 5 s (half) and 15 s (99 %).
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import psutil
from stream_systems import (
    METRIC,
    ROOT,
    Counter,
    into_bigquery,
    ours,
    per_event_on_legacy,
    per_event_on_prism,
    without_sessions,
)

from pipelines.sources.pubsub.client import EMULATOR
from tests.servers.bigquery import bigquery_emulator
from tests.servers.pubsub import Queue, make_emulator

RESULTS = Path(__file__).parent / "RESULTS-stream.md"

LOOK_SECONDS, ASK_SECONDS = 0.25, 60.0
CATCH_UP_SECONDS = 75.0  # for the last rows, and the metric rows of the last minute
BEHIND_SECONDS = 5.0  # of its rate: a backlog above that at the end of a step is one that grows
FLOOR = (5_000, 5.0, 15.0)


class Sample(NamedTuple):
    """A look: seconds since 1970, events and metric counts that can be read, files, bytes of memory of each part, and
    seconds of processor that each has taken."""

    at: float
    events: int
    counted: int
    files: int
    worker: int
    runner: int
    worker_cpu: float
    runner_cpu: float


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
    seconds: float
    query_ms: list[float]  # of a question a minute, while it runs

    @property
    def holds(self) -> bool:
        return self.behind <= self.rate * BEHIND_SECONDS


def hold(name: str, start: Callable, queue: Queue, folder: Path, rate: float, seconds: float) -> Held:
    """Publish at a rate for so long, watch, and let it catch up."""
    folder.mkdir(parents=True)
    with start(queue, folder) as (process, counter):
        _warm_up(queue, process, counter)
        before = counter.look()
        published, samples, query_ms = _watch(queue, process, counter, rate, seconds)
    queue.pubsub.delete_subscription(queue.subscription)  # else the emulator keeps every message of it
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
        seconds,
        query_ms,
    )
    print(f"  {describe(held)}", file=sys.stderr, flush=True)
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
    """([(when, published so far)], [Sample], [ms])"""
    published: list[tuple[float, int]] = []
    samples: list[Sample] = []
    query_ms: list[float] = []
    with tempfile.TemporaryFile("w+b") as out:
        publisher = subprocess.Popen(_publisher(queue, rate, seconds), cwd=ROOT, stdout=out, env=_environ())
        end = None
        while True:
            events, counted, files = counter.look()
            samples.append(Sample(time.time(), events, counted, files, *_used(process)))
            if publisher.poll() is not None and end is None:
                end = time.monotonic() + CATCH_UP_SECONDS
            done = min(events - samples[0].events, counted - samples[0].counted) >= int(rate * seconds) * 0.999
            if end is not None and (done or time.monotonic() > end):
                break
            if samples[-1].at - samples[0].at >= ASK_SECONDS * len(query_ms):
                query_ms.append(counter.ask())
            time.sleep(LOOK_SECONDS)
        out.seek(0)
        published = [(row["at"], row["published"]) for row in map(json.loads, out)]
    return published, samples, query_ms


def _publisher(queue: Queue, rate: float, seconds: float) -> list[str]:
    return [sys.executable, "benchmarks/stream_publisher.py", queue.topic, str(rate), str(seconds)]


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _used(process: psutil.Process) -> tuple[int, int, float, float]:
    """Return (memory of the worker, of the runner in bytes, CPU seconds of the worker, of the runner)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        children = process.children(recursive=True)
        memory = [each.memory_info().rss for each in (process, *children)]
        seconds = [sum(each.cpu_times()[:2]) for each in (process, *children)]
        return memory[0], sum(memory[1:]), seconds[0], sum(seconds[1:])
    return 0, 0, 0.0, 0.0


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


def describe(held: Held) -> str:
    """Return the result as one line."""
    rows, metric = (f"{half:.1f} s ({most:.1f} s)" for half, most in (held.row, held.metric))
    return (
        f"{held.name:<34} {held.rate:>7,.0f}/s  behind {max(held.behind, 0):>9,}  rows {rows}  {METRIC} {metric}"
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


def longest(name: str, start: Callable, queues: Callable[[], Queue], folder: Path, rates, step: float, hold_s: float):
    """The highest of the rates that is held for `hold_s` seconds; the last that was tried, if none is."""
    best = climb(name, start, queues, folder, rates, step)
    tried = [rate for rate in rates if best and rate <= best.rate] or rates[:1]
    for rate in reversed(tried):
        held = hold(name, start, queues(), folder / f"held-{rate}".replace(" ", "-"), rate, hold_s)
        if held.holds:
            break
    return held


def _worker_us(held: Held) -> float:
    """Microseconds of the worker's processor an event, after the first fifth of the time."""
    first, last = held.samples[len(held.samples) // 5], held.samples[-1]
    return (last.worker_cpu - first.worker_cpu) / max(last.events - first.events, 1) * 1e6


def report(held: list[Held]) -> str:
    """The results as Markdown; the first is the one into the local warehouse, the second the same without sessions."""
    lines = [
        "| what | events/s held | for | publish to row, half (99 %) | to metric row, half (99 %) |",
        "|---|---:|---:|---:|---:|",
    ]
    for each in held:
        lines.append(
            f"| {each.name} | {each.rate:,.0f} | {each.seconds:,.0f} s | {each.row[0]:.1f} s ({each.row[1]:.1f} s) |"
            f" {each.metric[0]:.1f} s ({each.metric[1]:.1f} s) |"
        )
    best = held[0]
    first, last = best.samples[len(best.samples) // 5], best.samples[-1]
    events, passed = max(last.events - first.events, 1), last.at - first.at
    grown = (last.runner - first.runner) / events
    worker, runner = last.worker_cpu - first.worker_cpu, last.runner_cpu - first.runner_cpu
    lines += [
        "",
        f"Into the local warehouse: files {max(s.files for s in best.samples)} at most, {last.files} at the end; a "
        f"count by channel {best.query_ms[0]:.0f} ms at the start, {max(best.query_ms):.0f} ms at most, "
        f"{best.query_ms[-1]:.0f} ms at the end. Memory of the worker {first.worker / 2**20:,.0f} MiB after a fifth of "
        f"the time and {last.worker / 2**20:,.0f} MiB at the end, of Prism {first.runner / 2**20:,.0f} and "
        f"{last.runner / 2**20:,.0f} MiB, which is {grown:,.0f} bytes an event. Processor: the worker "
        f"{worker / passed:.2f} cores ({_worker_us(best):.0f} us an event), Prism {runner / passed:.2f}. The worker "
        f"without sessions, few of which are over so soon: ({_worker_us(held[1]):.0f} us an event).",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB; Python "
        f"{platform.python_version()}, apache-beam {version('apache-beam')}, polars {version('polars')}; the "
        "emulators, the publisher and the watcher share the cores.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print, and fail below the floor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=_rates, default="5000,10000,15000,20000,25000")
    parser.add_argument("--bigquery_rates", type=_rates, default="1000,2000,5000,10000", help="none: leave it out")
    parser.add_argument("--rival_rates", type=_rates, default="100,200,500,1000,2000,4000", help="none: leave them out")
    parser.add_argument("--step", type=float, default=45, help="Seconds for each rate")
    parser.add_argument("--minutes", type=float, default=10, help="For the highest rate")
    parser.add_argument("--folder", help="Where runs are kept (default: a temporary folder)")
    parser.add_argument("--write", action="store_true", help=f"Keep the result in {RESULTS.name}")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        scratch = Path(options.folder or stack.enter_context(tempfile.TemporaryDirectory()))
        scratch.mkdir(parents=True, exist_ok=True)
        emulator = make_emulator(scratch / "emulator.log")
        emulator.memory = "15g"  # it keeps what was acknowledged
        os.environ[EMULATOR] = stack.enter_context(emulator).host

        def tried(name: str, start: Callable, rates: list[float], seconds: float | None = None) -> list[Held]:
            if not rates:
                return []
            folder, queues = scratch / name.replace(" ", "-"), lambda: Queue(emulator.host)
            if seconds is not None:
                return [longest(name, start, queues, folder, rates, options.step, seconds)]
            best = climb(name, start, queues, folder, rates, options.step)
            return [best] if best else []

        held = tried("audience", ours, options.rates, options.minutes * 60)
        held += tried("audience, without sessions", without_sessions, [held[0].rate], options.minutes * 60)
        if options.bigquery_rates:
            os.environ |= stack.enter_context(bigquery_emulator()).environment
        held += tried("audience, into BigQuery's emulator", into_bigquery, options.bigquery_rates, options.minutes * 60)
        held += tried("per event, on Prism", per_event_on_prism, options.rival_rates)
        held += tried("per event, on the legacy runner", per_event_on_legacy, options.rival_rates)
        text = report(held)
    print(text)
    if options.write:
        RESULTS.write_text(f"# Streaming results\n\n`python benchmarks/stream.py --write`\n\n{text}")
    return _below(held[0])


def _rates(text: str) -> list[float]:
    return [float(rate) for rate in text.split(",") if rate and rate != "none"]


def _below(best: Held) -> int:
    rate, half, most = FLOOR
    if best.rate >= rate and best.row[0] <= half and best.row[1] <= most and best.holds:
        return 0
    print(f"below the floor of {rate:,} events/s, {half:.0f} s, {most:.0f} s", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
