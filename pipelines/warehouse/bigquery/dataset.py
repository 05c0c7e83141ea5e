"""A warehouse's dataset in BigQuery, as it is opened and read: the same tables and views as a local one has.

    labels of the dataset        audience_format, audience_time_zone: fixed when the warehouse is made
    description of a table       ends in a line `Key: a, b.`: the columns that identify a row
    table `last_commit`          one row: the run that committed last, so that of two runs at once the second is refused
    table `last_answers`         the same of runs that write answers alone, which are in no other run's way
    tables `staging_...`         what a commit has loaded and not yet swapped in; they expire by themselves

A dataset that exists already, say in another region, becomes a warehouse as well: `bq mk --location=EU p:d`.
"""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Self
from zoneinfo import available_timezones

import polars as pl
import polars.selectors as cs
import pyarrow as pa
from google.api_core import exceptions
from google.api_core.retry import Retry
from google.cloud import bigquery
from google.cloud.bigquery import DEFAULT_RETRY

from pipelines.warehouse.bigquery import clients as bigquery_clients
from pipelines.warehouse.bigquery.clients import Lease
from pipelines.warehouse.bigquery.declared import column_of, declaration, types_of
from pipelines.warehouse.bigquery.errors import describe_error, message_of
from pipelines.warehouse.bounds import NONE, Bounds, too_slow
from pipelines.warehouse.conditions import in_days, literal
from pipelines.warehouse.dialect import check_read_only, reach_of, relations_of
from pipelines.warehouse.interface import Result
from pipelines.warehouse.refusal import Known, point, refuse
from pipelines.warehouse.tables import Table, polars_schema, polars_type
from transforms.errors import QueryError, WarehouseError

FORMAT = 1
FORMAT_LABEL, ZONE_LABEL = "audience_format", "audience_time_zone"
LAST_COMMIT, LAST_ANSWERS = "last_commit", "last_answers"
STAGING = "staging_"  # how the names of staging tables begin
NOBODY = "nobody"  # has committed to a new warehouse
PATIENCE: Retry = DEFAULT_RETRY.with_timeout(120)  # seconds of errors that a retry may resolve
_AT = re.compile(r" at \[(\d+):(\d+)\]")  # where BigQuery found it: line and column
_UTC_TIMES = cs.by_dtype(pl.Datetime("us", "UTC"))
FILE_ROWS = 100_000  # of a downloaded file, and so of a block


class Choice(NamedTuple):
    """What may differ from run to run.

    partition_expiration  after which BigQuery removes the rows of a day; None leaves each table as it is
    settled_after     how long after a day's end a stream may still write events of it; None: no stream writes
    """

    partition_expiration: timedelta | None = None
    settled_after: timedelta | None = None


