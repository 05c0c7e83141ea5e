"""`audience deploy`: the commands that it types, and, by gcloud itself against a service of ours, what they ask."""

import os
import shlex
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.assemble import new_job
from pipelines.cli import main
from pipelines.dataflow.deploy import RENAMED, check_names
from pipelines.dataflow.job import _job, step_names
from pipelines.launcher import command_of
from pipelines.settings.config import read_config
from pipelines.settings.resolve import resolve
from pipelines.sources.queues import choose_queue
from pipelines.warehouse.file_sinks import FileSink
from tests.servers.dataflow import Dataflow, dataflow_service
from tests.servers.needed import missing
from transforms.errors import OptionError
from transforms.gather import GatherBlocks

RELEASED = Path(__file__).parents[1] / "golden" / "steps_dataflow.txt"
IMAGE = "europe-docker.pkg.dev/my-project/audience/audience:abc123"
DIGEST = f"sha256:{'ab' * 32}"
PLACE = ["--project", "my-project", "--region", "europe-west1"]
OF_A_JOB = ["--bucket", "gs://my-bucket/", "--image", IMAGE]
STREAM = ["--dataset", "my-project.audience", "--input_subscription", "projects/my-project/subscriptions/events"]


KEY = "projects/my-project/locations/europe-west1/keyRings/audience/cryptoKeys/jobs"
FILES = ["--dataset", "my-project.audience", "--input", "gs://my-bucket/events/*.jsonl.gz"]


def printed(capsys, *words: str) -> list[list[str]]:
    """The commands that a dry run prints."""
    assert main(["deploy", *words, *PLACE, "--dry_run"]) == 0
    return [shlex.split(line) for line in capsys.readouterr().out.splitlines()]


def test_a_stream_is_a_job_of_the_template_with_its_image_and_parameters(capsys):
    more = ["--max_lateness", "36h", "--max_workers", "5", "--disable_public_ips", "--service_account_email", "a@b"]
    (words,) = printed(capsys, "stream", *OF_A_JOB, *STREAM, *more)
    assert words[:5] == ["gcloud", "dataflow", "flex-template", "run", "audience-stream"]
    assert "--template-file-gcs-location=gs://my-bucket/templates/abc123.json" in words
    told = next(word for word in words if word.startswith("--parameters="))
    assert told.startswith("--parameters=^;^")
    assert set(told.removeprefix("--parameters=^;^").split(";")) == {
        "dataset=my-project.audience",
        "input_subscription=projects/my-project/subscriptions/events",
        "max_lateness=36h",
        f"sdk_container_image={IMAGE}",
    }
    assert {"--max-workers=5", "--disable-public-ips", "--service-account-email=a@b", "--region=europe-west1"} <= {
        *words
    }
    assert "--update" not in words


def test_a_backfill_is_a_job_of_the_same_template_that_reads_files(capsys):
    days = ["--start", "2026-03-01", "--end", "2026-03-08", "--replace", "--no_active_stream=false"]
    guarded = ["--network", "private", "--dataflow_kms_key", KEY]
    (words,) = printed(capsys, "backfill", *OF_A_JOB, *FILES, *days, "--max_workers", "20", *guarded)
    assert words[:5] == ["gcloud", "dataflow", "flex-template", "run", "audience-backfill"]
    assert "--template-file-gcs-location=gs://my-bucket/templates/abc123.json" in words
    told = next(word for word in words if word.startswith("--parameters="))
    assert set(told.removeprefix("--parameters=^;^").split(";")) == {
        "dataset=my-project.audience",
        "input=gs://my-bucket/events/*.jsonl.gz",
        "start=2026-03-01",
        "end=2026-03-08",
        "replace=true",
        f"sdk_container_image={IMAGE}",
    }
    assert "--max-workers=20" in words
    assert {f"--dataflow-kms-key={KEY}", "--network=private"} <= {*words}
    assert not {"--update", "--enable-streaming-engine"} & {*words}


