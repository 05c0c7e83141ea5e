"""Run a refresh as a Dataflow job: a batch run that ends by itself, launched here or by a schedule.

The process that launches it decides the time, declares the tables and takes the commit token; the workers ask the
dataset, one pass at a time each, and the last step commits what differs from what is stored. That step may be tried
again: one attempt commits, as of a backfill (commit_once.py). An attempt that finds nothing to write makes an empty
commit, by which the next one knows that it has nothing to do.

An erasure that removes answers while the job runs refuses its commit: it may have counted the person.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from apache_beam.options.pipeline_options import GoogleCloudOptions

from pipelines.dataflow.commit_once import once
from pipelines.dataflow.job import Launched, folder_of, job_options, submit_built
from pipelines.insight.alerts.run import alert
from pipelines.insight.passes import PASSES
from pipelines.insight.predict.folder import pinned
from pipelines.insight.refresh import Answered, Computed, Task, build, choose_time, commit, declare
from pipelines.insight.shape import Pass
from pipelines.insight.stored import stored_contents
from pipelines.settings.alerts import Alerts
from pipelines.settings.config import read_config
from pipelines.settings.resolve import Place
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.file_sinks import FileSink
from pipelines.warehouse.interface import CommitToken, Warehouse, WarehouseRun
from pipelines.warehouse.open import open_warehouse
from transforms.errors import OptionError


def launch(
    place: Place,
    config: str | None,
    as_of: datetime | None,
    beam_options: Sequence[str],
    passes: tuple[Pass, ...] = PASSES,
) -> Launched:
    """Check, create the tables that the dataset lacks, and start the job. Errors: AudienceError, before it starts.

    config  path of the configuration, local or in a bucket; its content is part of the job
    as_of   None: the end of the newest closed bucket, as of the launch
    """
    if place.dataset is None:
        raise OptionError(
            "--dataset is missing: a job on Dataflow reads and writes BigQuery; give --dataset project.dataset"
        )
    options = job_options(beam_options, streaming=False)
    if options.view_as(GoogleCloudOptions).update:
        raise OptionError("--update is only for a stream: a running refresh cannot be updated; leave it out")
    configuration = pinned(place, read_config(config))
    _refuse_messages(configuration.alerts)
    with open_warehouse(*place) as warehouse, warehouse.writer(of_answers=True) as run:
        task = Task(place, configuration, choose_time(warehouse, as_of, passes))
        tables = declare(run, passes)
        # Each row is computed of rows that are read: no other refresh, and no erasure, may come in between.
        token = run.hand_over(folder_of(options, run), rows_were_read=True)
        committing = CommitAnswers(token, task, passes, as_of is not None, time.time())
        sink = FileSink(token.folder, tables, warehouse.time_zone, committing)
        return submit_built(lambda pipeline: build(pipeline, task, passes, sink), options)


def _refuse_messages(alerts: Alerts) -> None:
    """Refuse rules that send: what was sent is known from a folder of one machine, and no worker has it."""
    if sends := next((rule.name for rule in alerts.rules if rule.send), None):
        raise OptionError(
            f"--config: the rule {sends!r} of alerts sends messages; allowed on Dataflow: rules without `send`, as a "
            "job keeps no outbox; send them by `audience refresh --dataset ... --outbox DIR` on one machine"
        )


@dataclass(frozen=True)
class CommitAnswers:
    """Called by a `FileSink` with all confirmed files. `stated`: the time was asked for; `launched` in seconds."""

    token: CommitToken
    task: Task
    passes: tuple[Pass, ...]
    stated: bool
    launched: float

    def __call__(self, entries: list[FileEntry]) -> None:
        """Commit unless that was done, evaluate the rules of alerts, and remove the staged files.

        Errors: WarehouseError; an OvertakenError if another refresh or an erasure has committed since the launch.
        """
        log = logging.getLogger(__name__)
        with open_warehouse(*self.task.place) as warehouse:
            done = self._committed(warehouse, entries)
            if done is None:
                log.info("as of %s: already committed by another attempt of this step", self.task.as_of)
            for table, rows, is_new in done or ():
                log.info("%s: %d rows %s", table, rows, "written" if is_new else "as before")
            log.info("as of %s: done %.0f s after the launch", self.task.as_of, time.time() - self.launched)
            with suppress(Exception):  # the rows are committed; the bucket's lifecycle removes old files anyway
                warehouse.remove_staged(self.token.folder)
        if (alerts := self.task.configuration.alerts).rules:
            alerted = alert(self.task.place, alerts, self.task.as_of, self.stated, None)
            log.info("alerts: %s", alerted.changed or "as before")

    def _committed(self, warehouse: Warehouse, entries: list[FileEntry]) -> list[Answered] | None:
        """Return what was committed; None if another attempt has committed."""
        with warehouse.writer(self.token, of_answers=True) as run:
            return once(run, partial(self._commit, warehouse, run, entries))

    def _commit(self, warehouse: Warehouse, run: WarehouseRun, entries: list[FileEntry]) -> list[Answered]:
        known = stored_contents(warehouse, self.task.as_of)
        done = commit(warehouse, run, Computed(self.task.as_of, None, known, entries), self.passes)
        if not any(each.is_new for each in done):
            run.commit([])
        return done
