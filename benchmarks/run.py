"""The benchmark: this graph, DuckDB and an idiomatic per-event Beam graph, side by side in one run.

    python benchmarks/run.py [--events 1000000] [--runs 2] [--before CHECKOUT] [--write]

What it measures: whole processes, from start to exit, imports included, in turn (A B C A B C ...), on one input of
simulated events: wall and processor seconds, and peak memory, which is the sum over a run's processes, sampled every
50 ms. The per-event graph reads `--per_event` of the events, once, since all would take minutes, and is compared by
events a second. `--before` is a checkout of another version, measured in turn with this one's packages. A rate stands
beside the speed of the machine (machine.py), a ratio does not need it. Takes about five minutes on two cores.
Each program runs once before, over few events: what Python compiles of its modules is kept, as it is for whoever runs
a command a second time, also where PYTHONDONTWRITEBYTECODE is set.
What it does not show: a cluster, a queue, a store over a network, or data of another shape. Machines differ and are
noisy: quote the ratios.
"""

import argparse
import json
import os
import platform
import resource
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
sys.path.insert(0, str(ROOT))

from benchmarks.machine import Speed, describe, measure_speed  # noqa: E402

RESULTS = Path(__file__).parent / "RESULTS.md"
FIGURES = Path(__file__).parent / "results" / "batch.json"
SAMPLE_SECONDS = 0.05
FEW_EVENTS = 2_000
OURS, DUCKDB, PER_EVENT, GROWN = "audience", "DuckDB", "per-event Beam", "audience, 4 times the input"
ONE, PROCESSES, LESS, BEFORE = (
    "audience, one thread",
    "audience, two processes",
    "audience, without sessions",
    "audience, the version before",
)


