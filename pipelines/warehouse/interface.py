"""What every warehouse can do: the local one and BigQuery's.

Reader        tables by day and views over them, as they are read
Warehouse     a reader that a run may write
WarehouseRun  the one run that writes

To add a kind, write these in a package of its own, let open.py choose it, and name how a stream into it is restored in
RECOVERIES (streaming/stream.py). tests/pipelines/warehouse/contract.py is the suite to subclass;
docs/extend/warehouse.md builds a kind.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import polars as pl

from pipelines.settings.attribution import Attribution
from pipelines.warehouse.bounds import NONE, Bounds
from pipelines.warehouse.conditions import Without
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.recent import Recent, Since
from pipelines.warehouse.tables import Table
from transforms.sessions.funnel import Funnel

Days = Iterable[date | None]  # None: the day of rows without a time


@dataclass
class Result:
    """An answer. `columns` are its names, made unique; `batches` (once) its rows, as they are computed; `time_zone` the
    one in which it was asked, and its times are."""

    columns: list[str]
    batches: Iterator[pl.DataFrame]
    time_zone: str = "UTC"

    def frame(self) -> pl.DataFrame:
        """All rows in one frame; a column of a type that Polars lacks (INTERVAL, UUID, ...) is text."""
        parts = list(self.batches)
        return pl.concat(parts) if parts else pl.DataFrame()


class UnlistedFile(NamedTuple):
    """A file with rows that no table lists: replaced by a commit, or staged and not yet committed."""

    path: Path
    table: str
    staged: bool


class CommitToken(NamedTuple):
    """What lets another process commit a run, once.

    id      of the run
    folder  of the bucket for its files
    before  the commit that the job's rows were read after, and no other may follow it; None: read by the commit itself
    tables  what the run declared, by name
    """

    id: str
    folder: str
    before: str | None
    tables: dict[str, Table]


class Reader(Protocol):
    """Tables by day, and views over them, as they are read."""

    time_zone: str
    at_least_once: bool  # whether a row of a stream may be written twice

    @property
    def name(self) -> str:
        """How a person names it."""

    @property
    def option(self) -> str:
        """How it is named on a command line."""

    def names(self) -> set[str]:
        """Every table and view that may be asked."""

    def tables(self) -> dict[str, Table]:
        """The declared tables."""

    def table(self, name: str) -> Table:
        """The declaration of a table."""

    def rows_by_day(self, table: str) -> dict[date | None, int]:
        """How many rows a table has on each day that has any."""

    def days_with(self, table: str, column: str, value: str) -> set[date | None]:
        """The days of a table with rows whose text in this column is `value`."""

    def files(self, table: str, days: Days | None = None) -> list[Path]:
        """Parquet files with the rows of a table, of all days or of `days`; they live as long as this object."""

    def scan(self, table: str, days: Days | None = None, columns: Sequence[str] | None = None) -> pl.LazyFrame:
        """The rows of a table, in its declared columns or these."""

    def ask(self, sql: str) -> Iterator[pl.DataFrame]:
        """The answer to a question in BigQuery's SQL, in parts of which the first may be empty."""

    def columns(self, names: Collection[str]) -> dict[str, dict[str, str]]:
        """The columns of these tables and views, each with its type as BigQuery names it; of other types OTHER.

        Raises WarehouseError if there is no such table or view.
        """

    def answer(self, sql: str, dialect: str = "duckdb", unsafe: bool = False, bounds: Bounds = NONE) -> Result:
        """The answer to one question of a person's, which may only read, in the warehouse's time zone; `unsafe` of
        a local warehouse: any statements. `bounds` hold for a question that is not unsafe.

        Raises, now or while rows are read, QueryError with the database's words and near names.
        """


