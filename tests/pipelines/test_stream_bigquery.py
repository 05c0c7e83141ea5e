"""What a stream into a data set keeps on this machine, and what it says where it cannot start or is not to be found."""

import os
import uuid
from datetime import UTC, datetime, timedelta

import msgspec
import polars as pl
import pytest

from pipelines.bounded import opened
from pipelines.cli import main
from pipelines.options import resolve
from pipelines.sources.landing import Lander
from pipelines.stop import ABOUT, About, folder_of, running
from pipelines.stream_bigquery import KeptForBigQuery
from pipelines.warehouse import bigquery_clients
from pipelines.warehouse.bigquery_restart import Remains, in_minutes, received
from pipelines.warehouse.local import write_file
from pipelines.warehouse.sink import by_day, shaped
from pipelines.warehouse.tables import EVENTS, QUALITY_1M
from transforms.block import RAW_SCHEMA, TIME
from transforms.errors import WarehouseError

INPUT = "projects/demo-project/subscriptions/events"
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def dataset(bigquery) -> str:
    return f"demo-project.kept_{uuid.uuid4().hex[:12]}"


def settings(dataset: str, tmp_path, **more):
    given = {"input_subscription": INPUT, "dataset": dataset, "landing": str(tmp_path / "landing")}
    return resolve(given | more, "run")


def rows_of(table, *rows: dict) -> pl.DataFrame:
    """Rows of a table, 0 or null in the columns that are not stated."""
    numbers = {column.name: 0 for column in table.columns if column.type == "INT64" and column.mode == "REQUIRED"}
    names = [column.name for column in table.columns]
    full = [dict.fromkeys(names) | numbers | row for row in rows]
    return shaped(pl.DataFrame({name: [row[name] for row in full] for name in names}, strict=False), table)


def event(id: str, at: datetime, input: str, **fields) -> dict:
    stated = {"event_type": "click", "event_time": at, "received_time": at, "client_time": at, "source": "web"}
    return {"event_id": id, "input": input, **stated, **fields}


def book(at: datetime, input: str, generation: int = 1, **counts) -> dict:
    stamps = {"firing": "early", "generation": generation, "revision": 1, "source": "web"}
    return {"bucket_start": at, "bucket_end": at + MINUTE, "input": input, **stamps, **counts}


def write(into, table, *rows: dict) -> None:
    frame = rows_of(table, *rows)
    days = by_day(frame, table.partition, "UTC")
    into.run.commit([write_file(into.run.staging, table.name, day, part) for day, part in days])


def land(tmp_path, dataset: str, at: datetime, rows: int) -> str:
    """Land rows of one minute; their input."""
    folder = folder_of(str(tmp_path / "landing"), dataset) / "landing"
    block = pl.DataFrame({"payload": [b"{}"] * rows, "received_time": [at] * rows, "source": ["web"] * rows})
    full = block.select(
        (pl.col(name) if name in block.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in RAW_SCHEMA.items()
    )
    return Lander(str(folder), INPUT, "run", 0).land(full.select(list(RAW_SCHEMA)))["input"][0]


def test_what_the_books_have_is_removed_and_the_rest_is_read_again(dataset, tmp_path):
    given = settings(dataset, tmp_path)
    done, waiting = (land(tmp_path, dataset, NOON + n * MINUTE, 3) for n in range(2))
    with opened(given, create=True, streaming=True) as into:
        write(
            into, QUALITY_1M, book(NOON, done, received=3, events=3), book(NOON + MINUTE, waiting, received=2, events=2)
        )
        with KeptForBigQuery(into, given, INPUT) as kept:
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


def test_the_books_of_another_subscription_settle_nothing(dataset, tmp_path):
    with opened(settings(dataset, tmp_path), create=True, streaming=True) as into:
        inputs = (INPUT, f"{INPUT}@a.0.1", f"{INPUT}-2", f"{INPUT}-2@a.0.1")
        write(into, QUALITY_1M, *(book(NOON, input, received=1, events=1) for input in inputs))
        found = received(into.warehouse, [INPUT], NOON)
        assert sorted(found["input"]) == sorted(inputs[:2])
        assert received(into.warehouse, [INPUT], NOON + MINUTE).is_empty()


def test_a_restart_sees_each_event_once_and_none_that_is_read_again(dataset, tmp_path):
    undone = pl.DataFrame({"input": ["a"], "bucket_start": [NOON]}, schema={"input": pl.String, "bucket_start": TIME})
    second, day = timedelta(seconds=1), timedelta(days=1)
    with opened(settings(dataset, tmp_path), create=True, streaming=True) as into:
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


def test_many_minutes_make_a_short_question():
    minutes = [NOON + 2 * n * MINUTE for n in range(20_000)]
    undone = pl.DataFrame({"input": [f"{INPUT}@run.0-abcdef.000001"] * 20_000, "bucket_start": minutes})
    assert len(in_minutes(undone, "received_time")) < 250_000


def test_of_two_streams_from_one_folder_the_second_is_refused(dataset, tmp_path):
    given = settings(dataset, tmp_path)
    with opened(given, create=True, streaming=True) as into, KeptForBigQuery(into, given, INPUT) as kept:
        with pytest.raises(WarehouseError, match=r"is being written by process .* or use another --landing"):
            KeptForBigQuery(into, given, INPUT).__enter__()
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
