"""One run's writing of a warehouse in BigQuery: staged files, load jobs, and one transaction.

The graph writes the same Parquet files as for a local warehouse, to a temporary folder of this machine or, from a
cluster, to a folder of a bucket. A commit loads them into staging tables and then, in one transaction, takes the rows
of the days that are replaced out and puts the staged ones in: a reader sees the old rows or the new ones. A run that
fails before leaves what was there; what it staged is removed, or expires.

Limits of BigQuery that a long backfill meets
    1,500 loads of a table in a day     files are merged before they are loaded, see load.py
    4,000 partitions of a statement     INSERT and DELETE are cut by days
    100 tables, 100,000 partitions      of a transaction: more is refused before anything is loaded
"""

import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from google.api_core import exceptions
from google.cloud import bigquery

from pipelines.settings.attribution import Attribution
from pipelines.warehouse.bigquery import commit_token as bigquery_claim
from pipelines.warehouse.bigquery import schema as bigquery_schema
from pipelines.warehouse.bigquery.dataset import (
    LAST_ANSWERS,
    LAST_COMMIT,
    PATIENCE,
    STAGING,
    Dataset,
    first_commit,
    streaming_buffer,
)
from pipelines.warehouse.bigquery.errors import REFUSED, describe_error
from pipelines.warehouse.bigquery.load import load, staging_fields
from pipelines.warehouse.conditions import DAY, Without, in_days, literal, midnight
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.interface import CommitToken, Discarded
from pipelines.warehouse.staged import columns_of
from pipelines.warehouse.tables import EVENTS, Table, polars_schema
from transforms.errors import OvertakenError, WarehouseError
from transforms.sessions.funnel import Funnel

STAGED_FOR = timedelta(days=1)  # then a staging table that nobody removed is gone
STATEMENT_PARTITIONS = 4_000
MOST_TABLES, MOST_PARTITIONS = 100, 100_000  # of a transaction
_OVERTAKEN = "another run has committed"
Day = date | None


class _Staged(NamedTuple):
    """Rows of a table in its staging table."""

    table: Table
    staging: bigquery.TableReference
    columns: list[str]
    days: list[Day]
    rows: int


