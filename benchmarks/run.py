"""The benchmark: this graph, DuckDB and an idiomatic per-event Beam graph, side by side in one run.

    python benchmarks/run.py [--events 1000000] [--runs 3] [--write]

What it measures: whole processes, from start to exit, imports included, in turn (A B C A B C ...), on one input of
simulated events; peak memory is the sum over a run's processes, sampled every 50 ms. The per-event graph reads
`--per_event` of the events, since all would take minutes, and is compared by events a second.
What it does not show: a cluster, a queue, a store over a network, or data of another shape. Machines differ and are
noisy: quote the ratios.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "RESULTS.md"
SAMPLE_SECONDS = 0.05


class Timed(NamedTuple):
    """One whole process: wall seconds, and the peak of the memory of all its processes."""

    seconds: float
    peak_bytes: int
    output: str


class Row(NamedTuple):
    """A line of the result: medians over the runs."""

    name: str
    events: int
    seconds: float
    peak_bytes: int


def timed(command: list[str]) -> Timed:
    """Run a command to its end; RuntimeError with its last words if it fails."""
    with tempfile.TemporaryFile("w+") as said:
        started = time.monotonic()
        process = psutil.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _tree_bytes(process))
            time.sleep(SAMPLE_SECONDS)
        seconds = time.monotonic() - started
        said.seek(0)
        output = said.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {process.returncode}: {output[-500:]}")
    return Timed(seconds, peak, output)


def _tree_bytes(process: psutil.Process) -> int:
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # it ended between two looks
    return total


def simulated(folder: Path, events: int) -> Path:
    """A file of simulated events; two days hold a million, so that the density stays as the input grows."""
    sys.path.insert(0, str(ROOT))
    from pipelines.apps.simulator.simulate import simulate

    path = folder / f"events-{events}.jsonl"
    simulate(events=events, seed=1, output=path, days=max(1, 2 * events // 1_000_000), start=date(2026, 3, 1))
    return path


def commands(input: Path, scratch: Path) -> dict[str, list[str]]:
    """The rivals over one input, each into a folder of its own."""
    python, out = sys.executable, str(scratch / "out")
    ours = [python, "-m", "pipelines.cli", "backfill", "--input", str(input), "--warehouse", out]
    return {
        "audience": ours,
        "audience, one process": [*ours, "--workers", "1"],
        "audience, without sessions": [python, "-m", "benchmarks.without_sessions", *ours[3:]],
        "DuckDB": [python, "benchmarks/duckdb_rival.py", str(input), out],
        "per-event Beam": [python, "benchmarks/per_event_rival.py", str(input), out],
    }


def measure(name: str, command: list[str], scratch: Path) -> Timed:
    """One run in an empty scratch folder."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    result = timed(command)
    print(f"  {name:<24} {result.seconds:7.1f} s  {result.peak_bytes / 2**20:7,.0f} MiB", file=sys.stderr)
    return result


def compare(folder: Path, events: int, per_event: int, runs: int) -> list[Row]:
    """All rivals in turn, `runs` times; medians."""
    whole, part, scratch = simulated(folder, events), simulated(folder, per_event), folder / "scratch"
    results: dict[str, list[Timed]] = {}
    for _ in range(runs):
        for name in commands(whole, scratch):
            input = part if name == "per-event Beam" else whole
            results.setdefault(name, []).append(measure(name, commands(input, scratch)[name], scratch))
    return [
        Row(
            name,
            per_event if name == "per-event Beam" else events,
            statistics.median(run.seconds for run in measured),
            int(statistics.median(run.peak_bytes for run in measured)),
        )
        for name, measured in results.items()
    ]


def viewed(folder: Path, events: int, runs: int) -> list[Row]:
    """Every view of a number, over what this graph and DuckDB have written."""
    input, rows = simulated(folder, events), []
    for name, whose in (("audience", "ours"), ("DuckDB", "duckdb")):
        made = folder / f"viewed-{whose}"
        made.mkdir()
        measure(name, commands(input, made)[name], made)
        command = [sys.executable, "-m", "benchmarks.views", whose, str(made / "out")]
        measured = [timed(command) for _ in range(runs)]
        seconds = statistics.median(each.seconds for each in measured)
        rows.append(Row(f"{name}, every view", events, seconds, max(each.peak_bytes for each in measured)))
        shutil.rmtree(made)
    return rows


def grown(folder: Path, events: int) -> Row:
    """This graph on an input four times as large."""
    run = measure(
        "audience, 4 times", commands(simulated(folder, 4 * events), folder / "scratch")["audience"], folder / "scratch"
    )
    return Row("audience, 4 times the input", 4 * events, run.seconds, run.peak_bytes)


def forms() -> str:
    """What a record costs to parse in each form, as a program of its own prints it: one thread, no Beam."""
    command = [sys.executable, "-m", "benchmarks.parse_forms", "--events", "120000", "--runs", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return f"Parse alone (`{' '.join(['python', *command[1:]])}`, criterion: at most 1.3 times native):\n\n    " + (
        done.stdout.rstrip().replace("\n", "\n    ") + "\n"
    )


def report(rows: list[Row], runs: int) -> str:
    """The results as Markdown."""
    by_name = {row.name: row for row in rows}
    ours, duckdb = by_name["audience"], by_name["DuckDB"]
    less = by_name["audience, without sessions"]
    beam, large = by_name["per-event Beam"], by_name["audience, 4 times the input"]
    lines = ["| what | events | seconds | events/s | peak memory |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {row.name} | {row.events:,} | {row.seconds:.1f} | {row.events / row.seconds:,.0f}"
        f" | {row.peak_bytes / 2**20:,.0f} MiB |"
        for row in rows
    ]
    ratios = {
        "time, of DuckDB's for the same outputs (criterion: at most 3, goal 2)": ours.seconds / duckdb.seconds,
        "time, of that without sessions (criterion: at most 1.5)": ours.seconds / less.seconds,
        "events a second, of the per-event graph's (expected above 60)": (ours.events / ours.seconds)
        / (beam.events / beam.seconds),
        "time of every view, of DuckDB's over plain tables": by_name["audience, every view"].seconds
        / by_name["DuckDB, every view"].seconds,
        "peak memory for four times the input (criterion: at most 2)": large.peak_bytes / ours.peak_bytes,
        "time for four times the input": large.seconds / ours.seconds,
    }
    lines += ["", "| ratio | |", "|---|---:|", *(f"| {name} | {value:.2f} |" for name, value in ratios.items())]
    versions = ", ".join(f"{name} {version(name)}" for name in ("apache-beam", "polars", "duckdb", "msgspec"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"
    lines += ["", f"{machine}; Python {platform.python_version()}, {versions}; medians of {runs} runs, in turn."]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure and print; `--write` keeps the result in RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--per_event", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"Keep the result in {RESULTS.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(Path(folder), options.events, options.per_event, options.runs)
        rows += viewed(Path(folder), options.events, options.runs)
        rows.append(grown(Path(folder), options.events))
    text = report(rows, options.runs) + "\n" + forms()
    print(text)
    if options.write:
        head = RESULTS.read_text().partition("\n| what")[0] if RESULTS.exists() else "# Results\n"
        RESULTS.write_text(f"{head.rstrip()}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
