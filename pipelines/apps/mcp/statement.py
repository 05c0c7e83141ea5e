"""A SELECT from structured arguments: names are columns of the view, values are parameters.

select(view, columns, chosen, filters, order, limit) -> Statement
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from pipelines.warehouse.bounds import Parameter, Scalar
from transforms.errors import OptionError

Value = str | int | float | bool | None
MOST_VALUES = 1_000  # of one `in`
COMPARED = ("=", "!=", "<", "<=", ">", ">=")


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A condition on a column. `in` and `not_in` take a list; `is_null` and `is_not_null` no value; dates are
    YYYY-MM-DD, times ISO 8601 with an offset, or else in the time zone of the warehouse."""

    column: str
    op: Literal["=", "!=", "<", "<=", ">", ">=", "in", "not_in", "is_null", "is_not_null", "contains"]
    value: Value | list[str | int | float | bool] = None


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column to sort by."""

    column: str
    descending: bool = False


class Statement(NamedTuple):
    """SQL that BigQuery and DuckDB share, names quoted by `quote`, and the values of its parameters."""

    sql: str
    parameters: tuple[Parameter, ...] = ()


class Names(NamedTuple):
    """How names are quoted, and the columns that there are with their types; `zone`: of times without an offset."""

    view: str
    columns: Mapping[str, str]
    mark: str
    zone: str

    def quoted(self, name: str) -> str:
        """An identifier; only of a name that is known."""
        return f"{self.mark}{name}{self.mark}"

    def column(self, name: str, place: str) -> str:
        """The quoted name of a column. Errors: OptionError with those there are."""
        if name not in self.columns:
            allowed = ", ".join(self.columns)
            raise OptionError(f"{place}: got {name!r}; allowed: the columns of {self.view}: {allowed}")
        return self.quoted(name)


def select(
    names: Names, chosen: Sequence[str], filters: Sequence[Filter], order: Sequence[Order], limit: int
) -> Statement:
    """The rows of a view. Errors: OptionError for a column that it lacks and for a value that does not fit."""
    listed = ", ".join(names.column(name, "columns") for name in chosen or names.columns)
    conditions, parameters = where(names, filters)
    sql = f"SELECT {listed} FROM {names.quoted(names.view)}{conditions}"
    if order:
        ordered = (f"{names.column(each.column, 'order')}{' DESC' * each.descending}" for each in order)
        sql += f" ORDER BY {', '.join(ordered)}"
    return Statement(f"{sql} LIMIT {limit}", parameters)


def where(names: Names, filters: Sequence[Filter], always: Sequence[str] = ()) -> tuple[str, tuple[Parameter, ...]]:
    """` WHERE ...`, or nothing, and its parameters."""
    parts, parameters = list(always), list[Parameter]()
    for each in filters:
        part, values = _condition(names, each)
        parts.append(part)
        parameters += values
    return f" WHERE {' AND '.join(parts)}" if parts else "", tuple(parameters)


def _condition(names: Names, each: Filter) -> tuple[str, list[Parameter]]:
    column, kind = names.column(each.column, "filters"), names.columns.get(each.column, "")
    if each.op in ("is_null", "is_not_null"):
        if each.value is not None:
            raise OptionError(f"filters: {each.op} of {each.column!r} takes no value; got {each.value!r}")
        return f"{column} {each.op.replace('_', ' ').upper()}", []
    if each.op in ("in", "not_in"):
        if not isinstance(each.value, list) or not 0 < len(each.value) <= MOST_VALUES:
            raise OptionError(f"filters: {each.op} of {each.column!r} takes a list of 1 to {MOST_VALUES} values")
        values = [_parameter(names, each.column, kind, value) for value in each.value]
        return f"{column} {each.op.replace('_', ' ').upper()} ({', '.join('?' * len(values))})", values
    if isinstance(each.value, list) or each.value is None:
        raise OptionError(f"filters: {each.op} of {each.column!r} takes one value; got {each.value!r}")
    if each.op == "contains":
        if kind != "STRING":
            raise OptionError(f"filters: contains of {each.column!r}: it is {kind}; allowed: a column of STRING")
        return f"STRPOS({column}, ?) > 0", [_parameter(names, each.column, kind, each.value)]
    return f"{column} {each.op} ?", [_parameter(names, each.column, kind, each.value)]


_FORMS = {
    "STRING": "a text",
    "JSON": "a text",
    "INT64": "a whole number of 64 bits",
    "FLOAT64": "a number",
    "NUMERIC": "a number, or a text with one",
    "BOOL": "true or false",
    "DATE": "a text YYYY-MM-DD",
    "TIMESTAMP": "a text such as 2026-03-01T10:00:00Z",
}


def _parameter(names: Names, column: str, kind: str, value: Value) -> Parameter:
    try:
        return Parameter("STRING" if kind == "JSON" else kind, _read(kind, value, names.zone))
    except (ValueError, TypeError, InvalidOperation, OverflowError):
        raise OptionError(f"filters: {column!r} is {kind}; got {value!r}; allowed: {_FORMS[kind]}") from None


def _read(kind: str, value: Value, zone: str) -> Scalar:
    is_bool, is_text = isinstance(value, bool), isinstance(value, str)
    if kind == "BOOL" and isinstance(value, bool):
        return value
    if kind in ("STRING", "JSON") and isinstance(value, str):
        value.encode()
        return value
    if kind == "DATE" and isinstance(value, str):
        return date.fromisoformat(value)
    if kind == "TIMESTAMP" and isinstance(value, str):
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))
    if kind == "INT64" and isinstance(value, int) and not is_bool and abs(value) < 2**63:
        return value
    if kind == "FLOAT64" and isinstance(value, int | float) and not is_bool:
        return float(value)
    if kind == "NUMERIC" and not is_bool and (is_text or isinstance(value, int | float)):
        exact = Decimal(str(value))
        if exact.is_finite() and abs(exact) < 10**29 and exact == round(exact, 9):
            return exact
    raise ValueError
