"""An update in parallel: its commands, and, by gcloud itself against a service of ours and the Pub/Sub emulator, its
course: which job it starts, when it drains the old one, when it shows the rows of the new one, and what it says."""

import itertools
import re
import shlex
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from pipelines.cli import main
from pipelines.dataflow import deploy
from pipelines.dataflow.deploy import Target
from pipelines.dataflow.replaced import Replacement, Waiting, minutes_behind, name_successor, open_subscription
from pipelines.warehouse.bigquery.due import read_due
from pipelines.warehouse.bigquery.held import held_generations, hold
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.tables import QUALITY_1M, polars_schema
from tests.pipelines.dataflow.test_deploy import OF_A_JOB, PLACE, STREAM
from tests.pipelines.warehouse.bigquery.test_run import FIRST, VISITS, rows
from tests.servers.dataflow import Dataflow, dataflow_service
from tests.servers.needed import missing
from tests.servers.pubsub import Queue
from transforms.errors import RunnerError

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
OLD, NEW = 1, 2
TARGET = Target("my-project", "europe-west1", "audience-stream", *("gs://b/temp", "gs://b/s", "gs://b/t"), "x/y:abc")


@pytest.fixture
def warehouse(bigquery) -> Iterator[BigQueryWarehouse]:
    """With what the old job has written: 5 visits."""
    with closing(BigQueryWarehouse.open(f"demo-project.replaced_{uuid.uuid4().hex[:12]}", create=True)) as opened:
        with opened.writer() as run:
            run.declare([VISITS, QUALITY_1M])
        write_visits(opened, OLD, 5)
        yield opened


def write_visits(warehouse: BigQueryWarehouse, generation: int, count: int) -> None:
    with warehouse.writer() as run:
        run.declare([VISITS])
        made = rows(count).with_columns(generation=pl.lit(generation, pl.Int64))
        run.commit([write_file(run.staging, VISITS.name, FIRST, made)])


def count(warehouse: BigQueryWarehouse, input: str, minute: datetime, received: int, events: int | None = None) -> None:
    """Write the audit counts of a minute: without `events` they reconcile."""
    named = {name: 0 for name in polars_schema(QUALITY_1M) if QUALITY_1M_TYPES[name] == "INT64"}
    named |= {"received": received, "events": received if events is None else events, "generation": 1}
    named["revision"] = next(REVISIONS)
    told = {"source": "events", "input": input, "bucket_start": minute, "bucket_end": minute + MINUTE, "firing": "late"}
    frame = pl.DataFrame([named | told | {"emitted_time": minute, "pipeline_version": "1"}], polars_schema(QUALITY_1M))
    with warehouse.writer() as run:
        run.declare([QUALITY_1M])
        run.commit([write_file(run.staging, QUALITY_1M.name, minute.date(), frame)])


REVISIONS = itertools.count(1)  # the last that is written counts
QUALITY_1M_TYPES = {column.name: column.type for column in QUALITY_1M.columns}


def shown(warehouse: BigQueryWarehouse) -> int:
    return pl.concat(warehouse.ask(f"SELECT SUM(n) FROM {VISITS.name}_current")).item()


class Turns:
    """A clock that stands, but for the waits; at each the next of the things to do is done."""

    def __init__(self, *turns: Callable[[], object]):
        self.now, self.turns = NOW.timestamp(), list(turns)

    def sleep(self, seconds: float) -> None:
        self.now += 60
        if self.turns:
            self.turns.pop(0)()

    def waiting(self, parallel: timedelta = timedelta(), limit: timedelta = timedelta(minutes=4)) -> Waiting:
        return Waiting(parallel, 20, limit, lambda: self.now, self.sleep)


@pytest.fixture
def service(monkeypatch, tmp_path, queue: Queue, pubsub_emulator) -> Iterator[Dataflow]:
    """Dataflow by a service of ours and Pub/Sub by its emulator, which gcloud asks without credentials."""
    if shutil.which("gcloud") is None:
        missing("no gcloud; install the Google Cloud SDK")
    with dataflow_service() as running:
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_DATAFLOW", f"{running.endpoint}/")
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB", f"http://{pubsub_emulator.host}/")
        monkeypatch.setenv("CLOUDSDK_AUTH_DISABLE_CREDENTIALS", "true")
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
        yield running


