"""When a stream is drained whose runner does not end the job by itself, as Flink does not with checkpoints.

It is drained when no reader is left, every message is acknowledged, and the audit counts of its input reconcile and
will not change: no minute is in flight. Messages are acknowledged after the checkpoint that covers them.
"""

import time
from collections.abc import Callable

import polars as pl

from pipelines.sources.queue import Queue, Snapshot
from pipelines.warehouse.interface import Reader
from pipelines.warehouse.tables import QUALITY_1M

ASK_SECONDS = 5.0  # between questions to the warehouse


def has_read_all(now: Snapshot) -> bool:
    """Whether no reader is left and nothing is unacknowledged."""
    return now.watermark is None and not now.backlog.messages


class Completeness:
    """Whether a stream is drained; asked often, it asks the warehouse seldom."""

    def __init__(self, queue: Queue, warehouse: Reader, clock: Callable[[], float] = time.monotonic):
        self.queue, self.warehouse, self.clock = queue, warehouse, clock
        self._next = 0.0

    def __call__(self) -> bool:
        if not has_read_all(self.queue.snapshot()) or self.clock() < self._next:
            return False
        self._next = self.clock() + ASK_SECONDS
        open_minutes = f"SELECT COUNTIF(balance <> 0 OR in_flight) AS n FROM {QUALITY_1M.name}_current"
        name = self.queue.input.replace("\\", "\\\\").replace("'", "\\'")
        mine = f" WHERE input = '{name}' OR STARTS_WITH(input, '{name}@')"
        return not pl.concat(self.warehouse.ask(open_minutes + mine)).item()
