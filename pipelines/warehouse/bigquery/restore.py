"""What a stream that starts again asks a dataset: which minutes have all that was received, and what else remains.

Rows of a stream cannot be taken out of BigQuery for a while. So the rows of minutes that are read again stay, and are
left out by whoever reads here; the records that come again write newer ones, of an event the delivery that is stored.
The view events_unique shows each event once, and `<table>_current` the newest row of each key.

Read   of `events` the rows of the days that the open windows reach into, each event once; of the other tables what
       is current. A table of many keys makes that many rows to download.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from pipelines.warehouse.bigquery.dataset import Dataset, spool
from pipelines.warehouse.bigquery.run import BigQueryRun
from pipelines.warehouse.conditions import days_from, in_days, literal, moment
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE, Table, polars_schema
from transforms.block import TIME
from transforms.windows import to_micros

_TIMES = {EVENTS.name: "received_time", QUALITY_1M.name: "bucket_start"}  # by which a row is of a minute


def received(warehouse: Dataset, inputs: Collection[str], since: datetime) -> pl.DataFrame:
    """(input, bucket_start, received) of every minute from `since` on whose balance is 0, as local/settled.py has it.

    An event can be queried before it is counted: so what the audit counts say is there.
    """
    sql = (
        f"SELECT `input`, `bucket_start`, SUM(`received`) AS `received` FROM `{QUALITY_1M.name}_current` "
        f"WHERE `bucket_start` >= {moment(since)} AND ({' OR '.join(map(of_input, sorted(inputs)))}) "
        "GROUP BY `input`, `bucket_start` HAVING SUM(`balance`) = 0"
    )
    schema = {"input": pl.String, "bucket_start": TIME, "received": pl.Int64}
    return pl.concat([part.cast(schema) for part in warehouse.ask(sql)])  # type: ignore[arg-type]


def of_input(input: str) -> str:
    """BigQuery's SQL for: a row is of this input, or of a part of it."""
    return f"(`input` = {literal(input)} OR STARTS_WITH(`input`, {literal(f'{input}@')}))"


