"""Run a backfill as a Dataflow job: launched here, read, written and committed there.

Before anything starts, this process makes the same checks as a local backfill, creates the tables, and takes the commit
token with which the job commits once. The job runs the one graph, writes its files to a folder of the bucket, and
commits in its last step (commit_once.py).
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from pipelines.assemble import Opened, open_run
from pipelines.audience import Job
from pipelines.batch.backfill import check_days, ending_of, inspect_files, job_of, range_of
from pipelines.batch.days import days_with_events, neighbor_days, spanning_sql
from pipelines.dataflow.commit_once import CommitOnce
from pipelines.dataflow.job import Launched, folder_of, job_options, submit
from pipelines.settings.resolve import Settings, check_on_cluster
from pipelines.sources.files.discover import FileInput
from pipelines.sources.files.standard_input import NAME
from pipelines.sources.stored import ReadReachAsked, ReadStoredDays
from pipelines.system.progress import Notes
from pipelines.warehouse.file_sinks import FileSink
from pipelines.warehouse.metric_tables import tables_of
from pipelines.warehouse.staged import in_bucket
from transforms.errors import OptionError
from transforms.sessions.sessions import TargetDays


def launch(settings: Settings, beam_options: Sequence[str]) -> Launched:
    """Check, create what the dataset lacks, and start the job. Errors: AudienceError, before anything starts."""
    check_on_cluster(settings)
    options = job_options(beam_options, streaming=False)
    if options.view_as(GoogleCloudOptions).update:
        raise OptionError("--update is only for a stream: a running backfill cannot be updated; leave it out")
    if NAME in settings.input:
        raise OptionError(
            f"--input {NAME}: a job on Dataflow cannot read standard input; copy it to a bucket with "
            f"`gcloud storage cp {NAME} gs://BUCKET/FILE` and pass that path"
        )
    read = inspect_files(settings)
    _check_reach(read.files, options)
    with open_run(settings, create=True) as into:
        check_days(settings, into)
        job = job_of(settings, into, read, Notes())
        _check_range(settings, into)
        added = _days_to_merge(settings, into)
        into.run.may_write(added)
        return submit(build_cluster_job(job, settings, into, added, folder_of(options, into.run)), options)


def build_cluster_job(job: Job, settings: Settings, into: Opened, added: list[date], folder: str) -> Job:
    """Return the job for workers that share no disk; it runs to its end without the process that launched it."""
    run = into.run
    dataset, zone, days = into.warehouse.name, into.warehouse.time_zone, job.days.listed() if job.days else None
    around = neighbor_days(into.warehouse, days)
    token = run.hand_over(folder, bool(added or around))
    commit = CommitOnce(token, ending_of(settings, into, job, added), time.time())
    return replace(
        job,
        sink=FileSink(folder, tables_of(into.metrics), zone, commit),
        stored=ReadStoredDays(dataset, added, job.input) if added else None,
        target_days=TargetDays(days, zone),
        neighbor_events=ReadStoredDays(dataset, around, None) if around else None,
        spanning_sessions=ReadReachAsked(dataset, spanning_sql(days, zone)) if around and days else None,
        spill_folder=None,
    )


def _check_reach(files: Sequence[FileInput], options: PipelineOptions) -> None:
    """Refuse local files, which no worker can read, if the job's own folder is in a bucket."""
    local = [file.path for file in files if not in_bucket(file.path)]
    if local and in_bucket(options.view_as(GoogleCloudOptions).temp_location):
        raise OptionError(
            f"--input: got {local[0]!r}, a local file; allowed: files in a bucket, which the workers of a job can read;"
            " copy it there with `gcloud storage cp`"
        )


def _check_range(settings: Settings, into: Opened) -> None:
    """Refuse a run of unknown days next to existing ones: sessions span midnight, so neighbor days must be read."""
    if range_of(settings, into.warehouse) is None and days_with_events(into.warehouse):
        raise OptionError(
            f"--start and --end are missing: {into.warehouse.name} already has days, and sessions may span midnight; "
            "give the days that the files cover"
        )


def _days_to_merge(settings: Settings, into: Opened) -> list[date]:
    days = range_of(settings, into.warehouse)
    if not settings.add or days is None:
        return []
    return sorted(day for day in days_with_events(into.warehouse) if days.start <= day < days.end)
