"""A backfill as a job of Dataflow, run here: by worker processes that share nothing with who launched it but a bucket
and a data set, of this machine both."""

import threading
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import polars as pl
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines import dataflow_backfill
from pipelines.audience import Job, build
from pipelines.backfill import backfill
from pipelines.launch import run_bounded
from pipelines.options import resolve
from pipelines.simulator import faults, simulate
from pipelines.warehouse import bigquery_run
from pipelines.warehouse.bigquery import BigQueryWarehouse
from pipelines.warehouse.local import FileEntry, LocalWarehouse
from tests.integration.same import METRICS, assert_alike
from tests.servers.storage import Storage
from transforms.errors import OvertakenError, WarehouseError

TABLES = (
    "SELECT * FROM events",
    "SELECT source, stage, code, errors, payload FROM quarantine",
    *(f"SELECT * FROM {metric}_current" for metric in METRICS),
    "SELECT * FROM quality_1m_current",
)
DAYS = {"start": "2026-03-01", "end": "2026-03-02"}


def event(id: str, day: str = "2026-03-01", **fields: str) -> bytes:
    time = f"{day}T10:00:00Z"
    told = {"event_id": id, "event_type": "click", "event_time": time, "received_time": time, "user_id": "u"}
    return msgspec.json.encode(told | fields) + b"\n"


class Jobs:
    """Backfills of a bucket's files into one data set; beside each the same on this machine, into a folder."""

    def __init__(self, storage: Storage, folder: Path, monkeypatch):
        self.dataset = f"demo-project.batch_{uuid.uuid4().hex[:12]}"
        self.storage, self.folder = storage, folder
        self.workers = 1  # as processes of their own from 2 on
        self.run = self.as_the_service
        # In the service's place: everything else of a launch is what a person's is.
        monkeypatch.setattr(dataflow_backfill, "submitted", lambda job, options: self.run(job, options))

    def __call__(self, pattern: str, **options: object) -> None:
        given = {"input": [f"{self.storage.url}/{pattern}"], "dataset": self.dataset, **options}
        place = ["--project=demo-project", "--region=europe-west1", f"--temp_location={self.storage.url}/temp"]
        dataflow_backfill.launch(resolve(given), place)

    def here(self, pattern: str, **options: object) -> None:
        """The same by a backfill of one machine."""
        given = {"input": [f"{self.storage.url}/{pattern}"], "warehouse": f"{self.folder / 'here'}", "workers": "1"}
        backfill(resolve(given | options))

    def as_the_service(self, job: Job, options: PipelineOptions) -> None:
        assert job.spill_folder is None
        run_bounded(lambda pipeline: build(pipeline, job), self.workers)

    def warehouse(self) -> BigQueryWarehouse:
        return BigQueryWarehouse.open(self.dataset)

    def ids(self) -> list[str]:
        with closing(self.warehouse()) as warehouse:
            return sorted(warehouse.scan("events").collect()["event_id"])

    def left(self) -> list[str]:
        """What jobs have left in the bucket."""
        return [blob.name for blob in self.storage.bucket.list_blobs(prefix="temp/")]

    def assert_alike(self) -> None:
        with closing(self.warehouse()) as there:
            for sql in TABLES:
                assert_alike(there, LocalWarehouse.open(self.folder / "here"), sql)


@pytest.fixture
def jobs(storage, bigquery, tmp_path, monkeypatch) -> Jobs:
    return Jobs(storage, tmp_path, monkeypatch)


def test_a_job_gives_the_rows_of_a_backfill_of_one_machine_also_where_it_adds_to_days_or_replaces_them(
    jobs, storage, tmp_path
):
    simulate(2_000, 5, tmp_path / "events.jsonl", days=2, faults=faults("many"))
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines(keepends=True)
    storage.put("one/a.jsonl", b"".join(lines[:500]))
    storage.put("one/b.jsonl", b"".join(lines[500:1_000]))
    storage.put("two/c.jsonl", b"".join(lines[900:]))
    with closing(LocalWarehouse.open(tmp_path / "here", create=True)):
        pass
    days = {"start": "2026-03-01", "end": "2026-03-05"}
    for jobs.workers, pattern, options in (
        (2, "one/*.jsonl", {}),
        (2, "two/*", {"add": True, **days}),
        (1, "one/*", {"replace": True, **days}),
    ):
        jobs(pattern, **options)
        jobs.here(pattern, **options)
        jobs.assert_alike()
        assert jobs.left() == []


def test_days_that_have_rows_are_refused_by_the_launch_where_they_are_named_and_else_by_the_job(jobs, storage):
    storage.put("one.jsonl", event("a"))
    storage.put("two.jsonl", event("b") + event("c", "2026-03-02"))
    jobs("one.jsonl")
    refused = "already has rows for 2026-03-01 .1 rows.: nothing was changed; give --add"
    with pytest.raises(WarehouseError, match=refused):
        jobs("two.jsonl")
    jobs.run = None  # nothing starts
    with pytest.raises(WarehouseError, match=refused):
        jobs("two.jsonl", **DAYS)
    assert jobs.ids() == ["a"]


