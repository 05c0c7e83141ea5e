"""A stream above the rate that it holds, and for long.

    python benchmarks/stream_limits.py overload [--held 16000] [--seconds 120] [--write]
    python benchmarks/stream_limits.py memory [--held 16000] [--minutes 60] [--write]

(and `make tools` before it)

overload  events are published at twice the rate that is held (results/stream.json), and then no more. It fails unless
          every event can be read afterwards, once, in `events` and in the metric, and the audit counts reconcile; it
          prints how far the stream was behind, and how long it took to be level.
memory    half the rate that is held. Prints the memory of the worker and of Prism by tenths of the time, and fails if
          the mean of the last tenth is more than a tenth above that of the third: flat, once all is warm.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from stream import RATIOS, Bench
from stream_rates import Held, hold
from stream_systems import ROOT, ours

from benchmarks.machine import describe, measure_speed
from pipelines.sources.pubsub.client import EMULATOR
from tests.integration.same import UNBALANCED
from tests.integration.streams import ask
from tests.servers.pubsub import make_emulator

RESULTS = Path(__file__).parent / "RESULTS-stream-limits.md"
CATCH_UP_SECONDS = 900.0
FLAT = 1.1  # of the memory of the third tenth


def overload(bench: Bench, held: float, seconds: float) -> tuple[str, bool]:
    """Publish at twice the rate for so long; (what was found, whether nothing was lost)."""
    folder = bench.scratch / "over"

    def reconciles() -> bool:
        return ask(folder / "warehouse", UNBALANCED) == 0

    found = hold("overload", ours, bench.queue(), folder, 2 * held, seconds, CATCH_UP_SECONDS, reconciles)
    unbalanced = ask(folder / "warehouse", UNBALANCED)
    lost = found.published - found.written
    uncounted = found.published - found.samples[-1].counted
    text = (
        f"{found.published:,} events in {seconds:.0f} s, {found.published / seconds:,.0f} a second ({held:,.0f} are "
        f"held): {found.behind:,} not readable at the end of it, level {_level(found):.0f} s later. Memory of the "
        f"worker {_most(found) / 2**20:,.0f} MiB at most. Of all events {lost:,} are not in `events`, {uncounted:,} "
        f"not in the metric, and {unbalanced} minutes do not reconcile."
    )
    return text, (lost, uncounted, unbalanced) == (0, 0, 0)


def memory(bench: Bench, held: float, minutes: float) -> tuple[str, bool]:
    """Publish at half the rate for so long; (what was found, whether the memory stays)."""
    found = hold("memory", ours, bench.queue(), bench.scratch / "long", held / 2, minutes * 60)
    start, end = found.samples[0].at, found.samples[0].at + found.seconds
    tenths = []
    for number in range(10):
        inside = [s for s in found.samples if number <= 10 * (s.at - start) / (end - start) < number + 1]
        tenths.append((statistics.mean(s.worker for s in inside), statistics.mean(s.runner for s in inside)))
    flat = sum(tenths[-1]) <= FLAT * sum(tenths[2])
    lines = [
        f"{held / 2:,.0f} events a second for {minutes:.0f} minutes, half of what is held; row 99 % "
        f"{found.row[1]:.1f} s, {found.published - found.written:,} events missing at the end. Mean memory:",
        "",
        "| tenth of the time | worker | Prism |",
        "|---:|---:|---:|",
        *(f"| {n} | {w / 2**20:,.0f} MiB | {r / 2**20:,.0f} MiB |" for n, (w, r) in enumerate(tenths, 1)),
    ]
    return "\n".join(lines), flat and found.holds


def _level(found: Held) -> float:
    """Seconds from the end of publishing until every event was readable."""
    end = found.samples[0].at + found.seconds
    return next((s.at - end for s in found.samples if s.events >= found.published), float("inf"))


def _most(found: Held) -> int:
    return max(sample.worker for sample in found.samples)


def main() -> int:
    """Measure, print, and fail where the bar is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overload", "memory"))
    parser.add_argument("--held", type=float, help="Events a second that are held (default: of results/stream.json)")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--write", action="store_true", help=f"Add the result to {RESULTS.name}")
    options = parser.parse_args()
    held = options.held or json.loads(RATIOS.read_text())["held_per_second"]
    speed = measure_speed()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        emulator = make_emulator(scratch / "emulator.log")
        emulator.memory = "15g"  # it keeps what was acknowledged
        os.environ[EMULATOR] = stack.enter_context(emulator).host
        bench = Bench(scratch, emulator.host)
        if options.what == "overload":
            found, good = overload(bench, held, options.seconds)
        else:
            found, good = memory(bench, held, options.minutes)
    command = " ".join(["python", str(Path(sys.argv[0]).resolve().relative_to(ROOT)), *sys.argv[1:]])
    text = f"`{command}`: {describe(speed)}.\n\n{found}\n"
    print(text)
    if options.write:
        page = RESULTS.read_text() if RESULTS.exists() else "# Results of a stream above its rate, and for long\n"
        RESULTS.write_text(f"{page}\n{text}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
