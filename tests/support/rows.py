"""Rows that a test states, in the tables of a warehouse, and rows of an answer."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pipelines.settings.config import read_config
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.local.duckdb_connection import answer
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.sink import by_day, shaped
from pipelines.warehouse.tables import TABLES, Table

EMPTY = {"INT64": 0, "STRING": "", "BOOL": False, "FLOAT64": 0.0}


def frame_of(table: Table, rows: list[dict]) -> pl.DataFrame:
    """Rows of a table; what is not stated is null, or 0 or empty in a column that has to be there."""
    columns = {column.name: column for column in table.columns}
    empty = {name: EMPTY.get(each.type) if each.mode == "REQUIRED" else None for name, each in columns.items()}
    empty |= {name: [] for name, each in columns.items() if each.mode == "REPEATED"}
    for row in rows:
        assert set(row) <= set(columns), set(row) - set(columns)
    full = [empty | row for row in rows]
    return shaped(pl.DataFrame({name: [row[name] for row in full] for name in columns}, strict=False), table)


def write(warehouse: Warehouse, *tables: tuple[Table, list[dict]], declared: Sequence[Table] | None = None) -> None:
    """Commit rows of tables; a warehouse is to have those of the shipped configuration, or those `declared`."""
    with warehouse.writer() as run:
        if declared is None:
            shipped = read_config(None)
            run.declare([*TABLES, *map(table_of, shipped.metrics)], shipped.funnel, shipped.attribution)
        else:
            run.declare(declared)
        run.commit(
            write_file(run.folder, table.name, day, part)
            for table, rows in tables
            for day, part in by_day(frame_of(table, rows), table.partition, warehouse.time_zone)
        )


def asked(warehouse: LocalWarehouse | Path, sql: str) -> pl.DataFrame:
    """The answer to a question in DuckDB's SQL, in UTC. Only what it names is made: every view would take 0.2 s."""
    opened = warehouse if isinstance(warehouse, LocalWarehouse) else LocalWarehouse.open(warehouse)
    return answer(opened, sql, "duckdb", False, "UTC").frame()
