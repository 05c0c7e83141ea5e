"""Run the graph of a stream as a Dataflow job, which continues after this process ends; backfill.py and refresh.py
share parts of it.

Dataflow stores state and shuffle durably and acknowledges a message once it has stored it, so nothing lands here first:
Beam's own reader reads, and the workers write to BigQuery. An update (`--update`) continues with the state of the job
that it replaces; the state of a renamed step is lost without a transform name mapping, see tests/pipelines/golden. Its
bundles hold few messages, so their blocks are gathered first (docs/why/gathered-blocks.md).

In the launcher of a flex template (`--template_location`), the job is written as JSON and the service starts it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    WorkerOptions,
)
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import dataflow_v1beta3

from pipelines.assemble import mappings_of, new_job, open_run
from pipelines.audience import Job, build
from pipelines.dataflow.restored import restore_to_bucket
from pipelines.settings.config import read_config
from pipelines.settings.resolve import Settings
from pipelines.sources.queue import Queue
from pipelines.sources.queues import choose_queue
from pipelines.warehouse.bigquery.stream.sink import BigQueryStreamSink
from pipelines.warehouse.interface import WarehouseRun
from pipelines.warehouse.metric_tables import tables_of
from transforms.errors import OptionError, RunnerError, first_line
from transforms.gather import GatherBlocks

FOLDER = "audience"  # below --temp_location: a folder for the files of each run
NEEDED = ("project", "region", "temp_location")
RUNNING = (dataflow_v1beta3.JobState.JOB_STATE_RUNNING, dataflow_v1beta3.JobState.JOB_STATE_DRAINING)


class Launched(NamedTuple):
    """A started job; `id` is empty if only its template was written."""

    name: str
    id: str
    url: str

    @property
    def said(self) -> str:
        """The job as one line of text."""
        if self.id:
            return f"started job {self.name} {self.id}: {self.url}"
        return f"wrote job {self.name} to {self.url}"


def launch(settings: Settings, beam_options: Sequence[str]) -> Launched:
    """Create what the dataset lacks, and start the job. Errors: AudienceError, before anything starts."""
    if settings.dataset is None:
        raise OptionError("--dataset is missing: a job on Dataflow writes to BigQuery; give --dataset project.dataset")
    options = job_options(beam_options)
    queue = choose_queue(settings._asdict())
    queue.check()
    if options.view_as(GoogleCloudOptions).update:
        if settings.held:
            raise OptionError(
                "--held and --update exclude each other: an update takes over the state of a job that ends"
            )
        running_job(options)
    with open_run(settings, create=True, streaming=True) as into:
        job = _job(into.job, settings, queue)
        if settings.held:  # it replaces a stream that goes on, so that it cannot take over its state
            folder = f"{folder_of(options, into.run)}/restored"
            job = replace(job, seeds=restore_to_bucket(into, queue.input, folder))
        return submit(job, options)


def folder_of(options: PipelineOptions, run: WarehouseRun) -> str:
    """Return the folder for the files of this run."""
    return f"{options.view_as(GoogleCloudOptions).temp_location.rstrip('/')}/{FOLDER}/{run.id}"


def job_options(beam_options: Sequence[str], streaming: bool = True) -> PipelineOptions:
    """Return the Beam options of a job. Errors: OptionError for a missing one, or one that sets at-least-once mode."""
    kind = ["--streaming"] if streaming else []
    options = PipelineOptions([*beam_options, "--runner=DataflowRunner", *kind])
    google = options.view_as(GoogleCloudOptions)
    _check_exactly_once(options)
    if missing := [f"--{name}" for name in NEEDED if not getattr(google, name)]:
        raise OptionError(
            f"{', '.join(missing)}: missing; a job on Dataflow requires --project, --region and --temp_location gs://..."
        )
    google.staging_location = google.staging_location or google.temp_location
    if options.view_as(WorkerOptions).sdk_container_image:
        # The image contains this package and its locked dependencies: nothing is installed when a worker starts.
        options.view_as(SetupOptions).sdk_location = "container"
    return options


def _check_exactly_once(options: PipelineOptions) -> None:
    """Refuse Dataflow's at-least-once mode, in which a repeated partial is counted twice (docs/why/exactly-once.md)."""
    given = {
        "experiments": options.view_as(DebugOptions).experiments,
        "dataflow_service_options": options.view_as(GoogleCloudOptions).dataflow_service_options,
    }
    for name, words in given.items():
        # Dataflow accepts the mode in either option; the match is broad, as only one spelling is documented.
        if found := [word for word in words or () if "at_least_once" in word.lower().replace("-", "_")]:
            raise OptionError(
                f"--{name}: got {found[0]!r}; allowed: exactly-once mode (the default): at-least-once mode counts "
                "repeats twice in metrics and audit counts; leave it out"
            )