class Dataset:
    """The tables of a warehouse in BigQuery, to be read; `close` it at the end."""

    at_least_once = True  # a stream that was killed writes rows again, whatever the write method

    def __init__(self, lease: Lease, dataset: bigquery.Dataset, time_zone: str, choice: Choice):
        self._lease = lease
        self.client: bigquery.Client = lease.client
        self.dataset = dataset.reference
        self.location: str | None = dataset.location
        self.time_zone = time_zone
        self.partition_expiration, self.settled_after = choice
        self._spool: Path | None = None
        self._spooled: dict[tuple, list[Path]] = {}

    @classmethod
    def open(
        cls,
        dataset: str,
        time_zone: str | None = None,
        create: bool = False,
        choice: Choice | None = None,
    ) -> Self:
        """Open the warehouse in `dataset` (project.dataset), or with `create` make one there (UTC unless given).

        Raises WarehouseError if it is no warehouse, cannot be reached or may not be used, was made by a newer version,
        or has another time zone than `time_zone`.
        """
        project = dataset.rpartition(".")[0]
        with describe_error(dataset, "open it"):
            lease = bigquery_clients.rest(project)
            try:
                found = _found(lease.client, dataset)
                if create and (found is None or FORMAT_LABEL not in found.labels):
                    found = _create(lease.client, dataset, time_zone or "UTC", found)
                zone = _zone_of(dataset, found, time_zone)
            except BaseException:
                lease.close()
                raise
        assert found is not None
        return cls(lease, found, zone, choice or Choice())

    @staticmethod
    def exists(dataset: str) -> bool:
        """Whether there is such a dataset, a warehouse or not. Raises WarehouseError if it cannot be asked."""
        with (
            describe_error(dataset, "look for it"),
            contextlib.closing(bigquery_clients.rest(dataset.rpartition(".")[0])) as lease,
        ):
            return _found(lease.client, dataset) is not None

    @property
    def name(self) -> str:
        """How a person names it: project.dataset."""
        return f"{self.dataset.project}.{self.dataset.dataset_id}"

    @property
    def option(self) -> str:
        """How it is named on a command line."""
        return f"--dataset {self.name}"

    def close(self) -> None:
        """Let go of the client, and remove what was downloaded."""
        self.forget()
        self._lease.close()

    def forget(self) -> None:
        """Remove what was downloaded: a commit has changed the tables."""
        self._spooled.clear()
        if self._spool is not None:
            shutil.rmtree(self._spool, ignore_errors=True)
            self._spool = None

    def resource(self, table: str) -> bigquery.Table:
        """What BigQuery says of a table. Raises WarehouseError if it does not exist."""
        with describe_error(self.name, "read its tables"):
            return self.client.get_table(self.dataset.table(table), retry=PATIENCE)

    def names(self) -> set[str]:
        """Every table and view that may be asked."""
        with describe_error(self.name, "list its tables"):
            return {item.table_id for item in self.client.list_tables(self.dataset, retry=PATIENCE)}

    def tables(self) -> dict[str, Table]:
        """The tables of the warehouse, without other tables of the dataset."""
        with describe_error(self.name, "list its tables"):
            listed = self.client.list_tables(self.dataset, retry=PATIENCE)
            names = [item.table_id for item in listed if item.table_type == "TABLE"]
            names = [name for name in names if not name.startswith(STAGING)]  # a scheduled refresh leaves one a run
            found = [declaration(self.client.get_table(self.dataset.table(name), retry=PATIENCE)) for name in names]
        return {table.name: table for table in found if table is not None}

    def table(self, name: str) -> Table:
        """The declaration of a table. Raises WarehouseError with the tables there are."""
        with describe_error(self.name, "read its tables"):
            try:
                found = declaration(self.client.get_table(self.dataset.table(name), retry=PATIENCE))
            except exceptions.NotFound:
                found = None
        if found is None:
            raise WarehouseError(
                f"{name!r} is no table of this warehouse; tables are {', '.join(sorted(self.tables()))}"
            )
        return found

    def rows_by_day(self, table: str) -> dict[date | None, int]:
        """How many rows a table has on each day that has any; None is the unknown day."""
        day = f"DATE(`{self.table(table).partition}`, {literal(self.time_zone)})"
        counted = pl.concat(self.ask(f"SELECT {day} AS day, COUNT(*) AS n FROM `{table}` GROUP BY day"))
        by_day = dict(zip(counted["day"], counted["n"], strict=True))
        return dict(sorted(by_day.items(), key=lambda item: (item[0] is None, item[0] or date.min)))

    def days_with(self, table: str, column: str, value: str) -> set[date | None]:
        """The days of a table with rows whose text in this column is `value`."""
        day = f"DATE(`{self.table(table).partition}`, {literal(self.time_zone)})"
        found = self.ask(f"SELECT DISTINCT {day} AS day FROM `{table}` WHERE `{column}` = {literal(value)}")
        return {day for part in found for day in part["day"]}

    def files(self, table: str, days: Iterable[date | None] | None = None) -> list[Path]:
        """Parquet files with the rows of a table, of all days or of `days`, downloaded; they live until a commit."""
        return self._downloaded(self.table(table), days, None)

    def scan(
        self, table: str, days: Iterable[date | None] | None = None, columns: Sequence[str] | None = None
    ) -> pl.LazyFrame:
        """The rows of a table, in its declared columns or these (then BigQuery reads no others)."""
        declared = self.table(table)
        schema = polars_schema(declared)
        schema = schema if columns is None else {name: schema[name] for name in columns}
        files = self._downloaded(declared, days, columns)
        return pl.scan_parquet(files, schema=schema, glob=False) if files else pl.LazyFrame(schema=schema)

    def columns(self, names: Collection[str]) -> dict[str, dict[str, str]]:
        """The columns of these tables and views, each with its type as BigQuery names it; of other types OTHER."""
        with describe_error(self.name, "read its tables"):
            try:
                found = {each: self.client.get_table(self.dataset.table(each), retry=PATIENCE) for each in names}
            except exceptions.NotFound as error:
                raise WarehouseError(f"there is no such table or view of {self.name}: {message_of(error)}") from None
        return {name: types_of(table) for name, table in found.items()}

    def ask(self, sql: str, time_zone: str = "UTC", bounds: Bounds = NONE) -> Iterator[pl.DataFrame]:
        """The answer to a question in BigQuery's SQL, in parts of which the first may be empty; `time_zone` is that of
        functions of times that name none.

        Raises QueryError, now or while parts are read, with BigQuery's words and near names.
        """
        try:
            answer = self.query(sql, time_zone, bounds)
        except (exceptions.BadRequest, exceptions.NotFound) as error:
            raise self._refused(message_of(error), sql) from error
        return frames_of(answer)

    def _refused(self, said: str, sql: str) -> QueryError:
        kinds = {item.table_id: item.table_type for item in self.client.list_tables(self.dataset, retry=PATIENCE)}
        tables = [name for name, kind in kinds.items() if kind == "TABLE"]

        def columns() -> dict[str, list[str]]:
            named = sorted(name for name in relations_of(sql) if name in kinds)
            return {name: [field.name for field in self.resource(name).schema] for name in named}

        if at := _AT.search(said):  # BigQuery's own text of it would show no line
            said += point(sql, int(at[1]), int(at[2]))
        return refuse(said, sql, Known(tables, kinds.keys() - tables, columns))

    def answer(self, sql: str, dialect: str = "bigquery", unsafe: bool = False, bounds: Bounds = NONE) -> Result:
        """The answer to one question of a person's, which is always in BigQuery's SQL and may only read."""
        check_read_only(sql)
        if bounds.relations is not None:
            bounds.check(reach_of(sql, self.dataset.project, self.dataset.dataset_id, self.names()))
        local = _UTC_TIMES.dt.convert_time_zone(self.time_zone)
        parts = (part.with_columns(local) for part in self.ask(sql, self.time_zone, bounds))
        first = next(parts)
        return Result(first.columns, chain([first], parts), self.time_zone)

    def query(self, sql: str, time_zone: str = "UTC", bounds: Bounds = NONE):
        """Run a statement or a script to its end; its rows. Raises what Google's client raises, but for one that says
        that BigQuery may not be asked or does not answer: that is a WarehouseError."""
        config = bigquery.QueryJobConfig(default_dataset=self.dataset)
        if time_zone != "UTC":  # BigQuery's own default
            config.connection_properties = [bigquery.ConnectionProperty("time_zone", time_zone)]
        if bounds.parameters:
            config.query_parameters = [bigquery.ScalarQueryParameter(None, *each) for each in bounds.parameters]
        if bounds.billed_bytes is not None:
            config.maximum_bytes_billed = bounds.billed_bytes
        try:
            job = self.client.query(sql, config, location=self.location, retry=PATIENCE)
            return job.result(retry=PATIENCE, timeout=bounds.seconds)
        except TimeoutError:
            job.cancel(retry=None)
            raise too_slow(bounds.seconds) from None
        except (exceptions.BadRequest, exceptions.NotFound, exceptions.Conflict):
            raise
        except Exception:
            with describe_error(self.name, "ask it"):
                raise

    def _downloaded(
        self, table: Table, days: Iterable[date | None] | None, columns: Sequence[str] | None
    ) -> list[Path]:
        wanted = None if days is None else frozenset(days)
        if wanted is not None and not wanted:
            return []
        key = (table.name, wanted, None if columns is None else tuple(columns))
        if key not in self._spooled:
            self._spooled[key] = self._download(table, wanted, columns)
        return self._spooled[key]

    def _download(self, table: Table, days: frozenset | None, columns: Sequence[str] | None) -> list[Path]:
        names = list(polars_schema(table) if columns is None else columns)
        listed = ", ".join(f"`{name}`" for name in names)
        where = "TRUE" if days is None else in_days(table.partition, days, self.time_zone)
        folder = self._spool = self._spool or Path(tempfile.mkdtemp(prefix="audience-read-"))
        parts = self.ask(f"SELECT {listed} FROM `{table.name}` WHERE {where}")
        return spool(parts, table, folder, f"{table.name}-{len(self._spooled)}")


