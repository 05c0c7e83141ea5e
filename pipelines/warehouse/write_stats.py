"""Figures: how the writing of a stream stands, counted as its rows become such that can be queried."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import polars as pl

from pipelines.warehouse.tables import EVENTS, QUARANTINE
from transforms.windows import micros_of

MINUTE = 60.0
POINTS = 32


def points(times: pl.Series | None) -> list[int]:
    """At most POINTS of the times, evenly spaced in their order: enough to tell quantiles of many notes together."""
    if times is None:
        return []
    ordered = sorted(micros_of(times.drop_nulls() if times.null_count() else times).tolist())
    count = min(POINTS, len(ordered))
    return [ordered[(2 * n + 1) * len(ordered) // (2 * count)] for n in range(count)]


class Figures(NamedTuple):
    """How a stream's writing stands.

    rows              table -> rows written since the start
    latency_p50, _p99 seconds from received_time until an event's row could be queried, over the last minute; None: no
                      event
    quarantine_share  quarantined rows of those written in the last minute; None: nothing was
    files             live files of the warehouse; of a dataset 0
    committed         seconds since 1970 of the last writing; None before the first
    problem           why the last writing failed; None if it did not
    """

    rows: dict[str, int]
    latency_p50: float | None
    latency_p99: float | None
    quarantine_share: float | None
    files: int
    committed: float | None
    problem: str | None


class _Written(NamedTuple):
    at: float  # by the monotonic clock
    rows: dict[str, int]
    latencies: list[tuple[float, float]]  # seconds, and the rows that they stand for


class Tally:
    """Counts what is written. Any thread may call any method."""

    def __init__(self, clock: Callable[[], float] = time.time):
        self.clock = clock
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Start over."""
        with self._lock:
            self._rows: dict[str, int] = {}
            self._last: deque[_Written] = deque()
            self._committed: float | None = None
            self._problem: str | None = None

    def add(self, rows: dict[str, int], received: Sequence[tuple[int, float]] = ()) -> None:
        """Count rows, by table, that are there to be queried from now on.

        received  (received_time in microseconds since 1970, how many of the events it stands for)
        """
        now, at = self.clock(), time.monotonic()
        latencies = [(now - micros / 1_000_000, share) for micros, share in received]
        with self._lock:
            for table, count in rows.items():
                self._rows[table] = self._rows.get(table, 0) + count
            self._committed, self._problem = now, None
            self._last.append(_Written(at, rows, latencies))
            while self._last[0].at < at - MINUTE:
                self._last.popleft()

    def add_written(self, table: str, rows: pl.DataFrame) -> None:
        """Count rows of one table."""
        times = points(rows["received_time"]) if table == EVENTS.name else []
        self.add({table: len(rows)}, [(micros, len(rows) / len(times)) for micros in times])

    def failed(self, problem: str) -> None:
        """Tell of a writing that failed, until the next one that does not."""
        with self._lock:
            self._problem = problem

    def figures(self, files: int = 0) -> Figures:
        """How the writing stands now."""
        with self._lock:
            last, rows, committed, problem = list(self._last), dict(self._rows), self._committed, self._problem
        recent = [each for each in last if each.at > time.monotonic() - MINUTE]
        latencies = sorted(pair for each in recent for pair in each.latencies)
        events, quarantined = (sum(each.rows.get(table.name, 0) for each in recent) for table in (EVENTS, QUARANTINE))
        return Figures(
            rows=rows,
            latency_p50=_quantile(latencies, 0.5),
            latency_p99=_quantile(latencies, 0.99),
            quarantine_share=quarantined / (events + quarantined) if events + quarantined else None,
            files=files,
            committed=committed,
            problem=problem,
        )


def _quantile(latencies: list[tuple[float, float]], share: float) -> float | None:
    """Of sorted (seconds, weight) the seconds below which `share` of the weight lies."""
    whole = sum(weight for _, weight in latencies)
    sums = accumulate(weight for _, weight in latencies)
    return next((s for (s, _), below in zip(latencies, sums, strict=True) if below >= share * whole), None)
