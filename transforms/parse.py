"""Parse and map: records to the fields of the event contract.

    PCollection[RECORD_SCHEMA block] -> passed: PCollection[PARSED_SCHEMA block], rejected

A record is in the native format, or goes through a mapping. It keeps its raw bytes until it is an event.
State   none
Emits   at once
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import apache_beam as beam
import polars as pl
from apache_beam.pvalue import TaggedOutput

from transforms.block import split_to_size
from transforms.mapping import Mapping, map_block
from transforms.quality import redate
from transforms.records.native import parse_native
from transforms.records.payloads import set_aside_long

MOST_BYTES = 64 << 20  # of a block of events: each event of an exploded record holds all bytes of the record


class Parse(beam.PTransform):
    """A block whose source has a mapping goes through it; any other is in the native format, and `source` names the
    records that do not state one.

    Also -> books: PCollection[BOOKS_SCHEMA block], see transforms/quality.py.
    """

    def __init__(self, mappings: Sequence[Mapping], source: str):
        super().__init__()
        self.mappings, self.source = {mapping.source: mapping for mapping in mappings}, source

    def expand(self, raw):
        parsing = beam.ParDo(_Parse(self.mappings, self.source))
        typed = parsing.with_output_types(pl.DataFrame, rejected=pl.DataFrame, books=pl.DataFrame)
        return raw | "Parse" >> typed.with_outputs("rejected", "books", main="passed")


class _Parse(beam.DoFn):
    def __init__(self, mappings, source):
        self.mappings, self.source = mappings, source

    def process(self, records):
        source = records["source"][0]
        queue = records["received_time"].null_count() == 0
        for passed, rejected in parse_in_parts(records, self.mappings.get(source), self.source):
            settled = pl.concat(part.select("source", "received_time", "input", "part") for part in (passed, rejected))
            yield TaggedOutput("books", redate(settled, source, queue=queue))
            for block in split_to_size(rejected, MOST_BYTES):
                yield TaggedOutput("rejected", block)
            yield from split_to_size(passed, MOST_BYTES)


class Parsed(NamedTuple):
    """`passed` is a PARSED_SCHEMA block with `received_given`, `rejected` of REJECTED_SCHEMA."""

    passed: pl.DataFrame
    rejected: pl.DataFrame


def parse(records: pl.DataFrame, mapping: Mapping | None, source: str) -> Parsed:
    """Return a RECORD_SCHEMA block of one source as events, by its mapping or in the native format."""
    parts = list(parse_in_parts(records, mapping, source))
    return parts[0] if len(parts) == 1 else Parsed(*(pl.concat(column) for column in zip(*parts, strict=True)))


def parse_in_parts(records: pl.DataFrame, mapping: Mapping | None, source: str) -> Iterator[Parsed]:
    """Yield the same in parts, at least one: a mapping may make the records many times as large."""
    name, format = (source, "native") if mapping is None else (mapping.source, f"mapped:{mapping.source}")
    read, too_long = set_aside_long(records, format)
    for parsed, rejected in [parse_native(read, source)] if mapping is None else map_block(read, mapping):
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
