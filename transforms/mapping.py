"""Map decoded records to the fields of the event contract, by a mapping (transforms/mapping_spec.py).

There are two steps. `gather` reads the records, a few thousand at a time while they are in the processor's cache: the
values at each path as a column, the derived ids, and the rest as `extra`. `settle` converts a whole block of such
columns to events, with functions, maps and casts in Polars (transforms/mapping_functions.py).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import polars as pl

from transforms.block import ORIGIN, PARSED_SCHEMA, REJECTED_SCHEMA, TIME, empty, hash128
from transforms.mapping_fields import TIMES, TYPES, Field, Part
from transforms.mapping_functions import (
    Column,
    Failure,
    apply,
    cast,
    coalesce,
    column_of,
    concat,
    concatenate,
    hash_texts,
    product,
    texts_of,
    to_time,
    translate,
)
from transforms.mapping_spec import Event, Mapping, load_mapping, required_columns
from transforms.match import holds, text_of
from transforms.paths import Path, Table, parse_path, prune, read, remove_at
from transforms.records import Refused, encode_json, errors_json, read_slices, refuse
from transforms.stage import rejections
from transforms.times import RFC3339

__all__ = ["Mapping", "load_mapping", "map_block", "map_records", "required_columns"]

Record = dict[str, Any]
Columns = dict[Path, Column]
Mapped = tuple[pl.DataFrame, pl.DataFrame]  # a PARSED_SCHEMA block, a REJECTED_SCHEMA block
Slices = Iterable[tuple[Sequence[Record], list[int]]]  # records, and the rows of the raw block that they are


class Plan(NamedTuple):
    """What a rule reads from each record, computed once."""

    event: Event
    paths: tuple[Path, ...]  # read, or looked at by a match
    taken: frozenset  # keys at the top of which nothing is left for `extra`
    trimmed: tuple[Path, ...]  # paths of keys below others that are
    identity: tuple[Path, ...]  # those of the event_id
    properties: tuple[str, ...]
    transport: tuple[Path, ...]  # no part of a derived id


def plans_of(mapping: Mapping) -> tuple[Plan, ...]:
    """The plan of each rule of a mapping."""
    return _plans(mapping, tuple(mapping.events or ()))  # mappings are equal whatever the order of their rules


@lru_cache(maxsize=64)
def _plans(mapping: Mapping, order: tuple[str, ...]) -> tuple[Plan, ...]:
    return tuple(_plan(mapping, event) for event in mapping.rules())


def _plan(mapping: Mapping, event: Event) -> Plan:
    read_by = {name: {parse_path(path) for path in field.paths()} for name, field in event.fields.items()}
    paths = tuple(dict.fromkeys(parse_path(path) for field in event.fields.values() for path in field.paths()))
    looked = tuple(parse_path(path) for field in event.fields.values() for path in field.looks())
    properties = tuple(str(parse_path(path)[0]) for path in mapping.properties)
    spent = [path for path in paths if not any(isinstance(step, int) for step in path)]
    taken = frozenset([path[0] for path in spent if len(path) == 1] + list(properties))
    # A path that tells another field too is what happened, not how it travelled.
    said = {path for name, read_paths in read_by.items() if name not in TIMES[1:] for path in read_paths}
    travelled = set().union(*(read_by.get(name, ()) for name in TIMES[1:])) - said
    return Plan(
        event,
        tuple(dict.fromkeys(paths + looked)),
        taken,
        tuple(path for path in spent if len(path) > 1 and path[0] not in taken),
        tuple(path for path in paths if path in read_by.get("event_id", ())),
        properties,
        (*map(parse_path, mapping.transport), *(path for path in paths if path in travelled)),
    )


class Gathered(NamedTuple):
    """What a rule reads from records: columns of the same height."""

    columns: Columns
    derived: pl.Series  # String: an id from what the record says; null where it states one
    properties: pl.Series
    extra: pl.Series


def map_block(raw: pl.DataFrame, mapping: Mapping) -> Iterator[Mapped]:
    """Yield the result of a mapping for a RECORD_SCHEMA block, in at least one part."""
    refused: Refused = []
    parts = _map(read_slices(raw, refused), raw, mapping)
    parsed, unmapped = next(parts)
    for part in parts:
        yield parsed, unmapped
        parsed, unmapped = part
    unreadable = refuse(raw.with_columns(source=pl.lit(mapping.source)), refused, f"mapped:{mapping.source}")
    yield parsed, pl.concat([unreadable, unmapped])


def map_records(records: list[Record], raw: pl.DataFrame, mapping: Mapping) -> Mapped:
    """(PARSED_SCHEMA, REJECTED_SCHEMA of the stage `map`) of decoded records.

    records   one a row of `raw`, in its order; they are left as they are
    raw       RECORD_SCHEMA; a received_time in it wins over one that the mapping reads
    """
    parsed, rejected = zip(*_map([(records, list(range(len(records))))], raw, mapping), strict=True)
    return pl.concat(parsed), pl.concat(rejected)


def _map(slices: Slices, raw: pl.DataFrame, mapping: Mapping) -> Iterator[Mapped]:
    if not mapping.plain:
        from transforms.mapping_items import map_items

        yield from map_items(slices, raw, mapping)
        return
    (plan,) = plans_of(mapping)
    parts, kept = [gather([], mapping, plan, [])], []
    places = places_of(raw) if mapping.derived_id == "position" else None
    for records, rows in slices:
        parts.append(gather(records, mapping, plan, None if places is None else [(places[row],) for row in rows]))
        kept += rows
    yield settle(join(parts), raw if len(kept) == len(raw) else raw[kept], mapping, plan)


def places_of(raw: pl.DataFrame) -> list[bytes]:
    """The position of each record without the folders of its file."""
    return [(position or "").rpartition("/")[2].encode() for position in raw["position"].to_list()]


def gather(
    records: Sequence[Record], mapping: Mapping, plan: Plan, places: Sequence[tuple[bytes, ...]] | None = None
) -> Gathered:
    """Read the records without changing them; `places` go into the derived ids."""
    columns = {path: column_of(read(records, path)) for path in plan.paths}
    derived = _derived_ids(records, columns, mapping, plan, places)
    return Gathered(columns, derived, _properties(records, plan), _extra(records, plan))


def join(parts: Sequence[Gathered]) -> Gathered:
    """Concatenate the parts."""
    columns = {path: concatenate([part.columns[path] for part in parts]) for path in parts[0].columns}
    return Gathered(
        columns,
        pl.concat([part.derived for part in parts]),
        pl.concat([part.properties for part in parts]),
        pl.concat([part.extra for part in parts]),
    )


def _derived_ids(records, columns: Columns, mapping: Mapping, plan: Plan, places) -> pl.Series:
    """String: an id from the record's content where it states none."""
    field = plan.event.fields.get("event_id")
    lacking: Iterable[bool] = [True] * len(records)
    if field is not None:
        stated = _evaluate("event_id", field, columns, len(records), mapping)[0]
        if not stated.null_count():
            return pl.Series([None] * len(records), dtype=pl.String)
        lacking = stated.is_null().to_list()
    source, here = mapping.source.encode(), places or [()] * len(records)
    ids = [
        "derived:" + hash128((source, encode_json(remove_at(record, plan.transport)), *place)) if lacks else None
        for record, lacks, place in zip(records, lacking, here, strict=True)
    ]
    return pl.Series(ids, dtype=pl.String)


