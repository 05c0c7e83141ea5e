"""Rows of a table as JSON objects, and ids by which a repeated row is recognized: for insertAll, and for messages."""

import polars as pl

from pipelines.warehouse.tables import Column, Table
from transforms.block import hash128

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%.6fZ"
# What makes one row of a table its own, beyond the table's key: a delivery of an event, an emission of a metric.
_BESIDE_THE_KEY = ("input", "received_time", "client_time", "generation", "revision")


def json_rows(rows: pl.DataFrame, table: Table) -> list[dict]:
    """Rows as insertAll takes them: no field that is NULL."""
    forms = [form for column in table.columns if (form := _json_form(column, pl.col(column.name))) is not None]
    return [
        {name: value for name, value in row.items() if value is not None} for row in rows.with_columns(forms).to_dicts()
    ]


def _json_form(column: Column, value: pl.Expr) -> pl.Expr | None:
    """A value of the column as JSON has it; None where it does as it is."""
    if column.fields:  # repeated, as all records of our tables are
        inner = ((field, pl.element().struct.field(field.name)) for field in column.fields)
        forms = [each if (form := _json_form(field, each)) is None else form for field, each in inner]
        return value.list.eval(pl.struct(forms))
    if column.type == "TIMESTAMP":
        return value.dt.strftime(TIME_FORMAT)
    if column.type == "BYTES":
        return value.bin.encode("base64")
    if column.type in ("DATE", "NUMERIC"):
        return value.cast(pl.String)
    return None


def insert_ids(rows: pl.DataFrame, table: Table) -> list[str]:
    """An id a row, by which BigQuery recognizes a repeated insert: a hash of what identifies the row."""
    own = dict.fromkeys((*table.key, *(name for name in _BESIDE_THE_KEY if name in rows.columns)))
    texts = rows.select(pl.col(name).cast(pl.String).fill_null("") for name in own)
    columns = [column.to_list() for column in texts]
    return [hash128(part.encode() for part in parts) for parts in zip(*columns, strict=True)]
