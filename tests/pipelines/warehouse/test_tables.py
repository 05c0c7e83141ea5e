"""What one declaration of a table gives to Parquet, DuckDB and BigQuery."""

from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest

from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import (
    EVENTS,
    QUALITY_1M,
    QUARANTINE,
    TABLES,
    Column,
    Table,
    bigquery_schema,
    duckdb_type,
    histogram_column,
    markdown,
    metric_table,
    polars_schema,
)
from transforms.block import EVENT_SCHEMA

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
VALUES = {
    "STRING": "a",
    "TIMESTAMP": AT,
    "DATE": date(2026, 3, 1),
    "NUMERIC": Decimal("12.5"),
    "INT64": 3,
    "FLOAT64": 0.5,
    "BOOL": True,
    "BYTES": b"\x00\xff",
    "JSON": '{"a": 1}',
    "RECORD": [{"bin": 1, "count": 2}],
}
LATENCY = metric_table(
    "latency_1h",
    "A metric with every type",
    ["channel", "person", Column("started", "DATE")],
    [
        Column("n", "INT64", "REQUIRED", "events"),
        Column("n_sketch", "BYTES", "REQUIRED", "a|b"),
        Column("total", "NUMERIC"),
        Column("ms_p50", "FLOAT64"),
        Column("seen", "BOOL"),
        Column("facts", "JSON"),
        histogram_column("ms_histogram", "milliseconds"),
    ],
)


def test_the_events_table_is_the_event_block():
    assert list(polars_schema(EVENTS).items()) == list(EVENT_SCHEMA.items())


@pytest.mark.parametrize("table", [*TABLES, LATENCY], ids=lambda table: table.name)
def test_what_polars_writes_duckdb_reads_in_the_declared_types(table, tmp_path):
    row = {column.name: [VALUES[column.type]] for column in table.columns}
    frame = pl.DataFrame(row, schema=polars_schema(table))
    warehouse = LocalWarehouse.open(tmp_path / "w", create=True)
    with warehouse.writer() as run:
        run.declare([table])
        entry = write_file(run.staging, table.name, AT.date(), frame)
        run.commit([entry])
    described = warehouse.connect().sql(f"DESCRIBE SELECT * FROM read_parquet('{warehouse.files(table.name)[0]}')")
    declared = [(column.name, duckdb_type(column)) for column in table.columns]
    assert [(name, kind) for name, kind, *_ in described.fetchall()] == declared
    view = warehouse.connect().sql(f"DESCRIBE {table.name}").fetchall()
    computed = [("day", "DATE"), ("person", "VARCHAR")] if table.name == "events" else []
    assert [(name, kind) for name, kind, *_ in view] == declared + computed
    assert warehouse.scan(table.name).collect().equals(frame)


@pytest.mark.parametrize("table", [*TABLES, LATENCY], ids=lambda table: table.name)
def test_every_column_is_described_and_has_a_bigquery_type(table):
    schema = bigquery_schema(table)
    assert [field["name"] for field in schema] == list(polars_schema(table))
    assert {field["type"] for field in schema} <= set(VALUES)
    assert {field["mode"] for field in schema} <= {"NULLABLE", "REQUIRED", "REPEATED"}
    if table is not LATENCY:
        assert all(field["description"] for field in schema)


def test_a_histogram_is_a_repeated_record():
    field = bigquery_schema(LATENCY)[[column.name for column in LATENCY.columns].index("ms_histogram")]
    assert (field["type"], field["mode"]) == ("RECORD", "REPEATED")
    assert [(inner["name"], inner["type"]) for inner in field["fields"]] == [
        ("bin", "INT64"),
        ("count", "INT64"),
    ]


def test_a_metric_table_has_bucket_dimensions_measures_and_emission_in_this_order():
    names = [column.name for column in LATENCY.columns]
    assert names[:5] == ["bucket_start", "bucket_end", "channel", "person", "started"]
    assert names[-5:] == ["firing", "generation", "revision", "emitted_time", "pipeline_version"]
    assert LATENCY.key == ("bucket_start", "channel", "person", "started")
    assert LATENCY.partition == "bucket_start"


def test_the_books_tell_the_same_key_as_their_view():
    assert QUALITY_1M.key == ("source", "input", "bucket_start")
    assert QUARANTINE.partition == "received_time"


def test_a_page_has_a_row_a_column_and_escapes_bars():
    page = markdown(LATENCY)
    assert page.startswith("## latency_1h\n\nA metric with every type\n")
    assert "| n_sketch | BYTES | required | a\\|b |" in page
    assert "| ms_histogram | STRUCT<bin INT64, count INT64> | repeated | milliseconds |" in page


def test_a_key_must_be_a_column():
    with pytest.raises(ValueError, match="table t: 'b' is none of its columns a"):
        Table("t", "", (Column("a", "TIMESTAMP"),), "a", (), ("b",))
    with pytest.raises(ValueError, match="table t: column 'a' is declared twice"):
        Table("t", "", (Column("a", "TIMESTAMP"), Column("a", "STRING")), "a")
