"""Bombs: small inputs that are expensive. What each costs a backfill, and how the run ends.

    python -m benchmarks.bombs [--only NAME] [--write]

Each input is created in a folder of its own and given to a new process, measured from start to exit. Peak memory is the
sum over all its processes, sampled every 20 ms. A run that exceeds `--most` MiB or `--seconds` is killed, and the table
states that.
What it does not show: a queue, a cluster, or that no other input costs more.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.bomb_inputs import (
    EVENT,
    MB,
    Make,
    aliases,
    csv,
    dense,
    distinct,
    elements,
    keys,
    lines,
    mapped,
    names,
    nested,
    number,
    parquet,
    tiny_files,
    zstd_rle,
    zstd_window,
)
from pipelines.runners.in_process import worker_count
from pipelines.system.cores import core_count

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "RESULTS-bombs.md"
SAMPLE_SECONDS = 0.02
BOOKS = ("received", "events", "quarantined")
BOUND_MIB = 1_024  # for the run, and as much again for each worker: what docs/your-own-events.md states
HEAD = (
    "# Results: bombs\n\nInputs that are small and cost much, each given to a run of its own by `python -m "
    "benchmarks.bombs --write`. What a run may take for any input stands "
    "in [docs/your-own-events.md](../docs/your-own-events.md)."
)

BOMBS: dict[str, Make] = {
    "an honest event, to compare": lines("one.jsonl", (EVENT, 1)),
    "200,000 honest events, to compare": distinct(200_000, "session_id"),
    "ten million lines of one character": lines("ones.jsonl", (b"x\n", 10_000_000)),
    "a million lines of {}": lines("objects.jsonl", (b"{}\n", 1_000_000)),
    "a billion blank lines, gzip": lines("blank.jsonl.gz", (EVENT, 1), (b"\n", 1_000_000_000)),
    "a line of 2.5 GB, bzip2": lines("line.jsonl.bz2", (EVENT, 1), (b"0" * MB, 2_500), (b"\n" + EVENT, 1)),
    "a line of 2.5 GB, gzip": lines("line.jsonl.gz", (EVENT, 1), (b"0" * MB, 2_500), (b"\n" + EVENT, 1)),
    "a line of 2.5 GB, zstd": zstd_rle(2_500 * MB),
    "zstd with a window of 2 GB": zstd_window(31),
    "a line of 64 MB": lines("line.jsonl", (EVENT, 1), (b"0" * MB, 64), (b"\n" + EVENT, 1)),
    "ten lines of 9 MB of empty lists": lines("lists.jsonl", (dense(b"[]", 9 * MB), 10)),
    "ten lines of 9 MB of empty objects, mapped": mapped("objects.jsonl", (dense(b"{}", 9 * MB), 10)),
    "fifty lines of 1 MB of small objects, mapped": mapped("objects.jsonl", (dense(b'{"a":{}}', MB), 50)),
    "ten records of 700,000 keys nearly in order": lines("keys.jsonl", (keys(700_000), 10)),
    "a list of a million elements, exploded": mapped("list.jsonl", (elements(b"1", 1_000_000), 1), explode="items"),
    "a list of 9,000 elements, exploded, in 60 records": mapped(
        "list.jsonl", (elements(b'{"a":1}', 9_000), 60), explode="items"
    ),
    "20,000 lines nested 10,000 deep, gzip": lines("deep.jsonl.gz", (nested(10_000), 20_000)),
    "300,000 numbers of 1e999999999": lines("exponents.jsonl", (number(b"1e999999999"), 300_000)),
    "a thousand numbers of 100,000 digits": lines("digits.jsonl", (number(b"9" * 100_000), 1_000)),
    "CSV: 400,000 short lines under 2,000 columns": csv("short.csv", names(2_000), (b"x\n", 400_000)),
    "CSV: a million short lines under 300 columns": csv("short.csv", names(300), (b"x\n", 1_000_000)),
    "CSV: 20,000 empty records of 2,000 columns": csv("empty.csv", names(2_000), (b"," * 2_002 + b"\n", 20_000)),
    "CSV: 2,000 records of 2,000 columns with long names": csv(
        "names.csv", names(2_000, b"c" * 90 + b"%05d"), (b"x," * 2_002 + b"x\n", 2_000)
    ),
    "CSV: a million columns": csv("columns.csv", names(1_000_000), (b"x\n", 1_000)),
    "CSV: a quoted field of 64 MB": csv("field.csv", b"c", (b'1,x,2,"', 1), (b"0" * MB, 64), (b'"\n', 1)),
    "CSV: a quote that never closes, before 40 MB": csv("quote.csv", b"c", (b'1,x,2,"', 1), (b"1,x,2,3\n", 5_000_000)),
    "CSV: 16 MB of quotes": csv("quotes.csv", b"c", (b'1,x,2,y"""""""\n', 1_100_000)),
    "Parquet: ten million equal strings": parquet("page_view", 10_000_000, 1_000_000),
    "Parquet: a string of 10 MB, 200 times": parquet("x" * 10_000_000, 200, 200),
    "Parquet: a string of 1 GB": parquet("x" * 1_000_000_000, 1, 1),
    "300,000 distinct contents": distinct(300_000, "content_id"),
    "300,000 distinct campaigns": distinct(300_000, "campaign"),
    "1,000 files of one event": tiny_files(1_000),
    "a file name of 250 characters": tiny_files(1, "{:0244d}.jsonl"),
    "a mapping whose test nests aliases": aliases(8),
    "a configuration that nests aliases": aliases(9, as_config=True),
}


class Result(NamedTuple):
    """A line of the table."""

    name: str
    input_bytes: int
    seconds: float
    peak_bytes: int
    bound_bytes: int
    ending: str  # exit status, or why it was killed
    said: str


def run(name: str, make: Make, most: int, seconds: float) -> Result:
    """Make a bomb and set it off; it is killed at `most` bytes or after `seconds`."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "in"
        folder.mkdir()
        words = make(folder)
        size = sum(file.stat().st_size for file in folder.iterdir())
        command = [sys.executable, "-m", "pipelines.cli", *words, "--warehouse", str(Path(place) / "warehouse")]
        errors = Path(place) / "errors"
        with errors.open("wb") as stderr:
            started = time.monotonic()
            process = psutil.Popen(
                command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr, stdin=subprocess.DEVNULL
            )
            peak, killed = _watched(process, most, started + seconds)
            took = time.monotonic() - started
        said = _said(errors.read_text(errors="replace")).replace(f"{place}/", "")
    bound = BOUND_MIB * MB * (1 + (worker_count(0, size) or core_count()))
    return Result(name, size, took, peak, bound, killed or str(process.returncode), said)


