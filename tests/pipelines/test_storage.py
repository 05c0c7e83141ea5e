"""What is read and written in a bucket: over Google's own clients, from a server of this machine."""

import json

import pytest

from pipelines.apps.simulator.simulate import faults, simulate
from pipelines.batch.backfill import backfill
from pipelines.cli import main
from pipelines.settings.config import TEMPLATES, read_config, read_mapping
from pipelines.settings.mappings import matching, read_mappings
from pipelines.settings.resolve import resolve
from tests.integration.same import METRICS, assert_same
from transforms.errors import ConfigError

MAPPING = TEMPLATES / "mappings" / "github-events.yaml"


def test_a_mapping_and_a_configuration_in_a_bucket_are_those_of_the_file(storage, tmp_path):
    assert read_mapping(storage.put("maps/m.yaml", MAPPING.read_bytes())) == read_mapping(str(MAPPING))
    storage.put("maps/a.yaml", (MAPPING.parent / "segment.yaml").read_bytes())
    storage.put("maps/notes.txt", b"no mapping")
    asked = {"input_log": "log", "mapping": (f"{storage.url}/maps/*.yaml",)}
    assert [each.source for each in read_mappings(resolve(asked, "run"))] == ["segment", "github-events"]
    text = b"metrics: {activity_1m: null}\ntime_zone: Europe/London\n"
    (tmp_path / "c.yaml").write_bytes(text)
    config = storage.put("c.yaml", text)
    assert read_config(config) == read_config(str(tmp_path / "c.yaml"))
    assert resolve({"input": ["a"], "config": config}).time_zone == "Europe/London"


@pytest.mark.parametrize("path", ["{bucket}/none.yaml", "s4://bucket/none.yaml"])
def test_one_that_is_not_there_is_one_line(path, storage):
    named = path.format(bucket=storage.url)
    with pytest.raises(ConfigError, match=f"{named}: cannot read the mapping: .*; check --mapping$") as raised:
        read_mapping(named)
    assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError, match=r"(no file matches|cannot list the mappings).*check --mapping") as raised:
        matching(f"{named}.*")
    assert "\n" not in str(raised.value)


def test_events_in_a_bucket_give_the_rows_of_the_files(storage, tmp_path):
    simulate(2_000, 5, tmp_path / "events.jsonl", days=1, faults=faults("many"))
    here = (tmp_path / "events.jsonl").read_bytes()
    half = here.index(b"\n", len(here) // 2) + 1
    storage.put("events/a.jsonl", here[:half])
    storage.put("events/b.jsonl", here[half:])
    for name, given in (("there", f"{storage.url}/events/*.jsonl"), ("here", str(tmp_path / "events.jsonl"))):
        backfill(resolve({"input": [given], "warehouse": str(tmp_path / name), "workers": "1"}))
    for sql in (
        "SELECT * FROM events",
        "SELECT source, stage, code, payload FROM quarantine",
        *(f"SELECT * FROM {metric}_current" for metric in METRICS),
    ):
        assert_same(tmp_path / "there", tmp_path / "here", sql)


def test_the_launcher_of_the_template_writes_the_job_and_what_it_needs_to_the_bucket(storage, bigquery, queue):
    given = {
        "input_subscription": queue.subscription,
        "dataset": "demo-project.launched",
        "mapping": storage.put("m.yaml", MAPPING.read_bytes()),
        "project": "my-project",
        "region": "europe-west1",
        "job_name": "audience-stream",
        "temp_location": f"{storage.url}/temp",
        "staging_location": f"{storage.url}/staging",
        "template_location": f"{storage.url}/launches/1/job_object",
        "sdk_container_image": "host/audience:abc",
        "runner": "DataflowRunner",
    }
    assert main(["run", *(f"--{name}={value}" for name, value in given.items()), "--no_auth"]) == 0
    job = json.loads(storage.get("launches/1/job_object"))
    assert (job["name"], job["type"]) == ("audience-stream", "JOB_TYPE_STREAMING")
    (pool,) = job["environment"]["workerPools"]
    assert pool["kind"] == "harness"
    options = job["environment"]["sdkPipelineOptions"]["options"]
    assert options["pipelineUrl"].startswith(f"{storage.url}/staging/")
    assert len(storage.get(options["pipelineUrl"])) > 10_000