def in_minutes(minutes: pl.DataFrame, column: str) -> str:
    """BigQuery's SQL for: a row is of one of the minutes (input, bucket_start) by its time `column`.

    Short for many minutes, since a query may have a million characters. By microseconds: emulators round UNIX_SECONDS.
    """
    numbered = minutes.select("input", number=pl.col("bucket_start").dt.epoch("s") // 60).unique()
    parts = []
    for (input,), part in sorted(numbered.partition_by("input", as_dict=True).items()):
        listed = ", ".join(map(str, part["number"].sort()))
        parts.append(f"(`input` = {literal(input)} AND DIV(UNIX_MICROS(`{column}`), 60000000) IN ({listed}))")
    return f"IFNULL({' OR '.join(parts)}, FALSE)" if parts else "FALSE"


class Remains:
    """A dataset without the rows of `undone` minutes (input, bucket_start), as recovery/restore.py reads it.

    Each question is asked once: what is written meanwhile is not seen.

    folder  where rows are downloaded to; whoever gives it removes it
    """

    def __init__(self, warehouse: Dataset, undone: pl.DataFrame, dedup_window: timedelta, folder: Path):
        self.warehouse, self.undone, self.folder = warehouse, undone, folder
        self.time_zone = warehouse.time_zone
        self._window = to_micros(dedup_window)
        self._known: dict[tuple, list[Path]] = {}

    def table(self, name: str) -> Table:
        """The declaration of a table."""
        return self.warehouse.table(name)

    def rows_by_day(self, table: str) -> dict[date | None, int]:
        """How many rows a table has on each day that has any, all counted."""
        return self.warehouse.rows_by_day(table)

    def files(self, table: str, days: Iterable[date | None] | None = None) -> list[Path]:
        """Parquet files with the rows of a table, of all days or of `days`."""
        wanted = None if days is None else frozenset(days)
        if (table, wanted) not in self._known:
            self._known[table, wanted] = self._download(table, wanted)
        return self._known[table, wanted]

    def read_again(self, since: datetime) -> pl.LazyFrame:
        """The events of the undone minutes, of the days from `since` on: each once, though it may be stored twice."""
        days = days_from(self, EVENTS.name, since)
        where = in_days(EVENTS.partition, days, self.time_zone)
        rows = self.warehouse.ask(self._events(f"{where} AND {in_minutes(self.undone, 'received_time')}"))
        return self.scan_files(EVENTS.name, spool(rows, EVENTS, self.folder, "again"))

    def refused_again(self, since: datetime, columns: Sequence[str]) -> pl.LazyFrame:
        """These columns of the refusals of the undone minutes, of the days from `since` on: each once."""
        return self._refused(days_from(self, QUARANTINE.name, since), columns, again=True)

    def _refused(self, days: Iterable[date | None] | None, columns: Sequence[str], again: bool) -> pl.LazyFrame:
        where = "TRUE" if days is None else in_days(QUARANTINE.partition, days, self.time_zone)
        where += f" AND {'' if again else 'NOT '}{in_minutes(self.undone, 'received_time')}"
        listed = ", ".join(f"`{name}`" for name in columns)
        rows = self.warehouse.ask(f"SELECT DISTINCT {listed} FROM `{QUARANTINE.name}` WHERE {where}")
        paths = spool(rows, QUARANTINE, self.folder, f"refused-{again}")
        schema = {name: polars_schema(QUARANTINE)[name] for name in columns}
        return pl.scan_parquet(paths, schema=schema, glob=False) if paths else pl.LazyFrame(schema=schema)

    def _download(self, table: str, days: frozenset | None) -> list[Path]:
        declared = self.table(table)
        where = "TRUE" if days is None else in_days(declared.partition, days, self.time_zone)
        if table in _TIMES:
            where += f" AND NOT {in_minutes(self.undone, _TIMES[table])}"
        sql = f"SELECT {_listed(declared)} FROM `{table}_current` WHERE {where}"
        if table == EVENTS.name:
            sql = self._events(where)
        return spool(self.warehouse.ask(sql), declared, self.folder, f"{table}-{len(self._known)}")

    def _events(self, where: str) -> str:
        window = f"DIV(UNIX_MICROS(COALESCE(client_time, received_time)), {self._window})"
        return (
            f"SELECT {_listed(EVENTS)} FROM `{EVENTS.name}` WHERE {where} QUALIFY ROW_NUMBER() OVER "
            f"(PARTITION BY source, event_id, {window} ORDER BY received_time, event_time, input) = 1"
        )

    def scan(
        self, table: str, days: Iterable[date | None] | None = None, columns: Sequence[str] | None = None
    ) -> pl.LazyFrame:
        """The rows of a table, of all days or of `days`, in its declared columns or these.

        Of `quarantine` only what is asked for is downloaded, since its rows hold whole records.
        """
        if table == QUARANTINE.name and columns is not None:
            return self._refused(days, columns, again=False)
        rows = self.scan_files(table, self.files(table, days))
        return rows if columns is None else rows.select(columns)

    def scan_files(self, table: str, paths: Sequence[Path]) -> pl.LazyFrame:
        """The rows of files of a table."""
        schema = polars_schema(self.table(table))
        return pl.scan_parquet(list(paths), schema=schema, glob=False) if paths else pl.LazyFrame(schema=schema)


def _listed(table: Table) -> str:
    return ", ".join(f"`{column.name}`" for column in table.columns)


class Appending:
    """A run that adds what a restart makes, and takes nothing out: see the file."""

    def __init__(self, run: BigQueryRun, warehouse: Remains, staging: Path):
        self.run, self.warehouse, self.staging = run, warehouse, staging

    def commit(
        self,
        entries: Iterable[FileEntry],
        replace_days: Mapping[str, Iterable[date | None] | None] | None = None,
        drop: Mapping[str, pl.Expr] | None = None,
    ) -> None:
        """Make staged files live; what would go, of days that would be replaced, comes again in newer rows."""
        entries = list(entries)
        if entries:
            self.run.commit(entries)
