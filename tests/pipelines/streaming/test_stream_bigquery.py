"""What a stream into a dataset keeps on this machine, and what it says where it cannot start or is not to be found."""

import os
import uuid
from datetime import UTC, datetime, timedelta

import apache_beam as beam
import msgspec
import polars as pl
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to

from pipelines.assemble import open_run
from pipelines.cli import main
from pipelines.settings.resolve import resolve
from pipelines.streaming.recovery.bigquery import BigQueryRecovery
from pipelines.streaming.stop import ABOUT, About, folder_of, running
from pipelines.warehouse.bigquery import clients as bigquery_clients
from pipelines.warehouse.bigquery.restore import Remains, in_minutes, received
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE
from tests.support.previous_stream import MINUTE, book, land, rows_of, write
from transforms.block import TIME, BlockCoder
from transforms.errors import WarehouseError
from transforms.publication import Firing
from transforms.redelivered import KeepFirstRefusal

INPUT = "projects/demo-project/subscriptions/events"
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)


@pytest.fixture
def dataset(bigquery) -> str:
    return f"demo-project.kept_{uuid.uuid4().hex[:12]}"


def settings(dataset: str, tmp_path, **more):
    given = {"input_subscription": INPUT, "dataset": dataset, "landing": str(tmp_path / "landing")}
    return resolve(given | more, "run")


def event(id: str, at: datetime, input: str, **fields) -> dict:
    stated = {"event_type": "click", "event_time": at, "received_time": at, "client_time": at, "source": "web"}
    return {"event_id": id, "input": input, **stated, **fields}


def landed(tmp_path, dataset: str, at: datetime, rows: int, input: str = INPUT) -> str:
    """Land rows of one minute; their input."""
    return land(folder_of(str(tmp_path / "landing"), dataset) / "landing", input, at, rows)


def test_what_the_books_have_is_removed_and_the_rest_is_read_again(dataset, tmp_path):
    given = settings(dataset, tmp_path)
    done, waiting = (landed(tmp_path, dataset, NOON + n * MINUTE, 3) for n in range(2))
    with open_run(given, create=True, streaming=True) as into:
        write(
            into, QUALITY_1M, book(NOON, done, received=3, events=3), book(NOON + MINUTE, waiting, received=2, events=2)
        )
        with BigQueryRecovery(into, given, INPUT).open() as kept:
            assert kept.waiting == 3
            assert [again.minutes for again in kept.again()] == [((NOON + MINUTE).timestamp() * 1e6,)]
            assert all(waiting.partition("@")[2] in again.path for again in kept.again())
            kept.retire(None)
            assert [file.about.input for file in kept.landing.files()] == [waiting]
            write(into, QUALITY_1M, book(NOON + MINUTE, waiting, 2, received=3, events=2))
            kept.retire(None)
            assert kept.waiting == 3  # a record is still under way
            write(into, QUALITY_1M, book(NOON + MINUTE, waiting, 3, received=3, events=2, duplicates=1))
            kept.retire(None)
            assert (kept.waiting, kept.landing.files()) == (0, [])
        assert not list(kept.folder.glob("work-*"))


def test_what_another_subscription_landed_is_done_once_its_own_books_have_it(dataset, tmp_path):
    given = settings(dataset, tmp_path)
    other = landed(tmp_path, dataset, NOON, 2, f"{INPUT}-2")
    with open_run(given, create=True, streaming=True) as into:
        with BigQueryRecovery(into, given, INPUT).open() as kept:
            assert (kept.waiting, len(kept.again())) == (2, 1)
        write(into, QUALITY_1M, book(NOON, other, received=2, events=2))
        with BigQueryRecovery(into, given, INPUT).open() as kept:
            assert (kept.waiting, kept.again()) == (0, [])


def test_the_books_of_another_subscription_settle_nothing(dataset, tmp_path):
    with open_run(settings(dataset, tmp_path), create=True, streaming=True) as into:
        inputs = (INPUT, f"{INPUT}@a.0.1", f"{INPUT}-2", f"{INPUT}-2@a.0.1")
        write(into, QUALITY_1M, *(book(NOON, input, received=1, events=1) for input in inputs))
        found = received(into.warehouse, [INPUT], NOON)
        assert sorted(found["input"]) == sorted(inputs[:2])
        assert received(into.warehouse, [INPUT], NOON + MINUTE).is_empty()


