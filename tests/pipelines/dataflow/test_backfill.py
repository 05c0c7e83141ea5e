"""A backfill as a job of Dataflow: the job that the service would get; and the job run here, by worker processes that
share nothing with who launched it but a bucket and a dataset, of this machine both."""

import io
import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2 as api
from google.cloud import bigquery
from google.cloud import dataflow_v1beta3 as google

from pipelines.apps.simulator.simulate import faults, simulate
from pipelines.audience import Job, build
from pipelines.batch import backfill as backfill_module
from pipelines.batch.backfill import backfill
from pipelines.cli import main
from pipelines.dataflow import backfill as dataflow_backfill
from pipelines.runners.in_process import run_bounded
from pipelines.settings.resolve import resolve
from pipelines.warehouse.bigquery import commit_token as bigquery_claim
from pipelines.warehouse.bigquery import run as bigquery_run
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.integration.same import METRICS, assert_alike
from tests.servers.dataflow import Dataflow, dataflow_service
from tests.servers.needed import LIMIT
from tests.servers.storage import Storage
from tests.support.dataflow_worker import read_by_a_worker
from transforms.errors import OptionError, OvertakenError, WarehouseError

TABLES = (
    "SELECT * FROM events",
    "SELECT source, stage, code, errors, payload FROM quarantine",
    *(f"SELECT * FROM {metric}_current" for metric in METRICS),
    "SELECT * FROM quality_1m_current",
)
DAYS = {"start": "2026-03-01", "end": "2026-03-02"}


def event(id: str, day: str = "2026-03-01", **fields: str) -> bytes:
    time = f"{day}T10:00:00Z"
    told = {"event_id": id, "event_type": "click", "event_time": time, "received_time": time, "user_id": "u"}
    return msgspec.json.encode(told | fields) + b"\n"


@pytest.fixture
def service() -> Iterator[Dataflow]:
    with dataflow_service() as running:
        yield running


def words(service: Dataflow, folder: Path, dataset: str) -> list[str]:
    """What a person types to launch a backfill."""
    (folder / "temp").mkdir()
    (folder / "events.jsonl").write_bytes(event("a"))
    return [
        "backfill",
        "--runner=DataflowRunner",
        f"--input={folder / 'events.jsonl'}",
        f"--dataset={dataset}",
        "--project=my-project",
        "--region=europe-west1",
        f"--temp_location={folder / 'temp'}",
        "--job_name=audience-backfill",
        f"--dataflow_endpoint={service.endpoint}",
        "--no_auth",
    ]


def new_dataset() -> str:
    return f"demo-project.batch_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def launched(service, bigquery, tmp_path) -> Callable[..., int]:
    """Launches a backfill as a person does; the exit status."""

    def launch(*more: str) -> int:
        return main([*given, *more])

    launch.dataset = new_dataset()
    given = words(service, tmp_path, launch.dataset)
    return launch


class Launched(NamedTuple):
    """A job that was launched, which the tests only look at: a launch makes a dataset, and takes seconds."""

    said: str
    body: dict
    environment: dict[str, str]


@pytest.fixture(scope="module")
def one(bigquery_server, tmp_path_factory) -> Launched:
    """With each option that a job takes."""
    environment, said = {**bigquery_server.environment, "SOME_TOKEN": "very-secret"}, io.StringIO()
    with dataflow_service() as service, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stderr", said)
        status = main(
            [
                *words(service, tmp_path_factory.mktemp("one"), new_dataset()),
                "--sdk_container_image=host/audience:abc",
                "--service_account_email=audience@my-project.iam.gserviceaccount.com",
                "--subnetwork=regions/europe-west1/subnetworks/private",
                "--no_use_public_ips",
                "--num_workers=2",
                "--max_num_workers=20",
                "--machine_type=n2-standard-4",
                "--labels=team=audience",
            ]
        )
        assert status == 0, said.getvalue()
        return Launched(said.getvalue(), service.created(), environment)


