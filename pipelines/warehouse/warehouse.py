"""What every warehouse can do: the local one (local.py, writer.py) and BigQuery's (bigquery.py, bigquery_run.py)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import date, timedelta
from pathlib import Path
from typing import Protocol

import polars as pl

from pipelines.warehouse import damage
from pipelines.warehouse.local import FileEntry, LocalWarehouse
from pipelines.warehouse.rows import Without
from pipelines.warehouse.tables import Table
from transforms.funnel import Funnel

Days = Iterable[date | None]  # None: the day of rows that tell no time


class Warehouse(Protocol):
    """Tables by day, and views over them."""

    kind: str  # of warehouse, in a word
    time_zone: str
    at_least_once: bool  # whether a row of a stream may be written twice

    @property
    def name(self) -> str:
        """How a person names it."""

    @property
    def option(self) -> str:
        """How it is named on a command line."""

    def close(self) -> None:
        """Let go of what is held open."""

    def writer(self) -> "AbstractContextManager[Run]":
        """The run that writes."""

    def is_streamed(self) -> bool:
        """Whether a stream has written it lately, so that what it still holds back may be in no books yet."""

    def names(self) -> set[str]:
        """Every table and view that may be asked."""

    def tables(self) -> dict[str, Table]:
        """The declared tables."""

    def table(self, name: str) -> Table:
        """The declaration of a table."""

    def rows_by_day(self, table: str) -> dict[date | None, int]:
        """How many rows a table has on each day that has any."""

    def files(self, table: str, days: Days | None = None) -> list[Path]:
        """Parquet files with the rows of a table, of all days or of `days`; they live as long as this object."""

    def scan(self, table: str, days: Days | None = None, columns: Sequence[str] | None = None) -> pl.LazyFrame:
        """The rows of a table, in its declared columns or these."""

    def ask(self, sql: str) -> Iterator[pl.DataFrame]:
        """The answer to a question in BigQuery's SQL, in parts of which the first may be empty."""


class Run(Protocol):
    """The one run that writes a warehouse. `id` sorts by its start, `staging` is its local folder."""

    id: str
    staging: Path

    @property
    def folder(self) -> str:
        """Where `write_file` puts what is to be committed: `staging`, or a folder of a bucket."""

    @property
    def warehouse(self) -> Warehouse:
        """What it writes."""

    def declare(self, tables: Iterable[Table], funnel: Funnel | None = None) -> None:
        """Announce the tables this run writes and the funnel in force; None leaves the one that is."""

    def may_write(self, days: Days) -> None:
        """Raises WarehouseError for days that a stream may still write."""

    def commit(
        self,
        entries: Iterable[FileEntry],
        replace_days: Mapping[str, Days | None] | None = None,
        keep: Mapping[str, Without] | None = None,
    ) -> None:
        """Make staged files live and take rows of days out, all at once."""

    def purge(self) -> None:
        """Leave nothing behind of the rows that commits took out, as far as it is for us to do."""


@contextmanager
def opened(
    dataset: str | None,
    folder: str | None,
    time_zone: str | None = None,
    create: bool = False,
    partition_expiry: timedelta | None = None,
    settled_after: timedelta | None = None,
    group: str | None = None,
) -> Iterator[Warehouse]:
    """The warehouse in a dataset of BigQuery if one is named, else in a folder; closed at the end.

    What a damaged file of a folder makes fail while it is open becomes a WarehouseError that names the file.
    """
    warehouse: Warehouse
    if dataset is not None:
        from pipelines.warehouse.bigquery import BigQueryWarehouse, Choice  # which imports Google's clients

        warehouse = BigQueryWarehouse.open(dataset, time_zone, create, Choice(partition_expiry, settled_after))
    else:
        assert folder is not None, "options name one or the other"
        warehouse = LocalWarehouse.open(folder, time_zone, create, group)
    with closing(warehouse), damage.named(warehouse) if isinstance(warehouse, LocalWarehouse) else nullcontext():
        yield warehouse
