"""The values of a field: its paths, constants, matches and functions over columns, cast to its dtype."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import polars as pl

from transforms.mapping.fields import TYPES, Field, Part, ZoneField
from transforms.mapping.functions import (
    Column,
    Failure,
    apply,
    cast,
    coalesce,
    concat,
    constant,
    hash_texts,
    product,
    texts_of,
    translate,
)
from transforms.mapping.spec import Mapping
from transforms.records.match import holds, text_of
from transforms.records.paths import Path, parse_path

Record = dict[str, Any]
Columns = dict[Path, Column]


class Evaluated(NamedTuple):
    """A field's values in its dtype; what failed, once a row at most; the rows (Boolean) whose value was not kept."""

    values: pl.Series
    failures: Sequence[Failure] = ()
    lost: pl.Series | None = None


def evaluate(name, field: Field, columns, height: int, mapping: Mapping) -> Evaluated:
    """A field's values; nothing fails if `on_error` is null."""
    read = value_of(field, columns, height)
    values, failures, _ = cast(read, TYPES[name])
    if not failures:
        return Evaluated(values, (), read.replaced)
    seen, first = pl.repeat(False, height, eager=True), []
    for failure in failures:
        first.append(failure._replace(rows=failure.rows & ~seen))
        seen = seen | failure.rows
    if not mapping.quarantines(field):
        return Evaluated(values.set(seen, None), (), seen if read.replaced is None else seen | read.replaced)
    read_from = f"read from {', '.join(field.paths())}: " if any(field.paths()) else ""
    found = [failure for failure in first if failure.rows.any()]
    failed = [failure._replace(message=read_from + failure.message) for failure in found]
    return Evaluated(values, failed, read.replaced)


def value_of(part: Part, columns: Columns, height: int) -> Column:
    """The column of a part or a field, before the cast."""
    if part.path is not None:
        column = columns[parse_path(part.path)]
    elif part.const is not None:
        column = Column(constant(text_of(part.const), pl.String, height))
    elif isinstance(part, Field) and part.match is not None:
        column = Column(holds(part.match, lambda path: columns[parse_path(path)].values))
    else:
        column = _combined(part, [value_of(inner, columns, height) for inner in part.parts()])
    column = apply(column, part.functions)
    return _mapped(part, column) if isinstance(part, Field) else column


def zones_of(zone: str | ZoneField, columns: Columns) -> str | pl.Series:
    """The zone of all times, or of each (String)."""
    if isinstance(zone, str):
        return zone
    texts = texts_of(columns[parse_path(zone.path)].values)
    return texts if zone.default is None else texts.fill_null(zone.default)


def _combined(part: Part, columns: Sequence[Column]) -> Column:
    assert isinstance(part, Field)
    ways: Iterator[tuple[Any, Callable]] = zip(
        (part.coalesce, part.concat, part.hash, part.product), (coalesce, concat, hash_texts, product), strict=True
    )
    return next(combine for stated, combine in ways if stated)(columns)


def _mapped(field: Field, column: Column) -> Column:
    if field.map is not None:
        otherwise = field.default if field.otherwise is None else field.otherwise
        table = {key: text_of(value) for key, value in field.map.items()}
        column = translate(column, table, None if otherwise is None else text_of(otherwise))
    if field.default is None or not column.values.null_count():
        return column
    return column._replace(values=texts_of(column.values).fill_null(text_of(field.default)))
