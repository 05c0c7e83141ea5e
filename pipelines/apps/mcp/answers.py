"""An answer as an agent reads it: one JSON object with columns, rows, whether rows are missing, and how fresh it is."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import msgspec
import polars as pl

from pipelines.apps.mcp.scope import Scope
from pipelines.apps.mcp.statement import Names, Statement
from pipelines.warehouse.interface import Result
from pipelines.warehouse.render import plain

_FRESHNESS = (
    "SELECT MAX(bucket_end) AS received_until, MAX(emitted_time) AS written_time, "
    "SUM(CASE WHEN in_flight THEN 1 ELSE 0 END) AS minutes_in_flight FROM quality_1m_current "
    "WHERE bucket_start IS NOT NULL"
)
encoder = msgspec.json.Encoder(decimal_format="number")


def names_of(scope: Scope, view: str) -> Names:
    """The names of a view. Errors: OptionError if it may not be asked."""
    mark = "`" if scope.warehouse.local_path is None else '"'
    return Names(view, scope.columns(view), mark, scope.warehouse.time_zone)


def dialect_of(scope: Scope) -> str:
    """The dialect in which the warehouse answers."""
    return "bigquery" if scope.warehouse.local_path is None else "duckdb"


def answer(scope: Scope, statement: Statement, limit: int, metric: dict[str, str] | None, free: bool = False) -> str:
    """Ask, and return the answer as JSON; `limit` rows at most, and as many bytes as the limits allow.

    metric  the definition of the numbers: its name, sentence and resource
    free    the statement is a person's SQL, of which every name is checked
    """
    bounds = replace(scope.bounds(free=free), parameters=statement.parameters)
    result = scope.warehouse.answer(statement.sql, dialect_of(scope), bounds=bounds)
    names, kinds, rows, truncated = _taken(result, limit, scope.limits.bytes)
    head: dict[str, Any] = {
        "columns": [{"name": name, "type": kind} for name, kind in zip(names, kinds, strict=True)],
        "rows": msgspec.Raw(b"[" + b",".join(rows) + b"]"),
        "row_count": len(rows),
        "truncated": truncated,
        "time_zone": result.time_zone,
        "freshness": freshness(scope),
        "definition": metric,
        "sql": statement.sql,
    }
    if truncated:
        head["hint"] = (
            f"there are more rows: an answer has at most {limit} rows and {scope.limits.bytes} bytes; "
            "ask for fewer columns, add filters, or ask for sums"
        )
    return encoder.encode(head).decode()


def freshness(scope: Scope) -> dict[str, Any] | None:
    """Up to when records were received and rows were written, and how many minutes of a stream are still open; None
    where nothing was received."""
    if "quality_1m_current" not in scope.warehouse.names():
        return None
    result = scope.warehouse.answer(_FRESHNESS, dialect_of(scope), bounds=scope.bounds())
    found = result.frame().row(0, named=True)
    return {name: plain(value) for name, value in found.items()} if found["received_until"] else None


def _taken(result: Result, limit: int, most: int) -> tuple[list[str], list[str], list[bytes], bool]:
    """(columns, their types, rows as JSON, whether there are more rows)"""
    rows, size, kinds = list[bytes](), 0, [""] * len(result.columns)
    with ExitStack() as ended:
        if close := getattr(result.batches, "close", None):  # of a generator: it stops the question
            ended.callback(close)
        for batch in result.batches:
            kinds = [_kind(dtype) for dtype in batch.dtypes]
            for row in batch.iter_rows():
                line = encoder.encode([plain(value) for value in row])
                size += len(line) + 1
                if len(rows) == limit or size > most:
                    return result.columns, kinds, rows, True
                rows.append(line)
    return result.columns, kinds, rows, False


_KINDS = ((pl.Datetime, "TIMESTAMP"), (pl.Date, "DATE"), (pl.Decimal, "NUMERIC"), (pl.Boolean, "BOOL"))


def _kind(dtype: pl.DataType) -> str:
    """A type of Polars as BigQuery names it."""
    if isinstance(dtype, pl.Decimal) and not dtype.scale:  # a sum of whole numbers
        return "INT64"
    for each, name in _KINDS:
        if dtype == each:
            return name
    return "INT64" if dtype.is_integer() else "FLOAT64" if dtype.is_float() else "STRING"
