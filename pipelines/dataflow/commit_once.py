"""Commit once: the end of a backfill on a cluster, as the last step of its graph.

Who launched the job is gone by then, so a worker does what a backfill of one machine does after its graph: the days
that may not be touched, the books, the swap. A runner may start the step again after it died, or twice at once; of all
tries one commits (bigquery_claim.py), and the others find that out.
"""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass

from pipelines.batch.backfill import Ending, commit
from pipelines.batch.days import days_around, warehouse_of
from pipelines.batch.summary import Summary, books_lines
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.interface import CommitToken, Warehouse
from pipelines.warehouse.tables import EVENTS
from transforms.errors import OvertakenError, WarehouseError

TRIES = 10  # while other runs commit between our look at the books and our own commit


@dataclass(frozen=True)
class CommitOnce:
    """What a `FileSink` calls with all that was confirmed. `launched` is the time of the launch in seconds."""

    token: CommitToken
    ending: Ending
    launched: float

    def __call__(self, entries: list[FileEntry]) -> None:
        """Commit, unless it was done; then remove what was staged. Errors: WarehouseError, as of `backfill.commit`."""
        with warehouse_of(self.ending.settings) as warehouse:
            for line in self._committed(warehouse, entries):
                logging.getLogger(__name__).info(line)
            with suppress(Exception):  # the rows are in; what is old in the bucket goes anyway
                warehouse.remove_staged(self.token.folder)

    def _committed(self, warehouse: Warehouse, entries: list[FileEntry]) -> list[str]:
        for left in reversed(range(TRIES)):
            with warehouse.writer(self.token) as run:
                if run.has_committed():
                    break
                try:
                    self._check_beside(warehouse, entries)
                    counts, written = commit(run, entries, self.ending)
                except Exception as error:
                    if run.has_committed():  # by another try of this step, which has removed the files as well
                        break
                    # What was read of the warehouse before this step is old now; what this step read it reads again.
                    if not isinstance(error, OvertakenError) or self.token.before is not None or not left:
                        raise
                else:
                    return books_lines(Summary(self.ending.input, counts, written, time.time() - self.launched))
        return [f"{self.ending.input}: has been committed by another try of this step"]

    def _check_beside(self, warehouse: Warehouse, entries: list[FileEntry]) -> None:
        """Refuse where days beside have been written since nobody had any: sessions go on over midnight."""
        if self.token.before is not None:  # the days beside have been read, and nobody else may have committed since
            return
        written = {entry.day for entry in entries if entry.table == EVENTS.name and entry.day}
        days = self.ending.days.listed() if self.ending.days else written
        if beside := days_around(warehouse, days):
            raise WarehouseError(
                f"{warehouse.name}: {beside[0]}, a day beside those of this run, has been written since it began, and "
                "sessions may go on over midnight: nothing was changed; run it again"
            )