def test_a_refresh_is_a_job_of_the_same_template_with_nothing_of_the_other_kinds(capsys):
    asked = ["--dataset", "my-project.audience", "--as_of", "2026-03-01T10:00:00Z", "--config", "gs://my-bucket/c.yaml"]
    (words,) = printed(capsys, "refresh", *OF_A_JOB, *asked)
    assert words[:5] == ["gcloud", "dataflow", "flex-template", "run", "audience-refresh"]
    assert "--template-file-gcs-location=gs://my-bucket/templates/abc123.json" in words
    told = next(word for word in words if word.startswith("--parameters="))
    assert set(told.removeprefix("--parameters=^;^").split(";")) == {
        "dataset=my-project.audience",
        "refresh=true",
        "as_of=2026-03-01T10:00:00Z",
        "config=gs://my-bucket/c.yaml",
        f"sdk_container_image={IMAGE}",
    }
    assert not {"--update", "--enable-streaming-engine"} & {*words}


def test_the_folders_of_three_buckets_are_taken_as_terraform_tells_them(capsys):
    folders = {name: f"gs://my-project-{name}/{name}" for name in ("temp", "staging", "templates")}
    given = [word for name, folder in folders.items() for word in (f"--{name}_location", folder)]
    (words,) = printed(capsys, "stream", "--image", IMAGE, *given, *STREAM)
    assert f"--template-file-gcs-location={folders['templates']}/abc123.json" in words
    assert {f"--temp-location={folders['temp']}", f"--staging-location={folders['staging']}"} <= {*words}
    (build,) = printed(capsys, "build", "--image", IMAGE, *given)
    repository = IMAGE.removesuffix(":abc123")
    assert f"--substitutions=_IMAGE={repository},_TAG=abc123,_TEMPLATES={folders['templates']}" in build
    assert "--gcs-source-staging-dir=gs://my-project-templates/source" in build


def test_a_job_names_its_image_by_digest_and_its_template_by_tag(capsys):
    place = ["--bucket", "my-bucket", "--image", f"{IMAGE}@{DIGEST}"]
    (words,) = printed(capsys, "stream", *place, *STREAM)
    told = next(word for word in words if word.startswith("--parameters="))
    assert f"sdk_container_image={IMAGE.removesuffix(':abc123')}@{DIGEST}" in told.split(";")
    assert "--template-file-gcs-location=gs://my-bucket/templates/abc123.json" in words


def test_an_update_says_which_job_it_asks_and_maps_what_was_renamed(capsys):
    *asked, words = printed(capsys, "update", *OF_A_JOB, *STREAM, "--transform_name_mapping", "Old/A=Validate")
    assert [each[:4] for each in asked] == [
        ["gcloud", "dataflow", "jobs", "list"],
        ["gcloud", "dataflow", "jobs", "describe"],
    ]
    renamed = ",".join(f"{old}={new}" for old, new in (RENAMED | {"Old/A": "Validate"}).items())
    assert words[-2:] == ["--update", f"--transform-name-mappings={renamed}"]


def test_no_value_of_a_parameter_adds_another_one(capsys):
    (words,) = printed(capsys, "stream", *OF_A_JOB, *STREAM, "--config", "gs://b/a;experiments=x|y.yaml")
    told = next(word for word in words if word.startswith("--parameters="))
    assert told.startswith("--parameters=^~^")
    assert "config=gs://b/a;experiments=x|y.yaml" in told.removeprefix("--parameters=^~^").split("~")


