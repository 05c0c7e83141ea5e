"""The job that Dataflow gets, as the service would take it: captured over REST, without a cloud."""

import io
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from google.cloud.dataflow_v1beta3 import Job, JobType, WorkerIPAddressConfiguration

from pipelines.cli import main
from pipelines.dataflow.deploy import RENAMED
from pipelines.launcher import main as by_template
from pipelines.sources.pubsub.client import EMULATOR
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from tests.servers.dataflow import Dataflow, dataflow_service
from tests.servers.pubsub import Queue
from tests.servers.sockets import assert_private, watched
from tests.support.dataflow_worker import read_by_a_worker

GOLDEN = Path(__file__).parents[1] / "golden" / "steps_dataflow.txt"
IMAGE = "europe-docker.pkg.dev/my-project/audience/audience:abc"


@pytest.fixture
def service() -> Iterator[Dataflow]:
    with dataflow_service() as running:
        yield running


def words(subscription: str, dataset: str, service: Dataflow, folder: Path) -> list[str]:
    """What a person types to launch the stream."""
    (folder / "temp").mkdir()
    return [
        "run",
        "--runner=DataflowRunner",
        f"--input_subscription={subscription}",
        f"--dataset={dataset}",
        "--project=my-project",
        "--region=europe-west1",
        f"--temp_location={folder / 'temp'}",
        "--job_name=audience",
        f"--dataflow_endpoint={service.endpoint}",
        "--no_auth",
    ]


def new_dataset() -> str:
    return f"demo-project.flow_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def launched(service, bigquery, queue, tmp_path) -> Callable[..., int]:
    """Launches the stream as a person does; the exit status."""
    given = words(queue.subscription, new_dataset(), service, tmp_path)
    return lambda *more: main([*given, *more])


class Launched(NamedTuple):
    """A job that was launched, which the tests only look at: a launch makes a dataset, and takes seconds."""

    subscription: str
    dataset: str
    said: str
    job: dict
    environment: dict[str, str]
    listened: set  # what its launch has listened on


@pytest.fixture(scope="module")
def one(bigquery_server, pubsub_emulator, tmp_path_factory) -> Iterator[Launched]:
    """With each option that a job takes."""
    environment = {**bigquery_server.environment, EMULATOR: pubsub_emulator.host, "SOME_TOKEN": "very-secret"}
    said = io.StringIO()
    with dataflow_service() as service, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stderr", said)
        queue, dataset = Queue(pubsub_emulator.host), new_dataset()
        before = assert_private(os.getpid())
        with watched() as found:
            status = main(
                [
                    *words(queue.subscription, dataset, service, tmp_path_factory.mktemp("one")),
                    f"--sdk_container_image={IMAGE}",
                    "--service_account_email=audience@my-project.iam.gserviceaccount.com",
                    "--subnetwork=regions/europe-west1/subnetworks/private",
                    "--no_use_public_ips",
                    "--num_workers=1",
                    "--max_num_workers=5",
                    "--batch_delay=2s",
                    "--machine_type=n2-standard-4",
                    "--labels=team=audience",
                    "--id_label=key",
                    "--timestamp_attribute=received_time",
                ]
            )
        assert status == 0, said.getvalue()
        yield Launched(queue.subscription, dataset, said.getvalue(), service.created(), environment, found - before)
        queue.pubsub.close()


def job_of(body: dict) -> Job:
    """A job as the service reads it."""
    return Job.from_json(json.dumps(body))


def graph_of(job: dict) -> beam_runner_api_pb2.Pipeline:
    """The graph that a job names."""
    options = job["environment"]["sdkPipelineOptions"]["options"]
    return beam_runner_api_pb2.Pipeline.FromString(Path(options["pipelineUrl"]).read_bytes())


def test_the_job_streams_from_the_subscription_in_the_image_with_the_bounds_that_were_given(one):
    assert "console.cloud.google.com/dataflow/jobs/europe-west1/" in one.said
    job = job_of(one.job)
    (pool,) = job.environment.worker_pools
    assert (job.name, job.type_, dict(job.labels)) == ("audience", JobType.JOB_TYPE_STREAMING, {"team": "audience"})
    assert {"enable_streaming_engine", "use_runner_v2"} <= set(job.environment.experiments)
    assert job.environment.service_account_email == "audience@my-project.iam.gserviceaccount.com"
    assert pool.worker_harness_container_image == IMAGE
    assert [image.container_image for image in pool.sdk_harness_container_images] == [IMAGE]
    # The image has all; this is a list of it, for the logs.
    assert [package.name for package in pool.packages] == ["submission_environment_dependencies.txt"]
    assert pool.subnetwork == "regions/europe-west1/subnetworks/private"
    assert pool.ip_configuration == WorkerIPAddressConfiguration.WORKER_IP_PRIVATE
    assert pool.autoscaling_settings.max_num_workers == 5
    assert pool.num_workers == 1
    assert pool.machine_type == "n2-standard-4"


def test_to_launch_a_job_is_to_listen_on_nothing(one):
    assert one.listened == set()