def graph_of(body: dict) -> api.Pipeline:
    """The graph that a job names."""
    options = body["environment"]["sdkPipelineOptions"]["options"]
    return api.Pipeline.FromString(Path(options["pipelineUrl"]).read_bytes())


def test_the_job_is_a_batch_of_the_image_with_the_bounds_that_were_given_and_the_launch_ends(one):
    assert ": https://console.cloud.google.com/dataflow/jobs/europe-west1/" in one.said
    body = one.body
    job = google.Job.from_json(json.dumps(body))
    (pool,) = job.environment.worker_pools
    assert (job.name, job.type_, dict(job.labels)) == (
        "audience-backfill",
        google.JobType.JOB_TYPE_BATCH,
        {"team": "audience"},
    )
    assert "use_runner_v2" in job.environment.experiments
    assert not [name for name in job.environment.experiments if "streaming" in name]
    assert job.environment.service_account_email == "audience@my-project.iam.gserviceaccount.com"
    assert pool.worker_harness_container_image == "host/audience:abc"
    assert [image.container_image for image in pool.sdk_harness_container_images] == ["host/audience:abc"]
    assert [package.name for package in pool.packages] == ["submission_environment_dependencies.txt"]
    assert pool.subnetwork == "regions/europe-west1/subnetworks/private"
    assert pool.ip_configuration == google.WorkerIPAddressConfiguration.WORKER_IP_PRIVATE
    assert (pool.num_workers, pool.autoscaling_settings.max_num_workers) == (2, 20)
    assert pool.machine_type == "n2-standard-4"
    graph = graph_of(body)
    assert {each.urn for each in graph.components.environments.values()} == {"beam:env:docker:v1"}
    sent = json.dumps(body).encode() + graph.SerializeToString()
    assert {"SOME_TOKEN", "BIGQUERY_EMULATOR_HOST", "BIGQUERY_STORAGE_EMULATOR_HOST"} <= set(one.environment)
    for name, value in one.environment.items():
        assert value.encode() not in sent, name


def test_its_steps_are_those_of_the_golden_list(one):
    golden = {
        step
        for step in (Path(__file__).parents[1] / "golden" / "steps_cluster.txt").read_text().splitlines()
        # Steps of days that are merged into, and of neighbor days.
        if not step.startswith(("Read stored", "Join stored", "Read neighbor days", "Read spanning", "Sessions/Tag"))
    }
    assert golden <= {each.unique_name for each in graph_of(one.body).components.transforms.values()}


def test_a_worker_that_has_the_package_alone_reads_every_step(one, tmp_path):
    options = one.body["environment"]["sdkPipelineOptions"]["options"]
    assert read_by_a_worker(options["pipelineUrl"], tmp_path) > 20


