"""Traces: values that a field read and did not keep stay in `extra`, at the path that they were read from.

A map's `else` or `default` replaces a value, `on_error: null` drops one, an event time that cannot be read is null, and
one that is finer than a microsecond loses digits: of such a record the values that the field reads are in `extra` too:
the text of each, or its object or list.

Of a `coalesce` or of `cases`, each part leaves its value where it says something and is not what was chosen; also a
text such as N/A that a coalesce passes over. These leave no trace: what is empty, what a function `absent` names, what
equals the chosen value, what another field or `properties` has as a whole, what a `hash` reads, and the times of how
an event travelled: `extra` is part of what a second delivery is compared by.
"""

from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any

import msgspec
import polars as pl

from transforms.json_objects import encode_json
from transforms.mapping.fields import Field, Part, ZoneField
from transforms.mapping.functions import texts_of
from transforms.mapping.values import Columns
from transforms.records.paths import Path, parse_path, prune

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
Trace = tuple[Sequence[str], pl.Series]  # paths, and the rows (Boolean) whose values were not kept


def keep_traces(
    extra: pl.Series,
    columns: Columns,
    traces: Sequence[Trace],
    discarded: Sequence[Path] = (),
    properties: Collection[str] = (),
) -> pl.Series:
    """Return `extra` (JSON, String) with the values that fields read and did not keep.

    Not those discarded, nor those of keys that the column `properties` has.
    """
    lost: dict[int, list[Path]] = {}
    for read_from, marked in traces:
        # A list of which elements are read is in `extra` as a whole.
        paths = [
            path
            for path in map(parse_path, read_from)
            if all(type(step) is str for step in path) and path[0] not in properties
        ]
        for row in marked.arg_true().to_list():
            lost.setdefault(row, []).extend(paths)
    if not lost:
        return extra
    rows, made = list(lost), []
    read = {path: _values(columns, path, rows) for path in set(chain.from_iterable(lost.values()))}
    for at, text in enumerate(extra[rows].to_list()):
        record: dict[str, Any] = _decode(text) if text else {}
        for path in sorted(dict.fromkeys(lost[rows[at]]), key=len):  # an object before what is in it
            if read[path][at] is not None:
                _put(record, path, read[path][at])
        record = prune(record, discarded)
        made.append(encode_json(record).decode() if record else None)
    return extra.scatter(rows, pl.Series(made, dtype=pl.String))


def kept_elsewhere(fields: Collection[Field]) -> set[str]:
    """The paths that leave no trace where they are not chosen: another field has the value, or its hash."""
    return {path for field in fields if field.path is not None or field.hash is not None for path in field.spent()}


def open_paths(part: Part) -> Iterator[str]:
    """Yield the paths that a part reads, but for those of a hash."""
    if isinstance(part, Field) and part.hash is not None:
        return
    if part.path is not None:
        yield part.path
    if isinstance(part, Field) and isinstance(part.time_zone, ZoneField):
        yield part.time_zone.path
    for inner in part.parts():
        yield from open_paths(inner)


def _values(columns: Columns, path: Path, rows: list[int]) -> list[Any]:
    column = columns[path]
    values: list[Any] = texts_of(column.values[rows]).to_list()
    for failure in column.failures:  # an object or a list, which is here as its JSON
        nested = failure.rows[rows].to_list()
        values = [_decode(at) if is_nested else at for at, is_nested in zip(values, nested, strict=True)]
    return values


def _put(record: dict[Any, Any], path: Path, value: Any) -> None:
    *parents, last = path
    for key in parents:
        inner = record.setdefault(key, {})
        if type(inner) is not dict:
            return  # the record has something else there, which is kept as it is
        record = inner
    record.setdefault(last, value)
