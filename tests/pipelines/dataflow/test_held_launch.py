"""A job that starts with --held: its launch hides its rows, and rebuilds its state from stored rows, in the bucket."""

import json
import uuid
from contextlib import closing
from datetime import UTC, datetime

import pytest
from apache_beam.internal import pickler
from apache_beam.portability.api import beam_runner_api_pb2

from pipelines.cli import main
from pipelines.warehouse.bigquery.held import held_generations
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from tests.servers.dataflow import dataflow_service
from tests.servers.storage import Storage
from transforms import restored_state
from transforms.deduplicate import KeepFirst
from transforms.restored_state import Place

NEXT = 7_000_000_000_000_000


def restored_folders(graph: bytes) -> set[str]:
    """The folders from which the steps that keep the first of several events start."""
    pickler.set_library("cloudpickle")
    steps = beam_runner_api_pb2.Pipeline.FromString(graph).components.transforms.values()
    found = set()
    for step in steps:
        if step.spec.urn == "beam:transform:pardo:v1":
            payload = beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload).do_fn
            if payload.urn == "beam:dofn:pickled_python_info:v1":
                fn = pickler.loads(payload.payload)[0]
                if isinstance(fn, KeepFirst):
                    found.add(fn.restored)
    return found


def test_the_steps_start_from_the_stored_events_and_no_view_shows_the_rows(bigquery, queue, storage: Storage, tmp_path):
    dataset = f"demo-project.held_{uuid.uuid4().hex[:8]}"
    now = datetime.now(UTC)
    event = {"event_id": "1", "event_type": "click", "event_time": now.isoformat(), "user_id": "u1"}
    (tmp_path / "events.jsonl").write_text(json.dumps(event))
    assert main(["backfill", "--input", str(tmp_path / "events.jsonl"), "--dataset", dataset, "--workers", "1"]) == 0
    with dataflow_service() as service:
        words = [
            *["run", "--runner=DataflowRunner", f"--input_subscription={queue.subscription}", f"--dataset={dataset}"],
            *["--project=demo-project", "--region=europe-west1", f"--temp_location={storage.url}/temp", "--no_auth"],
            *[
                "--job_name=audience",
                f"--dataflow_endpoint={service.endpoint}",
                "--held",
                "--generation=7000000000000000",
            ],
        ]
        assert main(words) == 0
        options = service.created()["environment"]["sdkPipelineOptions"]["options"]
    (folder,) = restored_folders(storage.get(options["pipelineUrl"]))
    assert folder.startswith(f"{storage.url}/temp/audience/")
    day = int(now.timestamp()) // 86400
    seen = b"".join(restored_state.read_seen(folder, Place(day, shard)) for shard in range(4))
    assert len(seen) > 0
    assert restored_state.read_seen(folder, Place(day - 40, 0)) == b""
    with closing(BigQueryWarehouse.open(dataset)) as warehouse:
        assert held_generations(warehouse) == [NEXT]


def test_state_that_was_removed_from_the_bucket_is_an_error_and_no_empty_state(storage: Storage):
    storage.put("run/restored/seen/1-0", b"ids")  # without the revision, which is written last
    with pytest.raises(FileNotFoundError, match="has no restored state: a stream needs it until each window"):
        restored_state.read_seen(f"{storage.url}/run/restored", Place(1, 0))


def test_an_update_of_a_job_cannot_be_held(bigquery, queue, tmp_path, capsys):
    words = [
        *["run", "--runner=DataflowRunner", f"--input_subscription={queue.subscription}", "--dataset=demo-project.a"],
        *["--project=demo-project", "--region=europe-west1", f"--temp_location={tmp_path}", "--job_name=audience"],
    ]
    assert main([*words, "--update", "--held"]) == 2
    assert "--held and --update exclude each other" in capsys.readouterr().err


def test_only_a_dataset_holds_rows(capsys):
    assert main(["run", "--input_subscription", "projects/my-project/subscriptions/events", "--held"]) == 2
    assert "--held: got 'true' for --warehouse warehouse; allowed: only with --dataset" in capsys.readouterr().err
