"""Sinks: where the graph's rows go, behind one interface for the local warehouse and for BigQuery.

    write(table)   PCollection[rows] -> files: PCollection[confirmation], books: PCollection[BOOKS_SCHEMA block],
                   and of a sink that refuses rows refused: PCollection[REJECTED_SCHEMA block]
    confirm()      the confirmations of all tables -> whatever makes them visible

A sink counts what it wrote: a row that it refuses is no event.
"""

import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import apache_beam as beam
import msgspec
import polars as pl
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.local import notes
from pipelines.warehouse.staged import write_file
from pipelines.warehouse.tables import EVENTS, Table, polars_schema
from pipelines.warehouse.write_stats import points
from transforms.block import day_of, held_bytes
from transforms.quality import count, merge
from transforms.stage import in_global_window

BUNDLE_ROWS = 250_000  # rows of a table that a bundle gathers before it writes a file
BUNDLE_BYTES = 128 << 20  # the same, of rows that are long
CONFIRMED = "confirmed"
NAMESPACE = "audience"  # of Beam's metrics


class Sink(Protocol):
    """Where a run writes. `outcome` is the name under which written rows enter the books, but for stored ones, which
    are in them already. A sink that `refuses` may refuse rows of events, never of another table."""

    @property
    def refuses(self) -> bool:
        """Whether the written events have `refused` beside them."""

    def table(self, name: str) -> Table:
        """The declaration of a table that this sink takes."""

    def write(self, table: Table, outcome: str | None = None) -> beam.PTransform:
        """Write rows."""

    def confirm(self) -> beam.PTransform:
        """Take note of everything that a bounded run wrote."""


class LocalSink(NamedTuple):
    """Parquet files in the staging folder of a run; the run's commit makes them visible.

    A bounded run confirms all at its end. A stream has none: each bundle notes its files as it writes them (notes.py),
    and an `Appender` commits what is noted.
    """

    staging: str
    tables: Mapping[str, Table]
    zone: str
    streaming: bool = False

    @property
    def refuses(self) -> bool:
        return False

    def table(self, name: str) -> Table:
        """The declaration of a table."""
        return self.tables[name]

    def write(self, table: Table, outcome: str | None = None) -> beam.PTransform:
        """Rows to files by day."""
        return WriteFiles(self.staging, table, self.zone, outcome, self.streaming)

    def confirm(self) -> beam.PTransform:
        """The confirmations to one file, read by `confirmed`."""
        return _Confirm(self.staging)


class BucketSink(NamedTuple):
    """Parquet files in the staging folder of a bounded run in a bucket, by workers that share no disk; the last step of
    the graph hands the confirmations of all to `commit`."""

    staging: str
    tables: Mapping[str, Table]
    zone: str
    commit: Callable[[list[FileEntry]], None]

    @property
    def refuses(self) -> bool:
        return False

    def table(self, name: str) -> Table:
        """The declaration of a table."""
        return self.tables[name]

    def write(self, table: Table, outcome: str | None = None) -> beam.PTransform:
        """Rows to files by day."""
        return WriteFiles(self.staging, table, self.zone, outcome, streaming=False)

    def confirm(self) -> beam.PTransform:
        """The confirmations to one commit."""
        return _Commit(self.commit)


def confirmed(staging: Path) -> list[FileEntry]:
    """The files that a finished run confirmed: what a failed bundle left behind is not among them."""
    noted = sorted((staging / CONFIRMED).glob("*.json"))
    return [entry for note in noted for entry in msgspec.json.decode(note.read_bytes(), type=list[FileEntry])]


