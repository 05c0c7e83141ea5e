"""The stream's sink, on the emulator and through a proxy that fails: what is written, refused and counted."""

import json
import tempfile
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.metrics import MetricsFilter

from pipelines.settings.options import METHODS
from pipelines.warehouse.bigquery import (
    clients as bigquery_clients,
)
from pipelines.warehouse.bigquery import (
    retry as bigquery_retry,
)
from pipelines.warehouse.bigquery import (
    storage_write as bigquery_append,
)
from pipelines.warehouse.bigquery.retry import Limits
from pipelines.warehouse.bigquery.stream import rows as bigquery_rows
from pipelines.warehouse.bigquery.stream import sink as bigquery_stream
from pipelines.warehouse.bigquery.stream.sink import BigQueryStreamSink
from pipelines.warehouse.tables import EVENTS, QUARANTINE, SESSIONS, Column, histogram_column, metric_table
from tests.servers.faulty import faulty_grpc, faulty_http
from tests.servers.needed import LIMIT, wait_until
from tests.servers.tables import fetched, made
from transforms.block import EVENT_SCHEMA
from transforms.errors import WarehouseError
from transforms.publication import Launch, stamp_rows
from transforms.quality import frame_of, unpack
from transforms.quarantine import identify
from transforms.sessions.summaries import merge, summarize_events, table_rows

NOW = datetime.now(UTC)
OUT_OF_BOUNDS = datetime(1999, 12, 31, tzinfo=UTC)
ONCE = "STORAGE_WRITE_API_EXACTLY_ONCE"
METRIC = metric_table("m", "", ["country"], [Column("n", "INT64"), histogram_column("h", "")])
FAST = Limits(first=0.01, most=0.05, limit=60, answer=30)


