"""How a backfill's rows reach BigQuery: load jobs of Parquet beside pending streams of the Storage Write API.

    python -m benchmarks.bigquery_loads [--events 300000] [--runs 3]

What it measures: the events of a backfill, staged as Parquet files, into a new table of the BigQuery emulator, by the
code of a commit (load.py), and by one pending stream in Arrow record batches of at most 9 MB, finalized and committed
once. In turn, in one process: requests, bytes of their bodies, processor and wall seconds of the client.
What it does not show: BigQuery itself, its queues for load jobs, its prices. Both ways end in a table of as many rows
as were staged, which is checked.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple
from unittest import mock

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import describe, measure_speed  # noqa: E402
from tests.servers.bigquery import bigquery_emulator  # noqa: E402

DATASET = "benchmark.loads"
SECONDS = 120.0  # for the answer to one append


class Cost(NamedTuple):
    """What one way cost its client."""

    requests: int
    bytes: int
    cpu_seconds: float
    seconds: float


class Sent:
    """Requests of this process and the bytes of their bodies, of REST and of appends."""

    def __init__(self) -> None:
        self.requests = 0
        self.bytes = 0

    def add(self, size: int) -> None:
        self.requests += 1
        self.bytes += size


def stage(folder: Path, events: int) -> list:
    """Backfill simulated events into a warehouse in `folder`; its files of events."""
    from pipelines.apps.simulator.simulate import simulate
    from pipelines.cli import main
    from pipelines.warehouse.day_files import FileEntry

    path, warehouse = folder / "events.jsonl", folder / "warehouse"
    simulate(events=events, seed=1, output=path, days=2, start=date(2026, 3, 1))
    with contextlib.redirect_stdout(sys.stderr):
        if main(["backfill", "--input", str(path), "--warehouse", str(warehouse)]):
            raise RuntimeError("the backfill failed")
    import polars as pl

    files = sorted((warehouse / "data/events").rglob("*.parquet"))
    rows = [pl.scan_parquet(file, hive_partitioning=False).select(pl.len()).collect().item() for file in files]
    return [
        FileEntry("events", None, str(file), count, file.stat().st_size)
        for file, count in zip(files, rows, strict=True)
    ]


def load_parquet(warehouse, target, files: Sequence, spare: Path, sent: Sent) -> None:
    """Load jobs, as a commit starts them."""
    import requests

    from pipelines.warehouse.bigquery.load import load

    send = requests.Session.send

    def counted(session, request, **options):
        sent.add(len(request.body or b""))
        return send(session, request, **options)

    with mock.patch.object(requests.Session, "send", counted):
        for job in load(warehouse, target, files, spare):
            job.result()


def append_arrow(warehouse, target, files: Sequence, spare: Path, sent: Sent) -> None:
    """One pending stream: record batches at their offsets, finalized and committed once."""
    import polars as pl
    from google.cloud.bigquery_storage_v1 import types

    from pipelines.warehouse.bigquery import clients
    from pipelines.warehouse.bigquery.storage_write import table_path
    from pipelines.warehouse.bigquery.stream.rows import REQUEST_BYTES, arrow_schema, cut_to_size, record_batch
    from pipelines.warehouse.tables import EVENTS

    parent, schema = table_path(DATASET, target.table_id), arrow_schema(EVENTS)
    with contextlib.closing(clients.writes(DATASET.partition(".")[0])) as lease:
        appends, client = lease.client, lease.client._client
        made = types.WriteStream(type_=types.WriteStream.Type.PENDING)
        stream = client.create_write_stream(parent=parent, write_stream=made).name
        offset = 0
        for file in files:
            rows = pl.read_parquet(file.path, hive_partitioning=False)
            for _, count, message in cut_to_size(record_batch(rows, schema), REQUEST_BYTES):
                if refused := appends.append(stream, schema, message, offset, SECONDS):
                    raise RuntimeError(f"refused: {refused[0].message}")
                sent.add(len(message))
                offset += count
        client.finalize_write_stream(name=stream)
        commit = types.BatchCommitWriteStreamsRequest(parent=parent, write_streams=[stream])
        if problems := client.batch_commit_write_streams(request=commit).stream_errors:
            raise RuntimeError(str(problems[0]))
        sent.requests += 3  # create, finalize, commit


WAYS: dict[str, Callable] = {"load job of Parquet": load_parquet, "pending stream of Arrow": append_arrow}


@contextlib.contextmanager
def emptied(warehouse, name: str, files: Sequence) -> Iterator:
    """A new staging table of events; at the end it must hold each staged row, and goes."""
    from google.cloud import bigquery

    from pipelines.warehouse.bigquery.load import staging_fields
    from pipelines.warehouse.staged import columns_of
    from pipelines.warehouse.tables import EVENTS

    target = warehouse.dataset.table(name)
    warehouse.client.create_table(bigquery.Table(target, staging_fields(EVENTS, list(columns_of(files[0].path)))))
    yield target
    (answer,) = warehouse.query(f"SELECT COUNT(*) AS rows_there FROM `{DATASET}.{name}`")
    if answer["rows_there"] != (staged := sum(file.rows for file in files)):
        raise RuntimeError(f"{name} holds {answer['rows_there']} rows of {staged}")
    warehouse.client.delete_table(target)


def measure(warehouse, way: str, files: Sequence, number: int, spare: Path) -> Cost:
    """One way into one new table."""
    sent = Sent()
    with emptied(warehouse, f"staging_{number}", files) as target:
        begun, used = time.monotonic(), time.process_time()
        WAYS[way](warehouse, target, files, spare, sent)
        cost = Cost(sent.requests, sent.bytes, time.process_time() - used, time.monotonic() - begun)
    return cost


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, bigquery_emulator() as server:
        files = stage(Path(scratch), options.events)
        os.environ.update(server.environment)
        from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse

        with contextlib.closing(BigQueryWarehouse.open(DATASET, create=True)) as warehouse:
            costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
            for number in range((options.runs + 1) * len(WAYS)):  # the first of each only warms up
                way = list(WAYS)[number % len(WAYS)]
                costs[way].append(measure(warehouse, way, files, number, Path(scratch)))
    print(
        f"{sum(file.rows for file in files):,} events in {len(files)} files of Parquet; {describe(measure_speed())}\n"
    )
    print("| way | requests | bytes sent | processor seconds | seconds |\n|---|---:|---:|---:|---:|")
    for way, measured in costs.items():
        requests, size, cpu, seconds = (statistics.median(column) for column in zip(*measured[1:], strict=True))
        print(f"| {way} | {requests:,.0f} | {size / 1e6:,.1f} MB | {cpu:.2f} | {seconds:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
