"""A stream from the Pub/Sub emulator, on Prism, into the BigQuery emulator: nothing lost, nothing double."""

import json
import os
import random
import signal
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines.batch.backfill import backfill
from pipelines.settings.options import METHODS
from pipelines.settings.resolve import resolve
from pipelines.warehouse.bigquery.stream.rows import REQUEST_BYTES
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.recount import differences
from tests.integration.same import METRICS, assert_alike
from tests.servers.faulty import faulty_grpc, faulty_http
from tests.servers.needed import LIMIT
from tests.servers.stream import Stream, ask, drain, publish, received_times, streaming
from transforms.errors import AudienceError

# Of two deliveries a stream keeps the one that arrives first.
EVENTS = "SELECT * EXCEPT (received_time, sent_time) FROM events_unique"
UNIQUE = "SELECT COUNT(*) FROM events_unique"
REFUSED = "SELECT DISTINCT source, stage, code, payload FROM quarantine"
BALANCE = "SELECT COUNTIF(balance <> 0) FROM quality_1m_current"
RECEIVED = "SELECT SUM(received) FROM quality_1m_current"
A_LOOK = 1.0  # seconds between two queries: one costs the emulator what the stream needs of it
SEED = int(os.environ.get("STREAM_SEED", "5"))  # of the moments
TRUSTED = ("--timestamp_attribute", "received_time", "--early_firing", "2s")


@pytest.fixture
def dataset(bigquery) -> str:
    """The name of a dataset that is not there yet."""
    return f"demo-project.stream_{uuid.uuid4().hex[:12]}"


def number(dataset: str, sql: str) -> int:
    """The one number that a query gives."""
    with closing(BigQueryWarehouse.open(dataset)) as warehouse:
        return pl.concat(warehouse.ask(sql)).item() or 0


def so_far(dataset: str, sql: str) -> int:
    """The same; 0 where there is nothing to ask yet."""
    try:
        return number(dataset, sql)
    except AudienceError:
        return 0


def until_counted(stream: Stream, dataset: str, sql: str, count: int) -> None:
    """Wait until a query's one number has reached `count`."""
    stream.until(lambda: so_far(dataset, sql) >= count, what=f"{sql}: {count}", every=A_LOOK)


def drained(stream: Stream, dataset: str, folder: Path) -> None:
    drain("--dataset", dataset, "--landing", str(folder / "landing"))
    assert stream.process.wait(LIMIT) == 0, stream.said()


def landed(folder: Path) -> set[Path]:
    return set((folder / "landing").glob("*/landing/*.parquet"))


def doubles(dataset: str, table: str) -> int:
    """How many rows of a table are there more than once."""
    with closing(BigQueryWarehouse.open(dataset)) as warehouse:
        rows = pl.concat(warehouse.ask(f"SELECT * FROM {table}"))
    flat = [name for name in rows.columns if not rows.schema[name].is_nested()]
    return rows.select(flat).is_duplicated().sum()


def shuffled(lines: list[bytes], seed: int) -> tuple[list[bytes], list[str | None]]:
    order = list(zip(lines, received_times(lines), strict=True))
    random.Random(seed).shuffle(order)
    return [line for line, _ in order], [time for _, time in order]


def event(number: int, **fields: object) -> bytes:
    now = datetime.now(UTC).isoformat()
    stated = {"event_id": f"e{number}", "event_type": "click", "event_time": now, "user_id": f"u{number % 7}"}
    return json.dumps({**stated, **fields}).encode()


GRPC_FAULTS = ("UNAVAILABLE", "pass", "INTERNAL", "RESOURCE_EXHAUSTED", "lost", "reset", "pass", "DEADLINE_EXCEEDED")
HTTP_FAULTS = ("500", "pass", "503", "429", "lost", "reset", "pass", "504")


# Of the day, which is open as long as the test runs.
SHOWN_EARLY = "SELECT COUNT(*) FROM user_days WHERE firing = 'early'"
LOADING = "SELECT COUNT(*) FROM quarantine WHERE stage = 'load'"