@pytest.mark.parametrize(("action", "said"), [("drain", "closes every open bucket"), ("cancel", "are not read again")])
def test_what_an_end_loses_is_said_before_it(action, said, capsys):
    assert main(["deploy", action, *PLACE, "--dry_run"]) == 0
    told = capsys.readouterr()
    assert said in told.err and "audience recompute" in told.err
    assert shlex.split(told.out)[:5] == ["gcloud", "dataflow", "jobs", action, "JOB_ID"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["start"],
            "deploy: got 'start'; allowed: build, stream, backfill, refresh, update, release, status, drain,",
        ),
        (["backfill", *OF_A_JOB, *STREAM], "--input: missing; required by a job"),
        (["backfill", *OF_A_JOB, *FILES, *STREAM[2:]], "--input_subscription is not an option of"),
        (["stream", *OF_A_JOB, *STREAM, "--replace"], "--replace is not an option of"),
        (["refresh", *OF_A_JOB, *STREAM], "--input_subscription is not an option of `audience deploy refresh`"),
        (["refresh", *OF_A_JOB], "--dataset: missing; required by a job"),
        (["refresh", *OF_A_JOB, *STREAM[:2], "--as_of", "today"], "--as_of: got 'today'; allowed: a time with its"),
        (["backfill", *OF_A_JOB, *FILES, "--as_of", "2026-03-01T10:00:00Z"], "--as_of is not an option of"),
        (["backfill", *OF_A_JOB, *FILES, "--add"], "--add needs --start and --end on Dataflow"),
        (["backfill", *OF_A_JOB, *FILES, "--input", "gs://b/c"], "--input: got 2; allowed: one, since a"),
        (
            ["stream", *OF_A_JOB, *STREAM, "--dataflow_service_options=streaming_mode_at_least_once"],
            "--dataflow_service_options: got 'streaming_mode_at_least_once'; allowed: exactly-once mode",
        ),
        (["stream", *OF_A_JOB, *STREAM, "--config", ";|~!#%&"], "parameters: got values with each of ;|~!#%&"),
        (["stream"], "--image, --bucket: missing; required by `audience deploy stream`"),
        (["stream", *OF_A_JOB], "--dataset, --input_subscription: missing; required by a job"),
        (
            ["stream", *OF_A_JOB, *STREAM, "--max_lateness", "soon"],
            "--max_lateness: got 'soon'; allowed: a number above 0",
        ),
        (
            ["stream", "--bucket", "b", "--image", "x/y:latest", *STREAM],
            "--image: got 'x/y:latest'; allowed: an image with",
        ),
        (
            ["stream", "--bucket", "b", "--image", "x/y:abc@sha256:12", *STREAM],
            "--image: got 'x/y:abc@sha256:12'; allowed: an image with",
        ),
        (["build", "--bucket", "b", "--image", f"x/y:abc@{DIGEST}"], "allowed for a build: x/y:abc; the"),
        (
            ["update", *OF_A_JOB, *STREAM, "--transform_name_mapping", "Old"],
            "--transform_name_mapping: got 'Old'; allowed: OLD=NEW",
        ),
    ],
)
def test_a_mistake_is_one_line(words, said, capsys):
    assert main(["deploy", *words, *PLACE]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_step_that_was_renamed_since_the_release_is_in_the_mapping_of_an_update():
    """The list is that of the last release, and is renewed with one (RENEW_GOLDEN=1), not before."""
    names = step_names(resolve({"dataset": "my-project.audience", "input_subscription": STREAM[-1]}, "run"))
    if os.environ.get("RENEW_GOLDEN"):
        RELEASED.write_text("".join(f"{name}\n" for name in sorted(names)))
    gone = set(RELEASED.read_text().splitlines()) - names
    assert gone == set(RENAMED), "state is lost in an update: name what the step has become in RENAMED"
    assert set(RENAMED.values()) <= names


def test_blocks_are_gathered_by_the_shards_and_for_the_delay_of_the_options():
    given = {"dataset": "my-project.audience", "input_subscription": STREAM[-1], "shards": "3", "batch_delay": "2s"}
    settings = resolve(given, "run")
    opened = new_job(settings, read_config(None), FileSink("staging", {}, "UTC"), time_zone="UTC", streaming=True)
    job = _job(opened, settings, choose_queue(settings._asdict()))
    assert isinstance(job.gather, GatherBlocks)
    assert (job.gather.shards, job.gather.delay) == (3, timedelta(seconds=2))


def test_the_attribute_that_names_sources_goes_from_the_command_through_the_template_to_the_job(capsys):
    (typed,) = printed(capsys, "stream", *OF_A_JOB, *STREAM, "--source_attribute", "ce-source")
    assert "source_attribute=ce-source" in next(word for word in typed if word.startswith("--parameters="))
    words = command_of([f"--input_subscription={STREAM[-1]}", "--source_attribute=ce-source"])
    assert words == ["run", f"--input_subscription={STREAM[-1]}", "--source_attribute=ce-source"]
    given = {"dataset": "my-project.audience", "input_subscription": STREAM[-1], "source_attribute": "ce-source"}
    settings = resolve(given, "run")
    opened = new_job(settings, read_config(None), FileSink("staging", {}, "UTC"), time_zone="UTC", streaming=True)
    assert _job(opened, settings, choose_queue(settings._asdict())).source_attribute == "ce-source"


def test_a_step_that_would_lose_its_state_is_named_until_it_is_mapped():
    told = {"pipelineDescription": {"originalPipelineTransform": [{"name": "A/B"}, {"name": "Old"}, {}]}}
    check_names(told, {"A/B", "Old"}, {})
    check_names(told, {"A/B", "New"}, {"Old": "New"})
    for renamed in ({}, {"Old": "Elsewhere"}):
        with pytest.raises(OptionError, match="update: 'Old' of the running job are not in the new graph"):
            check_names(told, {"A/B", "New"}, renamed)


@pytest.fixture
def service(monkeypatch, tmp_path) -> Iterator[Dataflow]:
    """A service of ours in Dataflow's place, which gcloud asks without credentials."""
    if shutil.which("gcloud") is None:
        missing("no gcloud; install the Google Cloud SDK")
    with dataflow_service() as running:
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_DATAFLOW", f"{running.endpoint}/")
        monkeypatch.setenv("CLOUDSDK_AUTH_DISABLE_CREDENTIALS", "true")
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
        yield running


def test_gcloud_launches_the_template_and_then_updates_and_drains_the_job(service, capsys):
    more = ["--max_workers", "5", "--dataflow_service_options", "min_num_workers=2"]
    assert main(["deploy", "stream", *PLACE, *OF_A_JOB, *STREAM, *more]) == 0, capsys.readouterr().err
    launched = service.launched()
    assert launched["jobName"] == "audience-stream"
    assert launched["containerSpecGcsPath"] == "gs://my-bucket/templates/abc123.json"
    assert launched["parameters"] == {
        "dataset": "my-project.audience",
        "input_subscription": STREAM[-1],
        "sdk_container_image": IMAGE,
    }
    assert launched["environment"]["maxWorkers"] == 5
    assert launched["environment"]["additionalPipelineOptions"] == ["dataflow_service_options=min_num_workers=2"]
    assert not launched.get("update")
    service.asked.clear()
    assert main(["deploy", "update", *PLACE, *OF_A_JOB, *STREAM, "--transform_name_mapping", "Old=Validate"]) == 0
    updated = service.launched()
    assert updated["update"] is True
    assert updated["transformNameMappings"] == RENAMED | {"Old": "Validate"}
    assert main(["deploy", "drain", *PLACE]) == 0
    drained = [asked.body for asked in service.asked if asked.method == "PUT"]
    assert [body["requestedState"] for body in drained if body] == ["JOB_STATE_DRAINED"]


def test_an_update_of_no_job_is_one_line(service, capsys):
    assert main(["deploy", "update", *PLACE, *OF_A_JOB, *STREAM]) == 2
    error = capsys.readouterr().err
    assert "no job 'audience-stream' is running in my-project, europe-west1; start it with `audience" in error
    assert [asked for asked in service.asked if asked.method != "GET"] == []
