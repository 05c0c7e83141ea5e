"""A warehouse's folder: its Parquet files for each table and day, as they are read; DuckDB answers questions on top.

    warehouse.json                         format and time zone, fixed when it is made
    manifest.json                          the live files; see manifest.py
    data/<table>/<day>/<run>-*.parquet     day is an ISO date in the warehouse's time zone, or `unknown`
    staging/<run>/                         what a run has written and not yet committed; of a stream also notes.py
    lock                                   held by the one run that writes

Any number of processes read while one writes.
"""

import fcntl
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self
from zoneinfo import ZoneInfo

import msgspec
import polars as pl

from pipelines.settings.attribution import Attribution
from pipelines.system import private
from pipelines.system.disk import LOCK, cannot_write, lock_holder, write_atomically
from pipelines.system.terminal import option
from pipelines.warehouse import views
from pipelines.warehouse.bounds import NONE, Bounds
from pipelines.warehouse.day_files import day_from
from pipelines.warehouse.interface import Result, UnlistedFile
from pipelines.warehouse.local import answers, damage
from pipelines.warehouse.local.manifest import ABOUT, DATA, FORMAT, STAGING, Manifest, load
from pipelines.warehouse.tables import Table, polars_schema
from pipelines.warehouse.views import Reach
from transforms.errors import WarehouseError, first_line
from transforms.sessions.funnel import Funnel

if TYPE_CHECKING:
    from pipelines.warehouse.local.duckdb_connection import Connection


class _About(msgspec.Struct):
    format: Annotated[int, msgspec.Meta(ge=1)]
    time_zone: str


