"""The sink of a stream: rows to BigQuery as they come, by the method that --write_method names.

    write(table)   PCollection[rows] -> files: PCollection[bytes, JSON {table, rows}], books, refused (of events)

A bundle gathers rows and writes them before it ends. A row counts as written once BigQuery has answered; an event that
it refuses is no event and goes to quarantine (stage `load`), where the books count it. A row of another table is the
pipeline's own work: one that is refused fails the bundle.

STORAGE_WRITE_API             Arrow record batches on the default stream: at least once. A bundle that is tried again
                              writes its rows again; the view events_unique shows each event once.
STREAMING_INSERTS             insertAll: at least once, but for what is repeated within a minute
"""

import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import apache_beam as beam
import msgspec
import polars as pl
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from pipelines.warehouse.bigquery_refused import refused_events
from pipelines.warehouse.bigquery_retry import Limits
from pipelines.warehouse.bigquery_write import InsertWriter, Refusal, StorageWriter, Writer
from pipelines.warehouse.sink import shaped
from pipelines.warehouse.tables import EVENTS, Table
from transforms.errors import WarehouseError
from transforms.quality import count
from transforms.stage import in_global_window

METHODS: dict[str, type[StorageWriter] | type[InsertWriter]] = {
    "STORAGE_WRITE_API": StorageWriter,
    "STREAMING_INSERTS": InsertWriter,
}
MOST_ROWS = 20_000  # that a bundle gathers before it writes them
MOST_BYTES = 8_000_000  # the same, as Polars holds them: about one request
NAMESPACE = "audience"


class BigQueryStreamSink(NamedTuple):
    """Tables of `dataset` (project.dataset), which must be there with these declarations."""

    dataset: str
    tables: Mapping[str, Table]
    method: str = "STORAGE_WRITE_API"
    limits: Limits = Limits()

    @property
    def refuses(self) -> bool:
        return True

    def table(self, name: str) -> Table:
        """The declaration of a table."""
        return self.tables[name]

    def write(self, table: Table, outcome: str | None = None) -> beam.PTransform:
        """Write rows."""
        return WriteRows(self, table, outcome)

    def confirm(self) -> beam.PTransform:
        """Nothing is left to do: what BigQuery has answered for can be seen."""
        return beam.Filter(lambda _: False)


class Written(msgspec.Struct, frozen=True):
    """A confirmation."""

    table: str
    rows: int


class WriteRows(beam.PTransform):
    """See the file."""

    def __init__(self, sink: BigQueryStreamSink, table: Table, outcome: str | None):
        super().__init__()
        self.sink, self.table, self.outcome = sink, table, outcome

    def expand(self, rows):
        writing = beam.ParDo(_WriteRows(self)).with_output_types(bytes, books=pl.DataFrame, refused=pl.DataFrame)
        everywhere = rows | "Leave the windows" >> beam.WindowInto(GlobalWindows()).with_output_types(pl.DataFrame)
        return everywhere | "Write rows" >> writing.with_outputs("books", "refused", main="files")


class Measured:
    """The metrics of a step that writes one table."""

    def __init__(self):
        self.rows = Metrics.counter(NAMESPACE, "rows-written")
        self.refused = Metrics.counter(NAMESPACE, "rows-refused")
        self.retries = Metrics.counter(NAMESPACE, "write-retries")
        self.append = Metrics.distribution(NAMESPACE, "append-msec")


class _WriteRows(beam.DoFn):
    def __init__(self, write: WriteRows):
        self.sink, self.to, self.outcome = write.sink, write.table, write.outcome
        self.measured = Measured()

    def setup(self):
        make = METHODS[self.sink.method]
        self.writer: Writer = make(self.sink.dataset, self.to, self.sink.limits, self.measured.retries.inc)

    def start_bundle(self):
        self.gathered: list[pl.DataFrame] = []
        self.rows, self.bytes = 0, 0

    def process(self, rows):
        self.gathered.append(shaped(rows, self.to))
        self.rows += len(rows)
        self.bytes += rows.estimated_size()
        if self.rows >= MOST_ROWS or self.bytes >= MOST_BYTES:
            yield from self._flush()

    def finish_bundle(self):
        return map(in_global_window, self._flush())

    def teardown(self):
        self.writer.close()

    def _flush(self) -> Iterable:
        if not self.rows:
            return
        rows = pl.concat(self.gathered)
        self.start_bundle()
        began = time.monotonic()
        refusals = self.writer.write(rows)
        self.measured.append.update(round((time.monotonic() - began) * 1000))
        yield from told(rows, refusals, self.to, self.outcome, self.measured)


def told(rows: pl.DataFrame, refusals: list[Refusal], table: Table, outcome: str | None, measured: Measured):
    """The outputs for rows that BigQuery has answered for."""
    if refusals and table.name != EVENTS.name:
        raise WarehouseError(refused_own(table, len(rows), refusals))
    written = rows
    if refusals:
        measured.refused.inc(len(refusals))
        yield TaggedOutput("refused", refused_events(rows, refusals))
        written = rows.with_row_index("_row").filter(~pl.col("_row").is_in([each.row for each in refusals]))
    if len(written):
        measured.rows.inc(len(written))
        if outcome:
            yield TaggedOutput("books", count(written, outcome))
        yield msgspec.json.encode(Written(table.name, len(written)))


def refused_own(table: Table, rows: int, refusals: list[Refusal]) -> str:
    """What to say of rows that the pipeline made itself."""
    first = refusals[0]
    return (
        f"table {table.name}: BigQuery refused {len(refusals)} of {rows} rows, the first for "
        f"{first.path or 'no column that it named'}: {first.message}; the pipeline made these rows, so "
        "that its columns and those of the table in BigQuery must differ"
    )