def test_its_graph_is_the_one_of_the_golden_list_read_by_dataflow_itself(one):
    components = graph_of(one.job).components
    transforms = components.transforms.values()
    (read,) = (each for each in transforms if each.spec.urn == "beam:transform:pubsub_read:v1")
    payload = beam_runner_api_pb2.PubSubReadPayload.FromString(read.spec.payload)
    assert payload.subscription == one.subscription
    assert (payload.id_attribute, payload.timestamp_attribute) == ("key", "received_time")
    assert payload.with_attributes
    names = {each.unique_name for each in transforms}
    assert set(GOLDEN.read_text().splitlines()) - RENAMED.keys() <= names
    (settle,) = (each for each in transforms if each.unique_name == "Settle")
    (gather,) = (each for each in transforms if each.unique_name == "Gather")
    assert set(settle.inputs.values()) == set(gather.outputs.values())
    environments = {each.urn for each in components.environments.values()}
    assert environments == {"beam:env:docker:v1"}


def test_a_worker_that_has_the_package_alone_reads_every_step(one, tmp_path):
    options = one.job["environment"]["sdkPipelineOptions"]["options"]
    assert read_by_a_worker(options["pipelineUrl"], tmp_path) > 20


def test_what_it_needs_in_bigquery_is_there_before_a_worker_starts(one, bigquery):
    warehouse = BigQueryWarehouse.open(one.dataset)
    assert {"events", "quarantine", "quality_1m", "activity_1m"} <= set(warehouse.tables())
    warehouse.close()


def test_no_value_of_the_environment_is_in_the_job_or_its_graph(one):
    sent = json.dumps(one.job).encode() + graph_of(one.job).SerializeToString()
    assert {"SOME_TOKEN", EMULATOR, "BIGQUERY_EMULATOR_HOST", "BIGQUERY_STORAGE_EMULATOR_HOST"} <= set(one.environment)
    for name, value in one.environment.items():
        assert value.encode() not in sent, name


def test_an_update_replaces_the_running_job_of_its_name_and_maps_renamed_steps(launched, service):
    assert launched() == 0
    (id,) = service.jobs
    service.asked.clear()
    assert launched("--update", '--transform_name_mapping={"Old": "Validate"}') == 0
    job = service.created()
    assert job["replaceJobId"] == id
    assert job["transformNameMapping"] == {"Old": "Validate"}


def test_an_update_of_no_job_is_one_line_and_asks_once(launched, service, capsys):
    assert launched("--update") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no job 'audience' is running in my-project, europe-west1; start it without --update" in said
    assert [asked.method for asked in service.asked] == ["GET"]


def test_a_service_that_refuses_to_tell_its_jobs_is_one_line(launched, service, capsys, monkeypatch):
    monkeypatch.setattr(service, "answer", lambda asked: (403, {"error": {"code": 403, "message": "API is disabled"}}))
    assert launched("--update") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot list Dataflow jobs" in said and "gcloud services enable dataflow.googleapis.com" in said


def test_what_is_of_one_machine_or_of_dataflow_alone_is_refused_elsewhere(launched, service, capsys):
    assert launched("--readers=3") == 2
    assert "--readers is only for a stream on this machine; leave it out" in capsys.readouterr().err
    words = ["--input_subscription=projects/my-project/subscriptions/events", "--id_label=key"]
    assert main(["run", *words]) == 2
    assert "--id_label is only for Dataflow" in capsys.readouterr().err
    assert service.asked == []


AT_LEAST_ONCE = [
    "--dataflow_service_options=streaming_mode_at_least_once",
    "--dataflow_service_option=enable_prime,streaming_mode_at_least_once",
    "--experiments=use_runner_v2,streaming_mode_at_least_once",
    "--experiment=STREAMING_MODE_AT_LEAST_ONCE",
    "--experiments=streaming-mode-at-least-once=true",
]


@pytest.mark.parametrize("word", AT_LEAST_ONCE)
def test_at_least_once_mode_is_refused_in_one_line_by_every_launcher(word, capsys):
    """Each refuses before it asks for the subscription, the files or the dataset, none of which are there."""
    queue, files = "--input_subscription=projects/my-project/subscriptions/none", "--input=gs://no-bucket/*.jsonl"
    place = ["--runner=DataflowRunner", "--dataset=my-project.none", "--project=my-project", "--region=europe-west1"]
    place += ["--temp_location=gs://no-bucket/temp", word]
    for start in (
        lambda: main(["run", queue, *place]),
        lambda: main(["backfill", files, *place]),
        lambda: by_template([queue, *place]),
        lambda: by_template([files, *place]),
    ):
        assert start() == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        name = "experiments" if "experiment" in word else "dataflow_service_options"
        assert said.startswith(f"error: --{name}: got ")
        assert "at-least-once mode counts repeats twice in metrics and audit counts; leave it out" in said


def test_under_the_launcher_of_a_template_the_job_is_written_and_none_is_created(launched, service, tmp_path):
    template = tmp_path / "template.json"
    assert launched(f"--template_location={template}") == 0
    assert job_of(json.loads(template.read_bytes())).type_ == JobType.JOB_TYPE_STREAMING
    assert [asked for asked in service.asked if asked.method == "POST"] == []


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--dataset", "--dataset is missing: a job on Dataflow writes to BigQuery"),
        ("--region", "--region: missing; a job on Dataflow requires --project, --region and --temp_location"),
        ("--input_subscription", "no source given"),
    ],
)
def test_what_is_missing_is_one_line(word, said, service, queue, bigquery, tmp_path, capsys):
    words = {
        "--input_subscription": queue.subscription,
        "--dataset": "demo-project.never_made",
        "--project": "my-project",
        "--region": "europe-west1",
        "--temp_location": f"{tmp_path}",
        "--dataflow_endpoint": service.endpoint,
    }
    del words[word]
    given = [f"{name}={value}" for name, value in words.items()]
    assert main(["run", "--runner=DataflowRunner", "--no_auth", *given]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert service.asked == []
