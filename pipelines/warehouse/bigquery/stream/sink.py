"""The sink of a stream: rows to BigQuery as they come, by the method that --write_method names.

    write(table)   PCollection[rows] -> files: PCollection[bytes, JSON {table, rows}], books, refused (of events)

A bundle gathers rows and writes them before it ends. A row counts as written once BigQuery has answered; an event that
it refuses is no event and goes to quarantine (stage `load`), where it is counted. A row of another table is the
pipeline's own work: one that is refused fails the bundle.

STORAGE_WRITE_API               Arrow record batches on the default stream: at least once. A bundle that is retried
                                writes its rows again; the view events_unique shows each event once
STORAGE_WRITE_API_EXACTLY_ONCE  the same on streams of its own, whose rows have numbers: see exactly_once.py
STREAMING_INSERTS               insertAll: at least once, but what is repeated within a minute is written once
"""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import apache_beam as beam
import polars as pl

from pipelines.settings.options import EXACTLY_ONCE, INSERTS, STORAGE_WRITE
from pipelines.warehouse.bigquery.retry import Limits
from pipelines.warehouse.bigquery.stream.at_least_once import InsertWriter, StorageWriter, Writer
from pipelines.warehouse.bigquery.stream.bundle import GatherRows, To, emit_outcomes
from pipelines.warehouse.bigquery.stream.exactly_once import WriteExactly
from pipelines.warehouse.outputs import Outputs
from pipelines.warehouse.tables import Table

AT_LEAST_ONCE: dict[str, type[StorageWriter] | type[InsertWriter]] = {
    STORAGE_WRITE: StorageWriter,
    INSERTS: InsertWriter,
}


class BigQueryStreamSink(NamedTuple):
    """Tables of `dataset` (project.dataset), which must be there with these declarations."""

    dataset: str
    tables: Mapping[str, Table]
    method: str = STORAGE_WRITE
    limits: Limits = Limits()
    shards: int = 1  # streams a table that are written to at a time, exactly once
    clock: Callable[[], float] = time.time  # seconds; decides when such a stream is old
    outputs: Outputs | None = None

    @property
    def refuses(self) -> bool:
        return True

    def table(self, name: str) -> Table:
        """The declaration of a table."""
        return self.tables[name]

    def write(self, table: Table, outcome: str | None = None) -> beam.PTransform:
        """Write rows."""
        to = To(self.dataset, table, outcome, self.limits, self.shards, self.clock, self.outputs)
        return WriteExactly(to) if self.method == EXACTLY_ONCE else WriteRows(to, AT_LEAST_ONCE[self.method])

    def confirm(self) -> beam.PTransform:
        """Nothing is left to do: what BigQuery has answered for can be seen."""
        return beam.Filter(lambda _: False)


class WriteRows(beam.PTransform):
    """At least once; see the file."""

    def __init__(self, to: To, writer: type[StorageWriter] | type[InsertWriter]):
        super().__init__()
        self.to, self.writer = to, writer

    def expand(self, rows):
        writing = beam.ParDo(_WriteRows(self)).with_output_types(bytes, books=bytes, refused=pl.DataFrame)
        return rows | "Write rows" >> writing.with_outputs("books", "refused", main="files")


class _WriteRows(GatherRows):
    def __init__(self, write: WriteRows):
        super().__init__(write.to)
        self.make = write.writer

    def setup(self):
        to = self.to
        self.writer: Writer = self.make(to.dataset, to.table, to.limits, self.measured.retried)

    def teardown(self):
        self.writer.close()

    def write(self, rows):
        began = time.monotonic()
        refusals = self.writer.write(rows)
        self.measured.append.update(round((time.monotonic() - began) * 1000))
        yield from emit_outcomes(rows, refusals, self.to, self.measured)
