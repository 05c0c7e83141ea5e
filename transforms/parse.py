"""Parse and map: raw blocks to the fields of the event contract.

    PCollection[RAW_SCHEMA block] -> passed: PCollection[PARSED_SCHEMA block], rejected

A record is of the native form, or goes through a mapping. It keeps its raw bytes until it is an event.
State   none
Emits   at once
"""

import apache_beam as beam
import polars as pl
from apache_beam.pvalue import TaggedOutput

from transforms.mapping import Mapping, map_records
from transforms.native import parse_native
from transforms.quality import redate
from transforms.records import read_records


class Parse(beam.PTransform):
    """Without a mapping a record is of the native form; `source` names those that state none.

    Also -> books: PCollection[BOOKS_SCHEMA block], see transforms/quality.py.
    """

    def __init__(self, mapping: Mapping | None, source: str, input: str):
        super().__init__()
        self.mapping, self.source, self.input = mapping, source, input

    def expand(self, raw):
        parsing = beam.ParDo(_Parse(self.mapping, self.source, self.input))
        typed = parsing.with_output_types(pl.DataFrame, rejected=pl.DataFrame, books=pl.DataFrame)
        return raw | "Parse" >> typed.with_outputs("rejected", "books", main="passed")


class _Parse(beam.DoFn):
    def __init__(self, mapping, source, input):
        self.mapping, self.source, self.input = mapping, source, input

    def process(self, raw):
        passed, rejected = parse(raw, self.mapping, self.source)
        settled = pl.concat([part.select("source", "received_time") for part in (passed, rejected)])
        queue = raw["received_time"].null_count() == 0
        yield TaggedOutput("books", redate(settled, self.source, self.input, queue=queue))
        if not rejected.is_empty():
            yield TaggedOutput("rejected", rejected)
        if not passed.is_empty():
            yield passed


def parse(raw: pl.DataFrame, mapping: Mapping | None, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(PARSED_SCHEMA block with received_given, rejected) of a raw block."""
    if mapping is None:
        parsed, rejected = parse_native(raw, source)
    else:
        records, kept, unreadable = read_records(raw)
        parsed, unmapped = map_records(records, kept, mapping)
        rejected = pl.concat([unreadable.with_columns(source=pl.lit(mapping.source)), unmapped])
    return settle_received(parsed), rejected


def settle_received(parsed: pl.DataFrame) -> pl.DataFrame:
    """Fill `received_time` from the client's time; `received_given` remembers that a skew cannot be proved then."""
    return parsed.with_columns(
        received_given=pl.col("received_time").is_not_null(),
        received_time=pl.coalesce("received_time", "client_time"),
    )