class Kept:
    """Keeps what a job would have committed, and commits it as often as it is told."""

    def __init__(self, jobs: Jobs, file: Path):
        self.jobs, self.file = jobs, file
        jobs.run = self._run

    def _run(self, job: Job, options: PipelineOptions) -> None:
        self.commit = job.sink.commit
        noting = replace(job, sink=job.sink._replace(commit=Note(f"{self.file}")))
        run_bounded(lambda pipeline: build(pipeline, noting), 1)
        self.entries = msgspec.json.decode(self.file.read_bytes(), type=list[FileEntry])

    def __call__(self) -> None:
        self.commit(self.entries)


class Note:
    def __init__(self, file: str):
        self.file = file

    def __call__(self, entries: list[FileEntry]) -> None:
        Path(self.file).write_bytes(msgspec.json.encode(entries))


@pytest.fixture
def kept(jobs, tmp_path) -> Kept:
    return Kept(jobs, tmp_path / "entries.json")


def test_a_commit_that_is_tried_again_after_it_was_made_does_nothing(kept, jobs, storage, caplog):
    storage.put("one.jsonl", event("a"))
    jobs("one.jsonl")
    kept()
    kept()
    assert jobs.ids() == ["a"]
    # Nor when others have committed since, to the same day.
    first = kept.commit, kept.entries
    storage.put("two.jsonl", event("b"))
    jobs("two.jsonl", add=True, **DAYS)
    kept()
    kept.commit, kept.entries = first
    kept()
    assert jobs.ids() == ["a", "b"]
    with closing(jobs.warehouse()) as warehouse:
        assert pl.concat(warehouse.ask("SELECT SUM(events) AS n FROM quality_1m_current")).item() == 2


def test_a_commit_that_dies_between_its_load_and_its_swap_is_made_by_the_next_try(kept, jobs, storage, monkeypatch):
    storage.put("one.jsonl", event("a"))
    jobs("one.jsonl")
    with monkeypatch.context() as dying:
        dying.setattr(bigquery_run.BigQueryRun, "_swap", die)
        dying.setattr(bigquery_run, "REFUSED", ())
        dying.setattr(BigQueryWarehouse, "forget", die)  # as of a process that is gone: its tables stay
        with pytest.raises(Killed):
            kept()
    with closing(jobs.warehouse()) as warehouse:
        staged = [table.table_id for table in warehouse.client.list_tables(warehouse.dataset)]
        assert any(name.startswith("staging_events") for name in staged)
    assert jobs.ids() == []
    kept()
    assert jobs.ids() == ["a"]
    assert jobs.left() == []


class Killed(BaseException):
    """The end of a worker."""


def die(*_):
    raise Killed


def test_of_two_tries_at_once_one_commits_and_both_end_well(kept, jobs, storage, monkeypatch):
    storage.put("one.jsonl", event("a") + event("b"))
    jobs("one.jsonl")
    both, swap, failed = threading.Barrier(2), bigquery_run.BigQueryRun._swap, []

    def together(run, *given):
        both.wait(30)
        swap(run, *given)

    def tried():
        try:
            kept()
        except Exception as problem:
            failed.append(problem)

    monkeypatch.setattr(bigquery_run.BigQueryRun, "_swap", together)
    threads = [threading.Thread(target=tried) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert jobs.ids() == ["a", "b"]


def test_another_run_that_commits_while_the_job_runs_is_in_nobodys_way_but_of_rows_that_were_read(
    kept, jobs, storage, monkeypatch
):
    for name, day in (("one", "2026-03-01"), ("two", "2026-03-02"), ("three", "2026-03-03")):
        storage.put(f"{name}.jsonl", event(name, day))
    jobs("one.jsonl")
    between(jobs, monkeypatch, "two.jsonl")
    kept()
    assert jobs.ids() == ["one", "two"]
    storage.put("more.jsonl", event("more"))
    jobs("more.jsonl", add=True, **DAYS)
    between(jobs, monkeypatch, "three.jsonl")
    with pytest.raises(OvertakenError, match="another run has committed since this one began; nothing of this run was"):
        kept()
    assert jobs.ids() == ["one", "three", "two"]


def between(jobs: Jobs, monkeypatch, pattern: str) -> None:
    """Let a backfill of this machine commit between what the next commit reads and its swap."""
    swap = bigquery_run.BigQueryRun._swap

    def late(run, *given):
        monkeypatch.setattr(bigquery_run.BigQueryRun, "_swap", swap)
        backfill(resolve({"input": [f"{jobs.storage.url}/{pattern}"], "dataset": jobs.dataset, "workers": "1"}))
        swap(run, *given)

    monkeypatch.setattr(bigquery_run.BigQueryRun, "_swap", late)


def test_a_claim_that_has_expired_is_one_line_and_nothing_is_committed(kept, jobs, storage):
    storage.put("one.jsonl", event("a"))
    jobs("one.jsonl")
    with closing(jobs.warehouse()) as warehouse:
        warehouse.client.delete_table(warehouse.dataset.table(kept.commit.claim.table))
    with pytest.raises(WarehouseError, match="was launched more than 14 days ago, and nobody can tell"):
        kept()
    assert jobs.ids() == []
