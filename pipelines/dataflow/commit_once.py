"""Commit a backfill on a cluster exactly once, as the last step of its graph.

The process that launched the job may be gone by then, so a worker does what a local backfill does after its graph:
check the days, write the audit counts, swap the tables. A runner may retry the step after it died, or run it twice at
once; one attempt commits (warehouse/bigquery/commit_token.py), and the others detect that.
"""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass

from pipelines.assemble import open_configured
from pipelines.batch.backfill import Ending, commit
from pipelines.batch.days import neighbor_days
from pipelines.batch.summary import Summary, audit_lines
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.interface import CommitToken, Warehouse
from pipelines.warehouse.tables import EVENTS
from transforms.errors import OvertakenError, WarehouseError

TRIES = 10  # in case other runs commit between our read of the audit counts and our own commit


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
                if run.has_committed():
                    break
                try:
                    self._check_neighbors(warehouse, entries)
                    counts, written = commit(run, entries, self.ending)
                except Exception as error:
                    if run.has_committed():  # another attempt of this step did, and removed the files as well
                        break
                    # Reads made before this step are stale now; those made by this step can be repeated.
                    if not isinstance(error, OvertakenError) or self.token.before is not None or not left:
                        raise
                else:
                    return audit_lines(Summary(self.ending.input, counts, written, time.time() - self.launched))
        return [f"{self.ending.input}: already committed by another attempt of this step"]

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