def _properties(records: Sequence[Record], plan: Plan) -> pl.Series:
    if not plan.properties:
        return pl.Series([None] * len(records), dtype=pl.String)
    return _json([{key: record[key] for key in plan.properties if key in record} for record in records])


def _extra(records: Sequence[Record], plan: Plan) -> pl.Series:
    """Return everything that no path reads."""
    taken = plan.taken
    if isinstance(records, Table):
        return _json(records.but(taken))
    if not plan.trimmed:
        left = [
            None if record.keys() <= taken else {key: record[key] for key in record if key not in taken}
            for record in records
        ]
        return _json(left)
    return _json([prune({key: at[key] for key in at if key not in taken}, plan.trimmed) for at in records])


def _json(objects: Iterable[Record | None]) -> pl.Series:
    """String: each object as JSON, its keys in order; null for one without any."""
    encoded = [encode_json(at) if at else None for at in objects]
    return pl.Series(encoded, dtype=pl.Binary).cast(pl.String)


def settle(
    gathered: Gathered, raw: pl.DataFrame, mapping: Mapping, plan: Plan, further: pl.Series | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(PARSED_SCHEMA block, rejected) of what was gathered; row n of `raw` is where row n of it came from.

    raw       RECORD_SCHEMA; a column `_at` in it stays beside what passes
    further   Boolean: where an earlier rule made an event of the same item, which has the id without a suffix
    """
    columns, derived, properties, extra = gathered
    height, event = len(derived), plan.event
    data, wrong = _fields(columns, height, mapping, event)
    block = raw.select(
        *ORIGIN,
        pl.coalesce("received_time", data.pop("received_time")),
        clock=pl.lit(mapping.clock),
        source=pl.lit(mapping.source),
        source_format=pl.lit(f"mapped:{mapping.source}"),
    ).with_columns(properties=properties, extra=extra, **data)
    absent = {name: pl.lit(None, dtype) for name, dtype in PARSED_SCHEMA.items() if name not in block.columns}
    id = pl.coalesce("event_id", derived)
    if further is not None and further.any():
        shared = further & block["event_id"].is_null() if event.own_id and "event_id" in data else further
        id = pl.when(shared).then(pl.concat_str(id, pl.lit(f"/{event.name}"))).otherwise(id)
    block = block.with_columns(**absent).with_columns(
        id_source=pl.when(pl.col("event_id").is_null()).then(pl.lit("derived")).otherwise(pl.lit("client")),
        event_id=id,
    )
    order = [raw["_at"]] if "_at" in raw.columns else []
    return _split_failures(block.select(*PARSED_SCHEMA, *order), wrong)


def _fields(
    columns: Columns, height: int, mapping: Mapping, event: Event
) -> tuple[dict[str, pl.Series], list[tuple[str, Failure]]]:
    """Columns of PARSED_SCHEMA: the stated fields and all times; and what failed, each with its field."""
    nothing = pl.Series([None] * height, dtype=TIME)
    data = {"client_time": nothing, "sent_time": nothing, "received_time": nothing}
    data["client_time_given"] = pl.repeat(False, height, eager=True)
    wrong: list[tuple[str, Failure]] = []
    for name, field in event.fields.items():
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


def _value_of(part: Part, columns: Columns, height: int) -> Column:
    """The column of a part or a field, before the cast."""
    if part.path is not None:
        column = columns[parse_path(part.path)]
    elif part.const is not None:
        column = Column(pl.repeat(text_of(part.const), height, dtype=pl.String, eager=True))
    elif isinstance(part, Field) and part.match is not None:
        column = Column(holds(part.match, lambda path: columns[parse_path(path)].values))
    else:
        column = _combined(part, [_value_of(inner, columns, height) for inner in part.parts()])
    column = apply(column, part.functions)
    return _mapped(part, column) if isinstance(part, Field) else column


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
    return Column(texts_of(column.values).fill_null(text_of(field.default)), column.failures)


def _split_failures(block: pl.DataFrame, wrong: list[tuple[str, Failure]]) -> tuple[pl.DataFrame, pl.DataFrame]:
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