def spool(parts: Iterable[pl.DataFrame], table: Table, folder: Path, stem: str) -> list[Path]:
    """Write rows of a table, in columns of it that all parts have, to Parquet files of about FILE_ROWS."""
    schema = polars_schema(table)
    files: list[Path] = []
    gathered: list[pl.DataFrame] = []
    for part in chain(parts, [None]):
        if part is not None:
            gathered.append(part.select(pl.col(name).cast(schema[name]) for name in part.columns))
        rows = sum(map(len, gathered))
        if rows >= FILE_ROWS or (part is None and rows):
            files.append(folder / f"{stem}-{len(files)}.parquet")
            pl.concat(gathered).write_parquet(files[-1], compression="zstd", compression_level=1)
            gathered = []
    return files


def streaming_buffer(table: bigquery.Table) -> bigquery.table.StreamingBuffer | None:
    """The rows of a table that came in lately and that no statement may change yet, if there are some."""
    buffer = table.streaming_buffer
    return buffer if buffer is not None and buffer.estimated_rows else None


def frames_of(answer) -> Iterator[pl.DataFrame]:
    """The rows of a job's answer; the first part may be empty."""
    count = 0
    for batch in answer.to_arrow_iterable(bqstorage_client=None):
        count += 1
        # By name and type alone: what marks a column as JSON would make it one that Polars cannot cast.
        yield pl.DataFrame(pa.RecordBatch.from_arrays(batch.columns, names=batch.schema.names))
    if not count:
        yield pl.DataFrame(schema={field.name: polars_type(column_of(field)) for field in answer.schema})