def test_an_update_in_parallel_starts_the_new_job_drains_the_old_one_and_then_shows_its_rows(service, queue, warehouse):
    deploy.run_gcloud(deploy.start(TARGET, {"dataset": warehouse.name}))
    old_id = next(iter(service.jobs))
    service.asked.clear()
    to, said = name_successor(TARGET, queue.subscription, NOW), []

    def old_job_has_stored() -> None:
        count(warehouse, queue.subscription, NOW.replace(second=0), 4, events=4)
        count(warehouse, queue.subscription, NOW.replace(second=0) + MINUTE, 5)

    def new_job_runs() -> None:
        hold(warehouse, NEW)
        write_visits(warehouse, NEW, 3)
        count(warehouse, to.subscription, NOW.replace(second=0) + MINUTE, 5)

    def is_drained_and_shows_the_old_rows() -> None:
        assert service.jobs[old_id]["currentState"] == "JOB_STATE_DRAINED"
        assert shown(warehouse) == 5
        with warehouse.writer() as run:  # the same key with a higher revision, as the new job catches up
            run.declare([VISITS])
            made = rows(6).with_columns(generation=pl.lit(NEW, pl.Int64), revision=pl.lit(2, pl.Int64))
            run.commit([write_file(run.staging, VISITS.name, FIRST, made)])

    count(warehouse, queue.subscription, NOW.replace(second=0), 4, events=2)  # two are still under way
    turns = Turns(old_job_has_stored, new_job_runs, is_drained_and_shows_the_old_rows)
    given = {"dataset": warehouse.name, "input_subscription": queue.subscription}
    Replacement(
        TARGET, queue.subscription, to, given, warehouse, deploy.run_gcloud, said.append, turns.waiting()
    ).replace_job(timedelta(days=2))
    assert not turns.turns
    launched = service.launched()
    assert launched["jobName"] == to.job_name
    assert launched["parameters"] == {
        "dataset": warehouse.name,
        "input_subscription": to.subscription,
        "held": "true",
        "sdk_container_image": "x/y:abc",
    }
    assert not launched.get("update")
    assert [job["currentState"] for job in service.jobs.values()] == ["JOB_STATE_DRAINED", "JOB_STATE_RUNNING"]
    assert (shown(warehouse), held_generations(warehouse)) == (6, [])
    due = read_due(warehouse)
    assert due is not None and due.start == date(2026, 2, 27)
    assert f"--job_name {to.job_name} --input_subscription {to.subscription}" in said[-1]
    assert "grant the workers' account roles/pubsub.subscriber" in said[0]  # the emulator has no policies
    # The emulator accepts the seek to the snapshot, and delivers only what is published from then on.
    queue.publish(b"for both jobs")
    queue.subscription = to.subscription
    assert queue.wait_for(1) == [b"for both jobs"]


def test_while_the_new_job_does_not_catch_up_the_old_one_goes_on_and_nothing_is_shown(service, queue, warehouse):
    deploy.run_gcloud(deploy.start(TARGET, {"dataset": warehouse.name}))
    to = name_successor(TARGET, queue.subscription, NOW)
    count(warehouse, queue.subscription, NOW.replace(second=0) + MINUTE, 5)

    def new_job_runs() -> None:
        hold(warehouse, NEW)
        write_visits(warehouse, NEW, 7)
        count(warehouse, to.subscription, NOW.replace(second=0) + MINUTE, 4)

    turns = Turns(new_job_runs)
    replacement = Replacement(
        TARGET, queue.subscription, to, {}, warehouse, deploy.run_gcloud, lambda text: None, turns.waiting()
    )
    with pytest.raises(RunnerError, match=r"in vain until the new job has caught up; job audience-stream goes on, and"):
        replacement.replace_job(timedelta(days=2))
    assert [job["currentState"] for job in service.jobs.values()] == ["JOB_STATE_RUNNING"] * 2
    assert (shown(warehouse), held_generations(warehouse)) == (5, [NEW])
    assert read_due(warehouse) is None


def test_a_new_job_is_behind_where_it_has_received_less_than_the_old_one_has_kept(warehouse):
    old, new, other = (f"projects/p/subscriptions/{name}" for name in ("a", "a-new", "b"))
    for part, minute, received in (("@1", 0, 5), ("@2", 0, 2), ("@1", 1, 4)):
        count(warehouse, f"{old}{part}", NOW + minute * MINUTE, received)
    count(warehouse, new, NOW, 7)
    count(warehouse, new, NOW + MINUTE, 3)
    count(warehouse, other, NOW + MINUTE, 9)
    assert minutes_behind(warehouse, old, new, NOW) == 1
    assert minutes_behind(warehouse, old, new, NOW + MINUTE) == 1
    assert minutes_behind(warehouse, old, new, NOW + 2 * MINUTE) == 0
    assert minutes_behind(warehouse, new, old, NOW) == 0


