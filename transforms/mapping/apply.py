"""Apply a mapping (spec.py): decoded records to the fields of the event contract.

In two steps: `gather` (gather.py) reads records into columns, `settle` (settle.py) makes events of a
whole block of them. Mappings of one record to many events go through items.py.
"""

from collections.abc import Iterator

import polars as pl

from transforms.mapping.gather import Slices, gather, join, places_of, plans_of
from transforms.mapping.settle import Mapped, settle
from transforms.mapping.spec import Mapping, read_beside
from transforms.mapping.values import Record
from transforms.records.beside import with_message
from transforms.records.columns import read_columns
from transforms.records.payloads import Refused, read_slices, refuse


def map_block(raw: pl.DataFrame, mapping: Mapping) -> Iterator[Mapped]:
    """Yield the result of a mapping for a RECORD_SCHEMA block, in at least one part."""
    refused: Refused = []
    roots = read_beside(mapping)
    read = with_message(raw, roots) if roots else raw  # what is refused keeps the payload as it came
    slices = read_columns(read, refused, plans_of(mapping)[0].keys) if mapping.plain else read_slices(read, refused)
    parts = _map(slices, raw, mapping)
    parsed, unmapped = next(parts)
    for part in parts:
        yield parsed, unmapped
        parsed, unmapped = part
    unreadable = refuse(raw, refused, f"mapped:{mapping.source}", mapping.source)
    yield parsed, pl.concat([unreadable, unmapped]) if refused else unmapped


def map_records(records: list[Record], raw: pl.DataFrame, mapping: Mapping) -> Mapped:
    """(PARSED_SCHEMA, REJECTED_SCHEMA of the stage `map`) of decoded records.

    records   one a row of `raw`, in its order; they are left as they are
    raw       RECORD_SCHEMA; a received_time in it wins over one that the mapping reads
    """
    parsed, rejected = zip(*_map([(records, list(range(len(records))))], raw, mapping), strict=True)
    return pl.concat(parsed), pl.concat(rejected)


def _map(slices: Slices, raw: pl.DataFrame, mapping: Mapping) -> Iterator[Mapped]:
    if not mapping.plain:
        from transforms.mapping.items import map_items

        yield from map_items(slices, raw, mapping)
        return
    (plan,) = plans_of(mapping)
    parts, kept = [], []
    places = places_of(raw) if mapping.derived_id == "position" else None
    for records, rows in slices:
        parts.append(gather(records, mapping, plan, None if places is None else [(places[row],) for row in rows]))
        kept += rows
    yield settle(
        join(parts or [gather([], mapping, plan, [])]), raw if len(kept) == len(raw) else raw[kept], mapping, plan
    )