@pytest.mark.parametrize(("method", "refused"), list(zip(METHODS, (10, 0, 0), strict=True)), ids=METHODS)
def test_whatever_bigquery_answers_and_ten_rows_that_it_refuses_nothing_is_lost_and_nothing_double(
    method, refused, bigquery, dataset, queue, prism, tmp_path, monkeypatch
):
    with (
        faulty_grpc(bigquery.grpc) as (grpc, by_grpc),
        faulty_http(bigquery.rest) as (rest, by_http),
        monkeypatch.context() as emulator,
    ):
        emulator.setenv("BIGQUERY_EMULATOR_HOST", rest)
        emulator.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", grpc)
        by_grpc.set(*GRPC_FAULTS)
        by_http.set(*HTTP_FAULTS)
        options = ("--early_firing", "2s", "--write_method", method)
        with streaming(queue, prism, tmp_path, *options, dataset=dataset) as stream:
            plan = by_http if method == "STREAMING_INSERTS" else by_grpc
            sent = 0
            while plan.left:
                queue.publish(*map(event, range(sent, sent + 100)))
                sent += 100
                until_counted(stream, dataset, UNIQUE, sent)
            until_counted(stream, dataset, SHOWN_EARLY, 1)
            for name in range(sent, sent + refused):
                queue.publish(event(name, properties={"long": "x" * REQUEST_BYTES}))
            until_counted(stream, dataset, LOADING, refused)
            drained(stream, dataset, tmp_path)
    assert len(plan.met) == 6
    figures = json.loads(stream.said().splitlines()[-2])
    assert (figures["events"], figures["messages"], figures["problem"]) == (sent, sent + refused, None)
    assert number(dataset, LOADING) == number(dataset, "SELECT SUM(quarantined) FROM quality_1m_current") == refused
    assert number(dataset, UNIQUE) == number(dataset, "SELECT SUM(events) FROM quality_1m_current") == sent
    if method != "STORAGE_WRITE_API":  # which writes at least once
        assert number(dataset, "SELECT COUNT(*) FROM events") == sent
        assert [doubles(dataset, table) for table in ("activity_1m", "user_days")] == [0, 0]
    # Metrics count what is valid, also where BigQuery then refuses its row.
    assert number(dataset, "SELECT SUM(events) FROM activity_1m_current") == sent + refused
    assert number(dataset, BALANCE) == 0


def test_shuffled_repeated_and_killed_at_any_moment_it_gives_the_rows_of_a_backfill_and_one_over_it_changes_none(
    few_records, dataset, queue, prism, tmp_path
):
    lines, received = shuffled(few_records.lines, 4)
    moments, third = random.Random(SEED), len(lines) // 3 + 1
    print(f"STREAM_SEED={SEED}")
    for turn in range(3):
        before = landed(tmp_path)
        with streaming(queue, prism, tmp_path, *TRUSTED, dataset=dataset) as stream:
            part = slice(turn * third, (turn + 1) * third)
            publish(queue, lines[part], received[part])
            if turn == 0:  # with some minutes in the audit counts
                until_counted(stream, dataset, RECEIVED, moments.randint(20, 100))
            if turn == 1:  # with what it has just read in none
                stream.until(lambda: landed(tmp_path) - before)  # noqa: B023
            if turn < 2:
                stream.end(signal.SIGKILL)
                continue
            # What is received has repeats after a kill: it alone may be enough before all was read once.
            for count in (UNIQUE, f"SELECT COUNT(*) FROM ({REFUSED})"):
                until_counted(stream, dataset, count, ask(few_records.batch, count))
            until_counted(stream, dataset, RECEIVED, len(lines))
            drained(stream, dataset, tmp_path)
            assert "are read again" in stream.said()
    assert not landed(tmp_path), stream.said()
    streamed, local = BigQueryWarehouse.open(dataset), LocalWarehouse.open(few_records.batch)
    metrics = [f"SELECT * FROM {metric}_current" for metric in METRICS]
    for sql in (EVENTS, REFUSED, *metrics):
        assert_alike(streamed, local, sql)
    assert number(dataset, "SELECT SUM(events) FROM quality_1m_current") == number(dataset, UNIQUE)
    assert differences(streamed) == []
    days = [day for day in streamed.rows_by_day("events") if day]
    given = {
        "start": f"{min(days)}",
        "end": f"{max(days) + timedelta(days=1)}",
        "replace": True,
        "no_active_stream": True,
    }
    backfill(resolve({"input": [str(few_records.file)], "dataset": dataset, "workers": "1", **given}))
    streamed.forget()
    for sql in (EVENTS, *metrics):
        assert_alike(streamed, local, sql)
    assert number(dataset, BALANCE) == 0
    streamed.close()