def test_the_new_subscription_is_like_the_old_one(warehouse):
    to = name_successor(TARGET, STREAM[-1], NOW)
    found = {
        "topic": "projects/my-project/topics/events",
        "ackDeadlineSeconds": 60,
        "messageRetentionDuration": "604800s",
        "filter": 'attributes.site = "a,b"',
        "enableMessageOrdering": True,
        "deadLetterPolicy": {"deadLetterTopic": "projects/my-project/topics/dead", "maxDeliveryAttempts": 7},
    }
    created = open_subscription(STREAM[-1], to, found)[1]
    assert created[4] == "projects/my-project/subscriptions/events-20260301t120030"
    assert {
        "--topic=projects/my-project/topics/events",
        "--expiration-period=never",
        "--ack-deadline=60",
        "--message-retention-duration=604800s",
        '--message-filter=attributes.site = "a,b"',
        "--enable-message-ordering",
        "--dead-letter-topic=projects/my-project/topics/dead",
        "--max-delivery-attempts=7",
    } <= set(created)


def test_names_of_a_second_update_replace_the_time_of_the_first_one():
    once = name_successor(TARGET, STREAM[-1], NOW)
    twice = name_successor(TARGET._replace(job_name=once.job_name), once.subscription, NOW + MINUTE)
    assert twice.job_name == "audience-stream-20260301t120130"
    assert twice.subscription == "projects/my-project/subscriptions/events-20260301t120130"


def test_a_dry_run_prints_each_command_in_order(capsys):
    assert main(["deploy", "update", "--parallel", *PLACE, *OF_A_JOB, *STREAM, "--dry_run"]) == 0
    printed = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [" ".join(words[1:4]) for words in printed] == [
        "dataflow jobs list",
        "pubsub subscriptions describe",
        "pubsub subscriptions get-iam-policy",
        "pubsub snapshots create",
        "pubsub subscriptions create",
        "pubsub subscriptions seek",
        "pubsub snapshots delete",
        "dataflow flex-template run",
        "dataflow jobs drain",
        "deploy release --dataset=my-project.audience",
    ]
    started = printed[7]
    assert re.fullmatch(r"audience-stream-\d{8}t\d{6}", started[4])
    told = next(word for word in started if word.startswith("--parameters="))
    assert "held=true" in told and re.search(r"input_subscription=projects/my-project/subscriptions/events-\d", told)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--transform_name_mapping", "A=B", *STREAM], "no state passes between two jobs with --parallel"),
        ([*STREAM[:2]], "--input_subscription: missing; with --parallel it names the subscription of the old job"),
        ([*STREAM, "--parallel_for", "soon"], "got 'soon'; allowed: a number above 0"),
    ],
    ids=["mapping", "subscription", "time"],
)
def test_a_mistake_is_one_line(words, said, capsys):
    assert main(["deploy", "update", "--parallel", *PLACE, *OF_A_JOB, *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_drain_with_a_dataset_waits_for_the_end_and_notes_the_days_to_recompute(service, warehouse, capsys):
    deploy.run_gcloud(deploy.start(TARGET, {"dataset": warehouse.name}))
    assert main(["deploy", "drain", *PLACE, "--dataset", warehouse.name]) == 0
    assert f"audience recompute --due --dataset {warehouse.name}" in capsys.readouterr().err
    due = read_due(warehouse)
    assert due is not None
    assert due.start <= datetime.now(UTC).date() - timedelta(days=2) and datetime.now(UTC).date() < due.end


def test_release_needs_a_dataset_and_says_what_it_shows(warehouse, capsys):
    assert main(["deploy", "release"]) == 2
    assert "--dataset: missing" in capsys.readouterr().err
    assert main(["deploy", "release", "--dataset", warehouse.name]) == 0
    assert "no rows were held" in capsys.readouterr().err
    hold(warehouse, NEW)
    write_visits(warehouse, NEW, 4)
    assert main(["deploy", "release", "--dataset", warehouse.name]) == 2
    assert "nothing was released" in capsys.readouterr().err
    assert main(["deploy", "release", "--dataset", warehouse.name, "--force"]) == 0
    assert "the rows of generation 2 are shown" in capsys.readouterr().err
    assert shown(warehouse) == 4
