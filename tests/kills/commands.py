"""What is killed: commands by name, the warehouse that each begins with, and what is in one afterwards.

COMMANDS    name -> (the name of the base that it begins with, what it does to the folder of a warehouse)
BASES       name -> how a warehouse of that name is made from the one before it
state(...)  what the tables of a warehouse hold, but for when and by which run it was written
left(...)   files of a warehouse that no undisturbed run leaves
"""

import hashlib
import json
import os
from concurrent.futures import Executor, Future
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from pipelines.cli import main
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.local import notes
from pipelines.warehouse.local.manifest import load
from pipelines.warehouse.local.notes import Note
from pipelines.warehouse.local.stream_commits import Appender
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.recount import differences
from pipelines.warehouse.tables import QUALITY_1M
from tests.support.previous_stream import book, rows_of
from transforms.errors import WarehouseError

PERSON, BROWSER = "killed-7391", "browser-7391"
DAY, NEXT = "2026-03-01", "2026-03-02"
# Two metrics, of which one names people: the others are written by the same steps.
CONFIG = "metrics: {content_1h: null, campaign_1h: null}\n"
STAMPS = {"generation", "revision", "emitted_time", "failed_time", "erased_time", "subject_hmac", "key_id", "state"}
BATCHES = 12  # of a stream: more than the files that a tier keeps


def native(id: str, at: str, received: str | None = None, **fields) -> str:
    stated = {"event_id": id, "event_type": "page_view", "event_time": at, "received_time": received or at}
    return json.dumps(stated | {"channel": "web"} | fields)


LINES = {
    "one.jsonl": [
        native("a", f"{DAY}T09:00:00Z", user_id="u10"),
        native("b", f"{DAY}T10:00:00Z", anonymous_id="b2", user_id="u2"),
        native("c", f"{NEXT}T10:00:00Z", user_id="u2"),
        native("d", f"{DAY}T11:00:00Z", received="2026-03-04T11:00:00Z", user_id="u2"),  # too late
        native("e", f"{DAY}T09:30:00Z", user_id=PERSON),
        native("f", f"{DAY}T10:00:00Z", user_id=PERSON, anonymous_id=BROWSER),
        native("g", f"{NEXT}T11:00:00Z", anonymous_id=BROWSER),
        json.dumps({"event_type": "No", "user_id": PERSON, "event_time": f"{DAY}T10:00:00Z"}),
        json.dumps({"event_type": "No", "user_id": "u10", "event_time": f"{DAY}T10:00:00Z"}),
        '{"user_id": "u10", "broken',
    ],
    "two.jsonl": [
        native("h", f"{DAY}T12:00:00Z", user_id="u4"),
        native("i", f"{NEXT}T12:00:00Z", user_id="u2"),
        native("c", f"{NEXT}T10:00:00Z", user_id="u2"),  # again
    ],
}


class Here(Executor):
    """Runs what it is given at once, in the thread that gives it: the order of a stream's merges is then certain."""

    def submit(self, fn, /, *args, **kwargs):
        done = Future()
        done.set_result(fn(*args, **kwargs))
        return done


ERASE = ["person", "--delete", PERSON, "--delete", BROWSER, "--generation", "8"]
BACKFILL = ["backfill", "--input", "one.jsonl", "--generation", "7"]


def audience(beside: Path, *words: str) -> int:
    """Run a command of `audience` as if it were called in the folder of the inputs; its exit status."""
    os.chdir(beside)
    return main([*words, "--config", "audience.yaml", "--workers", "1", "--shards", "1"])


def at(folder: Path, *words: str) -> int:
    """Run a command on the warehouse in this folder."""
    return audience(folder.parent, *words, "--warehouse", str(folder))


def in_data_set(folder: Path, name: str, *words: str) -> int:
    """Run a command on a dataset."""
    return audience(folder, *words, "--dataset", name)


def file(folder: Path, name: str, *words: str) -> int:
    return at(folder, "backfill", "--input", name, "--generation", "7", *words)


def erase(folder: Path) -> int:
    return at(folder, *ERASE)


def refresh(folder: Path) -> int:
    os.chdir(folder.parent)
    return main(["refresh", "--warehouse", str(folder), "--config", "audience.yaml"])


def compact(folder: Path) -> None:
    with LocalWarehouse.open(folder).writer() as run:
        run.compact_all(above=1)


def batch(run, number: int) -> None:
    """One bundle of a stream: a file, and the note that tells of it."""
    minute = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=number)
    rows = rows_of(QUALITY_1M, book(minute, "stream", received=1, duplicates=1))
    files = [write_file(run.staging, QUALITY_1M.name, date(2026, 3, 1), rows)]
    notes.write(run.staging, QUALITY_1M.name, Note(files))


