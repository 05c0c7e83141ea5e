"""The columns of an event, and which of them each kind of measure and condition accepts.

Each check raises a ValueError that states what was got and what is allowed; the caller prepends the path.
"""

import re

import polars as pl

from transforms.block import EVENT_SCHEMA, NUMERIC, TIME

PERSON = "person"
COLUMNS = {**EVENT_SCHEMA, PERSON: pl.String}
NUMBERS = (NUMERIC, pl.Int64, pl.Float64)
BIGQUERY = {
    pl.String: "STRING",
    pl.Boolean: "BOOL",
    TIME: "TIMESTAMP",
    NUMERIC: "NUMERIC",
    pl.Int64: "INT64",
    pl.Float64: "FLOAT64",
}
DAY_SECONDS = 86_400

Scalar = str | bool | int | float

# What a field of each kind may be, and how a message calls it.
FIELD_TYPES: dict[str, tuple[tuple, str]] = {
    "sum": (NUMBERS, "a number"),
    "min": ((*NUMBERS, TIME), "a number or a time"),
    "max": ((*NUMBERS, TIME), "a number or a time"),
    "distinct": ((pl.String,), "text"),
    "quantile": (NUMBERS, "a number"),
}
_LITERAL_TYPES: dict = {
    pl.String: ((str,), "a string (quoted, if YAML would read it as another type)"),
    pl.Boolean: ((bool,), "true or false"),
    pl.Int64: ((int,), "a whole number"),
    NUMERIC: ((int, float), "a number"),
    pl.Float64: ((int, float), "a number"),
}


def describe_type(column: str) -> str:
    """Return the name of a column's type for messages."""
    return "JSON" if column in ("properties", "extra") else BIGQUERY[COLUMNS[column]]


def check_column(name: str, place: str) -> None:
    """Raise ValueError unless events have this column; `place` is the key that names it."""
    if name not in COLUMNS:
        raise ValueError(f"{place}: {name!r} is not a column of events; allowed: {', '.join(COLUMNS)}")


def check_field(kind: str, field: str) -> None:
    """Raise ValueError unless a measure of this kind accepts this column."""
    check_column(field, kind)
    types, allowed = FIELD_TYPES[kind]
    if COLUMNS[field] not in types:
        fit = ", ".join(name for name, dtype in COLUMNS.items() if dtype in types)
        raise ValueError(f"{kind}: {field!r} is {describe_type(field)}; allowed: {allowed}: {fit}")


def check_condition(column: str, values: tuple[Scalar, ...]) -> None:
    """Raise ValueError unless the column can be compared with each of the values."""
    check_column(column, "where")
    dtype = COLUMNS[column]
    if dtype not in _LITERAL_TYPES:
        raise ValueError(
            f"where: {column!r} is {describe_type(column)}, which cannot be compared for equality; use another column"
        )
    if not values:
        raise ValueError(f"where: {column!r} has no value; give one, or a list of them")
    types, allowed = _LITERAL_TYPES[dtype]
    for value in values:
        # in Python, but not in a table, true is a whole number
        if not isinstance(value, types) or (isinstance(value, bool) and dtype != pl.Boolean):
            raise ValueError(f"where: {column!r} is {describe_type(column)}, got {value!r}; allowed: {allowed}")
        if dtype == NUMERIC and not abs(value) < 1e29:
            raise ValueError(f"where: {column!r} got {value!r}, which is outside NUMERIC(38,9)")


def check_bucket(bucket: str) -> None:
    """Raise ValueError unless it is a width that divides a day evenly, or 1d."""
    if bucket == "1d":
        return
    width = seconds(bucket) if re.fullmatch("[1-9][0-9]{0,4}[smh]", bucket) else 0
    if not 0 < width < DAY_SECONDS or DAY_SECONDS % width:
        raise ValueError(
            f"bucket: got {bucket!r}; it is <n>s, <n>m or <n>h that divides a day (10s, 1m, 15m, 1h), or 1d"
        )


def seconds(duration: str) -> int:
    """`10s`, `15m`, `1h`, `1d` in seconds."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": DAY_SECONDS}[duration[-1]]
