"""A stream from the Pub/Sub emulator, on Prism, into the BigQuery emulator: nothing lost, nothing double."""

import json
import random
import signal
import subprocess
import sys
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines.apps.simulator.simulate import faults, simulate
from pipelines.batch.backfill import backfill
from pipelines.settings.options import METHODS
from pipelines.settings.resolve import resolve
from pipelines.warehouse.bigquery.stream.rows import REQUEST_BYTES
from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.recount import differences
from tests.integration.same import METRICS, assert_alike
from tests.servers.faulty import faulty_grpc, faulty_http
from tests.servers.stream import ROOT, publish, received_times, streaming
from transforms.errors import AudienceError

# Of two deliveries a stream keeps the one that arrives first.
EVENTS = "SELECT * EXCEPT (received_time, sent_time) FROM events_unique"
UNIQUE = "SELECT COUNT(*) FROM events_unique"
BALANCE = "SELECT COUNTIF(balance <> 0) FROM quality_1m_current"
RECEIVED = "SELECT SUM(received) FROM quality_1m_current"
TRUSTED = ("--timestamp_attribute", "received_time", "--early_firing", "2s")


def simulated(folder: Path, events: int, seed: int) -> tuple[Path, list[bytes]]:
    """(file, its lines): a day until yesterday, with every fault that a queue and a file decide alike."""
    file = folder / "events.jsonl"
    start = datetime.now(UTC).date() - timedelta(days=2)
    given = faults("many", no_time=0.0, conflicts=0.0, missing_id=0.0, huge_lines=0.0)
    simulate(events, seed, file, days=1, start=start, faults=given)
    return file, file.read_bytes().splitlines()


@pytest.fixture
def dataset(bigquery) -> str:
    """The name of a data set that is not there yet."""
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


