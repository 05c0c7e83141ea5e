"""The streaming benchmark: what an event costs, the highest rate that is held, and how fresh the rows are.

    python benchmarks/stream.py [--write]                 five minutes: the ratios, to results/stream.json
    python benchmarks/stream.py --long [--minutes 10] [--write]        hours: RESULTS-stream.md

(and `make tools` before it)

On this machine alone: Google's Pub/Sub emulator, a publisher, `audience run` on Prism into a local warehouse, and this
program, which watches. Beside it the usual per-event graph on Prism, on the same queue.

Ratios     Machines differ and are noisy, so what counts is ours against the per-event graph in one run: processor time
           an event at 500/s (less is better), at the highest rate that each holds, and these rates (more is better).
           The calls of Polars and the encodings of a block are counted, and no noise moves them (block_calls.py).
--long     Each rate is tried for `--step` seconds; the highest whose backlog does not grow is held for `--minutes`,
           and again without sessions. The same is measured into the BigQuery emulator. Then the per-event graph climbs
           its own rates, on Prism and on Beam's legacy runner with Beam's own reader. Memory is that of the processes;
           state is the growth of Prism per event. It fails below the floor: 5,000 events/s, rows within 5 s (half) and
           15 s (99 %).
"""

import argparse
import contextlib
import importlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import psutil
from stream_rates import Held, Start, climb, hold, longest
from stream_systems import into_bigquery, ours, per_event_on_legacy, per_event_on_prism, without_sessions

from benchmarks.machine import Speed, measure_speed
from benchmarks.machine import describe as describe_speed
from pipelines.sources.pubsub.client import EMULATOR
from tests.servers.bigquery import bigquery_emulator
from tests.servers.pubsub import Queue, make_emulator

RESULTS, RATIOS = Path(__file__).parent / "RESULTS-stream.md", Path(__file__).parent / "results" / "stream.json"
FLOOR = (5_000, 5.0, 15.0)
BOTH = 500.0  # events a second at which both are compared
STEP_SECONDS, CATCH_UP_SECONDS = 20.0, 15.0  # of a rate among the ratios
OUR_RATES, RIVAL_RATES = (4_000, 8_000, 16_000, 20_000, 24_000), (1_000, 2_000)
LOW_RATES = (400, 300, 200, 100)  # where the rival does not hold BOTH


class Bench:
    """The emulator, and a folder for what is measured."""

    def __init__(self, scratch: Path, host: str):
        self.scratch, self.host = scratch, host

    def queue(self) -> Queue:
        """A new subscription."""
        return Queue(self.host)

    def at(self, name: str, start: Start, rate: float) -> Held:
        """One rate, for the ratios."""
        folder = self.scratch / f"{name}-{rate:.0f}".replace(" ", "-")
        return hold(name, start, self.queue(), folder, rate, STEP_SECONDS, CATCH_UP_SECONDS)

    def highest(self, name: str, start: Start, first: Held, higher: Sequence[float], lower: Sequence[float]) -> Held:
        """The highest rate that is held, from `first` on upwards; downwards where that is not. The last, if none is."""
        best = first
        for rate in higher if first.holds else lower:
            held = self.at(name, start, rate)
            if first.holds and not held.holds:
                break
            best = held
            if not first.holds and held.holds:
                break
        return best


def measure_ratios(bench: Bench, speed: Speed) -> dict[str, float | None]:
    """The ratios of this run, and with what machine they were measured; None for a count that could not be made."""
    ours_at, rival_at = bench.at("audience", ours, BOTH), bench.at("per event", per_event_on_prism, BOTH)
    ours_best = bench.highest("audience", ours, ours_at, OUR_RATES, ())
    rival_best = bench.highest("per event", per_event_on_prism, rival_at, RIVAL_RATES, LOW_RATES)
    calls, encodings = count_block()
    return {
        "cpu_ratio_at_500": round(ours_at.cpu_us / rival_at.cpu_us, 4),
        "cpu_ratio_at_highest": round(ours_best.cpu_us / rival_best.cpu_us, 4),
        "held_factor": round(ours_best.rate / rival_best.rate, 1),
        "calls_per_block": calls,
        "encodings_per_block": encodings,
        "cpu_us_at_500": round(ours_at.cpu_us, 1),
        "cpu_us_at_highest": round(ours_best.cpu_us, 1),
        "held_per_second": ours_best.rate,
        "per_event_cpu_us_at_500": round(rival_at.cpu_us, 1),
        "per_event_held_per_second": rival_best.rate,
        "row_seconds_at_500": round(ours_at.row[0], 2),
        "row_seconds_99_at_500": round(ours_at.row[1], 2),
        "machine_python_seconds": round(speed.python_seconds, 4),
        "machine_polars_seconds": round(speed.polars_seconds, 4),
    }