class WriteFiles(beam.PTransform):
    """PCollection[rows] -> files: PCollection[bytes, a FileEntry as JSON], books: PCollection[BOOKS_SCHEMA block]

    A stream's `files` are empty: they are noted, and durably so before their entries for the books leave this step.
    """

    def __init__(self, staging: str, table: Table, zone: str, outcome: str | None, streaming: bool):
        super().__init__()
        self.staging, self.table, self.zone, self.outcome = staging, table, zone, outcome
        self.streaming = streaming

    def expand(self, rows):
        writing = beam.ParDo(_WriteFiles(self)).with_output_types(bytes, books=pl.DataFrame)
        # One global window: rows of all windows share a file, and what is confirmed has one home.
        everywhere = rows | "Leave the windows" >> beam.WindowInto(GlobalWindows()).with_output_types(pl.DataFrame)
        return everywhere | "Write files" >> writing.with_outputs("books", main="files")


class _WriteFiles(beam.DoFn):
    def __init__(self, sink: WriteFiles):
        self.staging, self.table, self.zone, self.outcome = sink.staging, sink.table, sink.zone, sink.outcome
        self.streaming = sink.streaming

    def start_bundle(self):
        self.gathered: list[pl.DataFrame] = []
        self.rows = self.bytes = 0

    def process(self, rows):
        self.gathered.append(rows)
        self.rows += len(rows)
        self.bytes += held_bytes(rows)
        if self.rows >= BUNDLE_ROWS or self.bytes >= BUNDLE_BYTES:
            yield from self._flush()

    def finish_bundle(self):
        return map(in_global_window, self._flush())

    def _flush(self):
        if not self.gathered:
            return
        rows = pl.concat(shaped(part, self.table) for part in self.gathered)
        entries = [count(_fresh(part), self.outcome) for part in self.gathered] if self.outcome else []
        self.start_bundle()
        days = by_day(rows, self.table.partition, self.zone)
        written = [write_file(self.staging, self.table.name, day, part) for day, part in days]
        if self.streaming:
            Metrics.counter(NAMESPACE, f"rows-written-{self.table.name}").inc(len(rows))
            times = rows["received_time"] if self.table.name == EVENTS.name else None
            notes.write(self.staging, self.table.name, notes.Note(written, points(times)))
        else:
            yield from map(msgspec.json.encode, written)
        if entries:
            yield TaggedOutput("books", merge(entries))


def _fresh(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(~pl.col("stored")) if "stored" in rows.columns else rows


def shaped(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    """The rows in the columns and types of the table."""
    return rows.select(pl.col(name).cast(dtype) for name, dtype in polars_schema(table).items())


def by_day(rows: pl.DataFrame, partition: str, zone: str):
    """[(day or None, its rows)]"""
    days = rows.select(day_of(pl.col(partition), zone)).to_series()
    if days.n_unique() == 1:
        return [(days[0], rows)]
    marked = rows.with_columns(days.alias("_day"))
    return [(key[0], part) for key, part in marked.partition_by("_day", as_dict=True, include_key=False).items()]


class _Confirm(beam.PTransform):
    def __init__(self, staging: str):
        super().__init__()
        self.staging = staging

    def expand(self, files):
        # All at the end, so that no failed try of a bundle is among them.
        return files | "Gather them" >> beam.combiners.ToList() | "Note them" >> beam.Map(_note, self.staging)


def _note(entries: list[bytes], staging: str) -> None:
    folder = Path(staging) / CONFIRMED
    folder.mkdir(exist_ok=True)
    aside = folder / f"{uuid.uuid4().hex}.tmp"
    aside.write_bytes(b"[" + b",".join(sorted(entries)) + b"]")
    os.replace(aside, aside.with_suffix(".json"))


class _Commit(beam.PTransform):
    def __init__(self, commit: Callable[[list[FileEntry]], None]):
        super().__init__()
        self.commit = commit

    def expand(self, files):
        # One element, behind everything that was written. A runner may give it out twice.
        return files | "Gather them" >> beam.combiners.ToList() | "Commit them" >> beam.Map(_decoded, self.commit)


def _decoded(entries: list[bytes], commit: Callable[[list[FileEntry]], None]) -> None:
    commit([msgspec.json.decode(entry, type=FileEntry) for entry in sorted(entries)])