def events(rows: int, start: int = 0) -> pl.DataFrame:
    """Events of the last hour, with every type that the table has."""
    numbers = pl.DataFrame({"n": range(start, start + rows)})
    stated = {
        "event_id": pl.format("e{}", "n"),
        "event_type": pl.lit("click"),
        "event_time": pl.lit(NOW) - pl.duration(seconds=pl.col("n") % 3600),
        "received_time": pl.lit(NOW),
        "client_time": pl.lit(NOW) - pl.duration(seconds=pl.col("n") % 3600),
        "source": pl.lit("web"),
        "input": pl.lit("subscription"),
        "user_id": pl.format("user {}", "n"),
        "value": (pl.col("n") * 1.25).cast(pl.Decimal(38, 9)),
        "quantity": pl.col("n").cast(pl.Int64),
        "is_bot": pl.col("n") % 2 == 0,
        "rating": pl.col("n") / 3,
        "properties": pl.lit('{"a": [1, "b"]}'),
        "extra": pl.lit('{"shop": {"till": 4}}'),
    }
    given = numbers.with_columns(**stated)
    return given.select(
        (pl.col(name) if name in stated else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in EVENT_SCHEMA.items()
    )


def poisoned(rows: pl.DataFrame, every: int) -> pl.DataFrame:
    """Each n-th event happened in 1999, of which BigQuery has no partition to stream to."""
    bad = pl.int_range(pl.len()) % every == 0
    return rows.with_columns(event_time=pl.when(bad).then(pl.lit(OUT_OF_BOUNDS)).otherwise("event_time"))


@pytest.fixture
def client(bigquery):
    lease = bigquery_clients.rest("demo-project")
    yield lease.client
    lease.close()
    assert bigquery_clients._shared == {}, "a client was left open"
    for thread in threading.enumerate():
        if thread.name.startswith("appends to "):
            thread.join(LIMIT)
            assert not thread.is_alive(), "a connection was left open"


@pytest.fixture
def dataset(client):
    return made(client, (EVENTS, QUARANTINE, METRIC))


@pytest.fixture
def faulty(bigquery, dataset, monkeypatch):
    """The plans by method; clients made from now on pass through the proxies."""
    with faulty_http(bigquery.rest) as (url, rest), faulty_grpc(bigquery.grpc) as (host, grpc):
        monkeypatch.setenv(bigquery_clients.REST, url)
        monkeypatch.setenv(bigquery_clients.STORAGE, host)
        yield {"STREAMING_INSERTS": rest, "STORAGE_WRITE_API": grpc, ONCE: grpc}


def written(client, dataset, table, columns):
    return fetched(client, f"SELECT {columns} FROM `{dataset}.{table}`")


def run(dataset, method, blocks, table=EVENTS, outcome="events", limits=FAST):
    """Write blocks, and return (books as one frame, refused as one frame, metrics by name)."""
    sink = BigQueryStreamSink(dataset, {}, method, limits)
    pipeline = beam.Pipeline("FnApiRunner")
    out = pipeline | "Give blocks" >> beam.Create(blocks) | "Write" >> sink.write(table, outcome)
    out.files | "Confirm" >> sink.confirm()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("books", "refused"):
            getattr(out, name) | f"Keep {name}" >> beam.Map(keep, f"{folder}/{name}")
        result = pipeline.run()
        result.wait_until_finish()
        books, refused = (kept(Path(folder), name) for name in ("books", "refused"))
    found = result.metrics().query(MetricsFilter().with_namespace("audience"))
    metrics = Counter({"appends": sum(each.committed.count for each in found["distributions"])})
    for each in found["counters"]:
        metrics[each.key.metric.name] += each.committed
    return books, refused, metrics


def keep(block: pl.DataFrame | bytes, prefix: str) -> None:
    block = frame_of(unpack(block)) if isinstance(block, bytes) else block
    block.write_parquet(f"{prefix}-{uuid.uuid4().hex}.parquet")


def kept(folder: Path, name: str) -> pl.DataFrame:
    parts = [pl.read_parquet(path) for path in folder.glob(f"{name}-*")]
    return pl.concat(parts) if parts else pl.DataFrame()


@pytest.mark.parametrize("method", METHODS)
def test_every_value_arrives_as_it_was(client, dataset, method):
    block = events(3)
    run(dataset, method, [block])
    (row,) = client.query_and_wait(f"SELECT * FROM `{dataset}.events` WHERE event_id = 'e1'")
    expected = block.row(1, named=True)
    expected |= {"properties": {"a": [1, "b"]}, "extra": {"shop": {"till": 4}}}
    assert dict(row.items()) == expected


@pytest.mark.parametrize("method", METHODS)
def test_a_session_arrives_with_its_revenue(client, method):
    dataset = made(client, (SESSIONS, QUARANTINE))
    bought = {"event_type": "purchase", "anonymous_id": "a", "value": Decimal("1.25"), "event_time": NOW}
    block = pl.DataFrame([bought | {"currency": "EUR"}, bought], schema=EVENT_SCHEMA)
    rows = table_rows(merge([summarize_events(block, ("page_view", "purchase"))]))
    run(dataset, method, [stamp_rows(rows, "on_time", 5, NOW.timestamp(), Launch(1, "t"))], SESSIONS, None)
    (row,) = written(client, dataset, "sessions", "visit_id, revenue, furthest_step, is_converted")
    money = [{"currency": None, "value": Decimal("1.25")}, {"currency": "EUR", "value": Decimal("1.25")}]
    assert row == (rows["visit_id"][0], money, 2, True)


@pytest.mark.parametrize("method", METHODS)
def test_lists_of_records_bytes_and_nulls_arrive(client, dataset, method):
    metric = pl.DataFrame(
        {
            "bucket_start": [NOW] * 2,
            "bucket_end": [NOW] * 2,
            "country": ["GB", None],
            "n": [1, None],
            "h": [[{"bin": -3, "count": 7}, {"bin": 4, "count": 1}], []],
            "firing": ["late"] * 2,
            "generation": [1] * 2,
            "revision": [5] * 2,
            "emitted_time": [NOW] * 2,
            "pipeline_version": [None] * 2,
        },
    )
    run(dataset, method, [metric], METRIC, None)
    found = written(client, dataset, "m", "country, n, h")
    assert sorted(found, key=str) == [
        ("GB", 1, [{"bin": -3, "count": 7}, {"bin": 4, "count": 1}]),
        (None, None, []),
    ]


@pytest.mark.parametrize("method", METHODS)
def test_what_bigquery_refuses_goes_its_way_and_the_rest_is_written(client, dataset, method):
    blocks = [poisoned(events(500), 100), poisoned(events(500, 500), 100)]
    books, refused, metrics = run(dataset, method, blocks)
    assert len(written(client, dataset, "events", "event_id")) == 990
    assert sorted(refused["position"]) == sorted(f"events:web:e{n}" for n in range(0, 1000, 100))
    assert refused.select("stage", "code", "input", "attempt").unique().rows() == [
        ("load", "refused_by_bigquery", "subscription", 1)
    ]
    assert books["events"].sum() == 990
    assert books["quarantined"].sum() == 0, "the quarantine's own sink counts them"
    assert metrics["rows-written"] == 990
    assert metrics["rows-refused"] == 10
    assert metrics["appends"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_refusal_tells_the_column_and_never_the_value(client, dataset, method):
    secret = "no json, but a secret"
    _, refused, _ = run(dataset, method, [events(1).with_columns(properties=pl.lit(secret))])
    (error,) = json.loads(refused["errors"][0])
    assert (error["path"], error["code"]) == ("properties", "refused_by_bigquery")
    assert secret not in error["message"]
    assert error["message"]


@pytest.mark.parametrize("method", METHODS)
def test_a_refused_row_of_the_pipelines_own_fails_with_what_was_refused(client, dataset, method):
    with pytest.raises(Exception, match="table quarantine: BigQuery refused 1 of 2 rows, the first for source: "):
        run(dataset, method, [quarantined(["web", None])], QUARANTINE, "quarantined")


@pytest.mark.parametrize("method", METHODS)
def test_an_event_too_long_for_bigquery_is_quarantined_by_its_beginning(client, dataset, method):
    long = events(1).with_columns(extra=pl.lit(json.dumps({"a": "x" * 9_500_000})))
    _, refused, _ = run(dataset, method, [long])
    run(dataset, method, [identify(refused, "v", 0.0)], QUARANTINE, "quarantined")
    ((payload, errors),) = written(client, dataset, "quarantine", "payload, errors")
    assert len(payload) == bigquery_rows.PAYLOAD_BYTES
    assert [error["code"] for error in errors] == ["refused_by_bigquery", "payload_cut"]
    assert errors[1]["message"].startswith("the record has 9500")


def quarantined(sources: list) -> pl.DataFrame:
    names = {"quarantine_id": ["q"] * len(sources), "source": sources, "attempt": [1] * len(sources)}
    rows = pl.DataFrame(names)
    return rows.with_columns(
        pl.lit(None).alias(column.name) for column in QUARANTINE.columns if column.name not in names
    )


HTTP_FAULTS = ["500", "502", "503", "504", "429", "reset", "silence", "lost"]
CODES = ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL", "ABORTED", "UNKNOWN", "CANCELLED"]
GRPC_FAULTS = [*CODES, "reset", "silence", "lost"]
TRANSIENT = {"STREAMING_INSERTS": HTTP_FAULTS, "STORAGE_WRITE_API": GRPC_FAULTS, ONCE: GRPC_FAULTS}


@pytest.mark.parametrize(("method", "fault"), [(method, fault) for method in METHODS for fault in TRANSIENT[method]])
def test_a_fault_that_passes_loses_nothing(client, dataset, faulty, method, fault):
    faulty[method].set(fault, "pass", fault)  # exactly once, the first request makes the stream
    limits = FAST._replace(answer=2) if fault == "silence" else FAST
    _, refused, metrics = run(dataset, method, [events(700), events(300, 700)], limits=limits)
    rows = written(client, dataset, "events", "event_id")
    assert refused.is_empty()
    assert len(set(rows)) == 1000
    assert metrics["write-retries"] == len(faulty[method].met) > 0
    if fault == "lost" and method == "STORAGE_WRITE_API":
        assert len(rows) > 1000, "an append whose answer was lost is made again: at least once"
    else:
        assert len(rows) == 1000


@pytest.mark.parametrize(
    ("method", "fault", "said"),
    [
        ("STREAMING_INSERTS", "503", "table events: BigQuery took no rows for 0 s; it said last: .*by plan"),
        ("STREAMING_INSERTS", "403", "table events: BigQuery refused the request, not a row of it: .*by plan"),
        ("STORAGE_WRITE_API", "UNAVAILABLE", "table events: BigQuery took no rows for 0 s; it said last: .*by plan"),
        ("STORAGE_WRITE_API", "PERMISSION_DENIED", "table events: BigQuery refused the request, .*by plan"),
    ],
)
def test_a_fault_that_stays_fails_the_bundle_and_says_what_bigquery_said(client, dataset, faulty, method, fault, said):
    faulty[method].set(*[fault] * 1000)
    with pytest.raises(WarehouseError, match=said):
        writing = bigquery_stream.AT_LEAST_ONCE[method](dataset, EVENTS, FAST._replace(limit=0.2), lambda: None)
        try:
            writing.write(events(1))
        finally:
            writing.close()
    assert written(client, dataset, "events", "event_id") == []


@pytest.mark.parametrize("method", bigquery_stream.AT_LEAST_ONCE)
def test_a_table_that_is_not_there_is_waited_for_and_then_named(client, dataset, method, monkeypatch):
    monkeypatch.setattr(bigquery_retry, "ABSENT", 0.1)
    tries = []
    writing = bigquery_stream.AT_LEAST_ONCE[method](f"{dataset}x", EVENTS, FAST, lambda: tries.append(1))
    with pytest.raises(WarehouseError, match="table events: BigQuery does not find it"):
        writing.write(events(1))
    writing.close()
    assert tries


@pytest.mark.parametrize("method", bigquery_stream.AT_LEAST_ONCE)
def test_a_bundle_that_is_tried_again_shows_each_event_once(client, dataset, method):
    for _ in range(2):
        run(dataset, method, [events(100)])
    rows = written(client, dataset, "events", "source, event_id")
    assert len(set(rows)) == 100
    assert len(rows) == (100 if method == "STREAMING_INSERTS" else 200)


@pytest.mark.parametrize("method", METHODS)
def test_rows_are_cut_into_requests_that_bigquery_takes(client, dataset, faulty, method):
    long = events(30).with_columns(text=pl.lit("x" * 1_000_000))
    run(
        dataset,
        method,
        [long],
    )
    assert len(written(client, dataset, "events", "event_id")) == 30
    assert faulty[method].requests >= 4


@pytest.mark.parametrize("method", METHODS)
def test_a_row_longer_than_a_request_is_refused_alone(client, dataset, method, monkeypatch):
    monkeypatch.setattr(bigquery_rows, "REQUEST_BYTES", 200_000)
    block = events(5).with_columns(text=pl.when(event_id="e3").then(pl.lit("x" * 300_000)))
    _, refused, _ = run(dataset, method, [block])
    assert refused["position"].to_list() == ["events:web:e3"]
    assert sorted(written(client, dataset, "events", "event_id")) == [("e0",), ("e1",), ("e2",), ("e4",)]


def test_an_emulator_of_one_interface_is_no_reason_to_write_to_the_cloud(monkeypatch):
    monkeypatch.setenv(bigquery_clients.REST, "http://127.0.0.1:9050")
    monkeypatch.delenv(bigquery_clients.STORAGE, raising=False)
    with pytest.raises(WarehouseError, match="BIGQUERY_STORAGE_EMULATOR_HOST is not set: set it to host:port"):
        bigquery_clients.writes("demo-project")
    assert bigquery_clients._shared == {}


@pytest.mark.parametrize("method", bigquery_stream.AT_LEAST_ONCE)
def test_threads_share_a_client(client, dataset, method):
    def write(thread: int) -> None:
        writer = bigquery_stream.AT_LEAST_ONCE[method](dataset, EVENTS, Limits(limit=30), lambda: None)
        for part in range(3):
            writer.write(events(10, 1000 * thread + 10 * part))
        writer.close()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(write, range(6)))
    assert len(set(written(client, dataset, "events", "event_id"))) == 180


def test_a_connection_that_nobody_uses_any_more_is_ended(client, dataset, monkeypatch):
    def listeners() -> int:
        return sum(thread.name.startswith("appends to ") for thread in threading.enumerate())

    monkeypatch.setattr(bigquery_append, "IDLE_SECONDS", -1.0)
    writer, before = bigquery_stream.StorageWriter(dataset, EVENTS, FAST, lambda: None), listeners()
    for _ in range(3):
        writer.write(events(1))
    wait_until(lambda: listeners() <= before + 1, what="the other connections end")
    writer.close()


def test_an_old_connection_that_bigquery_closed_is_opened_anew(client, dataset, faulty):
    writer = bigquery_stream.StorageWriter(dataset, EVENTS, FAST, lambda: None)
    writer.write(events(1))
    faulty["STORAGE_WRITE_API"].set("reset")
    writer.write(events(1, 1))
    assert len(written(client, dataset, "events", "event_id")) == 2
    writer.close()