def running_job(options: PipelineOptions) -> str:
    """Return the id of the job that an update replaces. Errors: OptionError if no job of its name is running (Beam 2.77
    would look for it indefinitely)."""
    google = options.view_as(GoogleCloudOptions)
    if not google.job_name:
        raise OptionError("--job_name is missing: an update replaces the running job of that name")
    wanted = dataflow_v1beta3.ListJobsRequest(
        project_id=google.project, location=google.region, filter=dataflow_v1beta3.ListJobsRequest.Filter.ACTIVE
    )
    try:
        found = [job for job in _jobs(google).list_jobs(wanted) if job.name == google.job_name]
    except (GoogleAPICallError, GoogleAuthError) as problem:
        raise RunnerError(
            f"cannot list Dataflow jobs in {google.project}, {google.region}: {first_line(problem)}; run "
            f"`gcloud services enable dataflow.googleapis.com --project={google.project}`, and check for the role "
            "roles/dataflow.developer"
        ) from problem
    for job in found:
        if job.current_state in RUNNING:
            return job.id
    raise OptionError(
        f"--update: no job {google.job_name!r} is running in {google.project}, {google.region}; start it without "
        "--update, or see `gcloud dataflow jobs list --status=active "
        f"--project={google.project} --region={google.region}`"
    )


def step_names(settings: Settings) -> set[str]:
    """Return the step names of the graph for these options, without calling any service."""
    configuration = read_config(settings.config)
    sink = BigQueryStreamSink(f"{settings.dataset}", tables_of(configuration.metrics), settings.write_method)
    pipeline = beam.Pipeline("FnApiRunner", PipelineOptions(["--streaming"]))  # named as on any runner
    job = new_job(settings, configuration, sink, time_zone="UTC", streaming=True)
    build(pipeline, _job(job, settings, choose_queue(settings._asdict())))
    return {name for name in pipeline.applied_labels if name}


def _jobs(google: GoogleCloudOptions) -> dataflow_v1beta3.JobsV1Beta3Client:
    """Return a client of the service, or of --dataflow_endpoint, as Beam builds it."""
    endpoint = (google.dataflow_endpoint or "").strip().rstrip("/")
    rest = "localhost" in endpoint or "sandbox" in endpoint
    named = endpoint if rest else endpoint.removeprefix("https://").removeprefix("http://")
    return dataflow_v1beta3.JobsV1Beta3Client(
        credentials=AnonymousCredentials() if google.no_auth else None,
        client_options=ClientOptions(api_endpoint=named) if named else None,
        transport="rest" if rest else None,
    )


def _job(job: Job, settings: Settings, queue: Queue) -> Job:
    mappings, name = mappings_of(settings)
    return replace(
        job,
        source=queue.read_by_runner(source=name, on_dataflow=True),
        input=queue.input,
        mappings=mappings,
        source_attribute=settings.source_attribute,
        gather=GatherBlocks(shards=job.shards, delay=settings.batch_delay),
    )


def submit(job: Job, options: PipelineOptions) -> Launched:
    """Submit the job to the service, or write it where the launcher of a template expects it. Errors: RunnerError."""
    return submit_built(lambda pipeline: build(pipeline, job), options)


def submit_built(build_steps: Callable[[beam.Pipeline], None], options: PipelineOptions) -> Launched:
    """Submit what `build_steps` adds to a pipeline, as `submit` does. Errors: RunnerError."""
    pipeline = beam.Pipeline(options=options)
    build_steps(pipeline)
    try:
        result: Any = pipeline.run()
    except Exception as problem:
        raise RunnerError(f"Dataflow rejected the job: {first_line(problem)}") from problem
    google = options.view_as(GoogleCloudOptions)
    if google.template_location:
        return Launched(google.job_name, "", google.template_location)
    id = result.job_id()
    place = f"{google.region}/{id}?project={google.project}"
    return Launched(google.job_name, id, f"https://console.cloud.google.com/dataflow/jobs/{place}")
