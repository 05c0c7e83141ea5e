"""What the steps that write to BigQuery share: the target, the rows of a bundle, and the outcomes of a request."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import polars as pl
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from pipelines.warehouse.bigquery.retry import Limits
from pipelines.warehouse.bigquery.stream.at_least_once import Refusal
from pipelines.warehouse.bigquery.stream.refused import refused_events
from pipelines.warehouse.bigquery.stream.rows import with_payloads_cut
from pipelines.warehouse.outputs import Outputs
from pipelines.warehouse.sink import shaped
from pipelines.warehouse.tables import EVENTS, QUARANTINE, Table
from pipelines.warehouse.write_stats import Tally
from transforms.counters import NAMESPACE
from transforms.errors import WarehouseError
from transforms.quality import entries_of, pack
from transforms.stage import Gathering

MOST_ROWS = 20_000  # that a bundle gathers before it writes them
MOST_BYTES = 8_000_000  # the same, as Polars holds them: about one request


tally = Tally()  # of all that this process writes


class To(NamedTuple):
    """Where rows go, and how; `outcome` as Sink has it. The clock (seconds since 1970) decides when a stream is old."""

    dataset: str  # project.dataset
    table: Table
    outcome: str | None
    limits: Limits = Limits()
    shards: int = 1
    clock: Callable[[], float] = time.time
    outputs: Outputs | None = None

    @property
    def project(self) -> str:
        return self.dataset.rpartition(".")[0]


class GatherRows(Gathering):
    """Gathers the rows of a bundle, in the columns of the table, and writes them at least once a bundle."""

    most_rows, most_bytes = MOST_ROWS, MOST_BYTES

    def __init__(self, to: To):
        self.to, self.measured = to, Measured()

    def write(self, rows: pl.DataFrame) -> Iterator:
        """Write the rows, and yield the outputs."""
        raise NotImplementedError

    def hold(self, rows):
        rows = shaped(rows, self.to.table)
        rows = with_payloads_cut(rows) if self.to.table.name == QUARANTINE.name else rows
        yield rows, len(rows), rows.estimated_size()

    def flush(self, gathered, height, size):
        if height:
            yield from self.write(pl.concat(gathered))


class Confirmed(msgspec.Struct, frozen=True):
    """A confirmation."""

    table: str
    rows: int


class Measured:
    """The metrics of a step that writes one table."""

    def __init__(self):
        self.rows = Metrics.counter(NAMESPACE, "rows-written")
        self.refused = Metrics.counter(NAMESPACE, "rows-refused")
        self.retries = Metrics.counter(NAMESPACE, "write-retries")
        self.append = Metrics.distribution(NAMESPACE, "append-msec")

    def retried(self) -> None:
        """A request is retried."""
        self.retries.inc()
        tally.failed("BigQuery does not take rows; they are tried again")


def emit_outcomes(rows: pl.DataFrame, refusals: Sequence[Refusal], to: To, measured: Measured) -> Iterator:
    """The outputs for rows that BigQuery has answered for."""
    table = to.table
    if refusals and table.name != EVENTS.name:
        raise WarehouseError(refused_own(table, len(rows), refusals))
    written = rows
    if refusals:
        measured.refused.inc(len(refusals))
        yield TaggedOutput("refused", refused_events(rows, refusals))
        written = rows.with_row_index("_row").filter(~pl.col("_row").is_in([each.row for each in refusals]))
    if len(written):
        measured.rows.inc(len(written))
        tally.add_written(table.name, written)
        if to.outputs:
            to.outputs.publish(table, written.select([column.name for column in table.columns]))
        if to.outcome:
            yield TaggedOutput("books", pack(entries_of(written, to.outcome)))
        yield msgspec.json.encode(Confirmed(table.name, len(written)))


def refused_own(table: Table, rows: int, refusals: Sequence[Refusal]) -> str:
    """What to say of rows that the pipeline made itself."""
    first = refusals[0]
    return (
        f"table {table.name}: BigQuery refused {len(refusals)} of {rows} rows, the first for "
        f"{first.path or 'no column that it named'}: {first.message}; the pipeline made these rows, so "
        "that its columns and those of the table in BigQuery must differ"
    )
