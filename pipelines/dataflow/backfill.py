"""A backfill as a job of Dataflow: launched here, read, written and committed there.

Here, before anything starts: every check that a backfill of one machine makes before its graph, the tables, and the
token by which the job commits once. There: the one graph, whose files go to a folder of the bucket, and whose last step
is the commit (commit_once.py).
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from pipelines.audience import Job
from pipelines.batch.backfill import check_days, ending_of, job_of, looked_at, range_of
from pipelines.batch.days import Opened, days_around, days_with_events, opened, reach_of
from pipelines.dataflow.commit_once import CommitOnce
from pipelines.dataflow.job import Launched, job_options, submitted
from pipelines.settings.resolve import Settings, check_on_cluster
from pipelines.sources.files.discover import FileInput
from pipelines.sources.files.standard_input import NAME
from pipelines.sources.stored import ReadReachAsked, ReadStoredDays
from pipelines.system.progress import Notes
from pipelines.warehouse.file_sinks import FileSink
from pipelines.warehouse.metric_tables import tables_of
from pipelines.warehouse.staged import in_bucket
from transforms.errors import OptionError
from transforms.sessions.sessions import Written

FOLDER = "audience"  # below --temp_location: a folder for the files of each run


def launch(settings: Settings, beam_options: Sequence[str]) -> Launched:
    """Check, make what is missing of the data set, and start the job. Errors: AudienceError, before anything starts."""
    check_on_cluster(settings)
    options = job_options(beam_options, streaming=False)
    if options.view_as(GoogleCloudOptions).update:
        raise OptionError("--update is of a stream: a backfill that runs cannot be replaced; leave it out")
    if NAME in settings.input:
        raise OptionError(
            f"--input {NAME}: a job on Dataflow reads no standard input; copy it to a bucket with "
            f"`gcloud storage cp {NAME} gs://BUCKET/FILE` and name that"
        )
    read = looked_at(settings)
    _check_reach(read.files, options)
    with opened(settings, create=True) as into:
        check_days(settings, into)
        job = job_of(settings, into, read, Notes())
        _check_range(settings, into)
        added = _added(settings, into)
        into.run.may_write(added)
        return submitted(on_a_cluster(job, settings, into, added, folder_of(options, into)), options)


def on_a_cluster(job: Job, settings: Settings, into: Opened, added: list[date], folder: str) -> Job:
    """The job as workers that share no disk run it to its end, whoever has launched it."""
    run = into.run
    dataset, zone, days = into.warehouse.name, into.warehouse.time_zone, job.days.listed() if job.days else None
    around = days_around(into.warehouse, days)
    token = run.hand_over(folder, bool(added or around))
    commit = CommitOnce(token, ending_of(settings, into, job, added), time.time())
    return replace(
        job,
        sink=FileSink(folder, tables_of(into.metrics), zone, commit),
        stored=ReadStoredDays(dataset, added, job.input) if added else None,
        written=Written(days, zone),
        beside=ReadStoredDays(dataset, around, None) if around else None,
        reach=ReadReachAsked(dataset, reach_of(days, zone)) if around and days else None,
        spill_folder=None,
    )


def folder_of(options: PipelineOptions, into: Opened) -> str:
    """The folder of the files of this run."""
    return f"{options.view_as(GoogleCloudOptions).temp_location.rstrip('/')}/{FOLDER}/{into.run.id}"


def _check_reach(files: Sequence[FileInput], options: PipelineOptions) -> None:
    """Refuse files of this machine, which no worker of a job sees, where the job's own folder is in a bucket."""
    local = [file.path for file in files if not in_bucket(file.path)]
    if local and in_bucket(options.view_as(GoogleCloudOptions).temp_location):
        raise OptionError(
            f"--input: got {local[0]!r}, a file of this machine; allowed: files in a bucket, which the workers of a "
            "job can read; copy it there with `gcloud storage cp`"
        )


def _check_range(settings: Settings, into: Opened) -> None:
    """Refuse a run of unknown days beside others: sessions go on over midnight, so what lies beside has to be read."""
    if range_of(settings, into.warehouse) is None and days_with_events(into.warehouse):
        raise OptionError(
            f"--start and --end are missing: {into.warehouse.name} has days, and sessions may go on over midnight; "
            "give the days that the files hold"
        )


def _added(settings: Settings, into: Opened) -> list[date]:
    days = range_of(settings, into.warehouse)
    if not settings.add or days is None:
        return []
    return sorted(day for day in days_with_events(into.warehouse) if days.start <= day < days.end)