class Folder:
    """The tables of a warehouse in a local folder, to be read."""

    at_least_once = False

    def __init__(self, folder: Path, time_zone: str, name: str):
        self.folder = folder
        self.time_zone = time_zone
        self._name = name
        self._funnel: Funnel | None = None  # that of whoever asks; None: of the last run
        self._attribution: Attribution | None = None  # the same
        self.discarded = frozenset[str]()  # damaged files that the run of this process replaces
        self._sound: set[str] = set()  # live files that were looked at

    @classmethod
    def open(
        cls, folder: str | Path, time_zone: str | None = None, create: bool = False, group: str | None = None
    ) -> Self:
        """Open the warehouse in `folder`, or with `create` make one there (time zone: UTC unless given; private unless
        there is a `group` that is to read it).

        Raises WarehouseError if there is none, the folder holds something else, is not readable or writable,
        was made by a newer version, has another time zone than `time_zone`, or is not for `group`.
        """
        # Without `..`: Beam names the files that it writes without it, and a commit looks for them by name.
        name, folder = str(folder), Path(folder).resolve() if ".." in Path(folder).parts else Path(folder).absolute()
        try:
            if create and not (folder / ABOUT).exists():
                _create(folder, time_zone or "UTC", group)
        except OSError as error:
            raise cannot_write(folder, error) from error
        try:
            about = msgspec.json.decode((folder / ABOUT).read_bytes(), type=_About)
            ZoneInfo(about.time_zone)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise WarehouseError(_no_warehouse(folder)) from error
        except OSError as error:
            raise WarehouseError(
                f"{folder} cannot be read: {error.strerror}; check the folder's permissions"
            ) from error
        except (msgspec.DecodeError, ValueError, KeyError) as error:  # of ZoneInfo too
            raise WarehouseError(
                f"{folder / ABOUT} is damaged: {first_line(error)}; it holds format and time_zone"
            ) from error
        if about.format > FORMAT:
            raise WarehouseError(
                f"{folder} has format {about.format}, this version reads up to {FORMAT}; upgrade audience-insights"
            )
        if time_zone is not None and time_zone != about.time_zone:
            raise WarehouseError(
                f"{folder} was made with time zone {about.time_zone!r}, not {time_zone!r}, and "
                "its days are cut by it; leave the option out, or use another --warehouse"
            )
        if group is not None:
            private.check_group(folder, group)
        return cls(folder, about.time_zone, name)

    @property
    def name(self) -> str:
        """How a person names it."""
        return self._name

    @property
    def option(self) -> str:
        """How it is named on a command line."""
        return option("warehouse", self.name)

    def manifest(self) -> Manifest:
        """The live files and declared tables at this moment, without what is discarded; with those of answers.py."""
        manifest = load(self.folder)
        manifest.forget(self.discarded)
        return answers.joined(self.folder, manifest)

    @property
    def local_path(self) -> Path:
        """The folder that it is."""
        return self.folder

    def written_by(self) -> str | None:
        """Who writes it now: the process that holds the lock."""
        holder = lock_holder(self.folder)
        return f"process {holder}" if holder else None

    def unlisted_files(self) -> Iterator[UnlistedFile]:
        """Files that hold rows and belong to no table now: replaced ones, and those that a run has staged."""
        manifest = self.manifest()
        live, tables, places = manifest.paths(), manifest.tables, answers.places(self.folder)
        for path in (path for place in places for path in sorted((place / DATA).glob("*/*/*"))):
            if str(path.relative_to(self.folder)) not in live:
                yield UnlistedFile(path, path.parts[-3], staged=False)
        for path in (path for place in places for path in sorted((place / STAGING).rglob("*"))):
            if path.suffix in (".parquet", ".arrow", ".tmp"):
                table = path.parts[-3] if path.parts[-3] in tables else path.parent.name
                yield UnlistedFile(path, table, staged=True)

    def retention(self) -> list[str]:
        """Nothing remains of what a run purges."""
        return []

    def names(self) -> set[str]:
        """Every table and view that may be asked."""
        manifest = self.manifest()
        return manifest.tables.keys() | {name for name, _ in self.views(manifest)}

    def views(self, manifest: Manifest) -> list[tuple[str, str]]:
        """(name, BigQuery SQL) of every view, in the order of creation."""
        return views.bigquery_views(
            manifest.tables.values(),
            self.time_zone,
            self._funnel or manifest.funnel,
            attribution=self._attribution or manifest.attribution,
        )

    def reaches(self, manifest: Manifest, name: str) -> dict[str, Reach | None]:
        """How far from a day that is asked of a table or view the rows lie that it reads of each table."""
        funnel, attribution = self._funnel or manifest.funnel, self._attribution or manifest.attribution
        return views.reaches(name, dict(self.views(manifest)), manifest.tables, self.time_zone, funnel, attribution)

    def use_funnel(self, funnel: Funnel) -> None:
        """Ask this funnel in place of that of the last run."""
        self._funnel = funnel

    def use_attribution(self, attribution: Attribution) -> None:
        """Ask this look-back in place of that of the last run."""
        self._attribution = attribution

    def tables(self) -> dict[str, Table]:
        """The declared tables."""
        return self.manifest().tables

    def table(self, name: str) -> Table:
        """The declaration of a table. Raises WarehouseError with the tables there are."""
        return _table(self.manifest(), name)

    def files(self, table: str, days: Iterable[date | None] | None = None) -> list[Path]:
        """The live files of a table, of all days or of `days` (None in it: the unknown day), by day.

        Raises WarehouseError for one that is damaged, as far as its size and footer say.
        """
        manifest = self.manifest()
        live = damage.live(self.folder, manifest, [table], days)
        unknown = [each for each in live if each.file.path not in self._sound]  # each is checked once: none changes
        damage.check(self, unknown, manifest.tables)
        self._sound.update(each.file.path for each in unknown)
        return [each.path for each in live]

    def rows_by_day(self, table: str) -> dict[date | None, int]:
        """How many rows a table has on each day that has any; None is the unknown day."""
        live = self.manifest().files.get(table, {})
        counts = {day_from(day): sum(file.rows for file in files) for day, files in sorted(live.items())}
        return {day: rows for day, rows in counts.items() if rows}

    def days_with(self, table: str, column: str, value: str) -> set[date | None]:
        """The days of a table with rows whose text in this column is `value`."""
        from transforms.block import day_of  # which imports Beam: a person's question needs none

        manifest = self.manifest()
        live = damage.live(self.folder, manifest, [table])
        damage.check_sizes(self, live)
        day = day_of(pl.col(_table(manifest, table).partition), self.time_zone)
        with damage.explain_errors(self, live):
            rows = self.scan_files(table, [each.path for each in live]).filter(pl.col(column) == value)
            return set(rows.select(day.unique()).collect().to_series())

    def scan(
        self, table: str, days: Iterable[date | None] | None = None, columns: Sequence[str] | None = None
    ) -> pl.LazyFrame:
        """The rows of a table, in its declared columns or these; a column that a file is older than is null."""
        rows = self.scan_files(table, self.files(table, days))
        return rows if columns is None else rows.select(columns)

    def ask(self, sql: str) -> Iterator[pl.DataFrame]:
        """The answer to a question in BigQuery's SQL, in parts of which the first may be empty."""
        from pipelines.warehouse.local.duckdb_connection import answer  # a worker process only writes

        return answer(self, sql, "bigquery", False, "UTC").batches

    def columns(self, names: Collection[str]) -> dict[str, dict[str, str]]:
        """The columns of these tables and views, each with its type as BigQuery names it; of other types OTHER."""
        from pipelines.warehouse.local.duckdb_connection import columns  # a worker process only writes

        return columns(self, names)

    def answer(self, sql: str, dialect: str = "duckdb", unsafe: bool = False, bounds: Bounds = NONE) -> Result:
        """The answer to one question of a person's, asked in the warehouse's time zone; `unsafe` allows any statements,
        with all that DuckDB can reach.

        Raises, now or while rows are read, QueryError with DuckDB's words and near names, and WarehouseError for a
        damaged file of a table that is named.
        """
        from pipelines.warehouse.local.duckdb_connection import answer  # a worker process only writes

        return answer(self, sql, dialect, unsafe, self.time_zone, bounds)

    def asking(self) -> AbstractContextManager[Callable[[str], pl.DataFrame]]:
        """Answers to several questions of the folder as of now, in SQL that BigQuery and DuckDB share."""
        from pipelines.warehouse.local.duckdb_connection import asking  # a worker process only writes

        return asking(self)

    def scan_files(self, table: str, paths: Sequence[Path]) -> pl.LazyFrame:
        """The rows of some files of a table, in its declared columns."""
        schema = polars_schema(self.table(table))
        if not paths:
            return pl.LazyFrame(schema=schema)
        return pl.scan_parquet(list(paths), schema=schema, missing_columns="insert", extra_columns="ignore", glob=False)

    def connect(self, locked: bool = True) -> "Connection":
        """A DuckDB connection that sees every table and view as of now, and unless `locked` is False nothing else."""
        from pipelines.warehouse.local.duckdb_connection import connect  # a worker process only writes

        return connect(self, locked)


