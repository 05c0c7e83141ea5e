"""File sink: rows go to Parquet files, which the commit of a run makes visible; for every batch run, and for a stream
into a local warehouse.
"""

import os
import uuid
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import msgspec
import polars as pl
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.sink import by_day, shaped
from pipelines.warehouse.staged import write_file
from pipelines.warehouse.tables import EVENTS, Table
from pipelines.warehouse.write_stats import points
from transforms.block import held_bytes
from transforms.counters import NAMESPACE
from transforms.quality import entries_of, pack
from transforms.stage import Gathering

BUNDLE_ROWS = 250_000  # rows of a table that a bundle gathers before it writes a file
FEW_ROWS = 5_000  # whose size is estimated: a text that they share counts once
BUNDLE_BYTES = 128 << 20  # the same, of rows that are long
CONFIRMED = "confirmed"


class FileSink(NamedTuple):
    """Parquet files in the staging folder of a run, on this machine or in a bucket.

    A batch run confirms all files at its end; a stream has no end, so each of its bundles notes its own.

    commit  what the last step of the graph hands all confirmations to; None: it writes them to the staging folder,
            where `confirmed` reads them
    note    what a bundle of a stream calls with its staging folder, table, files, and points of the received times of
            its events; None: the run is bounded
    """

    staging: str
    tables: Mapping[str, Table]
    zone: str
    commit: Callable[[list[FileEntry]], None] | None = None
    note: Callable[[str, str, list[FileEntry], list[int]], None] | None = None

    @property
    def refuses(self) -> bool:
        """It takes every row."""
        return False

    def table(self, name: str) -> Table:
        """The declaration of a table."""
        return self.tables[name]

    def write(self, table: Table, outcome: str | None = None) -> beam.PTransform:
        """Rows to files by day."""
        return WriteFiles(self, table, outcome)

    def confirm(self) -> beam.PTransform:
        """The confirmations to one commit, or to one file."""
        return _Confirm(self.staging) if self.commit is None else _Commit(self.commit)


def read_confirmed(staging: Path) -> list[FileEntry]:
    """The files that a finished run confirmed: what a failed bundle left behind is not among them."""
    noted = sorted((staging / CONFIRMED).glob("*.json"))
    return [entry for note in noted for entry in msgspec.json.decode(note.read_bytes(), type=list[FileEntry])]


class WriteFiles(beam.PTransform):
    """PCollection[rows] -> files: PCollection[bytes, a FileEntry as JSON], books: PCollection[packed entries]

    A stream's `files` are empty: they are noted, and durably so before their audit entries leave this step.
    """

    def __init__(self, sink: FileSink, table: Table, outcome: str | None):
        super().__init__()
        self.staging, self.zone, self.note = sink.staging, sink.zone, sink.note
        self.table, self.outcome = table, outcome

    def expand(self, rows):
        writing = beam.ParDo(_WriteFiles(self)).with_output_types(bytes, books=bytes)
        return rows | "Write files" >> writing.with_outputs("books", main="files")


class _WriteFiles(Gathering):
    most_rows, most_bytes = BUNDLE_ROWS, BUNDLE_BYTES

    def __init__(self, sink: WriteFiles):
        self.staging, self.table, self.zone, self.outcome = sink.staging, sink.table, sink.zone, sink.outcome
        self.note = sink.note

    def hold(self, rows):
        yield rows, len(rows), held_bytes(rows) if len(rows) > FEW_ROWS else rows.estimated_size()

    def flush(self, gathered, height, size):
        parts = [shaped(part, self.table) for part in gathered]
        rows = parts[0] if len(parts) == 1 else pl.concat(parts)
        counted = []
        if self.outcome:  # a stream reads no stored events
            counted = [entries_of(part if self.note else _fresh(part), self.outcome) for part in gathered]
        days = by_day(rows, self.table.partition, self.zone)
        synced = self.note is not None  # a batch run's commit syncs all of its files at once
        written = [write_file(self.staging, self.table.name, day, part, synced) for day, part in days]
        if self.note:
            Metrics.counter(NAMESPACE, f"rows-written-{self.table.name}").inc(len(rows))
            times = rows["received_time"] if self.table.name == EVENTS.name else None
            self.note(self.staging, self.table.name, written, points(times))
        else:
            yield from map(msgspec.json.encode, written)
        if counted:
            yield TaggedOutput("books", pack(chain.from_iterable(counted)))


def _fresh(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(~pl.col("stored")) if "stored" in rows.columns else rows


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