_OF_THE_PROJECT = ("projectReaders", "projectWriters")  # whom a dataset opens to where nobody says who may use it


def _found(client: bigquery.Client, dataset: str) -> bigquery.Dataset | None:
    """The dataset, if it is there. No retry: an error is reported at once."""
    try:
        return client.get_dataset(dataset, retry=None, timeout=30)
    except exceptions.NotFound:
        return None


def _create(client: bigquery.Client, dataset: str, time_zone: str, found: bigquery.Dataset | None) -> bigquery.Dataset:
    """Make a dataset, or one that is there, a warehouse."""
    made = found or _closed(client, client.create_dataset(bigquery.Dataset(dataset), exists_ok=True, retry=PATIENCE))
    for statement in first_commit(dataset):
        client.query(statement, location=made.location, retry=PATIENCE).result()
    # The labels are last: a dataset that has them is a whole warehouse.
    made.labels = {**made.labels, FORMAT_LABEL: str(FORMAT), ZONE_LABEL: label_of(time_zone)}
    made.description = made.description or (
        f"Audience Insights: events and what was made of them. Its days are those of time zone {time_zone}."
    )
    return client.update_dataset(made, ["labels", "description"], retry=PATIENCE)


def _closed(client: bigquery.Client, made: bigquery.Dataset) -> bigquery.Dataset:
    """A new dataset without what BigQuery gives to every viewer and editor of the project, while it is still empty.

    The owners of the project and who made it keep it; a list stated at once would have to name the latter.
    """
    kept = [entry for entry in made.access_entries if entry.entity_id not in _OF_THE_PROJECT]
    if len(kept) == len(made.access_entries):
        return made
    made.access_entries = kept
    return client.update_dataset(made, ["access_entries"], retry=PATIENCE)


def first_commit(dataset: str, marker: str = LAST_COMMIT) -> tuple[str, str]:
    """The statements that make the table of the last commit, where nobody has committed; again they do nothing."""
    state = f"`{dataset}.{marker}`"
    first = f"SELECT '{NOBODY}', CURRENT_TIMESTAMP() FROM (SELECT COUNT(*) AS n FROM {state}) WHERE n = 0"
    return (
        f"CREATE TABLE IF NOT EXISTS {state} (run STRING, committed_time TIMESTAMP)",
        f"INSERT INTO {state} (run, committed_time) {first}",
    )


def _zone_of(dataset: str, found: bigquery.Dataset | None, time_zone: str | None) -> str:
    """The time zone of the warehouse, if the dataset is one that this version can use in that time zone."""
    if found is None:
        raise WarehouseError(
            f"{dataset} is not there; make it with `audience backfill --dataset {dataset} --input FILES`"
        )
    if FORMAT_LABEL not in found.labels:
        raise WarehouseError(
            f"{dataset} is a dataset but no warehouse: it lacks the label {FORMAT_LABEL}; "
            f"`audience backfill --dataset {dataset} --input FILES` makes it one"
        )
    if int(found.labels[FORMAT_LABEL]) > FORMAT:
        raise WarehouseError(
            f"{dataset} has format {found.labels[FORMAT_LABEL]}, this version reads up to {FORMAT}; "
            "upgrade audience-insights"
        )
    label = found.labels.get(ZONE_LABEL, "")
    zones = {label_of(zone): zone for zone in available_timezones()}
    if label not in zones:
        raise WarehouseError(
            f"{dataset}: its label {ZONE_LABEL} is {label!r}, which is no time zone; set it back, e.g. "
            f"`bq update --set_label {ZONE_LABEL}:{label_of('UTC')} {dataset.replace('.', ':')}`"
        )
    if time_zone is not None and label_of(time_zone) != label:
        raise WarehouseError(
            f"{dataset} was made with time zone {zones[label]!r}, not {time_zone!r}, and "
            "its days are cut by it; leave the option out, or use another --dataset"
        )
    return zones[label]


def label_of(zone: str) -> str:
    """A time zone as a label of BigQuery's may say it, in lower case letters, digits, _ and -."""
    return zone.lower().replace("/", "__").replace("+", "_plus_")
