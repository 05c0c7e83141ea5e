"""A refresh as a job of Dataflow: the job that the service would get; and the job run here, with a bucket and a dataset
of this machine. Its answers are those that the test of a refresh on one machine computes by hand."""

import json
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from apache_beam.portability.api import beam_runner_api_pb2 as api
from google.cloud import dataflow_v1beta3 as google

from pipelines.cli import main
from pipelines.dataflow import refresh as dataflow_refresh
from pipelines.dataflow.refresh import CommitAnswers, launch
from pipelines.insight import freshness
from pipelines.insight.passes import PASSES
from pipelines.insight.place import forget_answers
from pipelines.runners.in_process import run_bounded
from pipelines.settings.resolve import Place
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.tables import QUALITY_1M
from tests.pipelines.insight.test_refresh import SENT, T, add, by_hand, fill, latest, rows_of, sent
from tests.servers.dataflow import dataflow_service
from tests.support.dataflow_worker import read_by_a_worker
from transforms.errors import OvertakenError

WORDS = ["refresh", "--runner=DataflowRunner", "--project=my-project", "--region=europe-west1"]
CHANNELS = "channels: {ops: {kind: webhook, url: 'https://example.org/hook', secret: {env: KEY}}}"


@pytest.fixture
def place(bigquery) -> Place:
    """A dataset whose newest closed bucket ends at T."""
    found = Place(f"demo-project.d{uuid.uuid4().hex}", None)
    with open_warehouse(*found, time_zone="Europe/Berlin", create=True) as warehouse:
        fill(warehouse)
    return found


def test_the_job_is_a_batch_of_every_pass_that_a_worker_with_the_package_alone_reads(place, bigquery, tmp_path, capsys):
    with dataflow_service() as service:
        there = [f"--dataflow_endpoint={service.endpoint}", "--no_auth", f"--temp_location={tmp_path}"]
        named = ["--job_name=audience-refresh", "--sdk_container_image=host/audience:abc"]
        assert main([*WORDS, f"--dataset={place.dataset}", *there, *named]) == 0, capsys.readouterr().err
        body = service.created()
    job = google.Job.from_json(json.dumps(body))
    assert (job.name, job.type_) == ("audience-refresh", google.JobType.JOB_TYPE_BATCH)
    (pool,) = job.environment.worker_pools
    assert pool.worker_harness_container_image == "host/audience:abc"
    url = body["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
    graph = api.Pipeline.FromString(Path(url).read_bytes())
    steps = {each.unique_name for each in graph.components.transforms.values()}
    tables = {table.name for each in PASSES for table in each.tables}
    assert {"Compute answers", "Confirm/Commit them", *(f"Write {name}" for name in tables)} <= steps
    assert read_by_a_worker(url, tmp_path) > len(tables)
    for name, value in bigquery.environment.items():
        assert value.encode() not in graph.SerializeToString(), name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--outbox=alerts"], "--outbox is only for a refresh on this machine; leave it out for a job on Dataflow"),
        (["--update"], "--update is only for a stream: a running refresh cannot be updated; leave it out"),
        (["--region="], "--region: missing; a job on Dataflow requires --project, --region and --temp_location"),
        (["--max_worker=2"], "unknown option '--max_worker'"),
        (
            ["--config=sends.yaml"],
            "the rule 'quiet' of alerts sends messages; allowed on Dataflow: rules without",
        ),
        (None, "--dataset is missing: a job on Dataflow reads and writes BigQuery"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_asked(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rule = "{name: quiet, kind: no_new_data, send: [ops]}"
    Path("sends.yaml").write_text(f"alerts: {{{CHANNELS}, rules: [{rule}]}}\n")
    more = [] if words is None else ["--dataset=demo-project.none", *words]
    assert main([*WORDS, "--temp_location=temp", *more]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


class Jobs:
    """Refreshes of a dataset as the service would run them; the commits that they make are kept, to be tried again."""

    def __init__(self, place: Place, url: str, monkeypatch: pytest.MonkeyPatch):
        self.place, self.url = place, url
        self.commits: list[Callable[[], None]] = []
        self.meanwhile: Callable[[], None] = lambda: None
        commit = CommitAnswers.__call__

        def keep(step: CommitAnswers, entries: list) -> None:
            self.meanwhile()
            self.commits.append(lambda: commit(step, entries))
            self.commits[-1]()

        monkeypatch.setattr(CommitAnswers, "__call__", keep)
        monkeypatch.setattr(dataflow_refresh, "submit_built", lambda build, options: run_bounded(build, 1))

    def __call__(self, config=None, as_of=None) -> None:
        bucket = ["--project=demo-project", "--region=europe-west1", f"--temp_location={self.url}/temp"]
        launch(self.place, config, as_of, bucket, (freshness.PASS,))

    def late(self) -> None:
        """What a backfill does to the dataset: a commit of its own."""
        with open_warehouse(*self.place) as warehouse:
            add(warehouse, (QUALITY_1M, [sent("web", 30, 11, 3)]))

    def forget(self) -> None:
        """What an erasure does to the answers."""
        with closing(BigQueryWarehouse.open(f"{self.place.dataset}")) as warehouse:
            forget_answers(warehouse)


@pytest.fixture
def jobs(place, storage, monkeypatch) -> Jobs:
    return Jobs(place, storage.url, monkeypatch)


def test_a_job_writes_answers_once_however_often_its_last_step_is_tried(jobs, place, storage, tmp_path):
    quiet = tmp_path / "quiet.yaml"
    quiet.write_text("alerts: {rules: [{name: quiet, kind: no_new_data, after: 1m}]}\n")
    jobs(str(quiet))
    assert latest(place) == by_hand(T, SENT)
    assert rows_of(place, "SELECT rule, state FROM alerts") == [("quiet", "opened")]
    everything = "SELECT * FROM refreshes", "SELECT * FROM freshness ORDER BY source", "SELECT state FROM alerts"
    before = [rows_of(place, sql) for sql in everything]
    jobs.commits[0]()  # its files are gone
    jobs()
    jobs.commits[1]()  # it found nothing to write, and its files are gone
    assert [rows_of(place, sql) for sql in everything] == before
    assert not list(storage.bucket.list_blobs(prefix="temp/"))


def test_a_backfill_that_commits_while_the_job_runs_is_not_in_its_way_but_an_erasure_is(jobs, place):
    jobs.meanwhile = jobs.late
    jobs()
    assert latest(place) == by_hand(T, SENT), "of what was there when it asked"
    jobs.meanwhile = jobs.forget
    with pytest.raises(OvertakenError, match="another run has committed since this one began; nothing of this run was"):
        jobs()
    assert latest(place) == rows_of(place, "SELECT * FROM refreshes") == []