class BigQueryRun:
    """The run that writes a warehouse, between `with` and its end.

    id       sorts by the time the run began
    staging  local folder, removed at the end
    folder   where `write_file` puts what is to be committed: `staging`, or the folder of the token

    With a `token` it is the run that made it, going on elsewhere: it commits once. A run `of_answers` takes turns with
    others of its kind alone: it is refused where one of these has committed since, and refuses no other run.
    """

    def __init__(self, warehouse: Dataset, token: CommitToken | None = None, of_answers: bool = False):
        self.warehouse, self.token, self.of_answers = warehouse, token, of_answers
        self._marker, self._valid = (
            (LAST_ANSWERS, bigquery_claim.VALID_ANSWERS) if of_answers else (LAST_COMMIT, bigquery_claim.VALID)
        )
        self.id = token.id if token else f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
        self._commits = 0
        self._declared: dict[str, Table] = dict(token.tables) if token else {}

    def __enter__(self) -> "BigQueryRun":
        known = self.token.before if self.token else None
        self._before = known or self._first_read()
        self.staging = Path(tempfile.mkdtemp(prefix="audience-staging-"))
        self.folder = self.token.folder if self.token else str(self.staging)
        return self

    def __exit__(self, *_) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)

    def declare(
        self, tables: Iterable[Table], funnel: Funnel | None = None, attribution: Attribution | None = None
    ) -> None:
        """Make or widen the tables this run writes, and their views.

        Raises WarehouseError, and then nothing was changed, if a table has another schema that takes more than new
        columns, or a view its name.
        """
        with describe_error(self.warehouse.name, "make its tables"):
            self._declared |= bigquery_schema.declare(self.warehouse, tables, funnel, attribution)

    def hand_over(self, folder: str, rows_were_read: bool) -> CommitToken:
        """Let another process commit what it writes to `folder`, once; this one does not any more.

        rows_were_read  rows of the warehouse are part of what it writes, so that no other run may commit before it
        """
        token = CommitToken(self.id, folder, self._before if rows_were_read else None, self._declared)
        bigquery_claim.create(self.warehouse, token, self._valid)
        return token

    def has_committed(self) -> bool:
        """Whether a run that was handed over has committed, here or elsewhere."""
        return self.token is not None and bigquery_claim.is_used(self.warehouse, self.token, self._valid)

    def may_write(self, days: Iterable[Day]) -> None:
        """Raises WarehouseError if a stream writes the dataset and may still write events of one of these days: its
        open windows would put their poorer totals over what this run makes."""
        settled_after = self.warehouse.settled_after
        if settled_after is None:
            return
        still_open = open_days(days, datetime.now(UTC), self.warehouse.time_zone, settled_after)
        if still_open:
            refuse_open(self.warehouse.name, self.warehouse.resource(EVENTS.name), still_open)

    def discard(self, tables: Iterable[str], days: Collection[date]) -> Discarded:
        """Nothing: BigQuery keeps the files, and keeps them whole."""
        return Discarded([])

    def commit(
        self,
        entries: Iterable[FileEntry],
        replace_days: Mapping[str, Iterable[Day] | None] | None = None,
        keep: Mapping[str, Without] | None = None,
    ) -> None:
        """Make staged files live, all at once.

        entries       what `write_file` returned; files that are not among them never become live
        replace_days  table -> days whose present rows go (None in it: the unknown day; None instead of
                      days: every day); entries of other days append
        keep          table -> which rows of the replaced days stay

        Raises WarehouseError for an entry whose table or columns were not declared, for days that a stream may still
        write, if another run has committed since this one began (an OvertakenError), or if BigQuery refuses; nothing
        was changed then.
        """
        by_table: dict[str, list[FileEntry]] = {}
        for entry in entries:
            if entry.rows:
                by_table.setdefault(entry.table, []).append(entry)
        gone = {name: self._days(name, days) for name, days in (replace_days or {}).items()}
        gone = {name: days for name, days in gone.items() if days}
        self._check(by_table)
        _check_limits(by_table, gone)
        self.may_write([*gone.get(EVENTS.name, ()), *(file.day for file in by_table.get(EVENTS.name, ()))])
        staged: list[_Staged] = []
        try:
            for name, files in by_table.items():
                self._stage(name, files, staged)
            self._commits += 1
            self._swap(staged, gone, keep or {}, f"{self.id}-{self._commits}")
        finally:
            self.warehouse.forget()
            for each in staged:
                with suppress(*REFUSED):  # it expires
                    self.warehouse.client.delete_table(each.staging, not_found_ok=True, retry=None)

    def purge(self) -> None:
        """Remove what other runs have staged: rows that a killed one loaded would stay until its tables expire.

        A run that is still writing is refused then; it would have been anyway, since this one has committed. BigQuery
        keeps deleted rows for its time travel, up to a week, and its fail-safe, a week more.
        """
        client, tokens = self.warehouse.client, bigquery_claim.PREFIX
        with describe_error(self.warehouse.name, "remove what runs have staged"):
            for item in client.list_tables(self.warehouse.dataset, retry=PATIENCE):
                if item.table_id.startswith(STAGING) and not item.table_id.startswith(tokens):
                    client.delete_table(item.reference, not_found_ok=True, retry=PATIENCE)

    def _days(self, table: str, days: Iterable[Day] | None) -> list[Day]:
        known = list(self.warehouse.rows_by_day(table)) if days is None else set(days)
        return sorted(known, key=lambda day: (day is not None, day or date.min))

    def _check(self, by_table: Mapping[str, list[FileEntry]]) -> None:
        """Refuse files of an undeclared table, or (looking at one file a table) with other columns."""
        for name, files in by_table.items():
            if name not in self._declared:
                raise WarehouseError(
                    f"{files[0].path}: table {name!r} is not declared; known are {', '.join(sorted(self._declared))}"
                )
            declared = polars_schema(self._declared[name])
            for column, dtype in columns_of(files[0].path).items():
                if declared.get(column) != dtype:
                    raise WarehouseError(
                        f"{files[0].path}: column {column!r} is {dtype}, but table {name} declares "
                        f"{declared.get(column, 'no such column')}; write it in the declared columns"
                    )

    def _stage(self, name: str, files: list[FileEntry], staged: list[_Staged]) -> None:
        """Load the files into a staging table, noted in `staged` as soon as it may exist."""
        table, client = self._declared[name], self.warehouse.client
        columns = list(columns_of(files[0].path))
        # By a name of its own: of a run with a token two may stage at once.
        own = f"{self.id.replace('-', '_')}_{self._commits}_{secrets.token_hex(3)}"
        reference = self.warehouse.dataset.table(f"{STAGING}{name}_{own}")
        days = sorted({file.day for file in files}, key=lambda day: (day is not None, day or date.min))
        staged.append(_Staged(table, reference, columns, days, sum(file.rows for file in files)))
        resource = bigquery.Table(reference, staging_fields(table, columns))
        resource.expires = datetime.now(UTC) + STAGED_FOR
        with describe_error(self.warehouse.name, f"load rows of {name}"):
            client.create_table(resource, retry=PATIENCE)
            for job in load(self.warehouse, reference, files, self.staging):
                job.result(retry=PATIENCE)

    def _swap(
        self,
        staged: list[_Staged],
        gone: Mapping[str, list[Day]],
        keep: Mapping[str, Without],
        commit: str,
    ) -> None:
        name = self.warehouse.name
        statements = [*self._opening(staged, commit), *self._statements(staged, gone, keep), "COMMIT TRANSACTION;"]
        try:
            with describe_error(name, "swap the rows in"):
                self.warehouse.query("\n".join(statements))
        except WarehouseError as error:
            # The answer may be lost of a commit that was made; asked again, it is overtaken by itself.
            if not self._has_committed(commit):
                if _OVERTAKEN in str(error):
                    raise OvertakenError(
                        f"{name}: {_OVERTAKEN} since this one began; nothing of this run was written, run it again"
                    ) from error
                raise
        self._before = commit

    def _opening(self, staged: list[_Staged], commit: str) -> Iterator[str]:
        """What has to be so, or the transaction ends: all that was staged is there, and nobody else has committed."""
        state = f"`{self.warehouse.name}.{self._marker}`"
        yield "BEGIN TRANSACTION;"
        if self.token is not None:
            yield from bigquery_claim.take_statements(self.warehouse, self.token)
        same = f"(SELECT MAX(run) FROM {state}) = {literal(self._before)}"
        yield f"SELECT IF({same}, TRUE, ERROR('{_OVERTAKEN}'));"
        # Of two transactions that update one row BigQuery ends one: so they cannot both pass the line before.
        yield f"UPDATE {state} SET run = {literal(commit)}, committed_time = CURRENT_TIMESTAMP() WHERE TRUE;"
        for each in staged:
            loaded = f"(SELECT COUNT(*) FROM `{self._path(each.staging)}`) = {each.rows}"
            yield f"SELECT IF({loaded}, TRUE, ERROR('not each row of {each.table.name} was loaded once'));"

    def _statements(
        self, staged: list[_Staged], gone: Mapping[str, list[Day]], keep: Mapping[str, Without]
    ) -> Iterator[str]:
        zone, name = self.warehouse.time_zone, self.warehouse.name
        for table, days in gone.items():
            partition = (self._declared.get(table) or self.warehouse.table(table)).partition
            goes = f" AND NOT ({keep[table].sql()})" if table in keep else ""
            for part in _chunks(days):
                yield f"DELETE FROM `{name}.{table}` WHERE {in_days(partition, part, zone)}{goes};"
        for each in staged:
            listed = ", ".join(f"`{column}`" for column in each.columns)
            json = {column.name for column in each.table.columns if column.type == "JSON"}
            values = ", ".join(_as_json(column) if column in json else f"`{column}`" for column in each.columns)
            chunks = list(_chunks(each.days))
            for part in chunks:
                where = f" WHERE {in_days(each.table.partition, part, zone)}" if len(chunks) > 1 else ""
                yield (
                    f"INSERT INTO `{name}.{each.table.name}` ({listed}) "
                    f"SELECT {values} FROM `{self._path(each.staging)}`{where};"
                )

    def _has_committed(self, commit: str) -> bool:
        with suppress(WarehouseError):
            return self.has_committed() if self.token else self._last_commit() == commit
        return False

    def _path(self, table: bigquery.TableReference) -> str:
        return f"{table.project}.{table.dataset_id}.{table.table_id}"

    def _first_read(self) -> str:
        """The last commit; of answers, whose table no dataset has before their first run, also where there is none."""
        try:
            return self._last_commit()
        except WarehouseError as error:
            if not self.of_answers or not isinstance(error.__cause__, exceptions.NotFound):
                raise
        with describe_error(self.warehouse.name, "make its tables"):
            for statement in first_commit(self.warehouse.name, self._marker):
                self.warehouse.query(statement)
        return self._last_commit()

    def _last_commit(self) -> str:
        with describe_error(self.warehouse.name, "read its tables"):
            rows = self.warehouse.query(f"SELECT MAX(run) AS run FROM `{self.warehouse.name}.{self._marker}`")
            return next(iter(rows))["run"]