class Timed(NamedTuple):
    """One whole process: wall and processor seconds, and the peak of the memory, of it and all its processes."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


class Row(NamedTuple):
    """A line of the result: medians over the runs."""

    name: str
    events: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def timed(command: list[str], folder: Path = ROOT) -> Timed:
    """Run a command to its end; RuntimeError with its last words if it fails."""
    with tempfile.TemporaryFile("w+") as said:
        started, used = time.monotonic(), _cpu_of_children()
        process = psutil.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _tree_bytes(process))
            time.sleep(SAMPLE_SECONDS)
        seconds, used = time.monotonic() - started, _cpu_of_children() - used
        said.seek(0)
        output = said.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {process.returncode}: {output[-500:]}")
    return Timed(seconds, used, peak)


def _cpu_of_children() -> float:
    """Processor seconds of the processes that have ended, those that they had started and waited for included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
    from pipelines.apps.simulator.simulate import simulate

    path = folder / f"events-{events}.jsonl"
    if not path.exists():
        simulate(events=events, seed=1, output=path, days=max(1, 2 * events // 1_000_000), start=date(2026, 3, 1))
    return path


def commands(input: Path, out: Path) -> dict[str, list[str]]:
    """The rivals over one input, each into a folder."""
    python = sys.executable
    backfill = ["backfill", "--input", str(input), "--warehouse", str(out)]
    ours = [python, "-m", "pipelines.cli", *backfill]
    return {
        OURS: ours,
        ONE: [*ours, "--workers", "1"],
        PROCESSES: [*ours, "--workers", "2"],
        LESS: [python, "-m", "benchmarks.without_sessions", *backfill],
        DUCKDB: [python, "benchmarks/duckdb_rival.py", str(input), str(out)],
    }


def measure(name: str, command: list[str], out: Path, folder: Path = ROOT) -> Timed:
    """One run into a folder that is removed before."""
    shutil.rmtree(out, ignore_errors=True)
    result = timed(command, folder)
    print(
        f"  {name:<29} {result.seconds:7.1f} s  {result.cpu_seconds:7.1f} s of processor"
        f"  {result.peak_bytes / 2**20:7,.0f} MiB",
        file=sys.stderr,
    )
    return result


def keep_byte_code(folder: Path, before: Path | None) -> None:
    """Run each program once over few events, and let them and later ones keep in `folder` what Python compiles."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "byte-code")
    input, out = simulated(folder, FEW_EVENTS), folder / "few"
    for name, command in commands(input, out).items():
        for checkout in [ROOT, *([before] if before and name == OURS else [])]:
            shutil.rmtree(out, ignore_errors=True)
            timed(command, checkout)
    timed([sys.executable, "benchmarks/per_event_rival.py", str(input), str(out)])
    shutil.rmtree(out)


def median(name: str, events: int, measured: list[Timed]) -> Row:
    """The medians of the runs of one rival."""
    seconds, cpu_seconds, peak_bytes = (statistics.median(column) for column in zip(*measured, strict=True))
    return Row(name, events, seconds, cpu_seconds, int(peak_bytes))


def compare(folder: Path, events: int, runs: int, before: Path | None) -> list[Row]:
    """All rivals in turn, `runs` times; their last output stays in `folder`."""
    input = simulated(folder, events)
    results: dict[str, list[Timed]] = {}
    for _ in range(runs):
        for name in commands(input, folder):
            out = folder / name.replace(" ", "-")
            results.setdefault(name, []).append(measure(name, commands(input, out)[name], out))
        if before:
            out = folder / "before"
            results.setdefault(BEFORE, []).append(measure(BEFORE, commands(input, out)[OURS], out, before))
    return [median(name, events, measured) for name, measured in results.items()]


def per_event(folder: Path, events: int) -> Row:
    """The per-event graph, once: it is slow, and its rate hardly changes."""
    out = folder / "per-event"
    command = [sys.executable, "benchmarks/per_event_rival.py", str(simulated(folder, events)), str(out)]
    return median(PER_EVENT, events, [measure(PER_EVENT, command, out)])


def viewed(folder: Path, events: int, runs: int) -> list[Row]:
    """Every view of a number, over what `compare` has left of this graph and of DuckDB."""
    rows = []
    for name, whose in ((OURS, "ours"), (DUCKDB, "duckdb")):
        command = [sys.executable, "-m", "benchmarks.views", whose, str(folder / name)]
        rows.append(median(f"{name}, every view", events, [timed(command) for _ in range(runs)]))
    return rows


def grown(folder: Path, events: int) -> Row:
    """This graph on an input four times as large."""
    out = folder / "grown"
    run = measure(GROWN, commands(simulated(folder, 4 * events), out)[OURS], out)
    shutil.rmtree(out)
    return median(GROWN, 4 * events, [run])


def forms() -> str:
    """What a record costs to parse in each form, as a program of its own prints it: one thread, no Beam."""
    command = [sys.executable, "-m", "benchmarks.parse_forms", "--events", "120000", "--runs", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return f"Parse alone (`{' '.join(['python', *command[1:]])}`, criterion: at most 1.3 times native):\n\n    " + (
        done.stdout.rstrip().replace("\n", "\n    ") + "\n"
    )


def figures(rows: list[Row], speeds: list[Speed]) -> dict[str, object]:
    """The ratios by name, for programs: those of one run on one machine, with its speed before and after."""
    by_name = {row.name: row for row in rows}
    ours, duckdb, grown = by_name[OURS], by_name[DUCKDB], by_name[GROWN]
    beam = by_name[PER_EVENT]
    found: dict[str, object] = {
        "duckdb_wall_ratio": round(ours.seconds / duckdb.seconds, 3),
        "duckdb_cpu_ratio": round(ours.cpu_seconds / duckdb.cpu_seconds, 3),
        "duckdb_cpu_ratio_one_process": round(by_name[ONE].cpu_seconds / duckdb.cpu_seconds, 3),
        "per_event_factor": round((ours.events / ours.seconds) / (beam.events / beam.seconds), 1),
        "per_event_cpu_factor": round((ours.events / ours.cpu_seconds) / (beam.events / beam.cpu_seconds), 1),
        "memory_ratio_4x": round(grown.peak_bytes / ours.peak_bytes, 3),
    }
    if BEFORE in by_name:
        found["before_wall_ratio"] = round(ours.seconds / by_name[BEFORE].seconds, 3)
        found["before_cpu_ratio"] = round(ours.cpu_seconds / by_name[BEFORE].cpu_seconds, 3)
    return {**found, "events": ours.events, "machine_speed": [speed._asdict() for speed in speeds]}


def report(rows: list[Row], runs: int, speeds: list[Speed]) -> str:
    """The results as Markdown."""
    by_name = {row.name: row for row in rows}
    ours, grown = by_name[OURS], by_name[GROWN]
    lines = [
        "| what | events | seconds | processor seconds | events/s | peak memory |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.name} | {row.events:,} | {row.seconds:.1f} | {row.cpu_seconds:.1f} | {row.events / row.seconds:,.0f}"
        f" | {row.peak_bytes / 2**20:,.0f} MiB |"
        for row in rows
    ]
    found = figures(rows, speeds)
    views = [by_name[f"{name}, every view"].seconds for name in (OURS, DUCKDB)]
    ratios = {
        "time, of DuckDB's for the same outputs (criterion: at most 1.2, goal 1)": found["duckdb_wall_ratio"],
        "processor time, of DuckDB's (criterion: at most 1.2, goal 1)": found["duckdb_cpu_ratio"],
        "the same with one thread": found["duckdb_cpu_ratio_one_process"],
        "time, of one thread's": ours.seconds / by_name[ONE].seconds,
        "time, of two processes'": ours.seconds / by_name[PROCESSES].seconds,
        "processor time, of two processes'": ours.cpu_seconds / by_name[PROCESSES].cpu_seconds,
        "time, of that without sessions (criterion: at most 1.5)": ours.seconds / by_name[LESS].seconds,
        "events a second, of the per-event graph's (criterion: at least 100)": found["per_event_factor"],
        "the same by processor time": found["per_event_cpu_factor"],
        "time of every view, of DuckDB's over plain tables": views[0] / views[1],
        "peak memory for four times the input (criterion: at most 1.1)": found["memory_ratio_4x"],
        "time for four times the input": grown.seconds / ours.seconds,
    }
    if BEFORE in by_name:
        ratios["time, of the version before"] = found["before_wall_ratio"]
        ratios["processor time, of the version before"] = found["before_cpu_ratio"]
    lines += ["", "| ratio | |", "|---|---:|", *(f"| {name} | {value:.2f} |" for name, value in ratios.items())]
    versions = ", ".join(f"{name} {version(name)}" for name in ("apache-beam", "polars", "duckdb", "msgspec"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"
    lines += ["", f"{machine}; Python {platform.python_version()}, {versions}; medians of {runs} runs, in turn."]
    lines += ["", *(f"{when}: {describe(speed)}." for when, speed in zip(("Before", "After"), speeds, strict=True))]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure and print; `--write` keeps the result in RESULTS.md and results/batch.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--per_event", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="Sources of another version")
    parser.add_argument("--write", action="store_true", help=f"Keep the result in {RESULTS.name} and {FIGURES.name}")
    options = parser.parse_args()
    speeds = [measure_speed()]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        before = options.before and options.before.resolve()
        keep_byte_code(folder, before)
        rows = compare(folder, options.events, options.runs, before)
        rows += viewed(folder, options.events, options.runs)
        rows += [per_event(folder, options.per_event), grown(folder, options.events)]
    speeds.append(measure_speed())
    text = report(rows, options.runs, speeds) + "\n" + forms()
    print(text)
    if options.write:
        head = RESULTS.read_text().partition("\n| what")[0] if RESULTS.exists() else "# Results\n"
        RESULTS.write_text(f"{head.rstrip()}\n\n{text}")
        FIGURES.parent.mkdir(exist_ok=True)
        FIGURES.write_text(json.dumps(figures(rows, speeds), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
