"""What BigQuery refuses of rows that are written: by insertAll as JSON, by AppendRows as Arrow.

Refused are a missing REQUIRED field, an unknown field, a value of another type, text that is no JSON in a JSON column,
and a row whose day of partition is more than 10 years old or more than one year ahead.
"""

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from bqemulator.catalog.models import TableFieldSchema, TableMeta
from google.cloud.bigquery_storage_v1 import types

REMEMBERED = 60  # seconds for which an insertId is known
ERRORS_TOLD = 4  # of one AppendRows request
OLDEST, NEWEST = timedelta(days=3650), timedelta(days=365)


class Refused(Exception):
    """(path of the field, message)"""


class Seen:
    """The insertIds of each table, for a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._lock = clock, threading.Lock()
        self._ids: dict[tuple, dict[str, float]] = {}

    def first(self, table: tuple, rows: list[dict]) -> list[dict]:
        """The rows whose insertId was not seen."""
        now = self._clock()
        with self._lock:
            ids = {id: at for id, at in self._ids.get(table, {}).items() if now - at < REMEMBERED}
            kept = []
            for row in rows:
                id = row.get("insertId")
                if id is None or id not in ids:
                    kept.append(row)
                if id is not None:
                    ids[id] = now
            self._ids[table] = ids
        return kept


def checked(meta: TableMeta, body: dict) -> tuple[list[dict], list[dict]]:
    """(rows to write, insertErrors) of an insertAll request: without skipInvalidRows one bad row stops the others."""
    good, errors = [], []
    for index, row in enumerate(body.get("rows", [])):
        try:
            values = record(meta.schema_.fields, row.get("json") or {}, "", body.get("ignoreUnknownValues", False))
            _in_partitions(meta, values)
            good.append((index, {**row, "json": values}))
        except Refused as refusal:
            path, message = refusal.args
            errors.append(_insert_error(index, "invalid", path, message))
    if errors and not body.get("skipInvalidRows", False):
        errors += [_insert_error(index, "stopped", "", "") for index, _ in good]
        good = []
    return [row for _, row in good], sorted(errors, key=lambda error: error["index"])


def _insert_error(index: int, reason: str, path: str, message: str) -> dict:
    error = {"reason": reason, "location": path, "debugInfo": "", "message": message}
    return {"index": index, "errors": [error]}


def record(fields: tuple[TableFieldSchema, ...], row: dict, prefix: str, ignore_unknown: bool) -> dict:
    """The fields of a row or of a RECORD, in the names and forms that the emulator takes."""
    known = {field.name.lower(): field for field in fields}
    values: dict = {}
    for name, value in row.items():
        field = known.get(name.lower())
        if field is None:
            if not ignore_unknown:
                raise Refused(prefix + name, f"no such field: {prefix + name}.")
        elif field.mode == "REPEATED":
            if not isinstance(value, list | None):
                raise Refused(prefix + name, "Array expected for repeated field.")
            values[field.name] = [_value(field, each, prefix + name, ignore_unknown) for each in value or []]
        elif isinstance(value, list) and field.type != "JSON":
            raise Refused(prefix + name, "Array specified for non-repeated field.")
        elif value is not None:
            values[field.name] = _value(field, value, prefix + name, ignore_unknown)
    for field in fields:
        if field.mode == "REQUIRED" and values.get(field.name) is None:
            raise Refused(prefix + field.name, f"Missing required field: {prefix + field.name}.")
    return values


def _value(field: TableFieldSchema, value: Any, path: str, ignore_unknown: bool) -> Any:
    if field.fields:
        if not isinstance(value, dict):
            raise Refused(path, "This field is not a record.")
        return record(field.fields, value, path + ".", ignore_unknown)
    try:
        return READ.get(field.type.upper(), _text)(value)
    except (ValueError, TypeError, KeyError, InvalidOperation, binascii.Error, OverflowError):
        name = NAMES.get(field.type.upper(), field.type.lower())
        raise Refused(path, f"Cannot convert value to {name} (bad value): {value}") from None


def _text(value: Any) -> Any:
    if isinstance(value, dict | list):
        raise TypeError
    return value


def _integer(value: Any) -> Any:
    number = Decimal(str(value))
    if isinstance(value, bool) or number != int(number) or not -(2**63) <= number < 2**63:
        raise ValueError
    return int(number)


def _boolean(value: Any) -> Any:
    return {"true": True, "false": False, "t": True, "f": False, "1": True, "0": False}[str(value).lower()]


def _timestamp(value: Any) -> Any:
    if not isinstance(value, int | float):
        datetime.fromisoformat(str(value).strip().replace(" UTC", "+00:00"))
    return value


def _date(value: Any) -> Any:
    date.fromisoformat(value)
    return value


def _number(value: Any) -> Any:
    if abs(Decimal(str(value))) >= Decimal(10) ** 29:
        raise ValueError
    return value


def _float(value: Any) -> Any:
    float(value)
    return value


def _bytes(value: Any) -> Any:
    base64.b64decode(value, validate=True)
    return value


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        return json.dumps(value)
    json.loads(value)
    return value


READ: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("INT64", "INTEGER"), _integer),
    **dict.fromkeys(("FLOAT64", "FLOAT"), _float),
    **dict.fromkeys(("BOOL", "BOOLEAN"), _boolean),
    **dict.fromkeys(("NUMERIC", "BIGNUMERIC"), _number),
    "TIMESTAMP": _timestamp,
    "DATE": _date,
    "BYTES": _bytes,
    "JSON": _json,
}
NAMES = {"INT64": "integer", "FLOAT64": "double", "FLOAT": "double", "BOOL": "boolean"}


def _in_partitions(meta: TableMeta, values: dict) -> None:
    name = meta.time_partitioning.field if meta.time_partitioning else None
    value = values.get(name) if name else None
    if not isinstance(value, str):
        return
    when = datetime.fromisoformat(value.strip().replace(" UTC", "+00:00"))
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    if not _oldest() <= when <= _newest():
        raise Refused("", "The destination table's partition is outside the allowed bounds.")


def _oldest() -> datetime:
    return datetime.now(UTC) - OLDEST


def _newest() -> datetime:
    return datetime.now(UTC) + NEWEST


def refused_batch(meta: TableMeta | None, rows: pa.Table) -> list[tuple[int, str]]:
    """[(index, message)] of the rows of an AppendRows request that BigQuery refuses, in order."""
    if meta is None or not rows.num_rows:
        return []
    found: dict[int, str] = {}
    for field in meta.schema_.fields:
        column = rows.column(field.name).combine_chunks()
        if field.mode == "REQUIRED":
            for index in _where(column.is_null()):
                found.setdefault(index, f"Field {field.name} is required but is missing or NULL")
        if field.type.upper() == "JSON":
            for index, text in enumerate(column.to_pylist()):
                if text is not None and not _is_json(text):
                    found.setdefault(index, f"Invalid JSON value for field {field.name}")
    name = meta.time_partitioning.field if meta.time_partitioning else None
    if name:
        column = rows.column(name).combine_chunks().cast(pa.timestamp("us", "UTC"))
        outside = pc.or_(pc.less(column, pa.scalar(_oldest())), pc.greater(column, pa.scalar(_newest())))
        for index in _where(pc.fill_null(outside, False)):
            found.setdefault(index, f"The value of partitioning field {name} is outside the allowed bounds")
    return sorted(found.items())


def _where(mask: pa.Array) -> list[int]:
    return pc.indices_nonzero(mask).to_pylist()


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def append_refused(stream: str, errors: list[tuple[int, str]]) -> bytes:
    """The answer to an AppendRows request of which rows were refused: nothing is written. It names some of them, since
    BigQuery promises nowhere to name all."""
    some = errors[:ERRORS_TOLD]
    rows = [types.RowError(index=index, code="FIELDS_ERROR", message=message) for index, message in some]
    message = f"Errors found while processing rows. Please refer to the row_errors field for details. Entity: {stream}"
    answer = types.AppendRowsResponse(
        error={"code": 3, "message": message},
        row_errors=rows,
        write_stream=stream,
    )
    return types.AppendRowsResponse.serialize(answer)
