"""One run's writing of a local warehouse: lock, commit, compaction, and what a killed run left behind.

Commit  Staged files are moved into `data/`, where no manifest names them yet, then the manifest is swapped.
        Before the swap readers see the old rows, after it the new ones; a kill in between leaves files that
        nothing names.
Sweep   The next writer removes what nothing names: staging folders of other runs, data files that neither the
        manifest nor its `retired` list has. Retired files live until the commit after the one that
        replaced them.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TextIO

import polars as pl

from pipelines.warehouse.local import LOCK, WRITE_ERRORS, FileEntry, LocalWarehouse, cannot_write
from pipelines.warehouse.manifest import NAME, LiveFile, Manifest, day_from, day_name, load, save, sync_folder
from pipelines.warehouse.rows import Without
from pipelines.warehouse.tables import Table, duckdb_type, polars_schema
from pipelines.warehouse.views import bigquery_views
from transforms.errors import WarehouseError

DATA = "data"
STAGING = "staging"
COMPACT_ABOVE = 8  # files of one table and day


class Run:
    """The one run that writes a warehouse, between `with` and its end.

    id       sorts by the time the run began
    staging  folder for `write_file`; removed at the end
    """

    def __init__(self, warehouse: LocalWarehouse):
        self.warehouse = warehouse
        self.id = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
        self.staging = warehouse.folder / STAGING / self.id
        self._moved = 0
        self._declared: dict[str, Table] = {}
        self._lock: TextIO | None = None

    def __enter__(self) -> "Run":
        folder = self.warehouse.folder
        try:
            self._lock = _locked(folder)
            self._sweep(load(folder))
            self.staging.mkdir(parents=True)
        except OSError as error:
            self.__exit__()
            raise cannot_write(folder, error) from error
        except WarehouseError:
            self.__exit__()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)
        if kind is not None:
            # What a failed commit had moved already would hold the space of a full disk until the next run.
            with contextlib.suppress(OSError, WarehouseError):
                (self.warehouse.folder / f"{NAME}.tmp").unlink(missing_ok=True)
                self._sweep(load(self.warehouse.folder))
        if self._lock:
            self._lock.close()

    def declare(self, tables: Iterable[Table]) -> None:
        """Announce the tables this run writes, so that they can be queried even if empty; stored by `commit`.

        A table may gain columns; those it loses stay, null in new rows. Raises WarehouseError if a column has
        another type than in the warehouse, the table another key, or a view its name.
        """
        known = load(self.warehouse.folder).tables
        for table in tables:
            merged = _merged(known.get(table.name, table), table, self.warehouse.folder)
            known[table.name] = self._declared[table.name] = merged
        taken = {name for name, _ in bigquery_views(known.values(), self.warehouse.time_zone)} & set(known)
        if taken:
            raise WarehouseError(f"table {min(taken)}: a view has this name; give the metric another name")

    def may_write(self, days: Iterable[date | None]) -> None:
        """Any day: a stream that writes this warehouse is the one run that does."""

    def commit(
        self,
        entries: Iterable[FileEntry],
        replace_days: Mapping[str, Iterable[date | None] | None] | None = None,
        keep: Mapping[str, Without | pl.Expr] | None = None,
    ) -> None:
        """Make staged files live, all at once; a kill at any moment leaves all as before or all as after.

        entries       what `write_file` returned; files that are not among them never become live
        replace_days  table -> days whose present rows go (None in it: the unknown day; None instead of
                      days: every day); entries of other days append
        keep          table -> which rows of the replaced days stay

        Raises WarehouseError for an entry whose table or columns were not declared, or a full disk.
        """
        folder = self.warehouse.folder
        manifest = load(folder)
        before = manifest.paths()
        manifest.tables = {**manifest.tables, **self._declared}
        entries = list(entries)
        self._check(manifest, entries)
        try:
            for table, days in (replace_days or {}).items():
                live = manifest.files.get(table, {})
                names = list(live) if days is None else [day_name(day) for day in days]
                stay = (keep or {}).get(table)
                for name in names:
                    old = live.pop(name, [])
                    kept = [] if stay is None else self._keep(table, name, old, stay)
                    if kept:
                        live[name] = kept
            for entry in entries:
                if entry.rows:
                    day = day_name(entry.day)
                    moved = self._move(entry.table, day, Path(entry.path), entry.rows, entry.bytes)
                    manifest.files.setdefault(entry.table, {}).setdefault(day, []).append(moved)
            self._publish(manifest, before)
        except WRITE_ERRORS as error:
            raise cannot_write(folder, error) from error

    def compact(self, table: str, day: date | None, above: int = COMPACT_ABOVE) -> bool:
        """Merge the files of a day into one if there are more than `above`; whether it did."""
        folder = self.warehouse.folder
        manifest = load(folder)
        before = manifest.paths()
        files = manifest.files.get(table, {}).get(day_name(day), [])
        if len(files) <= above:
            return False
        merged = self.staging / table / f"compact-{secrets.token_hex(8)}.parquet"
        try:
            merged.parent.mkdir(parents=True, exist_ok=True)
            self.warehouse.scan(table, [day]).sink_parquet(merged, compression="zstd", compression_level=1)
            with open(merged, "rb+") as written:
                os.fsync(written.fileno())
            rows = sum(file.rows for file in files)
            moved = self._move(table, day_name(day), merged, rows, merged.stat().st_size)
            manifest.files[table][day_name(day)] = [moved]
            self._publish(manifest, before)
        except WRITE_ERRORS as error:
            raise cannot_write(folder, error) from error
        return True

    def compact_all(self, above: int = COMPACT_ABOVE) -> int:
        """`compact` every day of every table, a swap each; how many days it merged."""
        files = self.warehouse.manifest().files
        days = [(table, day_from(day)) for table, by_day in files.items() for day in by_day]
        return sum(self.compact(table, day, above) for table, day in days)

    def _check(self, manifest: Manifest, entries: list[FileEntry]) -> None:
        """Refuse files of an undeclared table, or (looking at one file a table) with other columns."""
        for table, path in {entry.table: entry.path for entry in entries}.items():
            if table not in manifest.tables:
                raise WarehouseError(
                    f"{path}: table {table!r} is not declared; known are {', '.join(sorted(manifest.tables))}"
                )
            declared = polars_schema(manifest.tables[table])
            for name, dtype in pl.read_parquet_schema(path).items():
                if declared.get(name) != dtype:
                    raise WarehouseError(
                        f"{path}: column {name!r} is {dtype}, but table {table} declares "
                        f"{declared.get(name, 'no such column')}; write it in the declared columns"
                    )

    def _keep(self, table: str, day: str, files: list[LiveFile], stay: Without | pl.Expr) -> list[LiveFile]:
        """The files with only the rows that stay; one that keeps all is untouched."""
        condition = stay.polars() if isinstance(stay, Without) else stay
        schema = polars_schema(self.warehouse.table(table))
        kept = []
        for file in files:
            path = self.warehouse.folder / file.path
            scan = pl.scan_parquet(path, schema=schema, missing_columns="insert", extra_columns="ignore", glob=False)
            rows = scan.filter(condition).collect()
            if rows.height == file.rows:
                kept.append(file)
            elif rows.height:
                staged = self.staging / table / day / f"keep-{secrets.token_hex(8)}.parquet"
                staged.parent.mkdir(parents=True, exist_ok=True)
                with open(staged, "wb") as written:
                    rows.write_parquet(written, compression="zstd", compression_level=1)
                    written.flush()
                    os.fsync(written.fileno())
                kept.append(self._move(table, day, staged, rows.height, staged.stat().st_size))
        return kept

    def _move(self, table: str, day: str, staged: Path, rows: int, size: int) -> LiveFile:
        self._moved += 1
        target = Path(DATA) / table / day / f"{self.id}-{self._moved}.parquet"
        (self.warehouse.folder / target).parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged, self.warehouse.folder / target)
        return LiveFile(str(target), rows, size)

    def _publish(self, manifest: Manifest, before: set[str]) -> None:
        """Swap the manifest, then remove what neither it nor the one before it names."""
        folder = self.warehouse.folder
        live = manifest.paths()
        for parent in {path.parent for path in map(Path, live - before)}:
            for each in (parent, *parent.parents):  # up to the folder: a new day's own name must last as well
                sync_folder(folder / each)
        outlived = set(manifest.retired) - live
        manifest.run = self.id
        manifest.retired = sorted(before - live)
        save(folder, manifest)
        for path in outlived:
            with contextlib.suppress(OSError):  # the rows are committed; what stays is left to the next sweep
                os.unlink(folder / path)

    def _sweep(self, manifest: Manifest) -> None:
        folder = self.warehouse.folder
        for left in (folder / STAGING).glob("*"):
            if left != self.staging:
                shutil.rmtree(left)
        named = manifest.paths() | set(manifest.retired)
        for path in (folder / DATA).glob("*/*/*"):
            if str(path.relative_to(folder)) not in named:
                os.unlink(path)


def _locked(folder: Path) -> TextIO:
    """The open lock file, held until it is closed or the process ends."""
    lock = open(folder / LOCK, "a+")  # noqa: SIM115 - the caller closes it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise WarehouseError(
            f"{folder} is being written by process {holder}; wait until it ends or use another --warehouse"
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _merged(before: Table, table: Table, folder: Path) -> Table:
    """`table` with the columns that only `before` has, if rows of both can stand in one table."""
    types = {column.name: column for column in before.columns}
    for column in table.columns:
        was = types.pop(column.name, column)
        if duckdb_type(was) != duckdb_type(column):
            raise WarehouseError(
                f"table {table.name}: column {column.name!r} is {was.type} in {folder} and {column.type} "
                "in this run; give it another name, or use another --warehouse"
            )
    if before.key != table.key:
        raise WarehouseError(
            f"table {table.name}: its rows are told apart by {', '.join(before.key)} in {folder} and by "
            f"{', '.join(table.key)} in this run; give the metric another name, or use another --warehouse"
        )
    lost = tuple(replace(column, mode=column.mode.replace("REQUIRED", "NULLABLE")) for column in types.values())
    return replace(table, columns=(*table.columns, *lost))
