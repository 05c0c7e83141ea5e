"""Map: decoded records to the fields of the event contract, as a mapping says (transforms/mapping_spec.py).

A path is read from all records by one comprehension; the functions, maps and casts are Polars' (see
transforms/mapping_functions.py). A key that is read is taken out of its record: what is left is `extra`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import polars as pl

from transforms.block import ORIGIN, PARSED_SCHEMA, REJECTED_SCHEMA, TIME, empty, hash128
from transforms.mapping_functions import (
    Column,
    Failure,
    apply,
    cast,
    coalesce,
    column_of,
    concat,
    hashed,
    texts_of,
    to_time,
    translate,
)
from transforms.mapping_spec import (
    TIMES,
    TYPES,
    Field,
    Mapping,
    Part,
    load_mapping,
    required_columns,
    text_of,
)
from transforms.paths import Path, parse_path, read, remove, take, without
from transforms.records import encode_json, errors_json
from transforms.stage import rejections
from transforms.times import RFC3339

__all__ = ["Mapping", "load_mapping", "map_records", "required_columns"]


class Plan(NamedTuple):
    """What a mapping asks of each block, worked out once."""

    fields: tuple[tuple[str, Field], ...]
    identity: tuple[Path, ...]  # read first: a record without an id is hashed while it is whole
    shared: tuple[Path, ...]  # read, then removed if they are keys only
    taken: tuple[Path, ...]  # keys at the top that nothing else reads: read and removed in one
    properties: tuple[str, ...]
    transport: tuple[Path, ...]  # no part of a derived id


@lru_cache(maxsize=64)
def plan_of(mapping: Mapping) -> Plan:
    """The plan of a mapping."""
    fields = tuple(mapping.stated())
    read_by = {name: {parse_path(path) for path in field.paths()} for name, field in fields}
    paths = tuple(dict.fromkeys(parse_path(path) for _, field in fields for path in field.paths()))
    properties = tuple(str(parse_path(path)[0]) for path in mapping.properties)
    identity = tuple(path for path in paths if path in read_by.get("event_id", ()))
    heads = [path[0] for path in paths] + list(properties)
    alone = [path for path in paths if len(path) == 1 and heads.count(path[0]) == 1]
    taken = tuple(path for path in alone if path not in identity)
    # A path that tells another field too is what happened, not how it travelled.
    said = {path for name, read_paths in read_by.items() if name not in TIMES[1:] for path in read_paths}
    travelled = set().union(*(read_by.get(name, ()) for name in TIMES[1:])) - said
    return Plan(
        fields,
        identity,
        tuple(path for path in paths if path not in taken and path not in identity),
        taken,
        properties,
        (*map(parse_path, mapping.transport), *(path for path in paths if path in travelled)),
    )


def map_records(
    records: list[dict[str, Any]], raw: pl.DataFrame, mapping: Mapping
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(PARSED_SCHEMA, REJECTED_SCHEMA of the stage `map`) of decoded records.

    records   one a row of `raw`, in its order; what is read is taken out of them: they are spent afterwards
    raw       RECORD_SCHEMA; a received_time in it wins over one that the mapping reads
    """
    plan, height = plan_of(mapping), len(records)
    columns = {path: column_of(read(records, path)) for path in plan.identity}
    derived = _derived_ids(records, columns, mapping, plan)
    properties = _properties(records, plan)
    columns |= {path: column_of(read(records, path)) for path in plan.shared}
    columns |= {path: column_of(take(records, str(path[0]))) for path in plan.taken}
    _remove_read(records, plan)
    data, wrong = _fields(columns, height, mapping, plan)
    block = raw.select(
        *ORIGIN,
        pl.coalesce("received_time", data.pop("received_time")),
        clock=pl.lit(mapping.clock),
        source=pl.lit(mapping.source),
        source_format=pl.lit(f"mapped:{mapping.source}"),
    ).with_columns(properties=properties, extra=_json(records), **data)
    absent = {name: pl.lit(None, dtype) for name, dtype in PARSED_SCHEMA.items() if name not in block.columns}
    block = block.with_columns(**absent).with_columns(
        id_source=pl.when(pl.col("event_id").is_null()).then(pl.lit("derived")).otherwise(pl.lit("client")),
        event_id=pl.col("event_id") if derived is None else pl.coalesce("event_id", derived),
    )
    return _sift(block.select(list(PARSED_SCHEMA)), wrong)


def _derived_ids(records, columns: dict[Path, Column], mapping: Mapping, plan: Plan) -> pl.Series | None:
    """String: an id from the record's content where it states none; None if all state one."""
    field = mapping.field("event_id")
    stated = None if field is None else _evaluate("event_id", field, columns, len(records), mapping)[0]
    if stated is not None and not stated.null_count():
        return None
    source = mapping.source.encode()
    lacking = [True] * len(records) if stated is None else stated.is_null().to_list()
    ids = [
        "derived:" + hash128((source, encode_json(without(record, plan.transport)))) if lacks else None
        for record, lacks in zip(records, lacking, strict=True)
    ]
    return pl.Series(ids, dtype=pl.String)


