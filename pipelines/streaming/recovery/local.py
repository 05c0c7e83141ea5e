"""Recovery of a stream into a local warehouse: what it keeps in the warehouse's folder, and rebuilds at a restart.

    landing/              records that were read and are not reconciled yet (sources/landing.py)
    staging/<run>/seeds   restored state of the steps (transforms/restored_state.py), written at the start
    lock, stream.json, drain   of the one process that writes the warehouse (streaming/stop.py)

A restart first deletes the rows of the minutes that are read again (restore.py), so no table has a row twice.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import cast

import polars as pl

from pipelines.assemble import Opened
from pipelines.settings.resolve import Settings
from pipelines.sources.landing import LANDING, Again, Landing
from pipelines.streaming.recovery.restore import resume, stream_of
from pipelines.warehouse.local.run import Run
from pipelines.warehouse.local.settled import SettledMinutes
from pipelines.warehouse.local.stream_commits import Appender
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.write_stats import Figures

RETIRE_SECONDS = 10.0


class LocalRecovery:
    """See `Recovery` in streaming/stream.py. `rebuilds`: whether the runner loses the state of the steps."""

    def __init__(self, into: Opened, settings: Settings, input: str, rebuilds: bool = True):
        # The kind of the warehouse chose this class.
        self.warehouse, self.run = cast(LocalWarehouse, into.warehouse), cast(Run, into.run)
        self.job, self.input, self.rebuilds, self.outputs = into.job, input, rebuilds, into.outputs
        self.folder = self.warehouse.folder
        self.landing = Landing(self.folder / LANDING)
        self.seeds: str | None = None
        self.waiting = self.events = 0
        self._due = 0.0

    @contextmanager
    def open(self) -> "Iterator[LocalRecovery]":
        """Rebuild what the runner lost. Errors: WarehouseError, SourceError."""
        self._undone = self.landing.undone(self._audit_counts().received())
        self.waiting = int(self._undone["landed"].sum())
        if self.rebuilds:
            done = resume(self.run, stream_of(self.input, self.job), self._undone)
            self.seeds, self.events = done.seeds, done.events
        self.settled = self._audit_counts()  # without the rows that were deleted
        self.appender = Appender(self.run, self.settled.add, outputs=self.outputs)
        yield self

    def _audit_counts(self) -> SettledMinutes:
        """Of this stream, and of any before it whose records are still here."""
        landed = self.landing.counts()
        earliest = cast(datetime, landed["bucket_start"].min()) if landed.height else datetime.now(UTC)
        before = {name.partition("@")[0] for name in landed["input"].unique()}
        return SettledMinutes(self.warehouse, {self.input, *before}, earliest)

    def again(self) -> list[Again]:
        """The landed files that the readers are to read first."""
        return self.landing.to_read_again(self._undone)

    def start(self) -> None:
        """Commit what is noted from now on, until `stop`."""
        self.appender.start()

    def stop(self) -> None:
        """End that, with the last notes."""
        self.appender.stop()

    def figures(self) -> Figures:
        """How the writes stand now."""
        return self.appender.figures()

    def retire(self, open_run: str | None) -> None:
        """Remove what landed and is reconciled, now and then; None: at once, the stream has ended. Errors:
        WarehouseError for a disk that stays full."""
        if open_run is not None:
            self.appender.check()
            if time.monotonic() < self._due:
                return
        self._due = time.monotonic() + RETIRE_SECONDS
        undone: pl.DataFrame = self.landing.undone(self.settled.received())
        self.waiting = int(undone["landed"].sum())
        self.settled.forget(self.landing.retire(undone, open_run))