def test_a_restart_sees_each_event_once_and_none_that_is_read_again(dataset, tmp_path):
    undone = pl.DataFrame({"input": ["a"], "bucket_start": [NOON]}, schema={"input": pl.String, "bucket_start": TIME})
    second, day = timedelta(seconds=1), timedelta(days=1)
    with open_run(settings(dataset, tmp_path), create=True, streaming=True) as into:
        write(
            into,
            EVENTS,
            event("gone", NOON + 59 * second, "a"),
            event("of another input", NOON, "b"),
            event("of no input", NOON, None),
            event("a minute later", NOON + MINUTE, "a"),
            event("twice", NOON + 3 * MINUTE, "c", text="second", client_time=NOON),
            event("twice", NOON + 2 * MINUTE, "b", text="first", client_time=NOON),
            event("next window", NOON, "b"),
            event("next window", NOON - day, "b"),
        )
        remains = Remains(into.warehouse, undone, day, tmp_path)
        found = remains.scan("events").collect()
        assert sorted(found["event_id"]) == [
            *("a minute later", "next window", "next window", "of another input", "of no input", "twice"),
        ]
        assert found.filter(event_id="twice")["text"].to_list() == ["first"]
        write(
            into, QUALITY_1M, book(NOON, "a", received=1), book(NOON, "b", received=1), book(NOON, "b", 2, received=5)
        )
        remains = Remains(into.warehouse, undone, day, tmp_path / "later")
        remains.folder.mkdir()
        assert remains.scan("quality_1m").collect()["received"].to_list() == [5]
        assert in_minutes(undone.clear(), "received_time") == "FALSE"


def refusal(id: str, at: datetime, input: str | None) -> dict:
    return {"quarantine_id": id, "input": input, "received_time": at, "source": "web", "code": "x", "attempt": 1}


def test_a_restart_knows_what_was_refused_and_which_delivery_of_it_is_stored(dataset, tmp_path):
    given = settings(dataset, tmp_path)
    waiting, settled = (landed(tmp_path, dataset, NOON + n * MINUTE, 2) for n in range(2))
    with open_run(given, create=True, streaming=True) as into:
        write(into, QUALITY_1M, book(NOON + MINUTE, settled, received=2, quarantined=2))
        known, other = refusal("known", NOON + MINUTE, settled), refusal("other", NOON + MINUTE, "elsewhere")
        stored = refusal("again", NOON, waiting)
        write(into, QUARANTINE, known, {**known, "attempt": 2, "code": None}, other, stored)
        with BigQueryRecovery(into, given, INPUT).open() as kept:
            keep = KeepFirstRefusal(
                window=timedelta(days=1), shards=4, firing=Firing(streaming=True, clock=float, restored=kept.seeds)
            )
            rows = [known, other, {**stored, "input": settled}, stored, refusal("new", NOON, waiting)]
            blocks = TestStream(coder=BlockCoder())
            for row in rows:
                blocks = blocks.add_elements([rows_of(QUARANTINE, row)])
            streaming = PipelineOptions(["--streaming"])
            with beam.Pipeline("BundleBasedDirectRunner", options=streaming) as pipeline:
                source = blocks.advance_watermark_to_infinity().with_output_types(pl.DataFrame)
                passed = (pipeline | source | keep).passed
                ids = passed | beam.FlatMap(lambda block: block.select("quarantine_id", "input").rows())
                assert_that(ids, equal_to([("other", "elsewhere"), ("again", waiting), ("new", waiting)]))


def test_many_minutes_make_a_short_question():
    minutes = [NOON + 2 * n * MINUTE for n in range(20_000)]
    undone = pl.DataFrame({"input": [f"{INPUT}@run.0-abcdef.000001"] * 20_000, "bucket_start": minutes})
    assert len(in_minutes(undone, "received_time")) < 250_000


def test_of_two_streams_from_one_folder_the_second_is_refused(dataset, tmp_path):
    given = settings(dataset, tmp_path)
    with open_run(given, create=True, streaming=True) as into, BigQueryRecovery(into, given, INPUT).open() as kept:
        with pytest.raises(WarehouseError, match=r"is being written by process .* or use another --landing"):
            BigQueryRecovery(into, given, INPUT).open().__enter__()
        assert running(kept.folder) is None
        about = About(os.getpid(), INPUT, None, True, "Europe/London")
        (kept.folder / ABOUT).write_bytes(msgspec.json.encode(about))
        assert running(kept.folder) == about


def test_a_stream_that_is_not_there_cannot_be_stopped(tmp_path, capsys):
    words = ["stop", "--dataset", "my-project.d", "--landing", str(tmp_path)]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: no stream of {tmp_path}/my-project.d writes my-project.d; name the --landing")
    assert main(["stop", "--warehouse", "w", "--landing", "l"]) == 2
    assert "--landing: got 'l'; allowed: only with --dataset" in capsys.readouterr().err


def test_missing_credentials_are_told_before_anything_starts(queue, tmp_path, capsys, monkeypatch):
    for variable in (bigquery_clients.REST, "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    words = ["--input_subscription", queue.subscription, "--dataset", "demo-project.d", "--landing", f"{tmp_path}/l"]
    assert main(["run", *words, "--runner", "BundleBasedDirectRunner"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "no valid Google credentials" in told and "gcloud auth application-default login" in told
    assert not (tmp_path / "l").exists()


def test_an_emulator_of_one_interface_is_told_before_anything_starts(bigquery, queue, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv(bigquery_clients.STORAGE)
    name = f"demo-project.kept_{uuid.uuid4().hex[:12]}"
    words = ["--input_subscription", queue.subscription, "--dataset", name, "--landing", f"{tmp_path}/l"]
    assert main(["run", *words, "--runner", "BundleBasedDirectRunner"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "write with --write_method STREAMING_INSERTS" in told