def _properties(records: list[dict[str, Any]], plan: Plan) -> pl.Series:
    if not plan.properties:
        return pl.Series([None] * len(records), dtype=pl.String)
    return _json([{key: record[key] for key in plan.properties if key in record} for record in records])


def _remove_read(records: list[dict[str, Any]], plan: Plan) -> None:
    for path in (*plan.identity, *plan.shared, *((key,) for key in plan.properties)):
        if not any(isinstance(step, int) for step in path):
            remove(records, path)


def _json(objects: list[dict[str, Any]]) -> pl.Series:
    """String: each object as JSON, its keys in order; null for one without any."""
    encoded = [encode_json(at) if at else None for at in objects]
    return pl.Series(encoded, dtype=pl.Binary).cast(pl.String)


def _fields(
    columns: dict[Path, Column], height: int, mapping: Mapping, plan: Plan
) -> tuple[dict[str, pl.Series], list[tuple[str, Failure]]]:
    """Columns of PARSED_SCHEMA: the stated fields and all times; and what failed, each with its field."""
    nothing = pl.Series([None] * height, dtype=TIME)
    data = {"client_time": nothing, "sent_time": nothing, "received_time": nothing}
    data["client_time_given"] = pl.repeat(False, height, eager=True)
    wrong: list[tuple[str, Failure]] = []
    for name, field in plan.fields:
        if name in TIMES:
            values = _value_of(field, columns, height).values
            data["client_time" if name == "event_time" else name] = to_time(values, field.time or RFC3339)
            if name == "event_time":
                data["client_time_given"] = values.is_not_null()
        else:
            data[name], failures = _evaluate(name, field, columns, height, mapping)
            wrong += [(name, failure) for failure in failures]
    return data, wrong


def _evaluate(name, field: Field, columns, height: int, mapping: Mapping) -> tuple[pl.Series, list[Failure]]:
    """A field's values in its dtype, and what failed: once a row at most, never if `on_error` is null."""
    values, failures = cast(_value_of(field, columns, height), TYPES[name])
    if not failures:
        return values, []
    seen, first = pl.repeat(False, height, eager=True), []
    for failure in failures:
        first.append(failure._replace(rows=failure.rows & ~seen))
        seen = seen | failure.rows
    if not mapping.quarantines(field):
        return values.set(seen, None), []
    read_from = f"read from {', '.join(field.paths())}: " if any(field.paths()) else ""
    found = [failure for failure in first if failure.rows.any()]
    return values, [failure._replace(message=read_from + failure.message) for failure in found]


def _value_of(part: Part, columns: dict[Path, Column], height: int) -> Column:
    """The column of a part or a field, before the cast."""
    if part.path is not None:
        column = columns[parse_path(part.path)]
    elif part.const is not None:
        column = Column(pl.repeat(text_of(part.const), height, dtype=pl.String, eager=True))
    else:
        column = _combined(part, [_value_of(inner, columns, height) for inner in part.parts()])
    column = apply(column, part.functions)
    return _mapped(part, column) if isinstance(part, Field) else column


def _combined(part: Part, columns: Sequence[Column]) -> Column:
    assert isinstance(part, Field)
    if part.coalesce:
        return coalesce(columns)
    return concat(columns) if part.concat else hashed(columns)


def _mapped(field: Field, column: Column) -> Column:
    if field.map is not None:
        otherwise = field.default if field.otherwise is None else field.otherwise
        table = {key: text_of(value) for key, value in field.map.items()}
        column = translate(column, table, None if otherwise is None else text_of(otherwise))
    if field.default is None or not column.values.null_count():
        return column
    return Column(texts_of(column.values).fill_null(text_of(field.default)), column.failures)


def _sift(block: pl.DataFrame, wrong: list[tuple[str, Failure]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows of which nothing failed, the others): the first failure gives the code, `errors` lists all."""
    if not wrong:
        return block, empty(REJECTED_SCHEMA)
    marks = [pl.col(f"_{at}") for at in range(len(wrong))]
    marked = block.with_columns(failure.rows.alias(f"_{at}") for at, (_, failure) in enumerate(wrong))
    bad = marked.filter(pl.any_horizontal(marks))
    codes, errors = [], []
    for mark, (name, failure) in zip(marks, wrong, strict=True):
        codes.append(pl.when(mark).then(pl.lit(failure.code)))
        error = errors_json(f"$.{name}", failure.code, failure.message)[1:-1]
        errors.append(pl.when(mark).then(pl.lit(error)))
    listed = pl.concat_str(pl.lit("["), pl.concat_str(errors, separator=",", ignore_nulls=True), pl.lit("]"))
    passed = marked.filter(~pl.any_horizontal(marks)).select(block.columns)
    return passed, rejections(bad, "map", pl.coalesce(codes), listed)