def _watched(process: psutil.Popen, most: int, end: float) -> tuple[int, str]:
    """(peak bytes of the tree, why it was killed, if it was) when the process has ended."""
    peak, killed = 0, ""
    while process.poll() is None:
        tree = _tree(process)
        peak = max(peak, sum(map(_resident, tree)))
        killed = "killed: memory" if peak > most else "killed: time" if time.monotonic() > end else ""
        if killed:
            for each in tree:
                _kill(each)
            process.wait()
        time.sleep(SAMPLE_SECONDS)
    return peak, killed


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):  # it ended between two looks
        process.kill()


def _said(errors: str) -> str:
    """What a run said, on a line: its books, or its error."""
    if "Traceback" in errors:
        return "TRACEBACK " + errors.strip().splitlines()[-1][:200]
    found = [words for line in errors.splitlines() if len(words := line.split()) > 1]
    books = [f"{words[0]} {words[1]}" for words in found if words[0] in BOOKS]
    told = [line for line in errors.splitlines() if line.startswith("error:")]
    return "; ".join(told)[:300] or ", ".join(books)


def report(results: list[Result]) -> str:
    """The results as Markdown."""
    table = [
        "| input | its size | seconds | peak memory | of at most | exit status | said |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    table += [
        f"| {each.name} | {_size(each.input_bytes)} | {each.seconds:.1f} | {each.peak_bytes / MB:,.0f} MiB"
        f" | {each.bound_bytes / MB:,.0f} MiB"
        f" | {each.ending} | {each.said.replace('|', '')} |"
        for each in results
    ]
    versions = ", ".join(f"{name} {version(name)}" for name in ("apache-beam", "polars", "pyarrow", "msgspec"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"
    worst = max(results, key=lambda each: each.peak_bytes)
    return (
        "\n".join(table)
        + f"\n\nThe most memory: {worst.peak_bytes / MB:,.0f} MiB ({worst.name})."
        + f"\n\n{machine}; Python {platform.python_version()}, {versions}; one run each.\n"
    )


def _size(count: int) -> str:
    return f"{count:,} B" if count < 10_000 else f"{count / 1000:,.0f} kB"


def main() -> int:
    """Run the bombs and print the table; the exit status is 1 if one exceeds the bound, or ends in a traceback."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="Only the inputs whose name holds this")
    parser.add_argument("--most", type=int, default=6_000, help="MiB at which a run is killed")
    parser.add_argument("--seconds", type=float, default=180, help="after which a run is killed")
    parser.add_argument("--write", action="store_true", help=f"Keep the result in {RESULTS.name}")
    options = parser.parse_args()
    results = []
    for name, make in BOMBS.items():
        if options.only in name:
            results.append(run(name, make, options.most * MB, options.seconds))
            print(report(results[-1:]).splitlines()[2], file=sys.stderr, flush=True)
    text = report(results)
    print(text)
    if options.write:
        RESULTS.write_text(f"{HEAD}\n\n{text}")
    return int(not all(map(_held, results)))


def _held(result: Result) -> bool:
    caught = not result.said.startswith("TRACEBACK")
    return caught and "killed" not in result.ending and result.peak_bytes <= result.bound_bytes


if __name__ == "__main__":
    sys.exit(main())