class Warehouse(Reader, Protocol):
    """A warehouse that a run may write."""

    kind: ClassVar[str]  # by which RECOVERIES finds what a stream keeps: "local", "bigquery"

    def close(self) -> None:
        """Let go of what is held open."""

    def asking(self) -> AbstractContextManager[Callable[[str], pl.DataFrame]]:
        """Answers to several questions of one state, in SQL that BigQuery and DuckDB share, in a session in UTC."""

    def asking_recent(self, since: Since, most_bytes: int | None = None) -> AbstractContextManager[Recent]:
        """Answers over the tables of `since`, each from its time on, that cost as little as the history is long;
        `most_bytes`: what BigQuery may bill for one question."""

    def view_texts(self) -> dict[str, str]:
        """The views by name, in the order of creation, in BigQuery's SQL that names tables and views alone."""

    def version(self, with_answers: bool = False) -> object | None:
        """What changes with each commit, also of answers if so asked; None where nobody can say so without asking."""

    def use_funnel(self, funnel: Funnel) -> None:
        """Ask this funnel in place of that of the last run. Raises WarehouseError if it can ask no other."""

    def use_attribution(self, attribution: Attribution) -> None:
        """Ask this look-back in place of that of the last run. Raises WarehouseError if it can ask no other."""

    def explain_errors(self) -> AbstractContextManager[None]:
        """While it lasts, what a damaged file makes fail is a WarehouseError that names the file."""

    def writer(
        self, token: CommitToken | None = None, of_answers: bool = False
    ) -> "AbstractContextManager[WarehouseRun]":
        """The run that writes; with a token the one that gave it out, continued here.

        of_answers  it writes answers of a refresh alone: it need not wait for other runs, nor they for it
        """

    @property
    def local_path(self) -> Path | None:
        """The folder of this machine that it is; None for one that is elsewhere."""

    def written_by(self) -> str | None:
        """Who writes it now, so that its audit counts may differ from its tables; None: nobody."""

    def unlisted_files(self) -> Iterator[UnlistedFile]:
        """Files that hold rows and belong to no table now."""

    def retention(self) -> list[str]:
        """Where rows that were deleted may remain and for how long, a line each."""

    def remove_staged(self, folder: str) -> None:
        """Remove the staging folder of a run that has handed over its commit."""


class LostFile(NamedTuple):
    """A damaged file: what is wrong with it, and what the manifest says it held."""

    path: Path
    what: str
    table: str
    day: str
    rows: int


class Discarded(NamedTuple):
    """The damaged files that a run replaces; `landed`: records of a stream wait to be read again."""

    files: list[LostFile]
    landed: bool = False

    def rows(self, table: str) -> int:
        """The rows that the files of a table held."""
        return sum(file.rows for file in self.files if file.table == table)

    def days(self, table: str) -> list[date]:
        """The days of its files of a table."""
        return sorted({date.fromisoformat(file.day) for file in self.files if file.table == table})


class WarehouseRun(Protocol):
    """The one run that writes a warehouse. `id` sorts by its start, `staging` is its local folder."""

    id: str
    staging: Path

    @property
    def folder(self) -> str:
        """Where `write_file` puts what is to be committed: `staging`, or a folder of a bucket."""

    @property
    def warehouse(self) -> Reader:
        """What it writes."""

    def declare(
        self, tables: Iterable[Table], funnel: Funnel | None = None, attribution: Attribution | None = None
    ) -> None:
        """Announce the tables this run writes, the effective funnel and attribution; None leaves what is."""

    def may_write(self, days: Days) -> None:
        """Raises WarehouseError for days that a stream may still write."""

    def discard(self, tables: Iterable[str], days: Collection[date]) -> Discarded:
        """Check every file of these tables and days, and ignore the damaged ones: the next commit removes them."""

    def commit(
        self,
        entries: Iterable[FileEntry],
        replace_days: Mapping[str, Days | None] | None = None,
        keep: Mapping[str, Without] | None = None,
    ) -> None:
        """Make staged files live and take rows of days out, all at once."""

    def hand_over(self, folder: str, rows_were_read: bool) -> CommitToken:
        """Let another process commit what it writes to `folder`, once; this one does not any more.

        rows_were_read  rows of the warehouse are part of what it writes, so that no other run may commit before it

        Raises WarehouseError for a warehouse that other machines cannot write.
        """

    def has_committed(self) -> bool:
        """Whether a run that was handed over has committed, here or elsewhere."""

    def purge(self) -> None:
        """Leave nothing behind of the rows that commits took out, as far as it is for us to do."""


class Restorable(Protocol):
    """The tables that a stream restores its state from."""

    time_zone: str

    def table(self, name: str) -> Table:
        """The declaration of a table."""

    def rows_by_day(self, table: str) -> dict[date | None, int]:
        """How many rows a table has on each day that has any."""

    def files(self, table: str, days: Days | None = None) -> list[Path]:
        """Parquet files with the rows of a table, of all days or of `days`."""

    def scan(self, table: str, days: Days | None = None, columns: Sequence[str] | None = None) -> pl.LazyFrame:
        """The rows of a table, in its declared columns or these."""

    def scan_files(self, table: str, paths: Sequence[Path]) -> pl.LazyFrame:
        """The rows of some of its files."""


class RestoreRun(Protocol):
    """The run that corrects the tables before a stream starts again."""

    staging: Path

    @property
    def warehouse(self) -> Restorable:
        """What it reads and writes."""

    def commit(
        self,
        entries: Iterable[FileEntry],
        replace_days: Mapping[str, Days | None] | None = None,
        *,
        drop: Mapping[str, pl.Expr] | None = None,
    ) -> None:
        """Make staged files live, and of the replaced days take out the rows for which `drop` is true."""
