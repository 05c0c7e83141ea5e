"""What Google's machines do with the template, done here: gcloud's build of its file, the step of Cloud Build that
writes it, and the launcher, each in a process that has no more than it has there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.cloud.dataflow_v1beta3 import Job, JobType

from pipelines.dataflow.template import container_spec, metadata
from pipelines.warehouse.open import open_warehouse
from tests.pipelines.insight.test_refresh import fill
from tests.servers.needed import missing

ROOT = Path(__file__).parents[2]
FLEX = ROOT / "templates" / "flex"
IMAGE = "europe-docker.pkg.dev/my-project/audience/audience:abc"
DEFAULTS = {
    told["name"]: told["defaultValue"] for told in json.loads(metadata())["parameters"] if "defaultValue" in told
}
FLAGS = [told["name"] for told in json.loads(metadata())["parameters"] if told["paramType"] == "BOOLEAN"]
LEFT_OUT = {"streaming", "supportsAtLeastOnce", "supportsExactlyOnce"}


def test_gcloud_builds_the_file_that_the_build_writes_but_for_what_streams(tmp_path):
    if shutil.which("gcloud") is None:
        missing("no gcloud; install the Google Cloud SDK")
    words = ["gcloud", "dataflow", "flex-template", "build", "gs://my-bucket/templates/abc.json", "--print-only"]
    told = [f"--image={IMAGE}", "--sdk-language=PYTHON", f"--metadata-file={FLEX / 'metadata.json'}"]
    alone = {"CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true", "CLOUDSDK_CORE_PROJECT": "my-project"}
    env = os.environ | alone | {"CLOUDSDK_CONFIG": str(tmp_path / "gcloud")}
    done = subprocess.run([*words, *told], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built, ours = json.loads(done.stdout[done.stdout.index("{") :]), json.loads(container_spec(IMAGE))
    assert (built["image"], built["sdkInfo"]["language"]) == (ours["image"], ours["sdkInfo"]["language"])
    assert built["metadata"]["name"] == ours["metadata"]["name"]
    assert ours["metadata"].keys() >= LEFT_OUT
    assert LEFT_OUT.isdisjoint(built["metadata"]), "gcloud keeps what streams: its file would do in place of ours"
    for one, other in zip(built["metadata"]["parameters"], ours["metadata"]["parameters"], strict=True):
        assert {name: one[name] for name in one if name in other} == {
            name: other[name] for name in one if name in other
        }
        assert {"name", "label", "helpText"} <= one.keys()


def test_the_step_that_writes_the_file_needs_python_alone(tmp_path):
    for folder in ("pipelines", "transforms", "templates"):
        shutil.copytree(ROOT / folder, tmp_path / "checkout" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "clean"], check=True)
    stand_in = tmp_path / "bin" / "gcloud"
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/sh\ncp "$3" {tmp_path}/uploaded.json\necho "$4" > {tmp_path}/where\n')
    stand_in.chmod(0o755)
    env = {"PATH": f"{tmp_path / 'bin'}:{tmp_path / 'clean' / 'bin'}:/usr/bin:/bin"}
    env |= {"IMAGE": IMAGE.rpartition(":")[0], "TAG": "abc", "TEMPLATES": "gs://my-bucket/templates"}
    (tmp_path / "checkout" / "image.digest").write_text(f"{IMAGE.rpartition(':')[0]}@sha256:{'ab' * 32}\n")
    words = ["bash", "templates/flex/cloudbuild.sh", "template"]
    done = subprocess.run(words, cwd=tmp_path / "checkout", env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    named = f"{IMAGE.rpartition(':')[0]}@sha256:{'ab' * 32}"
    assert (tmp_path / "uploaded.json").read_text() == container_spec(named)
    assert (tmp_path / "where").read_text() == "gs://my-bucket/templates/abc.json\n"


@pytest.mark.parametrize("kind", ["stream", "backfill", "refresh"])
def test_the_launcher_starts_what_the_image_names_with_what_a_console_sends(
    kind, storage, bigquery, queue, credentials, tmp_path
):
    (file,) = re.findall(r"^ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/template/(\S+)$", (FLEX / "Dockerfile").read_text(), re.M)
    line = b'{"event_id": "a", "event_type": "click", "event_time": "2026-03-01T10:00:00Z"}\n'
    dataset = f"demo-project.launched_by_{kind}"
    if kind == "refresh":
        with open_warehouse(dataset, None, create=True) as warehouse:
            fill(warehouse)
    read = {
        "stream": {"input_subscription": queue.subscription},
        "backfill": {"input": storage.put("e.jsonl", line)},
        "refresh": {"refresh": "true"},
    }[kind]
    sent = DEFAULTS | dict.fromkeys(FLAGS, "false") | read | {"dataset": dataset}
    # What the launcher adds of its own.
    sent |= {
        "runner": "DataflowRunner",
        "project": "my-project",
        "region": "europe-west1",
        "job_name": f"audience-{kind}",
    }
    sent |= {"temp_location": f"{storage.url}/temp", "staging_location": f"{storage.url}/staging"}
    sent |= {"template_location": f"{storage.url}/launches/1/job_object", "sdk_container_image": IMAGE}
    servers = {name: value for name, value in os.environ.items() if name.endswith("EMULATOR_HOST")}
    alone = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}", "GOOGLE_APPLICATION_CREDENTIALS": f"{credentials}"}
    words = [sys.executable, f"{ROOT / file}", *(f"--{name}={value}" for name, value in sent.items())]
    done = subprocess.run(words, cwd=tmp_path, env=servers | alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"wrote job audience-{kind} to {storage.url}/launches/1/job_object" in done.stderr
    job = Job.from_json(storage.get("launches/1/job_object"))
    of_kind = JobType.JOB_TYPE_STREAMING if kind == "stream" else JobType.JOB_TYPE_BATCH
    assert (job.name, job.type_) == (f"audience-{kind}", of_kind)
    (pool,) = job.environment.worker_pools
    assert pool.worker_harness_container_image == IMAGE
