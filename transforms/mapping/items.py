"""Items and rules: one record, many events.

An item is a record, or each element of the list that a mapping explodes, together with the rest of its record. Every
rule that an item matches creates an event. `part` numbers the results of a record, events and rejections together, from
0; the position and attributes of an item state its element and rule:

    file:12#3/click     {"item": {"element": 3, "rule": "click"}}

A record replayed from quarantine with an `item` is evaluated only for that element and rule.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from transforms.block import PARSED_SCHEMA, REJECTED_SCHEMA, empty
from transforms.json_objects import encode_json, errors_json
from transforms.mapping.functions import column_of
from transforms.mapping.gather import Gathered, Plan, Slices, gather, join, places_of, plans_of
from transforms.mapping.settle import Mapped, settle
from transforms.mapping.spec import MOST_ELEMENTS, Mapping
from transforms.mapping.values import Columns
from transforms.records.match import Match, holds, paths_in
from transforms.records.paths import Path, Record, parse_path, read, replace_at
from transforms.stage import rejections

MOST_REPEATED = 16 << 20  # bytes of the enclosing record that the elements of one record may repeat in all
MOST_MADE = 64 << 20  # bytes of events that are created at a time
EVENT_BYTES = 300  # overhead of an event in addition to its record
FEW = 8  # elements, for which the size of the enclosing record is not computed
Slice = tuple[Sequence[Record], list[int]]  # records, and the rows of the raw block that they are
NO_RULE = ("no_rule", "a record that matches no rule of the mapping")
# The results of a record: the row it was read from, its element and rule, and a code if it is rejected.
_OUTCOME = {
    "row": pl.Int64,
    "item": pl.Int64,
    "element": pl.Int64,
    "rule": pl.Int64,
    "further": pl.Boolean,  # an earlier rule made an event of the same item
    "code": pl.String,
    "message": pl.String,
}


class Known(NamedTuple):
    """The element and rule of a record from quarantine; None if not stated."""

    element: int | None = None
    rule: str | None = None


class Items(NamedTuple):
    """Items, and for each the row of its record, its element and what is known of it."""

    records: Sequence[Record]
    rows: list[int]
    elements: list[int | None]
    known: list[Known]
    refused: list[tuple[int, int | None, str, str]]  # (row, element, code, message) of records that have no items


def map_items(slices: Slices, raw: pl.DataFrame, mapping: Mapping) -> Iterator[Mapped]:
    """Yield (PARSED_SCHEMA, REJECTED_SCHEMA of the stage `map`) for the records of a block, in order and in parts.

    The records are not changed. The events of a record are in the order of elements and rules, and in one part; a part
    holds the records that create about MOST_MADE bytes of events.
    """
    known, sizes = _known(raw), raw["payload"].bin.size().to_list()
    places = places_of(_unmarked(raw, known)) if mapping.derived_id == "position" else None
    for lot in _lots(slices, mapping, known, sizes):
        yield _map_lot(lot, raw, mapping, known, sizes, places)


def _lots(slices: Slices, mapping: Mapping, known: dict[int, Known], sizes: list[int]) -> Iterator[list[Slice]]:
    """Regroup the slices so that each lot creates about MOST_MADE bytes of events."""
    lot: list[Slice] = []
    held = 0
    for records, rows in slices:
        start = 0
        for at, weight in enumerate(_weights(records, rows, mapping, known, sizes)):
            if held and held + weight > MOST_MADE:
                records = records if isinstance(records, list) else list(records)
                yield [*lot, (records[start:at], rows[start:at])]
                lot, held, start = [], 0, at
            held += weight
        lot.append((records[start:], rows[start:]) if start else (records, rows))
    yield lot


def _weights(
    records: Sequence[Record], rows: list[int], mapping: Mapping, known: dict[int, Known], sizes: list[int]
) -> Iterator[int]:
    """Return the approximate bytes of the events that each record creates."""
    rules = len(mapping.rules())
    if mapping.explode is None:
        yield from (rules * (sizes[row] + EVENT_BYTES) for row in rows)
        return
    path = parse_path(mapping.exploded.path)
    for record, row, values in zip(records, rows, read(records, path), strict=True):
        count = len(values) if type(values) is list and row not in known else 1
        around = sizes[row] if count < FEW else len(encode_json(replace_at(record, path, None)))
        # More than this is refused.
        yield rules * (min(around * count, MOST_REPEATED) + sizes[row] + EVENT_BYTES * min(count, MOST_ELEMENTS))


def _map_lot(
    lot: list[Slice],
    raw: pl.DataFrame,
    mapping: Mapping,
    known: dict[int, Known],
    sizes: list[int],
    places: list[bytes] | None,
) -> Mapped:
    plans = plans_of(mapping)
    gathered: list[list[Gathered]] = [[gather([], mapping, plan, [])] for plan in plans]
    outcomes, first = [empty(_OUTCOME)], 0
    for records, rows in lot:
        items = _items(records, rows, mapping, known, sizes)
        fitting = _fitting(items, mapping)
        made = _made(items, fitting, mapping)
        for plan, at, parts in zip(plans, made, gathered, strict=True):
            indices = np.flatnonzero(at).tolist()
            here = None if places is None else [_place(places, items, index) for index in indices]
            parts.append(gather([items.records[index] for index in indices], mapping, plan, here))
        outcomes.append(_outcomes(items, fitting, made, first))
        first += len(items.records)
    order = ["row", "item", "rule"]
    origin = _origin(pl.concat(outcomes).sort(order, nulls_last=False, maintain_order=True), raw, mapping)
    return _settled(origin, gathered, mapping, plans)


def _known(raw: pl.DataFrame) -> dict[int, Known]:
    """Return what is known of rows from quarantine, by row."""
    attributes = raw["attributes"]
    marked = attributes.str.contains('"item":', literal=True).fill_null(False).arg_true()
    found = {}
    for row, text in zip(marked.to_list(), attributes[marked].to_list(), strict=True):
        item = msgspec.json.decode(text).get("item")
        if isinstance(item, dict):
            found[row] = Known(item.get("element"), item.get("rule"))
    return found


def _unmarked(raw: pl.DataFrame, known: dict[int, Known]) -> pl.DataFrame:
    """The block with the positions of whole records."""
    if not known:
        return raw
    positions = raw["position"].to_list()
    for row, (element, rule) in known.items():
        position = (positions[row] or "").removesuffix("" if rule is None else f"/{rule}")
        positions[row] = position.removesuffix("" if element is None else f"#{element}")
    return raw.with_columns(position=pl.Series(positions, dtype=pl.String))


def _place(places: list[bytes], items: Items, index: int) -> tuple[bytes, ...]:
    element = items.elements[index]
    here = places[items.rows[index]]
    return (here,) if element is None else (here, b"%d" % element)


def _items(
    records: Sequence[Record], rows: list[int], mapping: Mapping, known: dict[int, Known], sizes: list[int]
) -> Items:
    nothing = Known()
    if mapping.explode is None:
        all_known = [known.get(row, nothing) for row in rows] if known else [nothing] * len(rows)
        return Items(records, rows, [None] * len(rows), all_known, [])
    path, most = parse_path(mapping.exploded.path), mapping.exploded.most
    made: list[Record] = []
    items = Items(made, [], [], [], [])
    for record, row, values in zip(records, rows, read(records, path), strict=True):
        item = known.get(row, nothing)
        problem = _unexploded(values, mapping.exploded.path, most, item)
        if problem is None and item.element is None and len(values) * sizes[row] > MOST_REPEATED:
            problem = _overgrown(record, path, len(values))
        if problem is not None:
            items.refused.append((row, item.element, *problem))
            continue
        elements = range(len(values)) if item.element is None else (item.element,)
        made.extend(replace_at(record, path, values[element]) for element in elements)
        items.rows.extend([row] * len(elements))
        items.elements.extend(elements)
        items.known.extend([item] * len(elements))
    return items


def _unexploded(values: Any, path: str, most: int, known: Known) -> tuple[str, str] | None:
    """The (code, message) of a record that has no items."""
    if type(values) is not list:
        return "not_a_list", f"no list at {path}"
    if not values:
        return "empty_list", f"an empty list at {path}"
    if known.element is not None:
        return None if known.element < len(values) else ("no_element", f"fewer elements than once at {path}")
    if len(values) > most:
        return "too_many_elements", f"more than {most} elements at {path}"
    return None


def _overgrown(record: Record, path: Path, elements: int) -> tuple[str, str] | None:
    """The (code, message) of a record whose elements, each with all of it that is around them, are too many bytes."""
    around = len(encode_json(replace_at(record, path, None)))
    if around * elements <= MOST_REPEATED:
        return None
    return "too_many_elements", f"the elements would repeat over {MOST_REPEATED >> 20} MB of the enclosing record"


def _fitting(items: Items, mapping: Mapping) -> list[np.ndarray]:
    """For each rule, which of the items fit it: Boolean."""
    rules, height = mapping.rules(), len(items.records)
    matches = [match for match in (mapping.match, *(rule.match for rule in rules)) if match is not None]
    paths = dict.fromkeys(parse_path(path) for match in matches for path in paths_in(match))
    columns: Columns = {path: column_of(read(items.records, path)) for path in paths}

    def fits(match: Match | None) -> np.ndarray:
        if match is None:
            return np.ones(height, dtype=bool)
        return holds(match, lambda path: columns[parse_path(path)].values).to_numpy()

    all_fit = fits(mapping.match)
    return [all_fit & fits(rule.match) for rule in rules]


def _made(items: Items, fitting: list[np.ndarray], mapping: Mapping) -> list[np.ndarray]:
    """For each rule, of which items it makes an event: all that fit it, but for what is known to be of another rule."""
    names = {rule.name for rule in mapping.rules()} - {None}
    known = {at: item.rule for at, item in enumerate(items.known) if item.rule in names}
    if not known:
        return fitting
    made = [fits.copy() for fits in fitting]
    for rule, fits in zip(mapping.rules(), made, strict=True):
        fits[[at for at, name in known.items() if name != rule.name]] = False
    return made


def _outcomes(items: Items, fitting: list[np.ndarray], made: list[np.ndarray], first: int) -> pl.DataFrame:
    """What becomes of items that are numbered from `first` on, and of the records that have none."""
    height = len(items.records)
    base = pl.DataFrame(
        {
            "row": pl.Series(items.rows, dtype=pl.Int64),
            "item": pl.int_range(first, first + height, eager=True),
            "element": pl.Series(items.elements, dtype=pl.Int64),
        }
    )
    parts, earlier, none = [], np.zeros(height, dtype=bool), np.ones(height, dtype=bool)
    for rule, (fits, makes) in enumerate(zip(fitting, made, strict=True)):
        further = pl.Series(earlier, dtype=pl.Boolean)
        parts.append(base.with_columns(rule=pl.lit(rule), further=further).filter(pl.Series(makes)))
        earlier, none = earlier | fits, none & ~makes
    code, message = NO_RULE
    parts.append(base.filter(pl.Series(none)).with_columns(code=pl.lit(code), message=pl.lit(message)))
    names = ("row", "element", "code", "message")
    refused = {name: [at[n] for at in items.refused] for n, name in enumerate(names)}
    parts.append(pl.DataFrame(refused, schema={name: _OUTCOME[name] for name in names}))
    wide = pl.concat([empty(_OUTCOME), *parts], how="diagonal_relaxed")
    return wide.select(pl.col(name).cast(dtype) for name, dtype in _OUTCOME.items())


def _origin(outcomes: pl.DataFrame, raw: pl.DataFrame, mapping: Mapping) -> pl.DataFrame:
    """RECORD_SCHEMA of each outcome, beside its columns: what it is part of, which part, and where that was."""
    taken = raw[outcomes["row"]].with_columns(outcomes.drop("row"), _row=outcomes["row"])
    ordinal = pl.int_range(pl.len()).over("_row")
    taken = taken.with_columns(
        part=pl.col("part") + ordinal,
        quarantine_id=pl.when(ordinal == 0).then("quarantine_id"),
    )
    names = [rule.name for rule in mapping.rules()]
    if mapping.explode is None and len(names) == 1:
        return taken
    several = pl.Series(names if len(names) > 1 else [None] * len(names), dtype=pl.String)
    named = pl.Series("_name", several.gather(taken["rule"].fill_null(0))).set(taken["rule"].is_null(), None)
    return _told(taken.with_columns(named))


def _told(taken: pl.DataFrame) -> pl.DataFrame:
    """With the element and the rule in position and attributes, where they do not say so already."""
    keys = ["attributes", "element", "_name"]
    distinct = taken.select(keys).unique(maintain_order=True)
    told, changed = [], []
    for text, element, name in zip(*(distinct[key].to_list() for key in keys), strict=True):
        attributes = msgspec.json.decode(text) if text else {}
        item = {key: value for key, value in (("element", element), ("rule", name)) if value is not None}
        known = attributes.get("item")
        told_before = known if isinstance(known, dict) else {}
        changed.append([key for key in item if told_before.get(key) != item[key]])
        told.append(encode_json(attributes | {"item": item}).decode() if item else text)
    distinct = distinct.with_columns(
        _told=pl.Series(told, dtype=pl.String),
        _element=pl.Series(["element" in at for at in changed], dtype=pl.Boolean),
        _rule=pl.Series(["rule" in at for at in changed], dtype=pl.Boolean),
    )
    taken = taken.join(distinct, on=keys, how="left", nulls_equal=True, maintain_order="left")
    element = pl.when("_element").then(pl.concat_str(pl.lit("#"), "element")).otherwise(pl.lit(""))
    rule = pl.when("_rule").then(pl.concat_str(pl.lit("/"), "_name")).otherwise(pl.lit(""))
    return taken.with_columns(position=pl.concat_str("position", element, rule), attributes="_told")


def _settled(
    origin: pl.DataFrame, gathered: list[list[Gathered]], mapping: Mapping, plans: tuple[Plan, ...]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    origin = origin.with_row_index("_at")
    unfit = origin.filter(pl.col("code").is_not_null())
    passed, rejected = [empty({**PARSED_SCHEMA, "_at": pl.UInt32})], [empty(REJECTED_SCHEMA)]
    if not unfit.is_empty():
        rejected.append(_refused(unfit, mapping))
    for rule, (plan, parts) in enumerate(zip(plans, gathered, strict=True)):
        made = origin.filter((pl.col("rule") == rule) & pl.col("code").is_null())
        block, bad = settle(join(parts), made, mapping, plan, made["further"])
        passed.append(block)
        rejected.append(bad)
    ordered = pl.concat(passed, how="diagonal").sort("_at").drop("_at")
    return ordered, pl.concat(rejected)


def _refused(unfit: pl.DataFrame, mapping: Mapping) -> pl.DataFrame:
    distinct = unfit.select("code", "message").unique(maintain_order=True)
    codes, messages = distinct["code"].to_list(), distinct["message"].to_list()
    errors = [errors_json("$", code, message) for code, message in zip(codes, messages, strict=True)]
    named = distinct.with_columns(errors=pl.Series(errors, dtype=pl.String))
    block = unfit.join(named, on=["code", "message"], how="left", maintain_order="left").with_columns(
        source=pl.lit(mapping.source), source_format=pl.lit(f"mapped:{mapping.source}")
    )
    return rejections(block, "map", pl.col("code"), pl.col("errors"))