def stream(folder: Path) -> None:
    """A stream that goes on after what is committed, a commit a batch and merges beside it, as its source would."""
    with LocalWarehouse.open(folder).writer() as run:
        run.declare([QUALITY_1M])
        appender = Appender(run, merges=Here())
        done = run.warehouse.scan(QUALITY_1M.name).filter(pl.col("input") == "stream").select("bucket_start").collect()
        for number in range(done.height, BATCHES):
            batch(run, number)
            appender.step()
        appender.step()
        appender.stop()


def noted(folder: Path) -> None:
    """Leave what workers of a killed stream had noted."""
    with LocalWarehouse.open(folder).writer() as run:
        run.declare([QUALITY_1M])
        run.commit([])
        for number in range(BATCHES):
            batch(run, number)


def adopt(folder: Path) -> None:
    """The writer after a killed stream, which takes what was noted and merges it."""
    with LocalWarehouse.open(folder).writer() as run:
        appender = Appender(run, merges=Here())
        appender.step()
        appender.stop()


BASES = {
    "empty": (None, lambda folder: None),
    "one": ("empty", lambda folder: file(folder, "one.jsonl")),
    "two": ("one", lambda folder: file(folder, "two.jsonl", "--add")),
    "noted": ("one", noted),
    "streamed": ("two", stream),
}
COMMANDS = {
    "backfill": ("empty", lambda folder: file(folder, "one.jsonl")),
    "replace": ("one", lambda folder: file(folder, "two.jsonl", "--replace", "--start", DAY, "--end", "2026-03-03")),
    "add": ("one", lambda folder: file(folder, "two.jsonl", "--add")),
    "recompute": ("one", lambda folder: at(folder, "recompute", "--generation", "8")),
    "replay": ("one", lambda folder: at(folder, "replay", "--accept_late", "--generation", "8")),
    "erasure": ("two", erase),
    "refresh": ("one", refresh),
    "compaction": ("streamed", compact),
    "stream": ("one", stream),
    "adoption": ("noted", adopt),
}
# The same, on (the folder of the inputs, the name of a dataset).
ON_BIGQUERY = {
    "backfill": (None, lambda folder, name: in_data_set(folder, name, *BACKFILL)),
    "erasure": (
        lambda folder, name: in_data_set(folder, name, *BACKFILL),
        lambda folder, name: in_data_set(folder, name, *ERASE, "--proof_key", f"{name}.key"),
    ),
}
CHANGE_NOTHING = {"compaction"}  # but where the rows lie
STEP_BY_STEP = {"stream"}  # commits as it goes: a kill leaves what it has come to


def state_of_folder(folder: Path) -> dict[str, str]:
    """`state` of a warehouse in a folder; of none, no rows."""
    try:
        return state(LocalWarehouse.open(folder))
    except WarehouseError as nothing:
        assert "is no warehouse" in str(nothing), nothing
        return {}


def state(warehouse: Warehouse) -> dict[str, str]:
    """table -> its number of rows and a hash of them; tables without rows are left out. Checks the audit counts too."""
    found = {}
    for name in warehouse.tables():
        rows = warehouse.scan(name).collect()
        kept = [each for each in sorted(rows.columns) if each not in STAMPS and not each.endswith("_sketch")]
        if rows.height:
            texts = sorted(map(repr, rows.select(kept).rows()))
            found[name] = f"{rows.height} {hashlib.sha256(repr(texts).encode()).hexdigest()[:12]}"
    assert not found or differences(warehouse) == []
    return found


def left(folder: Path, gone: bool) -> list[str]:
    """Files that nothing names, and with `gone` those in which the person still stands."""
    live = load(folder).paths()
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    staged = [name for name in files if name.startswith(("staging", "insight/staging")) or name.endswith(".tmp")]
    if not gone:
        return staged
    named = [f"{name} names the person" for name, path in files.items() if _names_the_person(path)]
    return [*staged, *named, *sorted(name for name in files if name.startswith("data/") and name not in live)]


def _names_the_person(path: Path) -> bool:
    content = path.read_bytes()
    if path.suffix == ".parquet":
        content = repr(pl.read_parquet(path).rows()).encode()
    return any(id.encode() in content for id in (PERSON, BROWSER))


def seen_in_data_set(name: str, gone: bool) -> dict:
    """The state of a dataset, and with `gone` its staging tables: those of other runs that are killed expire."""
    from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse

    try:
        warehouse = BigQueryWarehouse.open(name)
    except WarehouseError as nothing:
        assert "is not there" in str(nothing) or "but no warehouse" in str(nothing), nothing
        return {"state": {}, "left": []}
    with closing(warehouse):
        staged = sorted(each for each in warehouse.names() if each.startswith("staging_"))
        return {"state": state(warehouse), "left": staged if gone else []}


def expire(name: str) -> int:
    """Remove the staging tables of a dataset, as BigQuery does in time."""
    from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse

    with closing(BigQueryWarehouse.open(name)) as warehouse:
        for each in warehouse.names():
            if each.startswith("staging_"):
                warehouse.client.delete_table(f"{name}.{each}")
    return 0