def drain(dataset: str, folder: Path) -> None:
    """As a person does it."""
    command = [sys.executable, "-m", "pipelines.cli", "stop", "--drain", "--dataset", dataset]
    words = [*command, "--landing", str(folder / "landing")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert "closes" in done.stderr


def shuffled(lines: list[bytes], seed: int) -> tuple[list[bytes], list[str | None]]:
    order = list(zip(lines, received_times(lines), strict=True))
    random.Random(seed).shuffle(order)
    return [line for line, _ in order], [time for _, time in order]


def test_a_shuffled_repeated_stream_gives_the_rows_of_a_backfill_and_a_backfill_over_it_changes_none(
    dataset, queue, prism, tmp_path
):
    file, lines = simulated(tmp_path, 1_000, 11)
    with streaming(queue, prism, tmp_path, *TRUSTED, dataset=dataset) as stream:
        publish(queue, *shuffled(lines, 3))
        stream.until(lambda: so_far(dataset, RECEIVED) >= len(lines), 150, "received")
        drain(dataset, tmp_path)
        assert stream.process.wait(60) == 0, stream.said()
    assert not list((tmp_path / "landing").rglob("*.parquet")), stream.said()
    batch = tmp_path / "batch"
    backfill(resolve({"input": [str(file)], "warehouse": str(batch), "workers": "1"}))
    streamed, local = BigQueryWarehouse.open(dataset), LocalWarehouse.open(batch)
    metrics = [f"SELECT * FROM {metric}_current" for metric in METRICS]
    for sql in (
        EVENTS,
        "SELECT source, stage, code, errors, payload FROM quarantine",
        *metrics,
        # A file tells no minute of what cannot be read.
        "SELECT bucket_start, SUM(events + duplicates) AS n FROM quality_1m_current GROUP BY 1 HAVING n > 0",
        "SELECT SUM(received) AS r, SUM(quarantined) AS q, SUM(duplicates) AS d FROM quality_1m_current",
    ):
        assert_alike(streamed, local, sql)
    assert number(dataset, BALANCE) == 0
    days = [day for day in streamed.rows_by_day("events") if day]
    given = {
        "start": f"{min(days)}",
        "end": f"{max(days) + timedelta(days=1)}",
        "replace": True,
        "no_active_stream": True,
    }
    backfill(resolve({"input": [str(file)], "dataset": dataset, "workers": "1", **given}))
    streamed.forget()
    for sql in (EVENTS, *metrics):
        assert_alike(streamed, local, sql)
    assert number(dataset, BALANCE) == 0
    streamed.close()


def event(number: int, **fields: object) -> bytes:
    now = datetime.now(UTC).isoformat()
    stated = {"event_id": f"e{number}", "event_type": "click", "event_time": now, "user_id": f"u{number % 7}"}
    return json.dumps({**stated, **fields}).encode()


def test_ten_rows_that_bigquery_refuses_are_in_quarantine_and_the_books_balance(dataset, queue, prism, tmp_path):
    long = "x" * REQUEST_BYTES
    with streaming(queue, prism, tmp_path, "--early_firing", "2s", dataset=dataset) as stream:
        queue.publish(*map(event, range(200)))
        for number_ in range(200, 210):
            queue.publish(event(number_, properties={"long": long}))
        load = "SELECT COUNT(*) FROM quarantine WHERE stage = 'load'"
        stream.until(lambda: so_far(dataset, load) >= 10, what="quarantine")
        drain(dataset, tmp_path)
        assert stream.process.wait(60) == 0, stream.said()
    assert number(dataset, load) == number(dataset, "SELECT SUM(quarantined) FROM quality_1m_current") == 10
    assert number(dataset, "SELECT COUNT(*) FROM events") == 200
    assert number(dataset, "SELECT SUM(events) FROM quality_1m_current") == 200
    assert number(dataset, BALANCE) == 0


GRPC_FAULTS = ("UNAVAILABLE", "pass", "INTERNAL", "RESOURCE_EXHAUSTED", "lost", "reset", "pass", "DEADLINE_EXCEEDED")
HTTP_FAULTS = ("500", "pass", "503", "429", "lost", "reset", "pass", "504")


@pytest.mark.parametrize("method", METHODS)
def test_whatever_bigquery_answers_nothing_is_lost_and_nothing_double(
    method, bigquery, dataset, queue, prism, tmp_path, monkeypatch
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
                stream.until(lambda: so_far(dataset, UNIQUE) >= sent, what=f"{sent} events, {plan.left}")  # noqa: B023
            drain(dataset, tmp_path)
            assert stream.process.wait(60) == 0, stream.said()
    assert len(plan.met) == 6
    figures = json.loads(stream.said().splitlines()[-2])
    assert (figures["events"], figures["messages"], figures["problem"]) == (sent, sent, None)
    assert number(dataset, UNIQUE) == number(dataset, "SELECT SUM(events) FROM quality_1m_current") == sent
    if method != "STORAGE_WRITE_API":  # which writes at least once
        assert number(dataset, "SELECT COUNT(*) FROM events") == sent
    assert number(dataset, "SELECT SUM(events) FROM activity_1m_current") == sent
    assert number(dataset, BALANCE) == 0


def test_killed_at_any_moment_and_started_again_nothing_is_lost_and_nothing_double(dataset, queue, prism, tmp_path):
    file, lines = simulated(tmp_path, 1_000, 12)
    lines, received = shuffled(lines, 4)
    moments, third = random.Random(5), len(lines) // 3 + 1
    for turn in range(3):
        with streaming(queue, prism, tmp_path, *TRUSTED, dataset=dataset) as stream:
            part = slice(turn * third, (turn + 1) * third)
            publish(queue, lines[part], received[part])
            if turn < 2:
                # Some minutes are in the books by then, and some are not.
                stream.until(lambda: so_far(dataset, RECEIVED) >= moments.randint(50, 200) + turn * third)  # noqa: B023
                stream.end(signal.SIGKILL)
                continue
            stream.until(lambda: so_far(dataset, RECEIVED) >= len(lines), 150, "received")
            drain(dataset, tmp_path)
            assert stream.process.wait(60) == 0, stream.said()
            assert "are read again" in stream.said()
    batch = tmp_path / "batch"
    backfill(resolve({"input": [str(file)], "warehouse": str(batch), "workers": "1"}))
    streamed, local = BigQueryWarehouse.open(dataset), LocalWarehouse.open(batch)
    for sql in (
        EVENTS,
        "SELECT DISTINCT source, stage, code, payload FROM quarantine",
        *(f"SELECT * FROM {metric}_current" for metric in METRICS),
    ):
        assert_alike(streamed, local, sql)
    assert number(dataset, "SELECT SUM(events) FROM quality_1m_current") == number(dataset, UNIQUE)
    assert differences(streamed) == []
    streamed.close()
