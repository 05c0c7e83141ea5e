"""Parse and map: records to the fields of the event contract. Pure functions, a part of the step settle.py.

    RECORD_SCHEMA block -> PARSED_SCHEMA block, and what cannot be read as REJECTED_SCHEMA

A record is in the native format, or goes through a mapping. It keeps its raw bytes until it is an event.
"""

from collections.abc import Iterator
from typing import NamedTuple

import polars as pl

from transforms.mapping import Mapping, map_block
from transforms.records.native import parse_native, parse_unordered
from transforms.records.payloads import set_aside_long


class Parsed(NamedTuple):
    """`passed` is a PARSED_SCHEMA block with `received_given`, `rejected` of REJECTED_SCHEMA."""

    passed: pl.DataFrame
    rejected: pl.DataFrame


def parse(records: pl.DataFrame, mapping: Mapping | None, source: str) -> Parsed:
    """Return a RECORD_SCHEMA block of one source as events, by its mapping or in the native format."""
    parts = list(parse_in_parts(records, mapping, source, ordered=True))
    return parts[0] if len(parts) == 1 else Parsed(*(pl.concat(column) for column in zip(*parts, strict=True)))


def parse_in_parts(
    records: pl.DataFrame, mapping: Mapping | None, source: str, ordered: bool = False
) -> Iterator[Parsed]:
    """Yield the same in parts, at least one: a mapping may make the records many times as large.

    ordered  native records stay in their order, which costs a copy of all of them
    """
    name, format = (source, "native") if mapping is None else (mapping.source, f"mapped:{mapping.source}")
    read, too_long = set_aside_long(records, format)
    if mapping is not None:
        parts = map_block(read, mapping)
    else:
        parts = iter([parse_native(read, source)]) if ordered else parse_unordered(read, source)
    for parsed, rejected in parts:
        if not too_long.is_empty():
            rejected = pl.concat([too_long.with_columns(source=pl.lit(name)), rejected])
            too_long = too_long.clear()
        yield Parsed(settle_received(parsed), rejected)


def settle_received(parsed: pl.DataFrame) -> pl.DataFrame:
    """Fill `received_time` from the client's time; `received_given` is false then, as skew cannot be proved."""
    if not parsed["received_time"].null_count():
        return parsed.with_columns(received_given=pl.lit(True))
    return parsed.with_columns(
        received_given=pl.col("received_time").is_not_null(),
        received_time=pl.coalesce("received_time", "client_time"),
    )
