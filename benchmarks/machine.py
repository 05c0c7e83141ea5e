"""The speed of the machine, measured in the run that quotes a rate: a rate alone says as much about the machine.

    python -m benchmarks.machine

Two fixed pieces of work, one of Python and one of Polars on one thread, in processor seconds: the least of a few
repeats, so that what else runs on the machine hardly shows. Twice the seconds means a machine half as fast.
"""

import os
import time
from collections.abc import Callable
from typing import NamedTuple

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # as in the steps of the graph; read when Polars is imported

import polars as pl

REPEATS = 5
LOOPS = 1_600_000
ROWS = 1_000_000


class Speed(NamedTuple):
    """Processor seconds of the two fixed pieces of work."""

    python_seconds: float
    polars_seconds: float


def measure_speed(repeats: int = REPEATS) -> Speed:
    """Return the speed of this machine; takes about three seconds."""
    frame = _rows()
    return Speed(_least(_work_in_python, repeats), _least(lambda: _work_in_polars(frame), repeats))


def describe(speed: Speed) -> str:
    """Return the speed in one line."""
    return (
        f"machine speed: {LOOPS:,} steps of Python in {speed.python_seconds:.3f} s, a group and sort of {ROWS:,} rows "
        f"in Polars in {speed.polars_seconds:.3f} s of processor time"
    )


def _least(work: Callable[[], object], repeats: int) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        seconds.append(time.process_time() - begun)
    return min(seconds)


def _work_in_python() -> int:
    """Arithmetic, dictionary and text work of the interpreter alone."""
    counts: dict[int, int] = {}
    total = 0
    for number in range(LOOPS):
        key = number * 7919 % 4093
        counts[key] = counts.get(key, 0) + 1
        total += len(str(key))
    return total + len(counts)


def _rows() -> pl.DataFrame:
    """Rows that are the same on every machine: no random numbers, no hashes of a version."""
    row = pl.int_range(ROWS, eager=True)
    return pl.DataFrame({"key": row * 7919 % 40_009, "text": (row * 104_729 % 5_003).cast(pl.String), "value": row})


def _work_in_polars(frame: pl.DataFrame) -> pl.DataFrame:
    """What steps of the graph do most: group by a number and a text, sum, sort."""
    return frame.group_by("key", "text").agg(pl.len(), pl.col("value").sum()).sort("key", "text")


def main() -> None:
    """Measure and print."""
    print(describe(measure_speed()))


if __name__ == "__main__":
    main()
