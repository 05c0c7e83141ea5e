"""Liveness: the status line of a stream: one line that is redrawn on a terminal, elsewhere JSON once a minute, and at
once when writes fail or succeed again.

in        messages received a second, and out: events a second that can be queried, over the last ten seconds
in flight messages received and not acknowledged, and how long the oldest of them waits
lag       what waits in the queue and is not received yet, where the queue says it: messages, and seconds behind its tip
watermark how far it is behind the clock
row       seconds from a message's received time to its event in the warehouse, median and 99th percentile of a minute
quarantine  share of the rows of the last minute
unreadable stamps  messages whose `--timestamp_attribute` cannot be read, since the start
"""

import json
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pipelines.sources.queue import Snapshot
from pipelines.system.terminal import draw, draws, erase
from pipelines.warehouse.write_stats import Figures

EVERY, A_MINUTE = 0.5, 60.0
OVER_SECONDS = 10.0  # for rates


class Reading(NamedTuple):
    """The counts at a moment: `at` by the monotonic clock."""

    at: float
    messages: int
    events: int


class Liveness:
    """Writes the state of a stream to stderr while `with` lasts. A failure of it never fails the stream.

    written  gives the figures of what is committed (warehouse/write_stats.py), read those of the queue's readers
    """

    def __init__(
        self, written: Callable[[], Figures], read: Callable[[], Snapshot], clock: Callable[[], float] = time.time
    ):
        self.written, self.read, self.clock = written, read, clock
        self._last: deque[Reading] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, name="liveness", daemon=True)

    def __enter__(self) -> "Liveness":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def figures(self) -> dict[str, Any]:
        """The state of the stream now. Rates are per second, times in seconds, None where there is no value."""
        now, at = self.clock(), time.monotonic()
        written, read = self.written(), self.read()
        self._last.append(Reading(at, read.messages, written.rows.get("events", 0)))
        while len(self._last) > 2 and self._last[0].at < at - OVER_SECONDS:
            self._last.popleft()
        first, last = self._last[0], self._last[-1]
        seconds = max(last.at - first.at, EVERY)
        return {
            "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
            "messages": last.messages,
            "events": last.events,
            "messages_per_second": round((last.messages - first.messages) / seconds, 1),
            "events_per_second": round((last.events - first.events) / seconds, 1),
            "in_flight": read.backlog.messages,
            "lag_messages": read.lag_messages,
            "lag_seconds": _round(read.lag_seconds),
            "oldest_seconds": _ago(now, read.backlog.oldest),
            "watermark_lag_seconds": _ago(now, read.watermark),
            "row_seconds_p50": _round(written.latency_p50),
            "row_seconds_p99": _round(written.latency_p99),
            "quarantine_share": None if written.quarantine_share is None else round(written.quarantine_share, 6),
            "files": written.files,
            "unreadable_stamps": read.unreadable_stamps,
            "problem": written.problem,
        }

    def _show(self) -> None:
        on_terminal, drawn, due, problem = draws(), False, time.monotonic() + A_MINUTE, None
        while not self._stop.wait(EVERY):
            with suppress(Exception):  # whatever it is, the stream goes on
                figures = self.figures()
                if on_terminal:
                    draw(line(figures))
                    drawn = True
                elif time.monotonic() >= due or (figures["problem"] is None) != (problem is None):
                    due, problem = time.monotonic() + A_MINUTE, figures["problem"]
                    print(json.dumps(figures), file=sys.stderr, flush=True)
        with suppress(Exception):
            if drawn:
                erase()
            else:
                print(json.dumps(self.figures()), file=sys.stderr, flush=True)


def line(figures: dict[str, Any]) -> str:
    """The figures on one line, the most important first."""
    parts = [
        f"in {figures['messages_per_second']:,.0f}/s",
        f"out {figures['events_per_second']:,.0f}/s",
        f"in flight {figures['in_flight']:,}" + _format(" {:.1f} s", figures["oldest_seconds"]),
        _lag(figures["lag_messages"], figures["lag_seconds"]),
        _format("watermark -{:.0f} s", figures["watermark_lag_seconds"]),
        _format("row {:.1f} s", figures["row_seconds_p50"]) + _format(" (99 %: {:.1f} s)", figures["row_seconds_p99"]),
        _format("quarantine {:.2%}", figures["quarantine_share"]),
        f"{figures['events']:,} events",
        f"{figures['unreadable_stamps']:,} unreadable stamps" if figures["unreadable_stamps"] else "",
    ]
    problem = [f"CANNOT WRITE: {figures['problem']}"] if figures["problem"] else []
    return "  ".join(part for part in [*problem, *parts] if part)


def _lag(messages: int | None, seconds: float | None) -> str:
    parts = [_format(" {:,}", messages), _format(" {:.0f} s", seconds)]
    return f"lag{''.join(parts)}" if any(parts) else ""


def _format(form: str, figure: float | None) -> str:
    return "" if figure is None else form.format(figure)


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _ago(now: float, then: float | None) -> float | None:
    return None if then is None or math.isinf(then) else round(now - then, 3)  # a watermark may not be known yet