def count_block() -> tuple[int | None, int | None]:
    """The calls of Polars and the Arrow IPC encodings of a block; None where nothing counts them."""
    try:
        counting = importlib.import_module("benchmarks.block_calls")
    except ModuleNotFoundError:
        return None, None
    calls, encodings, *_ = counting.count_block()
    return calls, encodings


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
    """Measure, print, and fail below the floor of the long run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="Hold the highest rates for --minutes, in hours")
    parser.add_argument("--rates", type=_rates, default="5000,10000,15000,20000,25000")
    parser.add_argument("--bigquery_rates", type=_rates, default="1000,2000,5000,10000", help="none: leave it out")
    parser.add_argument("--rival_rates", type=_rates, default="100,200,500,1000,2000,4000", help="none: leave them out")
    parser.add_argument("--step", type=float, default=45, help="Seconds for each rate")
    parser.add_argument("--minutes", type=float, default=10, help="For the highest rate")
    parser.add_argument("--folder", help="Where runs are kept (default: a temporary folder)")
    parser.add_argument("--write", action="store_true", help=f"Keep the result in {RATIOS.name} or {RESULTS.name}")
    options = parser.parse_args()
    speed = measure_speed()
    print(describe_speed(speed), file=sys.stderr)
    with contextlib.ExitStack() as stack:
        scratch = Path(options.folder or stack.enter_context(tempfile.TemporaryDirectory()))
        scratch.mkdir(parents=True, exist_ok=True)
        emulator = make_emulator(scratch / "emulator.log")
        emulator.memory = "15g"  # it keeps what was acknowledged
        os.environ[EMULATOR] = stack.enter_context(emulator).host
        bench = Bench(scratch, emulator.host)
        return _measure_long(bench, options, stack, speed) if options.long else _measure_ratios(bench, options, speed)


def _measure_ratios(bench: Bench, options: argparse.Namespace, speed: Speed) -> int:
    text = json.dumps(measure_ratios(bench, speed), indent=2) + "\n"
    print(text, end="")
    if options.write:
        RATIOS.parent.mkdir(exist_ok=True)
        RATIOS.write_text(text)
    return 0


def _measure_long(bench: Bench, options: argparse.Namespace, stack: contextlib.ExitStack, speed: Speed) -> int:
    def tried(name: str, start: Callable, rates: list[float], seconds: float | None = None) -> list[Held]:
        if not rates:
            return []
        folder = bench.scratch / name.replace(" ", "-")
        if seconds is not None:
            return [longest(name, start, bench.queue, folder, rates, options.step, seconds)]
        best = climb(name, start, bench.queue, folder, rates, options.step)
        return [best] if best else []

    held = tried("audience", ours, options.rates, options.minutes * 60)
    held += tried("audience, without sessions", without_sessions, [held[0].rate], options.minutes * 60)
    if options.bigquery_rates:
        os.environ |= stack.enter_context(bigquery_emulator()).environment
    held += tried("audience, into BigQuery's emulator", into_bigquery, options.bigquery_rates, options.minutes * 60)
    held += tried("per event, on Prism", per_event_on_prism, options.rival_rates)
    held += tried("per event, on the legacy runner", per_event_on_legacy, options.rival_rates)
    text = f"{report(held)}\n{describe_speed(speed)}\n"
    print(text)
    if options.write:
        RESULTS.write_text(f"# Streaming results\n\n`python benchmarks/stream.py --long --write`\n\n{text}")
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
