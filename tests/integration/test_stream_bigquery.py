"""A stream from the Pub/Sub emulator, on Prism, into the BigQuery emulator: nothing lost, nothing double."""

import json
import random
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines.backfill import backfill
from pipelines.options import resolve
from pipelines.simulator import faults, simulate
from pipelines.warehouse.bigquery import BigQueryWarehouse
from pipelines.warehouse.local import LocalWarehouse
from tests.servers.stream import ROOT, publish, received_times, streaming
from transforms.errors import AudienceError

METRICS = ("activity_1m", "content_1h", "campaign_1h", "user_days")
STAMPS = {"firing", "generation", "revision", "emitted_time", "failed_time", "pipeline_version", "position", "input"}
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
    """The one number that a query gives; 0 where there is nothing to ask yet."""
    try:
        warehouse = BigQueryWarehouse.open(dataset)
    except AudienceError:
        return 0
    try:
        return pl.concat(warehouse.ask(sql)).item() or 0
    except AudienceError:
        return 0
    finally:
        warehouse.close()


def rows(warehouse, sql: str) -> pl.DataFrame:
    """The rows of a query, in an order of their own, without what differs from run to run."""
    found = pl.concat(warehouse.ask(sql), how="vertical_relaxed")
    # A sketch's bytes depend on the order of the events; what it estimates is a column beside it.
    left = [name for name in found.columns if name not in STAMPS and not name.endswith("_sketch")]
    texts = {name: found[name].map_elements(normal, pl.String) for name in ("properties", "extra") if name in left}
    nested = [name for name in left if found.schema[name].is_nested()]
    found = found.with_columns(**texts).with_columns(pl.col(nested).list.eval(pl.element().struct.json_encode()))
    return found.select(sorted(left)).sort(sorted(set(left) - set(nested)))


def normal(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


def assert_same(one, other, sql: str) -> None:
    first, second = rows(one, sql), rows(other, sql)
    assert first.height > 0
    assert first.equals(second.cast(first.schema)), f"{sql}: {first.height} and {second.height} rows"


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
    file, lines = simulated(tmp_path, 1_200, 11)
    with streaming(queue, prism, tmp_path, *TRUSTED, dataset=dataset) as stream:
        publish(queue, *shuffled(lines, 3))
        stream.until(lambda: number(dataset, RECEIVED) >= len(lines), what="received")
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
        assert_same(streamed, local, sql)
    assert number(dataset, BALANCE) == 0
    days = [day for day in streamed.rows_by_day("events") if day]
    given = {"start": f"{min(days)}", "end": f"{max(days) + timedelta(days=1)}", "replace": True, "drained": True}
    backfill(resolve({"input": [str(file)], "dataset": dataset, "workers": "1", **given}))
    streamed.forget()
    for sql in (EVENTS, *metrics):
        assert_same(streamed, local, sql)
    assert number(dataset, BALANCE) == 0
    streamed.close()