def test_a_template_is_written_of_a_batch_and_no_job_is_created(launched, service, tmp_path):
    template = tmp_path / "template.json"
    assert launched(f"--template_location={template}", "--replace=false", "--accept_late=true") == 0
    assert google.Job.from_json(template.read_bytes()).type_ == google.JobType.JOB_TYPE_BATCH
    assert [asked for asked in service.asked if asked.method == "POST"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--add"], "--add needs --start and --end on Dataflow"),
        (["--update"], "--update is only for a stream: a running backfill cannot be updated; leave it out"),
        (["--workers=2"], "--workers is only for a backfill on this machine; leave it out for a job on Dataflow"),
        (["--temp_location=gs://my-bucket/temp"], "events.jsonl', a local file; allowed: files in a bucket"),
        (["--region="], "--region: missing; a job on Dataflow requires --project, --region and --temp_location"),
        (["--input=none.jsonl"], "'none.jsonl': there is no such file"),
        (["--input=-"], "--input -: a job on Dataflow cannot read standard input; copy it to a bucket"),
        (["--max_worker=2"], "unknown option '--max_worker'"),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts_or_is_made(words, said, launched, service, capsys):
    assert launched(*words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert service.asked == []
    assert not BigQueryWarehouse.exists(launched.dataset)


class Jobs:
    """Backfills of a bucket's files into one dataset; beside each the same on this machine, into a folder."""

    def __init__(self, storage: Storage, folder: Path, monkeypatch):
        self.dataset = new_dataset()
        self.storage, self.folder = storage, folder
        self.workers = 1  # as processes of their own from 2 on
        self.run = self.as_the_service
        # In the service's place: everything else of a launch is what a person's is.
        monkeypatch.setattr(dataflow_backfill, "submit", lambda job, options: self.run(job, options))

    def __call__(self, pattern: str, **options: object) -> None:
        given = {"input": [f"{self.storage.url}/{pattern}"], "dataset": self.dataset, **options}
        place = ["--project=demo-project", "--region=europe-west1", f"--temp_location={self.storage.url}/temp"]
        dataflow_backfill.launch(resolve(given), place)

    def here(self, pattern: str, **options: object) -> None:
        """The same by a backfill of one machine."""
        given = {"input": [f"{self.storage.url}/{pattern}"], "warehouse": f"{self.folder / 'here'}", "workers": "1"}
        backfill(resolve(given | options))

    def as_the_service(self, job: Job, options: PipelineOptions) -> None:
        assert job.spill_folder is None
        run_bounded(lambda pipeline: build(pipeline, job), self.workers)

    def warehouse(self) -> BigQueryWarehouse:
        return BigQueryWarehouse.open(self.dataset)

    def ids(self) -> list[str]:
        with closing(self.warehouse()) as warehouse:
            return sorted(warehouse.scan("events").collect()["event_id"])

    def left(self) -> list[str]:
        """What jobs have left in the bucket."""
        return [blob.name for blob in self.storage.bucket.list_blobs(prefix="temp/")]

    def assert_alike(self) -> None:
        with closing(self.warehouse()) as there:
            for sql in TABLES:
                assert_alike(there, LocalWarehouse.open(self.folder / "here"), sql)


@pytest.fixture
def jobs(storage, bigquery, tmp_path, monkeypatch) -> Jobs:
    return Jobs(storage, tmp_path, monkeypatch)


def test_a_job_gives_the_rows_of_a_backfill_of_one_machine_also_where_it_adds_to_days_or_replaces_them(
    jobs, storage, tmp_path
):
    simulate(800, 5, tmp_path / "events.jsonl", days=2, faults=faults("many"))
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines(keepends=True)
    storage.put("one/a.jsonl", b"".join(lines[:200]))
    storage.put("one/b.jsonl", b"".join(lines[200:400]))
    storage.put("two/c.jsonl", b"".join(lines[350:]))
    with closing(LocalWarehouse.open(tmp_path / "here", create=True)):
        pass
    days = {"start": "2026-03-01", "end": "2026-03-05"}
    for jobs.workers, pattern, options in (
        (2, "one/*.jsonl", {}),
        (1, "two/*", {"add": True, **days}),
        (1, "one/*", {"replace": True, **days}),
    ):
        jobs(pattern, **options)
        jobs.here(pattern, **options)
        jobs.assert_alike()
        assert jobs.left() == []


def test_days_that_have_rows_are_refused_by_the_launch_where_they_are_named_as_they_have_to_be(jobs, storage):
    storage.put("one.jsonl", event("a"))
    storage.put("two.jsonl", event("b") + event("c", "2026-03-02"))
    jobs("one.jsonl")
    jobs.run = None  # nothing starts
    with pytest.raises(WarehouseError, match=r"already has rows for 2026-03-01 .1 rows.: nothing was changed"):
        jobs("two.jsonl", **DAYS)
    with pytest.raises(OptionError, match=r"--start and --end are missing: demo-project.* has days"):
        jobs("two.jsonl")
    assert jobs.ids() == ["a"]


def test_days_that_have_rows_once_the_job_commits_are_refused_by_it(kept, jobs, storage):
    storage.put("one.jsonl", event("a"))
    storage.put("two.jsonl", event("b"))
    jobs("one.jsonl")
    backfill(resolve({"input": [f"{storage.url}/two.jsonl"], "dataset": jobs.dataset, "workers": "1"}))
    with pytest.raises(WarehouseError, match=r"already has rows for 2026-03-01 .1 rows.: nothing was changed"):
        kept()
    assert jobs.ids() == ["b"]


def at_midnight(id: str, time: str) -> bytes:
    return event(id, event_time=time, received_time=time)


def test_a_session_goes_on_over_midnight_though_each_day_has_a_job_of_its_own(jobs, storage, tmp_path):
    storage.put("one.jsonl", at_midnight("a", "2026-03-01T23:50:00Z"))
    storage.put("two.jsonl", at_midnight("b", "2026-03-02T00:10:00Z") + at_midnight("c", "2026-03-02T09:00:00Z"))
    with closing(LocalWarehouse.open(tmp_path / "here", create=True)):
        pass
    for name, days in (("two.jsonl", {"start": "2026-03-02", "end": "2026-03-03"}), ("one.jsonl", DAYS)):
        jobs(name, **days)
        jobs.here(name, **days)
    with closing(jobs.warehouse()) as there:
        assert_alike(there, LocalWarehouse.open(tmp_path / "here"), "SELECT * FROM sessions_current")
        rows = pl.concat(there.ask("SELECT events, is_tombstone FROM sessions ORDER BY session_start, events")).rows()
    assert rows == [(2, False), (0, True), (1, False), (1, False)]


def test_a_file_that_comes_after_the_launch_is_not_read(jobs, storage):
    storage.put("events/a.jsonl", event("a"))
    run = jobs.run

    def later(job: Job, options: PipelineOptions) -> None:
        storage.put("events/b.jsonl", event("b"))
        run(job, options)

    jobs.run = later
    jobs("events/*.jsonl")
    assert jobs.ids() == ["a"]


class Kept:
    """Keeps what a job would have committed, and commits it as often as it is asked."""

    def __init__(self, jobs: Jobs, file: Path):
        self.jobs, self.file = jobs, file
        jobs.run = self._run

    def _run(self, job: Job, options: PipelineOptions) -> None:
        self.commit = job.sink.commit
        noting = replace(job, sink=job.sink._replace(commit=Note(f"{self.file}")))
        run_bounded(lambda pipeline: build(pipeline, noting), 1)
        self.entries = msgspec.json.decode(self.file.read_bytes(), type=list[FileEntry])

    def __call__(self) -> None:
        self.commit(self.entries)


class Note:
    def __init__(self, file: str):
        self.file = file

    def __call__(self, entries: list[FileEntry]) -> None:
        Path(self.file).write_bytes(msgspec.json.encode(entries))


@pytest.fixture
def kept(jobs, tmp_path) -> Kept:
    return Kept(jobs, tmp_path / "entries.json")


def test_a_commit_that_is_tried_again_after_it_was_made_does_nothing(kept, jobs, storage):
    storage.put("one.jsonl", event("a"))
    jobs("one.jsonl")
    kept()
    kept()
    assert jobs.ids() == ["a"]
    # Nor when others have committed since, to the same day.
    first = kept.commit, kept.entries
    storage.put("two.jsonl", event("b"))
    jobs("two.jsonl", add=True, **DAYS)
    kept()
    kept.commit, kept.entries = first
    kept()
    assert jobs.ids() == ["a", "b"]
    with closing(jobs.warehouse()) as warehouse:
        assert pl.concat(warehouse.ask("SELECT SUM(events) AS n FROM quality_1m_current")).item() == 2


def test_a_commit_that_dies_between_its_load_and_its_swap_is_made_by_the_next_try(kept, jobs, storage, monkeypatch):
    storage.put("one.jsonl", event("a"))
    jobs("one.jsonl")
    with monkeypatch.context() as dying:
        dying.setattr(bigquery_run.BigQueryRun, "_swap", die)
        dying.setattr(bigquery.Client, "delete_table", die)  # as of a process that is gone: its tables stay
        with pytest.raises(Killed):
            kept()
    with closing(jobs.warehouse()) as warehouse:
        staged = [table.table_id for table in warehouse.client.list_tables(warehouse.dataset)]
        assert any(name.startswith("staging_events") for name in staged)
    assert jobs.ids() == []
    kept()
    assert jobs.ids() == ["a"]
    assert jobs.left() == []


class Killed(BaseException):
    """The end of a worker."""


def die(*_, **__):
    raise Killed


def test_of_two_tries_at_once_one_commits_and_both_end_well(kept, jobs, storage, monkeypatch):
    storage.put("one.jsonl", event("a") + event("b"))
    jobs("one.jsonl")
    both, swap, failed = threading.Barrier(2), bigquery_run.BigQueryRun._swap, []

    def together(run, *given):
        both.wait(LIMIT)
        swap(run, *given)

    def tried():
        try:
            kept()
        except Exception as problem:
            failed.append(problem)

    monkeypatch.setattr(bigquery_run.BigQueryRun, "_swap", together)
    threads = [threading.Thread(target=tried) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert jobs.ids() == ["a", "b"]


def test_a_try_whose_files_the_other_one_has_removed_ends_well(kept, jobs, storage, monkeypatch):
    storage.put("one.jsonl", event("a"))
    jobs("one.jsonl")
    refuse = backfill_module._refuse

    def late(*given):
        monkeypatch.setattr(backfill_module, "_refuse", refuse)
        kept()
        assert jobs.left() == []

    monkeypatch.setattr(backfill_module, "_refuse", late)
    kept()
    assert jobs.ids() == ["a"]


def test_another_run_that_commits_while_the_job_runs_is_in_nobodys_way_but_of_rows_that_were_read(
    kept, jobs, storage, monkeypatch
):
    for name, day in (("one", "2026-03-01"), ("two", "2026-03-05"), ("three", "2026-03-03")):
        storage.put(f"{name}.jsonl", event(name, day))
    jobs("one.jsonl")
    between(jobs, monkeypatch, "two.jsonl")
    kept()
    assert jobs.ids() == ["one", "two"]
    storage.put("more.jsonl", event("more"))
    jobs("more.jsonl", add=True, **DAYS)
    between(jobs, monkeypatch, "three.jsonl")
    with pytest.raises(OvertakenError, match="another run has committed since this one began; nothing of this run was"):
        kept()
    assert jobs.ids() == ["one", "three", "two"]


def test_days_beside_that_are_written_while_the_job_runs_are_in_its_way(kept, jobs, storage, monkeypatch):
    storage.put("one.jsonl", event("one"))
    storage.put("two.jsonl", event("two", "2026-03-02"))
    jobs("one.jsonl")
    between(jobs, monkeypatch, "two.jsonl")
    with pytest.raises(WarehouseError, match="2026-03-02, next to the days of this run"):
        kept()
    assert jobs.ids() == ["two"]


def between(jobs: Jobs, monkeypatch, pattern: str) -> None:
    """Let a backfill of this machine commit between what the next commit reads and its swap."""
    swap = bigquery_run.BigQueryRun._swap

    def late(run, *given):
        monkeypatch.setattr(bigquery_run.BigQueryRun, "_swap", swap)
        backfill(resolve({"input": [f"{jobs.storage.url}/{pattern}"], "dataset": jobs.dataset, "workers": "1"}))
        swap(run, *given)

    monkeypatch.setattr(bigquery_run.BigQueryRun, "_swap", late)


def test_a_claim_that_has_expired_is_one_line_and_nothing_is_committed(kept, jobs, storage):
    storage.put("one.jsonl", event("a"))
    jobs("one.jsonl")
    with closing(jobs.warehouse()) as warehouse:
        warehouse.client.delete_table(warehouse.dataset.table(bigquery_claim.table_of(kept.commit.token)))
    with pytest.raises(WarehouseError, match="was launched more than 14 days ago, and nobody can tell"):
        kept()
    assert jobs.ids() == []