def open_days(days: Iterable[Day], now: datetime, zone: str, settled_after: timedelta) -> list[date]:
    """The days whose end in the zone is not yet `settled_after` ago."""
    return sorted({day for day in days if day is not None and midnight(day + DAY, zone) + settled_after > now})


def refuse_open(dataset: str, events: bigquery.Table, still_open: list[date]) -> None:
    """Raise WarehouseError if rows of a stream have reached the table lately."""
    buffer = streaming_buffer(events)
    if buffer is None:
        return
    since = f", since {buffer.oldest_entry_time:%Y-%m-%d %H:%M} UTC" if buffer.oldest_entry_time else ""
    raise WarehouseError(
        f"{dataset}: a stream writes it{since} and may still write events of {still_open[0]}: days before that may be "
        "written now; give --end, wait, or drain the stream and say so with --no_active_stream"
    )


def _as_json(column: str) -> str:
    """A text as JSON; one that BigQuery cannot parse, as it is nested too deep, stays a text in it."""
    return f"IFNULL(SAFE.PARSE_JSON(`{column}`, wide_number_mode => 'round'), TO_JSON(`{column}`))"


def _chunks(days: list[Day]) -> Iterator[list[Day]]:
    """Days in parts that one statement may touch."""
    for first in range(0, len(days), STATEMENT_PARTITIONS):
        yield days[first : first + STATEMENT_PARTITIONS]


def _check_limits(by_table: Mapping[str, list[FileEntry]], gone: Mapping[str, list[Day]]) -> None:
    """Refuse what no transaction of BigQuery's may hold."""
    touched: dict[str, set[Day]] = {name: {file.day for file in files} for name, files in by_table.items()}
    for name, days in gone.items():
        touched.setdefault(name, set()).update(days)
    partitions = sum(map(len, touched.values()))
    if len(touched) >= MOST_TABLES or partitions > MOST_PARTITIONS:
        raise WarehouseError(
            f"the run touches {partitions:,} days in {len(touched)} tables, and a transaction of BigQuery's takes "
            f"{MOST_PARTITIONS:,} in {MOST_TABLES - 1}; cut it into ranges of days with --start and --end"
        )
