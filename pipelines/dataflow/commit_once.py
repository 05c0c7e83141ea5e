"""Commit a backfill on a cluster exactly once, as the last step of its graph.

The process that launched the job may be gone by then, so a worker does what a local backfill does after its graph:
check the days, write the audit counts, swap the tables. A runner may retry the step after it died, or run it twice at
once; one attempt commits (warehouse/bigquery/commit_token.py), and the others detect that.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TypeVar

from pipelines.assemble import open_configured
from pipelines.batch.backfill import Ending, commit
from pipelines.batch.days import neighbor_days
from pipelines.batch.summary import Summary, audit_lines
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.interface import CommitToken, Warehouse, WarehouseRun
from pipelines.warehouse.tables import EVENTS
from transforms.errors import OvertakenError, WarehouseError

Done = TypeVar("Done")
TRIES = 10  # in case other runs commit between our read of the audit counts and our own commit


def once(run: WarehouseRun, act: Callable[[], Done]) -> Done | None:
    """What `act` returns, which commits; None if another attempt of the step has committed, before or meanwhile."""
    if run.has_committed():
        return None
    try:
        return act()
    except Exception:
        if run.has_committed():  # the other attempt removed the files as well
            return None
        raise


@dataclass(frozen=True)
class CommitOnce:
    """Called by a `FileSink` with all confirmed files. `launched` is the time of the launch in seconds."""

    token: CommitToken
    ending: Ending
    launched: float

    def __call__(self, entries: list[FileEntry]) -> None:
        """Commit unless that was done, then remove the staged files. Errors: WarehouseError, as `backfill.commit`."""
        with open_configured(self.ending.settings) as warehouse:
            for line in self._committed(warehouse, entries):
                logging.getLogger(__name__).info(line)
            with suppress(Exception):  # the rows are committed; the bucket's lifecycle removes old files anyway
                warehouse.remove_staged(self.token.folder)

    def _committed(self, warehouse: Warehouse, entries: list[FileEntry]) -> list[str]:
        for left in reversed(range(TRIES)):
            with warehouse.writer(self.token) as run:
                try:
                    done = once(run, partial(self._commit, warehouse, run, entries))
                except OvertakenError:
                    # Reads made before this step are stale now; those made by this step can be repeated.
                    if self.token.before is not None or not left:
                        raise
                    continue
                if done is not None:
                    return audit_lines(Summary(self.ending.input, *done, time.time() - self.launched))
                break
        return [f"{self.ending.input}: already committed by another attempt of this step"]

    def _commit(
        self, warehouse: Warehouse, run: WarehouseRun, entries: list[FileEntry]
    ) -> tuple[dict[str, int], list[date]]:
        self._check_neighbors(warehouse, entries)
        return commit(run, entries, self.ending)

    def _check_neighbors(self, warehouse: Warehouse, entries: list[FileEntry]) -> None:
        """Refuse if neighbor days appeared after the launch found none: sessions span midnight."""
        if self.token.before is not None:  # the neighbor days were read, and no other run may commit since then
            return
        written = {entry.day for entry in entries if entry.table == EVENTS.name and entry.day}
        days = self.ending.days.listed() if self.ending.days else written
        if beside := neighbor_days(warehouse, days):
            raise WarehouseError(
                f"{warehouse.name}: {beside[0]}, next to the days of this run, was written after it began, and "
                "sessions may span midnight: nothing was changed; run it again"
            )
