"""Rows as requests: no row is lost or doubled wherever they are cut, and an id tells one row from another."""

from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.warehouse.bigquery.stream.rows import (
    INSERT_ROWS,
    arrow_schema,
    by_request,
    cut_to_size,
)
from pipelines.warehouse.row_json import insert_ids, json_rows
from pipelines.warehouse.tables import EVENTS, QUARANTINE, polars_schema
from transforms.block import EVENT_SCHEMA

LENGTHS = st.lists(st.integers(0, 3000), max_size=60)
AT = datetime(2026, 3, 1, 10, 0, 0, 1, tzinfo=UTC)


@given(lengths=LENGTHS, most=st.integers(500, 4000))
def test_record_batches_are_cut_without_loss(lengths, most):
    batch = pa.RecordBatch.from_pydict({"text": [f"{n}" + "x" * length for n, length in enumerate(lengths)]})
    parts = list(cut_to_size(batch, most))
    read = [pa.ipc.read_record_batch(pa.py_buffer(written), batch.schema) for _, _, written in parts]
    assert [part.num_rows for part in read] == [rows for _, rows, _ in parts]
    assert [text for part in read for text in part["text"].to_pylist()] == batch["text"].to_pylist()
    assert [first for first, _, _ in parts] == [sum(rows for _, rows, _ in parts[:n]) for n in range(len(parts))]
    assert all(len(written) <= most or rows == 1 for _, rows, written in parts)


@given(lengths=LENGTHS | st.just([0] * 1100), most=st.integers(500, 100_000))
def test_json_rows_are_cut_without_loss(lengths, most):
    rows = [{"text": "x" * length} for length in lengths]
    parts = list(by_request(rows, most))
    assert [row for first, end, _ in parts for row in rows[first:end]] == rows
    assert all(end - first <= INSERT_ROWS for first, end, _ in parts)
    assert all(size <= most or end - first == 1 for first, end, size in parts)


def event(**fields) -> pl.DataFrame:
    told = {"event_id": "a", "event_type": "click", "source": "s", "event_time": AT, "received_time": AT} | fields
    return pl.DataFrame([told], schema=EVENT_SCHEMA)


def test_an_id_tells_deliveries_apart_and_never_the_same_row():
    same, other = event(), [event(event_id="b"), event(source="t"), event(received_time=AT.replace(hour=11))]
    ids = insert_ids(pl.concat([same, same, *other]), EVENTS)
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4
    assert (
        len(set(insert_ids(pl.concat([event(source="ab", event_id="c"), event(source="a", event_id="bc")]), EVENTS)))
        == 2
    )


def test_a_record_that_is_quarantined_again_has_the_id_it_had():
    row = {"quarantine_id": "q", "source": "s", "attempt": 1, "received_time": AT}
    rows = pl.DataFrame([row, row | {"failed_time": AT}, row | {"attempt": 2}], schema=polars_schema(QUARANTINE))
    first, again, second = insert_ids(rows, QUARANTINE)
    assert first == again != second


def test_json_says_times_bytes_and_numbers_as_bigquery_reads_them():
    rows = json_rows(event(value=Decimal("1.5"), rating=2.5, quantity=2**60, is_bot=False), EVENTS)
    assert rows == [
        {
            "event_id": "a",
            "event_type": "click",
            "source": "s",
            "event_time": "2026-03-01T10:00:00.000001Z",
            "received_time": "2026-03-01T10:00:00.000001Z",
            "value": "1.500000000",
            "rating": 2.5,
            "quantity": 2**60,
            "is_bot": False,
        }
    ]
    quarantined = pl.DataFrame([{"payload": b"\x00\xff"}], schema=polars_schema(QUARANTINE))
    assert json_rows(quarantined, QUARANTINE) == [{"payload": "AP8="}]


def test_the_storage_api_gets_no_arrow_type_with_long_offsets():
    assert not [field for field in arrow_schema(EVENTS) if str(field.type).startswith("large")]
