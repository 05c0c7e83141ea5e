"""A stream into a local warehouse: what it keeps in the warehouse's folder, and makes anew at a restart.

    landing/              what was read and is not in the books yet (sources/landing.py)
    staging/<run>/seeds   seeds of the steps (transforms/restored_state.py), made at the start
    lock, stream.json, drain   of the one process that writes the warehouse (stop.py)

At a restart the rows of the minutes that are read again are taken out first (resume.py): no table has anything twice.
"""

import time
from datetime import UTC, datetime
from typing import cast

import polars as pl

from pipelines.batch.days import Opened
from pipelines.sources.landing import LANDING, Again, Landing
from pipelines.streaming.recovery.restore import resume, stream_of
from pipelines.warehouse.local.run import Run
from pipelines.warehouse.local.settled import SettledMinutes
from pipelines.warehouse.local.stream_commits import Appender
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.write_stats import Figures
from transforms.errors import OptionError

RETIRE_SECONDS = 10.0


class KeptLocally:
    """See `Kept` in stream.py."""

    def __init__(self, into: Opened, input: str):
        if not isinstance(into.warehouse, LocalWarehouse) or not isinstance(into.run, Run):
            raise OptionError(f"{into.warehouse.option}: got a data set; allowed: --warehouse FOLDER")
        self.warehouse, self.run, self.job, self.input = into.warehouse, into.run, into.job, input
        self.folder = into.warehouse.folder
        self.landing = Landing(self.folder / LANDING)
        self.waiting = 0
        self._due = 0.0

    def __enter__(self) -> "KeptLocally":
        self._undone = self.landing.undone(self._books().received())
        self.waiting = int(self._undone["landed"].sum())
        done = resume(self.run, stream_of(self.input, self.job), self._undone)
        self.seeds, self.events = done.seeds, done.events
        self.books = self._books()  # without the rows that were taken out
        self.appender = Appender(self.run, self.books.add)
        return self

    def _books(self) -> SettledMinutes:
        """Of this stream, and of any before it whose records are still here."""
        landed = self.landing.counts()
        earliest = cast(datetime, landed["bucket_start"].min()) if landed.height else datetime.now(UTC)
        before = {name.partition("@")[0] for name in landed["input"].unique()}
        return SettledMinutes(self.warehouse, {self.input, *before}, earliest)

    def __exit__(self, *_) -> None:
        pass

    def again(self) -> list[Again]:
        """What the readers are to read first."""
        return self.landing.to_read_again(self._undone)

    def start(self) -> None:
        """Commit what is noted from now on, until `stop`."""
        self.appender.start()

    def stop(self) -> None:
        """End that, with the last notes."""
        self.appender.stop()

    def figures(self) -> Figures:
        """How the writing stands now."""
        return self.appender.figures()

    def retire(self, open_run: str | None) -> None:
        """Remove what landed and is in the books, now and then; None: at once, the stream has ended."""
        if open_run is not None and time.monotonic() < self._due:
            return
        self._due = time.monotonic() + RETIRE_SECONDS
        undone: pl.DataFrame = self.landing.undone(self.books.received())
        self.waiting = int(undone["landed"].sum())
        self.books.forget(self.landing.retire(undone, open_run))
