"""One run's writing of a local warehouse: lock, commit, compaction, and what a killed run left behind.

Commit   Staged files are moved into `data/`, where no manifest names them yet, then the manifest is swapped.
         Before the swap readers see the old rows, after it the new ones; a kill in between leaves files that
         nothing names.
Retired  A file that a commit replaced stays for RETIRED_SECONDS: a reader may still be at it. Its time of
         modification is set to when it was retired; a list of them in the manifest would outgrow the live files.
Adopt    What workers of a killed stream had noted (notes.py) is committed by the next writer, before all else.
Sweep    The next writer removes what nothing names: staging folders of other runs, and data files that are not
         live, once they are old enough.
"""

import contextlib
import os
import secrets
import shutil
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple, TextIO

import polars as pl

from pipelines.settings.attribution import Attribution
from pipelines.system.disk import WRITE_ERRORS, cannot_write, lock_folder, sync_all
from pipelines.system.private import mask_of
from pipelines.warehouse.conditions import Without
from pipelines.warehouse.day_files import FileEntry, day_from, day_name, digest, write_parquet
from pipelines.warehouse.interface import CommitToken, Discarded, LostFile
from pipelines.warehouse.local import damage, kept_days, kept_views, notes
from pipelines.warehouse.local.declarations import join_declarations, shape, uniform_tables
from pipelines.warehouse.local.folder import Folder
from pipelines.warehouse.local.manifest import DATA, NAME, STAGING, LiveFile, Manifest, begin, load, save
from pipelines.warehouse.tables import Table, polars_schema
from pipelines.warehouse.views import bigquery_views
from transforms.errors import WarehouseError
from transforms.sessions.funnel import Funnel

COMPACT_ABOVE = 8  # files of one table and day
RETIRED_SECONDS = 600  # how long a reader may take with the files it began with


class Merge(NamedTuple):
    """Live files of one table and day that are to become one; `day` as the manifest names it."""

    table: str
    day: str
    files: tuple[LiveFile, ...]


class Merged(NamedTuple):
    """A merge whose one file is staged."""

    merge: Merge
    path: Path
    bytes: int
    xxh3: str


