"""Quarantined records: what waits in quarantine, as a source for a run that takes it in.

select(...)     the open records that a run wants, to a Parquet file in its staging folder
ReadSelected    that file as records: each keeps its input, its id, and counts its attempt
"""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import polars as pl
import pyarrow.parquet as pq

from pipelines.warehouse.interface import Warehouse
from transforms import quality
from transforms.block import RECORD_SCHEMA
from transforms.contract import PATTERNS
from transforms.quality import COUNTS
from transforms.records.payloads import TOO_LONG
from transforms.records.times import read_times

ROWS = 20_000  # of a row group, and so of a block at most
MAPPED = "mapped:"
# Attributes by which a payload is read: one of each in a block.
_FORM = ("format", "header", "delimiter", "quote", "escape", "null", "trailing", TOO_LONG)


class Selected(NamedTuple):
    """The selection: how many records, of which `source_format`s, in which file (none if there are no records)."""

    records: int
    formats: set[str]
    path: Path


def select(warehouse: Warehouse, path: Path, where: str) -> Selected:
    """Write the open records for which `where` (in BigQuery's SQL) holds to `path`."""
    columns = "quarantine_id, source, source_format, input, position, received_time, payload, attributes, attempt"
    order = "source_format, TO_JSON_STRING(attributes)"  # what is read alike stands together
    answer = warehouse.ask(f"SELECT {columns} FROM quarantine_open WHERE {where} ORDER BY {order}")
    first = next(answer).to_arrow(compat_level=pl.CompatLevel.oldest())
    with pq.ParquetWriter(path, first.schema, compression="zstd") as file:
        file.write_table(first, ROWS)
        for part in answer:
            file.write_table(part.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(first.schema), ROWS)
    found = pl.scan_parquet(path).group_by("source_format").len().collect()
    return Selected(int(found["len"].sum()), set(found["source_format"]), path)


def unbooked(selected: Selected) -> pl.DataFrame:
    """BOOKS_SCHEMA entries that subtract the records from the audit counts, to which the run adds them again."""
    rows = pl.scan_parquet(selected.path).select("source", "input", "received_time").collect()
    taken = [quality.count(rows, outcome) for outcome in ("received", "quarantined")]
    return quality.merge(taken).with_columns(-pl.col(COUNTS))


class ReadSelected(beam.PTransform):
    """PBegin -> PCollection[RECORD_SCHEMA block], each block of one source and one form.

    native  the source of native records whose own is the name of none, or of one that is `mapped`
    mapped  the sources whose blocks go through a mapping
    """

    def __init__(self, selected: Selected, native: str, mapped: Collection[str] = ()):
        super().__init__()
        self.path, self.native, self.mapped = str(selected.path), native, tuple(mapped)
        self.groups = pq.ParquetFile(selected.path).num_row_groups if selected.records else 0

    def expand(self, begin):
        return (
            begin
            | "List row groups" >> beam.Create(range(self.groups))
            | "Spread row groups" >> beam.Reshuffle()
            | "Read each row group"
            >> beam.FlatMap(_read, self.path, self.native, self.mapped).with_output_types(pl.DataFrame)
        )


def _read(group: int, path: str, native: str, mapped: Collection[str]):
    rows = pl.DataFrame(pq.ParquetFile(path).read_row_group(group, use_threads=False))
    yield from records_of(rows, native, mapped)


def records_of(rows: pl.DataFrame, native: str, mapped: Collection[str] = ()) -> Collection[pl.DataFrame]:
    """Rows of `quarantine` as RECORD_SCHEMA blocks; `native` and `mapped` as of ReadSelected.

    The received time is left to the record, as at the first reading, but for a queue's, which its attributes tell.
    A native record that states no source is again of that which its reader gave it.
    """
    attributes = {name: rows["attributes"].str.json_path_match(f"$.{name}") for name in (*_FORM, "received_time")}
    is_mapped = pl.col("source_format").str.starts_with(MAPPED)
    keeps = pl.col("source").str.contains(PATTERNS["source"][0]) & ~pl.col("source").is_in(list(mapped))
    marked = rows.with_columns(
        **{f"_{name}": attributes[name] for name in _FORM},
        source=pl.when(is_mapped)
        .then(pl.col("source_format").str.strip_prefix(MAPPED))
        .when(keeps)
        .then("source")
        .otherwise(pl.lit(native)),
        received_time=read_times(attributes["received_time"]),
        attempt=pl.col("attempt") + 1,
        part=pl.lit(0, pl.Int64),
    )
    blocks = marked.partition_by("source", *(f"_{name}" for name in _FORM), maintain_order=True)
    return [block.select(pl.col(name).cast(dtype) for name, dtype in RECORD_SCHEMA.items()) for block in blocks]
