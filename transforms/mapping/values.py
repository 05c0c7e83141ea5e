"""The values of a field: its paths, constants, matches and functions over columns, cast to its dtype."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import polars as pl

from transforms.mapping.arithmetic import difference, product, quotient, to_major_units, total
from transforms.mapping.calls import apply
from transforms.mapping.fields import TYPES, Choice, Field, Part, ZoneField
from transforms.mapping.functions import (
    Column,
    Failure,
    cast,
    coalesce,
    concat,
    constant,
    hash_texts,
    texts_of,
    translate,
    trim,
)
from transforms.mapping.spec import Mapping
from transforms.mapping.texts import without_null_like
from transforms.records.match import Match, holds, text_of
from transforms.records.paths import Path, parse_path

Record = dict[str, Any]
Columns = dict[Path, Column]


class Evaluated(NamedTuple):
    """A field's values in its dtype; what failed, once a row at most; what was not kept.

    lost     the rows (Boolean) whose value was not
    passed   as of a Column
    """

    values: pl.Series
    failures: Sequence[Failure] = ()
    lost: pl.Series | None = None
    passed: tuple[tuple[str, pl.Series], ...] = ()


def evaluate(name, field: Field, columns, height: int, mapping: Mapping) -> Evaluated:
    """A field's values; nothing fails if `on_error` is null."""
    read = value_of(field, columns, height)
    values, failures, *_ = cast(read, TYPES[name])
    if not failures:
        return Evaluated(values, (), read.replaced, read.passed)
    seen, first = pl.repeat(False, height, eager=True), []
    for failure in failures:
        first.append(failure._replace(rows=failure.rows & ~seen))
        seen = seen | failure.rows
    if not mapping.quarantines(field):
        lost = seen if read.replaced is None else seen | read.replaced
        return Evaluated(values.set(seen, None), (), lost, read.passed)
    read_from = f"read from {', '.join(field.paths())}: " if any(field.paths()) else ""
    found = [failure for failure in first if failure.rows.any()]
    failed = [failure._replace(message=read_from + failure.message) for failure in found]
    return Evaluated(values, failed, read.replaced, read.passed)


def value_of(part: Part, columns: Columns, height: int) -> Column:
    """The column of a part or a field, before the cast."""
    if part.path is not None:
        column = columns[parse_path(part.path)]
    elif part.const is not None:
        column = Column(constant(text_of(part.const), pl.String, height))
    elif isinstance(part, Field) and part.match is not None:
        column = Column(_holds(part.match, columns))
    else:
        column = _combined(part, columns, height)
    passed = column.passed
    column = apply(column, part.functions)
    if part.scale is not None:
        column = product([column, Column(constant(text_of(part.scale), pl.String, height))])
    return _finished(part, column, columns, height)._replace(passed=passed) if isinstance(part, Field) else column


def zones_of(zone: str | ZoneField, columns: Columns) -> str | pl.Series:
    """The zone of all times, or of each (String)."""
    if isinstance(zone, str):
        return zone
    texts = texts_of(columns[parse_path(zone.path)].values)
    return texts if zone.default is None else texts.fill_null(zone.default)


def _holds(match: Match, columns: Columns) -> pl.Series:
    return holds(match, lambda path: columns[parse_path(path)].values)


_COMBINE: dict[str, Callable[[Sequence[Column]], Column]] = {
    "concat": concat,
    "hash": hash_texts,
    "sum": total,
    "difference": difference,
    "product": product,
    "quotient": quotient,
}


def _combined(part: Part, columns: Columns, height: int) -> Column:
    assert isinstance(part, Field)
    values = [value_of(inner, columns, height) for inner in part.parts()]
    if part.cases:
        made = _first_that_fits(part.cases, values, columns, height)
        return made._replace(passed=_passed(part.cases, values, made.values))
    if part.coalesce:
        made = coalesce([_saying(inner, at) for inner, at in zip(part.coalesce, values, strict=True)])
        return made._replace(passed=_passed(part.coalesce, values, made.values))
    return next(combine for name, combine in _COMBINE.items() if getattr(part, name))(values)


def _saying(part: Part, column: Column) -> Column:
    """A part of a coalesce: a text of a record that is empty, or null-like, is passed over."""
    if part.path is None or column.values.dtype != pl.String:
        return column
    return column._replace(values=without_null_like(column.values))


def _passed(parts: Sequence[Part], values: Sequence[Column], chosen: pl.Series) -> tuple[tuple[str, pl.Series], ...]:
    """The paths of the parts, and the rows where they say something that is not the chosen value."""
    found = []
    for part, column in zip(parts, values, strict=True):
        if part.path is None or column.values.null_count() == len(chosen):
            continue
        texts = texts_of(column.values)
        differs = texts.ne_missing(chosen)
        if differs.any():
            found.append((part.path, differs & (trim(texts) != "").fill_null(False)))
    return tuple(found)


def _first_that_fits(choices: Sequence[Choice], values: Sequence[Column], columns: Columns, height: int) -> Column:
    """Of each row the value of the first case that fits; null where none does."""
    made = constant(None, pl.String, height)
    failures: tuple[Failure, ...] = ()
    left = constant(True, pl.Boolean, height)
    for choice, column in zip(choices, values, strict=True):
        fits = left if choice.when is None else left & _holds(choice.when, columns)
        made = texts_of(column.values).zip_with(fits, made)
        failures += tuple(failure._replace(rows=failure.rows & fits) for failure in column.failures)
        left = left & ~fits
    return Column(made, failures)


def _finished(field: Field, column: Column, columns: Columns, height: int) -> Column:
    """The value of a field, its unit converted and mapped."""
    if field.minor_units is not None:
        column = to_major_units(column, value_of(field.minor_units, columns, height), field.minor_units.digits)
    return _mapped(field, column)


def _mapped(field: Field, column: Column) -> Column:
    if field.map is not None:
        otherwise = field.default if field.otherwise is None else field.otherwise
        table = {key: text_of(value) for key, value in field.map.items()}
        column = translate(column, table, None if otherwise is None else text_of(otherwise))
    if field.default is None or not column.values.null_count():
        return column
    return column._replace(values=texts_of(column.values).fill_null(text_of(field.default)))
