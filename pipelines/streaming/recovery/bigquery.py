"""Recovery of a stream from this machine into BigQuery: what it keeps here, and rebuilds at a restart.

    <landing>/<project.dataset>/          the folder of the stream
      landing/                            records that were read and are not reconciled yet (sources/landing.py)
      work-.../                           restored state of the steps (transforms/restored_state.py), from the start
      lock, stream.json, drain            of the one process that streams into the dataset from here (streaming/stop.py)

Every half minute a query asks BigQuery which minutes its audit counts reconcile, and what landed of these is removed.
After a crash the rest is read again: `events` may then hold a row twice, events_unique and all metrics have it once.
"""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import cast

import polars as pl

from pipelines.assemble import Opened
from pipelines.settings.options import INSERTS
from pipelines.settings.resolve import Settings
from pipelines.sources.landing import Again, Landing
from pipelines.streaming.recovery import restore_refused as resume_refused
from pipelines.streaming.recovery.restore import DAY, claim, resume, stream_of
from pipelines.streaming.stop import folder_of
from pipelines.system.disk import WRITE_ERRORS, cannot_write, lock_folder
from pipelines.warehouse.bigquery import clients as bigquery_clients
from pipelines.warehouse.bigquery import restore as bigquery_restart
from pipelines.warehouse.bigquery.errors import describe_error
from pipelines.warehouse.bigquery.restore import Appending, Remains
from pipelines.warehouse.bigquery.run import BigQueryRun
from pipelines.warehouse.bigquery.stream.bundle import tally
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.write_stats import Figures
from transforms.errors import first_line

LANDING, WORK = "landing", "work-"
RETIRE_SECONDS = 30.0
STOP_SECONDS = 10.0  # for a query that is running


class BigQueryRecovery:
    """See `Recovery` in stream.py; one at a time in a folder. `rebuilds`: whether the runner loses the state of the
    steps."""

    def __init__(self, into: Opened, settings: Settings, input: str, rebuilds: bool = True):
        # The kind of the warehouse chose this class.
        self.warehouse, self.run = cast(BigQueryWarehouse, into.warehouse), cast(BigQueryRun, into.run)
        self.job, self.settings, self.input, self.rebuilds = into.job, settings, input, rebuilds
        self.folder = folder_of(settings.landing, self.warehouse.name)
        self.landing = Landing(self.folder / LANDING)
        self.seeds: str | None = None
        self.waiting = self.events = 0
        self._undone = pl.DataFrame()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._retire_on, name="retire", daemon=True)

    @contextmanager
    def open(self) -> "Iterator[BigQueryRecovery]":
        """Lock the folder, and rebuild what the runner lost. Errors: WarehouseError, SourceError."""
        with ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                fix = f"stop it with `audience stop {self.warehouse.option}`, or use another --landing"
                stack.enter_context(lock_folder(self.folder, fix))
                for left in self.folder.glob(f"{WORK}*"):
                    shutil.rmtree(left, ignore_errors=True)
                self.work = Path(tempfile.mkdtemp(prefix=WORK, dir=self.folder))
            except WRITE_ERRORS as error:
                raise cannot_write(self.folder, error) from error
            stack.callback(shutil.rmtree, self.work, ignore_errors=True)
            if self.settings.write_method != INSERTS:
                with describe_error(self.warehouse.name, "write to it"):
                    # Held, so that the bundles share it.
                    stack.enter_context(closing(bigquery_clients.writes(self.warehouse.dataset.project)))
            self._undone = self._find_undone()
            self.waiting = int(self._undone["landed"].sum())
            if self.rebuilds:
                self._rebuild()
            tally.clear()
            stack.callback(self.stop)
            yield self

    def _rebuild(self) -> None:
        """Rebuild the state of the steps."""
        stream = stream_of(self.input, self.job)
        remains = Remains(self.warehouse, self._undone, self.job.dedup_window, self.work)
        done = resume(Appending(self.run, remains, self.work), stream, self._undone)
        self.seeds, self.events = done.seeds, done.events
        if not self._undone.is_empty():
            # An event may have happened long before it was received, but not longer than a window would take it.
            earliest = cast(datetime, self._undone["bucket_start"].min()) - stream.lateness - DAY
            claim(remains.read_again(earliest), stream, done.seeds)
            refused = remains.refused_again(earliest, resume_refused.COLUMNS)
            resume_refused.claim(refused, stream.dedup_window, stream.shards, done.seeds)
        for spool in self.work.glob("*.parquet"):
            spool.unlink()

    def again(self) -> list[Again]:
        """The landed files that the readers are to read first."""
        return self.landing.to_read_again(self._undone)

    def start(self) -> None:
        """From now on remove what is reconciled, until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """End that."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def figures(self) -> Figures:
        """How the writes stand now."""
        return tally.figures()

    def retire(self, open_run: str | None) -> None:
        """Remove what is reconciled once the stream has ended; while it runs a thread does."""
        if open_run is None and not self._thread.is_alive():
            self._retire(None)

    def _retire_on(self) -> None:
        while not self._stop.wait(RETIRE_SECONDS):
            self._retire(self.run.id)

    def _retire(self, open_run: str | None) -> None:
        try:
            undone = self._find_undone()
            self.waiting = int(undone["landed"].sum())
            self.landing.retire(undone, open_run)
        except Exception as problem:  # whatever Google's clients raise: the next round asks again
            tally.failed(f"landed records are not removed yet: {first_line(problem)}")

    def _find_undone(self) -> pl.DataFrame:
        """COUNTS_SCHEMA: the minutes whose landed records are not all reconciled."""
        landed = self.landing.counts()
        if landed.is_empty():
            return landed
        since = landed["bucket_start"].min()
        inputs = {self.input, *(name.partition("@")[0] for name in landed["input"].unique())}
        return self.landing.undone(bigquery_restart.received(self.warehouse, inputs, since))  # type: ignore
