"""Gather: what the rules of a mapping read of decoded records, as columns: values, derived ids, properties, the rest.

`plans_of` works out once what a rule asks of each record; `gather` reads a few thousand records at a time, while they
are in the processor's cache, and does not change them.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import polars as pl

from transforms.block import hash128
from transforms.json_objects import encode_json
from transforms.mapping.fields import TIMES
from transforms.mapping.functions import column_of, concatenate, constant
from transforms.mapping.spec import Event, Mapping, read_beside
from transforms.mapping.values import Columns, Record, evaluate
from transforms.records.beside import ATTRIBUTES, CARRIED
from transforms.records.columns import Keys
from transforms.records.paths import Path, Table, parse_path, prune, read, remove_at

Slices = Iterable[tuple[Sequence[Record], list[int]]]  # records, and the rows of the raw block that they are


class Plan(NamedTuple):
    """What a rule reads from each record, computed once."""

    event: Event
    paths: tuple[Path, ...]  # read, or looked at by a match
    taken: frozenset  # keys at the top of which nothing is left for `extra`
    trimmed: tuple[Path, ...]  # paths of keys below others that are
    identity: tuple[Path, ...]  # those of the event_id
    properties: tuple[str, ...]
    discarded: tuple[Path, ...]  # of which nothing is left, whether they are read or not
    transport: tuple[Path, ...]  # no part of a derived id
    carried: tuple[Path, ...]  # nor these, of which nothing is left where there is no other attribute
    keys: Keys


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
    whole = {parse_path(path) for field in event.fields.values() for path in field.spent()}
    discarded = tuple(map(parse_path, mapping.discard))
    spent = [path for path in paths if path in whole and all(isinstance(step, str) for step in path)]
    spent = list(dict.fromkeys((*spent, *discarded)))
    taken = frozenset([path[0] for path in spent if len(path) == 1] + list(properties))
    # A path that tells another field too is what happened, not how it travelled.
    said = {path for name, read_paths in read_by.items() if name not in TIMES[1:] for path in read_paths}
    travelled = set().union(*(read_by.get(name, ()) for name in TIMES[1:])) - said
    names = tuple(dict.fromkeys([str(path[0]) for path in paths + looked] + list(properties)))
    return Plan(
        event,
        tuple(dict.fromkeys(paths + looked)),
        taken,
        tuple(path for path in spent if len(path) > 1 and path[0] not in taken),
        tuple(path for path in paths if path in read_by.get("event_id", ())),
        properties,
        discarded,
        (*map(parse_path, mapping.transport), *(path for path in paths if path in travelled)),
        tuple(path for path in CARRIED if path not in said) if ATTRIBUTES in read_beside(mapping) else (),
        Keys(names, frozenset(name for name in names if name in properties or name not in taken)),
    )


class Gathered(NamedTuple):
    """What a rule reads from records: columns of the same height."""

    columns: Columns
    derived: pl.Series  # String: an id from what the record says; null where it states one
    properties: pl.Series
    extra: pl.Series


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
    if len(parts) == 1:
        return parts[0]
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
    rows: Sequence[int] = range(len(records))
    if field is not None:
        stated = evaluate("event_id", field, columns, len(records), mapping).values
        if not stated.null_count():
            return _nothing(len(records))
        rows = stated.is_null().arg_true().to_list()
    ids: list[str | None] = [None] * len(records)
    source, prefix = mapping.source.encode(), "derived:"
    for row, record in zip(rows, _some(records, rows), strict=True):
        place = places[row] if places else ()
        record = prune(record, plan.carried)
        ids[row] = prefix + hash128((source, encode_json(remove_at(record, plan.transport)), *place))
    return pl.Series(ids, dtype=pl.String)


def _some(records: Sequence[Record], rows: Sequence[int]) -> Iterable[Record]:
    """The records at some rows: a table makes one of them slower than each of them in turn."""
    if len(rows) * 4 < len(records) or isinstance(records, list):
        return [records[row] for row in rows]
    wanted = set(rows)
    return (record for row, record in enumerate(records) if row in wanted)


def _properties(records: Sequence[Record], plan: Plan) -> pl.Series:
    names = plan.properties
    if not names:
        return _nothing(len(records))
    if isinstance(records, Table):
        return _json(records.only(names))
    return _json({key: record[key] for key in names if key in record} for record in records)


def _extra(records: Sequence[Record], plan: Plan) -> pl.Series:
    """Return everything that no path reads, and that is not discarded."""
    taken = plan.taken
    if isinstance(records, Table):
        left: Iterable[Record | None] = records.but(taken)
    else:
        left = [
            None if record.keys() <= taken else {key: record[key] for key in record if key not in taken}
            for record in records
        ]
    return _json([at and prune(at, plan.trimmed) for at in left] if plan.trimmed else left)


def _nothing(height: int) -> pl.Series:
    return constant(None, pl.String, height)


def _json(objects: Iterable[Record | None]) -> pl.Series:
    """String: each object as JSON, its keys in order; null for one without any."""
    encoded = [encode_json(at) if at else None for at in objects]
    return pl.Series(encoded, dtype=pl.Binary).cast(pl.String) if any(encoded) else _nothing(len(encoded))
