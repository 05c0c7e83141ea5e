"""What a table or view of BigQuery's declares, as ours does."""

import re

from google.cloud import bigquery

from pipelines.warehouse.tables import TYPES, Column, Table

# As the API calls what SQL calls otherwise.
_SQL_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "STRUCT": "RECORD"}
_OTHERS = {"DATETIME", "TIME", "GEOGRAPHY", "INTERVAL", "BIGNUMERIC", "RANGE"}  # shown as text
_KEY = re.compile(r"\s*Key: ([^\n]+)\.$")


def column_of(field: bigquery.SchemaField) -> Column:
    """A field of BigQuery's as a column; a type that no table of ours has is text."""
    kind = _SQL_NAMES.get(field.field_type, field.field_type)
    kind = "STRING" if kind in _OTHERS else kind
    return Column(field.name, kind, field.mode, field.description or "", tuple(map(column_of, field.fields)))


def declaration(table: bigquery.Table) -> Table | None:
    """What a table declares; None for a table that no run of ours made: its description names no key."""
    key = _KEY.search(table.description or "")
    partition = table.time_partitioning.field if table.time_partitioning else None
    columns = tuple(map(column_of, table.schema))
    if not key or partition not in {column.name for column in columns}:
        return None
    return Table(
        table.table_id,
        _KEY.sub("", table.description),
        columns,
        partition,
        tuple(table.clustering_fields or ()),
        tuple(key[1].split(", ")),
    )


def types_of(table: bigquery.Table) -> dict[str, str]:
    """The columns of a table or view, each with its type; OTHER for what no table of ours has, and for what repeats."""
    columns = map(column_of, table.schema)
    return {each.name: each.type if each.mode != "REPEATED" and each.type in TYPES else "OTHER" for each in columns}