def _table(manifest: Manifest, name: str) -> Table:
    if name not in manifest.tables:
        raise WarehouseError(f"{name!r} is no table of this warehouse; tables are {', '.join(sorted(manifest.tables))}")
    return manifest.tables[name]


def _no_warehouse(folder: Path) -> str:
    if folder.exists() and not folder.is_dir():
        return f"{folder} is a file, not a folder; give the warehouse a folder of its own with --warehouse"
    if folder.is_dir() and any(folder.iterdir()):
        return f"{folder} holds other files and no {ABOUT}, so it is no warehouse; check --warehouse"
    return (
        f"{folder} is no warehouse; make it with `audience backfill {option('warehouse', str(folder))} --input FILES`"
    )


def _create(folder: Path, time_zone: str, group: str | None) -> None:
    if any(sign in str(folder) for sign in "*?["):
        raise WarehouseError(f"{folder} cannot be a warehouse: its path has one of * ? [; use another --warehouse")
    try:
        ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError) as error:
        raise WarehouseError(
            f"time zone {time_zone!r} is not known; use a name such as 'UTC' or 'Europe/Berlin'"
        ) from error
    foreign = folder.is_dir() and {each.name for each in folder.iterdir()} - {LOCK, ABOUT, ABOUT + ".tmp"}
    if foreign or (folder.exists() and not folder.is_dir()):
        raise WarehouseError(_no_warehouse(folder))
    private.make_folder(folder, group)
    with private.umask(private.mask_of(folder)), open(folder / LOCK, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs that begin at once agree on one time zone
        if not (folder / ABOUT).exists():
            write_atomically(folder / ABOUT, msgspec.json.encode(_About(FORMAT, time_zone)))
