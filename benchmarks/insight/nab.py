"""The score of the Numenta Anomaly Benchmark, version 1.1, rebuilt from its description.

A detector gives each row of a file a score between 0 and 1. One threshold, the best, is chosen for all files; a row at
or above it is a detection. The first 15 % of a file, at most 750 rows, do not count. The earliest detection in a window
earns up to 1, by a sigmoid of its place; each detection outside costs up to `false_alarm` by its distance behind the
last window; a window without a detection costs `missed`. 0 is a detector that never fires, 100 a perfect one.
"""

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from math import erfc, sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np

PROBATION, PROBATION_ROWS = 0.15, 5000
PROFILES = {"standard": (0.11, 1.0), "low_false_alarms": (0.22, 1.0), "low_missed": (0.11, 2.0)}
WINDOWS, DATA = "labels/combined_windows.json", "data"


class File(NamedTuple):
    """A series of the benchmark: its name (`realTweets/Twitter_volume_FB.csv`), times, values and labelled windows."""

    name: str
    times: np.ndarray
    values: np.ndarray
    windows: tuple[tuple[int, int], ...]

    @property
    def probation(self) -> int:
        """How many rows at the start do not count."""
        return int(min(PROBATION * len(self.values), PROBATION * PROBATION_ROWS))


class Score(NamedTuple):
    """A score, the threshold that gives it, and what was detected at it."""

    score: float
    threshold: float
    windows: int
    found: int
    false_alarms: int


def files(folder: Path) -> Iterator[File]:
    """Yield the series of a copy of the benchmark, by name."""
    labels = json.loads((folder / WINDOWS).read_text(encoding="utf-8"))
    for path in sorted((folder / DATA).glob("*/*.csv")):
        name = f"{path.parent.name}/{path.name}"
        with path.open(encoding="utf-8", newline="") as lines:
            rows = [(row["timestamp"], float(row["value"])) for row in csv.DictReader(lines)]
        times = np.array([datetime.fromisoformat(time) for time, _ in rows], dtype="datetime64[us]")
        bounds = [(np.datetime64(start), np.datetime64(end)) for start, end in labels.get(name, [])]
        places = [np.flatnonzero((times >= start) & (times <= end)) for start, end in bounds]
        windows = tuple((int(place[0]), int(place[-1])) for place in places if len(place))
        yield File(name, times, np.array([value for _, value in rows]), windows)


def worth(file: File, false_alarm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return of each row what a detection there earns, and the number of its window (-1: none)."""
    earned, number = np.full(len(file.values), -1.0 * false_alarm), np.full(len(file.values), -1)
    for at, (left, right) in enumerate(file.windows):
        rows = np.arange(left, right + 1)
        earned[rows] = _sigmoid(-(right - rows + 1) / (right - left + 1)) / _sigmoid(np.array([-1.0]))
        number[rows] = at
        behind = np.arange(right + 1, file.windows[at + 1][0] if at + 1 < len(file.windows) else len(file.values))
        earned[behind] = _sigmoid((behind - right) / max(right - left, 1)) * false_alarm
    return earned, number


def _sigmoid(place: np.ndarray) -> np.ndarray:
    return np.where(place > 3, -1.0, 2 / (1 + np.exp(np.clip(5 * place, -500, 500))) - 1)


def score(detected: list[tuple[File, np.ndarray]], profile: str = "standard") -> Score:
    """Return the best score over all thresholds of `detected`: files and the scores of their rows, higher is odder."""
    false_alarm, missed = PROFILES[profile]
    scores, earned, window, count = [], [], [], 0
    for file, given in detected:
        gains, number = worth(file, false_alarm)
        counted = slice(file.probation, None)
        scores.append(np.asarray(given, dtype=float)[counted])
        earned.append(gains[counted])
        window.append(np.where(number >= 0, number + count, -1)[counted])
        count += len(file.windows)
    return _sweep(np.concatenate(scores), np.concatenate(earned), np.concatenate(window), count, missed)


def _sweep(scores: np.ndarray, earned: np.ndarray, window: np.ndarray, count: int, missed: float) -> Score:
    order = np.argsort(-scores, kind="stable")
    scores, window = scores[order], window[order]
    alarm = window < 0
    change = np.where(alarm, earned[order], 0.0)  # of the total, when the threshold comes down to the row
    first = np.zeros(len(scores), dtype=bool)
    for place in range(count):
        rows = np.flatnonzero(window == place)
        best = np.maximum.accumulate(earned[order[rows]])
        change[rows] = np.diff(best, prepend=-missed)
        first[rows[:1]] = True
    last = np.flatnonzero(np.diff(scores, append=-np.inf) < 0)  # rows of one score are detected together
    gained = 100 * np.cumsum(change)[last] / (count * (1 + missed))
    top = int(np.argmax(gained))
    if gained[top] <= 0:
        return Score(0.0, np.inf, count, 0, 0)
    upto = slice(0, last[top] + 1)
    return Score(float(gained[top]), float(scores[last[top]]), count, int(first[upto].sum()), int(alarm[upto].sum()))


def windowed_gaussian(values: np.ndarray, window: int = 6400, step: int = 100) -> np.ndarray:
    """Return the scores of the benchmark's plainest detector: the tail of a normal distribution of the last rows."""
    sums, squares = (np.concatenate([[0.0], np.cumsum(power)]) for power in (values, values**2))
    ends = np.arange(len(values))
    ends = np.where(ends > window, window + (ends - window) // step * step, ends)
    starts = np.maximum(ends - window, 0)
    size = np.maximum(ends - starts, 1)
    mean = (sums[ends] - sums[starts]) / size
    spread = np.sqrt(np.maximum((squares[ends] - squares[starts]) / size - mean**2, 0))
    distance = np.abs(values - mean) / np.where(spread == 0, 1e-6, spread)
    given = 1 - 0.5 * np.array([erfc(each / sqrt(2)) for each in distance])
    given[0] = 0
    return given
