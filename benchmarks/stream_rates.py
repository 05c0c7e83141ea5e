"""One system at one rate: what it holds, how fresh its rows are, and what an event costs it.

    hold     publish at a rate for some seconds, and watch
    climb    the highest of some rates that is held
    longest  the highest that is held for long

Freshness is derived from counts: if n events were published at t and n rows can be read at u, the n-th took u - t.
Processor seconds are those of the system's processes and of its runner, over the time of publishing alone, by the
events that became readable in it: so a system that falls behind is not charged for what it has not done.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
from stream_systems import METRIC, ROOT, System

from tests.servers.pubsub import Queue

LOOK_SECONDS, ASK_SECONDS = 0.25, 60.0
CATCH_UP_SECONDS = 75.0  # for the last rows, and the metric rows of the last minute
BEHIND_SECONDS = 5.0  # of its rate: a backlog above that at the end of a step is one that grows
Start = Callable[[Queue, Path], contextlib.AbstractContextManager[System]]


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
    """One rate, tried. `row` and `metric`: (half, 99 %) of the seconds from publishing to being readable."""

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

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor an event, of the worker and the runner, while it is published."""
        first, last = self.samples[0], self._at_end()
        used = last.worker_cpu + last.runner_cpu - first.worker_cpu - first.runner_cpu
        return used / max(last.events - first.events, 1) * 1e6

    def _at_end(self) -> Sample:
        end = self.samples[0].at + self.seconds
        return next(s for s in reversed(self.samples) if s.at <= end + LOOK_SECONDS)


def hold(
    name: str, start: Start, queue: Queue, folder: Path, rate: float, seconds: float, catch_up: float = CATCH_UP_SECONDS
) -> Held:
    """Publish at a rate for so long, watch, and let it catch up if it holds the rate."""
    folder.mkdir(parents=True)
    with start(queue, folder) as system:
        _warm_up(queue, system)
        before = system.counter.look()
        published, samples, query_ms = _watch(queue, system, rate, seconds, catch_up)
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


def climb(
    name: str,
    start: Start,
    queues: Callable[[], Queue],
    folder: Path,
    rates: Sequence[float],
    step: float,
    catch_up: float = CATCH_UP_SECONDS,
) -> Held | None:
    """The highest of the rates that is held."""
    best = None
    for rate in rates:
        held = hold(name, start, queues(), folder / f"{name}-{rate}".replace(" ", "-"), rate, step, catch_up)
        if not held.holds:
            break
        best = held
    return best


def longest(
    name: str, start: Start, queues: Callable[[], Queue], folder: Path, rates: Sequence[float], step: float, long: float
) -> Held:
    """The highest of the rates that is held for `long` seconds; the last that was tried, if none is."""
    best = climb(name, start, queues, folder, rates, step)
    tried = [rate for rate in rates if best and rate <= best.rate] or rates[:1]
    for rate in reversed(tried):
        held = hold(name, start, queues(), folder / f"held-{rate}".replace(" ", "-"), rate, long)
        if held.holds:
            break
    return held


def describe(held: Held) -> str:
    """Return the result as one line."""
    rows, metric = (f"{half:.1f} s ({most:.1f} s)" for half, most in (held.row, held.metric))
    return (
        f"{held.name:<34} {held.rate:>7,.0f}/s  behind {max(held.behind, 0):>9,}  rows {rows}  {METRIC} {metric}"
        f"  {held.cpu_us:,.0f} us/event  {held.written:,} of {held.published:,}"
    )


def _warm_up(queue: Queue, system: System) -> None:
    """Wait until events come through."""
    end = time.monotonic() + 120
    subprocess.run(_publisher(queue, 50, 2), cwd=ROOT, check=True, capture_output=True, env=_environ())
    while system.counter.look()[0] < 90:
        if system.process.poll() is not None or time.monotonic() > end:
            raise RuntimeError("nothing comes through; see run.log")
        time.sleep(LOOK_SECONDS)


def _watch(queue: Queue, system: System, rate: float, seconds: float, catch_up: float):
    """([(when, published so far)], [Sample], [ms])"""
    samples: list[Sample] = []
    query_ms: list[float] = []
    with tempfile.TemporaryFile("w+b") as out:
        publisher = subprocess.Popen(_publisher(queue, rate, seconds), cwd=ROOT, stdout=out, env=_environ())
        end = None
        while True:
            events, counted, files = system.counter.look()
            samples.append(Sample(time.time(), events, counted, files, *_used(system)))
            if publisher.poll() is not None and end is None:
                lost = rate * (seconds - BEHIND_SECONDS) > events - samples[0].events  # it grows: nothing to wait for
                end = time.monotonic() + (0.0 if lost else catch_up)
            done = min(events - samples[0].events, counted - samples[0].counted) >= int(rate * seconds) * 0.999
            if end is not None and (done or time.monotonic() > end):
                break
            if samples[-1].at - samples[0].at >= ASK_SECONDS * len(query_ms):
                query_ms.append(system.counter.ask())
            time.sleep(LOOK_SECONDS)
        out.seek(0)
        published = [(row["at"], row["published"]) for row in map(json.loads, out)]
    return published, samples, query_ms


def _publisher(queue: Queue, rate: float, seconds: float) -> list[str]:
    return [sys.executable, "benchmarks/stream_publisher.py", queue.topic, str(rate), str(seconds)]


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _used(system: System) -> tuple[int, int, float, float]:
    """Return (memory of the worker, of the runner in bytes, CPU seconds of the worker, of the runner)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        runners = system.process.children(recursive=True) + ([system.runner] if system.runner else [])
        memory = [each.memory_info().rss for each in (system.process, *runners)]
        seconds = [sum(each.cpu_times()[:2]) for each in (system.process, *runners)]
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
