"""Events that BigQuery refuses: what quarantine holds of them, and that a replay makes the same event again."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from hypothesis import given
from hypothesis import strategies as st

from pipelines.audience import Job, build
from pipelines.settings.options import METHODS
from pipelines.sources.quarantined import records_of
from pipelines.warehouse.bigquery import clients as bigquery_clients
from pipelines.warehouse.bigquery.retry import Limits
from pipelines.warehouse.bigquery.stream.at_least_once import Refusal, path_in
from pipelines.warehouse.bigquery.stream.refused import refused_events, without_values
from pipelines.warehouse.bigquery.stream.sink import BigQueryStreamSink
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE
from tests.servers.tables import fetched, made
from transforms.block import EVENT_SCHEMA, RAW_SCHEMA, BlockCoder
from transforms.days import as_events
from transforms.event_time import settle_event_time
from transforms.parse import parse
from transforms.publication import Launch
from transforms.quarantine import identify
from transforms.validate import NULL_IDS, Validator

NOW = datetime(2026, 3, 1, 10, 0, 0, 250, tzinfo=UTC)
EVENT = {
    "event_id": "a",
    "id_source": "client",
    "event_type": "purchase",
    "event_time": NOW,
    "time_source": "client",
    "received_time": NOW + timedelta(seconds=5),
    "client_time": NOW,
    "sent_time": NOW + timedelta(seconds=1),
    "source": "web",
    "source_format": "mapped:shop",
    "input": "subscription",
    "user_id": "u",
    "value": Decimal("12.340000001"),
    "currency": "EUR",
    "quantity": 3,
    "is_bot": False,
    "text": 'said "no"',
    "rating": 4.5,
    "properties": '{"a":[1,{"b":null}]}',
    "extra": '{"shop":{"till":4}}',
}


def event(**fields) -> pl.DataFrame:
    return pl.DataFrame([EVENT | fields], schema=EVENT_SCHEMA)


def refused(events: pl.DataFrame, *refusals: Refusal) -> pl.DataFrame:
    return refused_events(events, refusals or [Refusal(0, "", "no")])


def test_a_replay_of_a_refused_event_makes_the_same_event():
    quarantined = identify(refused(event()), "v", 0.0)
    (block,) = records_of(quarantined, "events")
    passed = Validator(NULL_IDS, ())(parse(block, None, "events").passed)[0]
    again = as_events(settle_event_time(passed)[0]).select(list(EVENT_SCHEMA))
    assert again.row(0, named=True) == event(source_format="native").row(0, named=True)


def test_each_refused_event_has_its_own_place_and_reason():
    events = pl.concat([event(), event(event_id="b"), event(event_id="c", source="shop")])
    rows = refused(events, Refusal(0, "value", "too much"), Refusal(2, "", "odd"))
    assert rows["position"].to_list() == ["events:web:a", "events:shop:c"]
    assert [json.loads(errors) for errors in rows["errors"]] == [
        [{"path": "value", "code": "refused_by_bigquery", "message": "too much"}],
        [{"path": "", "code": "refused_by_bigquery", "message": "odd"}],
    ]


def test_what_is_no_json_is_kept_as_a_text():
    payload = json.loads(refused(event(properties="{no", extra="{no"))["payload"][0])
    assert payload["properties"] == "{no"


@pytest.mark.parametrize(
    ("message", "path", "told"),
    [
        ("Missing required field: source.", "source", "Missing required field: source."),
        ("Cannot convert value to integer (bad value): 17 apples", "", "Cannot convert value to integer"),
        ("Field value: numeric overflow of 12.340000001", "value", "Field value: numeric overflow of ..."),
        ("Could not parse 'tomorrow' as a timestamp, column event_time", "event_time", None),
        ("Repeated field bins.bin must be imported as a JSON array", "", None),
    ],
)
def test_the_column_of_a_message_and_the_message_without_values(message, path, told):
    assert path_in(message, EVENTS) == path
    shown = without_values(message, EVENT)
    assert told in (None, shown)
    assert "tomorrow" not in shown


@given(st.text(min_size=4), st.sampled_from(["{}", "bad {} here", "x (bad value): {}", "'{}'", '"{}" and {}']))
def test_no_value_of_the_row_is_ever_told(value, frame):
    assert value not in without_values(frame.format(value, value), {"text": value}).replace("...", "")


def messages(times: list[str]) -> pl.DataFrame:
    """Raw records that were received now and happened at these times; the last one is no JSON."""
    payloads = [
        json.dumps({"event_id": f"e{n}", "event_type": "click", "event_time": at}) for n, at in enumerate(times)
    ]
    count = len(times) + 1
    columns = {
        "payload": [text.encode() for text in (*payloads, "{")],
        "received_time": [datetime.now(UTC)] * count,
        "source": ["events"] * count,
        "position": [str(n) for n in range(count)],
        "attributes": [None] * count,
    }
    return pl.DataFrame(columns, schema=RAW_SCHEMA)


@pytest.mark.parametrize("method", METHODS)
def test_a_refused_event_is_quarantined_and_the_books_balance(bigquery, method):
    lease = bigquery_clients.rest("demo-project")
    tables = {table.name: table for table in (EVENTS, QUARANTINE, QUALITY_1M)}
    dataset = made(lease.client, tables.values())
    today = datetime.now(UTC).isoformat()
    times = [today if n % 10 else "1999-12-31T10:00:00Z" for n in range(20)]
    stream = TestStream(coder=BlockCoder()).add_elements([messages(times)])
    job = Job(
        source=stream.advance_processing_time(7200).advance_watermark_to_infinity().with_output_types(pl.DataFrame),
        sink=BigQueryStreamSink(dataset, tables, method, Limits(limit=60), clock=float),
        input="subscription",
        launch=Launch(1, "test"),
        metrics=(),
        streaming=True,
        accept_late=True,
        clock=float,  # 1970, so that nothing is too late for the stream
    )
    with beam.Pipeline("BundleBasedDirectRunner", options=PipelineOptions(["--streaming"])) as pipeline:
        build(pipeline, job)
    assert fetched(lease.client, f"SELECT COUNT(*) FROM `{dataset}.events`") == [(18,)]
    stages = fetched(lease.client, f"SELECT stage, code, position FROM `{dataset}.quarantine` ORDER BY position")
    assert stages == [
        ("parse", "invalid_json", "20"),
        ("load", "refused_by_bigquery", "events:events:e0"),
        ("load", "refused_by_bigquery", "events:events:e10"),
    ]
    sums = "SUM(received), SUM(events), SUM(quarantined), SUM(received - events - quarantined)"
    last = "QUALIFY ROW_NUMBER() OVER (PARTITION BY source, input, bucket_start ORDER BY revision DESC) = 1"
    assert fetched(lease.client, f"SELECT {sums} FROM (SELECT * FROM `{dataset}.quality_1m` {last})") == [
        (21, 18, 3, 0)
    ]
    lease.close()