class Run:
    """The one run that writes a warehouse, between `with` and its end.

    id       sorts by the time the run began
    staging  folder for `write_file`; removed at the end
    """

    def __init__(self, warehouse: Folder):
        self.warehouse = warehouse
        self.id = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
        self.staging = warehouse.folder / STAGING / self.id
        self._declared: dict[str, Table] = {}
        self._funnel: Funnel | None = None
        self._attribution: Attribution | None = None
        self._lock: TextIO | None = None
        self._umask: int | None = None  # of before
        self._placed: set[str] = set()  # moved into `data`, and not yet published
        self._unsynced: set[str] = set()  # files, and folders with new names, since the last publication
        self._rewritten: set[str] = set()  # tables of which files were written again, in the declared columns
        self._retired: deque[tuple[float, str]] = deque()  # (when to remove, path), by the monotonic clock

    def __enter__(self) -> "Run":
        folder = self.warehouse.folder
        try:
            self._umask = os.umask(mask_of(folder))  # also of the processes that it starts
            self._lock = lock_folder(folder)
            begin(folder)
            self._adopt()
            self._sweep(RETIRED_SECONDS)
            self.staging.mkdir(parents=True)
        except OSError as error:
            self.__exit__()
            raise cannot_write(folder, error) from error
        except WarehouseError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self._umask is not None:
            os.umask(self._umask)
        if not notes.paths(self.staging):  # else the next writer adopts them, and their files
            shutil.rmtree(self.staging, ignore_errors=True)
            # What a failed commit had moved already would hold the space of a full disk.
            with contextlib.suppress(OSError, WarehouseError):
                for path in self._placed and self._placed - load(self.warehouse.folder).paths():
                    (self.warehouse.folder / path).unlink(missing_ok=True)
                if self._placed:
                    (self.warehouse.folder / f"{NAME}.tmp").unlink(missing_ok=True)
        if self._lock:
            self._lock.close()

    @property
    def folder(self) -> str:
        """Where `write_file` puts what is to be committed."""
        return str(self.staging)

    def declare(
        self, tables: Iterable[Table], funnel: Funnel | None = None, attribution: Attribution | None = None
    ) -> None:
        """Announce the tables of this run, to be queried even if empty, the effective funnel and attribution; stored by
        `commit`.

        A table may gain columns; those it loses stay, null in new rows. Raises WarehouseError if a column has
        another type than in the warehouse, the table another key, or a view its name.
        """
        manifest = load(self.warehouse.folder)
        known, self._funnel = manifest.tables, funnel or manifest.funnel
        self._attribution = attribution or manifest.attribution
        for table in tables:
            declared = join_declarations(known.get(table.name, table), table, self.warehouse.folder)
            known[table.name] = self._declared[table.name] = declared
        zone = self.warehouse.time_zone
        made = bigquery_views(known.values(), zone, self._funnel, attribution=self._attribution)
        if taken := {name for name, _ in made} & set(known):
            raise WarehouseError(f"table {min(taken)}: a view has this name; give the metric another name")

    def may_write(self, days: Iterable[date | None]) -> None:
        """Any day: a stream that writes this warehouse is the one run that does."""

    def discard(self, tables: Iterable[str], days: Collection[date]) -> Discarded:
        """Check every file of these tables and days, and ignore the damaged ones: the next commit removes them."""
        if not days:
            return Discarded([])
        folder, manifest = self.warehouse.folder, self.warehouse.manifest()
        files = damage.live(folder, manifest, [name for name in tables if name in manifest.tables], days)
        found = list(damage.faults(files, manifest.tables, deep=True))
        self.warehouse.discarded |= {fault.live.file.path for fault in found}
        lost = [LostFile(live.path, what, live.table, live.day, live.file.rows) for live, what in found]
        return Discarded(lost, landed=any((folder / "landing").glob("*.parquet")))

    def commit(
        self,
        entries: Iterable[FileEntry],
        replace_days: Mapping[str, Iterable[date | None] | None] | None = None,
        keep: Mapping[str, Without | pl.Expr] | None = None,
        drop: Mapping[str, pl.Expr] | None = None,
        merged: Iterable[Merged] = (),
    ) -> None:
        """Make staged files live, all at once; a kill at any moment leaves all as before or all as after.

        entries       what `write_file` returned; files that are not among them never become live, one that is live
                      already stays so once
        replace_days  table -> days whose present rows go (None in it: the unknown day; None instead of
                      days: every day); entries of other days append
        keep          table -> which rows of the replaced days stay
        drop          table -> condition on its rows: of the replaced days, only rows for which it is true go; a file
                      that its statistics show to have none is not read
        merged        what `merge` returned; one whose files are no longer all live is left out

        Raises WarehouseError for an entry whose table or columns were not declared, or a full disk.
        """
        folder = self.warehouse.folder
        manifest = load(folder)
        before = manifest.paths()
        manifest.forget(self.warehouse.discarded)
        filled = {table for table, days in manifest.files.items() if any(days.values())}
        manifest.tables = {**manifest.tables, **self._declared}
        manifest.funnel = self._funnel or manifest.funnel
        manifest.attribution = self._attribution or manifest.attribution
        entries = list(entries)
        shapes = self._check(manifest, entries)
        try:
            for table, days in (replace_days or {}).items():
                live = manifest.files.get(table, {})
                names = list(live) if days is None else [day_name(day) for day in days]
                stay, gone = (keep or {}).get(table), (drop or {}).get(table)
                for name in names:
                    old = live.pop(name, [])
                    if gone is not None:
                        kept = self._without(table, name, old, gone)
                    else:
                        kept = [] if stay is None else self._keep(table, name, old, stay)
                    if kept:
                        live[name] = kept
            for each in merged:
                self._swap(manifest, each)
            for entry in entries:
                if entry.rows and self._target(entry) not in before:
                    moved = self._move(entry)
                    manifest.files.setdefault(entry.table, {}).setdefault(day_name(entry.day), []).append(moved)
            for table in {*self._rewritten, *(each.merge.table for each in merged)}:
                shapes.setdefault(table, set()).add(shape(polars_schema(manifest.tables[table])))
            manifest.uniform = uniform_tables(manifest.uniform, filled, shapes)
            self._publish(manifest, before)
        except WRITE_ERRORS as error:
            raise cannot_write(folder, error) from error

    def compact(self, table: str, day: date | None, above: int = COMPACT_ABOVE) -> bool:
        """Merge the files of a day into one if there are more than `above`; whether it did."""
        files = load(self.warehouse.folder).files.get(table, {}).get(day_name(day), [])
        if len(files) <= above:
            return False
        self.commit([], merged=[self.merge(Merge(table, day_name(day), tuple(files)))])
        return True

    def merge(self, merge: Merge) -> Merged:
        """Stage the one file that takes the place of several; nothing changes before it is committed.

        May run in another thread beside commits. Raises WarehouseError for a full disk.
        """
        staged = self.staging / merge.table / merge.day / f"merged-{secrets.token_hex(8)}.parquet"
        paths = [self.warehouse.folder / file.path for file in merge.files]
        try:
            staged.parent.mkdir(parents=True, exist_ok=True)
            with self._named(merge.table, merge.day, merge.files):
                rows = self.warehouse.scan_files(merge.table, paths)
                rows.sink_parquet(staged, compression="zstd", compression_level=1)
            with open(staged, "rb+") as written:
                os.fsync(written.fileno())
                return Merged(merge, staged, staged.stat().st_size, digest(written))
        except WRITE_ERRORS as error:
            raise cannot_write(self.warehouse.folder, error) from error

    def compact_all(self, above: int = COMPACT_ABOVE) -> int:
        """`compact` every day of every table, a swap each; how many days it merged."""
        files = load(self.warehouse.folder).files
        days = [(table, day_from(day)) for table, by_day in files.items() for day in by_day]
        return sum(self.compact(table, day, above) for table, day in days)

    def _check(self, manifest: Manifest, entries: list[FileEntry]) -> dict[str, set[str]]:
        """Refuse files of an undeclared table, or (looking at one file a table) with other columns; return the shape of
        each table's files."""
        shapes = {}
        for table, entry in {entry.table: entry for entry in entries}.items():
            path = self.place(entry)
            if table not in manifest.tables:
                raise WarehouseError(
                    f"{path}: table {table!r} is not declared; known are {', '.join(sorted(manifest.tables))}"
                )
            declared, found = polars_schema(manifest.tables[table]), damage.columns_of_staged(path)
            shapes[table] = {shape(found)}
            for name, dtype in found.items():
                if declared.get(name) != dtype:
                    raise WarehouseError(
                        f"{path}: column {name!r} is {dtype}, but table {table} declares "
                        f"{declared.get(name, 'no such column')}; write it in the declared columns"
                    )
        return shapes

    def _keep(self, table: str, day: str, files: list[LiveFile], stay: Without | pl.Expr) -> list[LiveFile]:
        """The files with only the rows that stay; one that keeps all is untouched."""
        condition = stay.polars() if isinstance(stay, Without) else stay
        kept = []
        for file in files:
            with self._named(table, day, [file]):
                rows = self.warehouse.scan_files(table, [self.warehouse.folder / file.path]).filter(condition).collect()
            if rows.height == file.rows:
                kept.append(file)
            elif rows.height:
                staged = self.staging / table / day / f"keep-{secrets.token_hex(8)}.parquet"
                staged.parent.mkdir(parents=True, exist_ok=True)
                written = write_parquet(staged, rows)
                self._rewritten.add(table)
                kept.append(self._move(FileEntry(table, day_from(day), str(staged), rows.height, *written)))
        return kept

    def _without(self, table: str, day: str, files: list[LiveFile], gone: pl.Expr) -> list[LiveFile]:
        """The files with only the rows for which `gone` is not true."""
        kept = []
        for file in files:
            scan = self.warehouse.scan_files(table, [self.warehouse.folder / file.path])
            with self._named(table, day, [file]):
                touched = scan.filter(gone).select(pl.len()).collect().item()
            kept += self._keep(table, day, [file], ~gone.fill_null(False)) if touched else [file]
        return kept

    def _named(self, table: str, day: str, files: Iterable[LiveFile]) -> AbstractContextManager[None]:
        """While it lasts, what a damaged one of these files makes fail is a WarehouseError that names it."""
        listed = [damage.Live(table, day, file, self.warehouse.folder / file.path) for file in files]
        return damage.explain_errors(self.warehouse, listed)

    def place(self, entry: FileEntry) -> Path:
        """Where a staged file lies: still there, or moved already by a commit that did not come to its end."""
        staged = Path(entry.path)
        return staged if staged.exists() else self.warehouse.folder / self._target(entry)

    def _swap(self, manifest: Manifest, merged: Merged) -> None:
        table, day, files = merged.merge
        live = manifest.files.get(table, {}).get(day, [])
        if set(files) <= set(live):
            rows = sum(file.rows for file in files)
            entry = FileEntry(table, day_from(day), str(merged.path), rows, merged.bytes, merged.xxh3)
            manifest.files[table][day] = [self._move(entry), *(file for file in live if file not in files)]

    def _target(self, entry: FileEntry) -> str:
        """Where a staged file goes, relative to the folder: always the same, so that it is never taken in twice."""
        run = entry.path.removeprefix(f"{self.warehouse.folder}/{STAGING}/").partition("/")[0]
        return f"{DATA}/{entry.table}/{day_name(entry.day)}/{run}-{entry.path.rpartition('/')[2]}"

    def _move(self, entry: FileEntry) -> LiveFile:
        # Of text, since paths as objects take longer than the renames of a run over many days.
        folder, target = str(self.warehouse.folder), self._target(entry)
        place, (day, table, data) = f"{folder}/{target}", _folders_of(f"{folder}/{target}")
        if not os.path.isdir(day):
            os.makedirs(day)
            self._unsynced |= {folder, data, table}  # a new day's own name must last as well
        if os.path.exists(entry.path) or not os.path.exists(place):  # else it was moved before a kill
            os.replace(entry.path, place)
        self._unsynced.add(day)
        if not entry.synced:
            self._unsynced.add(place)
        self._placed.add(target)
        return LiveFile(target, entry.rows, entry.bytes, entry.xxh3)

    def _publish(self, manifest: Manifest, before: set[str]) -> None:
        """Swap the manifest, then remove what has been retired for long enough."""
        folder = self.warehouse.folder
        retired = sorted(before - manifest.paths())
        sync_all(folder, self._unsynced)
        for path in retired:  # before the swap: a kill between leaves live files with a new time, which is no harm
            with contextlib.suppress(FileNotFoundError):
                os.utime(folder / path)
        manifest.run = self.id
        save(folder, manifest)
        self._unsynced.clear()
        self._placed.clear()
        self._rewritten.clear()
        now = time.monotonic()
        self._retired.extend((now + RETIRED_SECONDS, path) for path in retired)
        while self._retired and self._retired[0][0] <= now:
            with contextlib.suppress(OSError):  # the rows are committed; what stays is left to the next sweep
                os.unlink(folder / self._retired.popleft()[1])

    def hand_over(self, folder: str, rows_were_read: bool) -> CommitToken:
        """Raises WarehouseError: the lock cannot be handed over, and workers elsewhere do not share the folder."""
        raise WarehouseError(f"{self.warehouse.name} is a folder of this machine; a job elsewhere needs --dataset")

    def has_committed(self) -> bool:
        """No run is handed over."""
        return False

    def purge(self) -> None:
        """Remove every file that is not live from the disk at once, also from under a reader. Raises OSError."""
        self._sweep(float("-inf"))

    def _adopt(self) -> None:
        """Commit what the workers of killed streams had noted; a stream commits its declarations before they start."""
        for left in sorted((self.warehouse.folder / STAGING).glob("*")):
            noted = [notes.read(path) for path in notes.paths(left)]
            entries = [entry for note in noted if note for entry in note.files]
            there = [each for each in entries if self.place(each).exists()]
            if there:
                self.commit(there)

    def _sweep(self, seconds: float) -> None:
        folder = self.warehouse.folder
        for left in (folder / STAGING).glob("*"):
            if left != self.staging:
                _remove(left)
        manifest, until = load(folder), time.time() - seconds
        live = manifest.paths()
        kept_days.sweep(folder, manifest, seconds)
        kept_views.sweep(folder, manifest, dict(self.warehouse.views(manifest)), self.warehouse.time_zone, seconds)
        for path in (folder / DATA).glob("*/*/*"):
            if str(path.relative_to(folder)) not in live and path.lstat().st_mtime <= until:
                _remove(path)


def _folders_of(path: str) -> tuple[str, str, str]:
    """The folder of a file, the one above it, and the one above that."""
    day = path.rpartition("/")[0]
    table = day.rpartition("/")[0]
    return day, table, table.rpartition("/")[0]


def _remove(path: Path) -> None:
    """A file, or a folder, which may stand where a file was. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
