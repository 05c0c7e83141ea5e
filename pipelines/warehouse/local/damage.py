"""Damage: which live files of a local warehouse are not what was committed, and what a person can do about one.

    live(folder, manifest, ...)     the live files, each with its table and day
    faults(files, deep)             (file, what is wrong with it) of those that are damaged
    check(...), check_sizes(...)    raise DamagedError for the first of them; a line that names file and command
    explain_errors(...)             the same for what a reader raises while the block lasts

A look at a file costs: its size, next to nothing; its footer (rows and columns), about 0.2 ms; its checksum, the time
that it takes to read the file. A file that a commit has replaced since is not damaged, but it is gone.
"""

import os
import shlex
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol

import polars as pl

from pipelines.warehouse.answers import is_answer
from pipelines.warehouse.day_files import day_from, day_name, digest
from pipelines.warehouse.local import answers
from pipelines.warehouse.local.manifest import LiveFile, Manifest
from pipelines.warehouse.tables import ERASURES, EVENTS, QUALITY_1M, QUARANTINE, Table, polars_schema
from transforms.errors import DamagedError, WarehouseError, first_line

BY_INPUT = (EVENTS.name, QUARANTINE.name, QUALITY_1M.name)  # what a backfill writes; other tables follow from events
_READERS = ("duckdb", "_duckdb", "polars", "pyarrow", "pyo3_runtime")  # whose errors may come from a damaged file
_KINDS = ("Parser", "Catalog", "Binder", "Conversion", "Out of Range", "Permission")
_OF_THE_QUESTION = tuple(f"{kind} Error:" for kind in _KINDS)


class Files(Protocol):
    """A folder with the files of a warehouse."""

    folder: Path

    @property
    def name(self) -> str:
        """How a person names it."""

    def manifest(self) -> Manifest:
        """The live files and declared tables at this moment."""


class Live(NamedTuple):
    """A live file; `day` as the manifest names it."""

    table: str
    day: str
    file: LiveFile
    path: Path


class Fault(NamedTuple):
    """A live file that is damaged, and what is wrong with it."""

    live: Live
    what: str


def live(
    folder: Path, manifest: Manifest, tables: Iterable[str], days: Iterable[date | None] | None = None
) -> list[Live]:
    """The live files of these tables, of all days or of `days`, by day."""
    wanted = None if days is None else {day_name(day) for day in days}
    return [
        Live(table, day, file, folder / file.path)
        for table in tables
        for day, files in sorted(manifest.files.get(table, {}).items())
        if wanted is None or day in wanted
        for file in files
    ]


def faults(files: Iterable[Live], tables: Mapping[str, Table], deep: bool = False) -> Iterator[Fault]:
    """What is damaged of these files, by size, footer and, with `deep`, checksum."""
    for each in files:
        if what := _size_fault(each) or _footer_fault(each, tables[each.table]) or (deep and _content_fault(each)):
            yield Fault(each, what)


def check_sizes(warehouse: Files, files: Iterable[Live]) -> None:
    """Raise DamagedError for a file that is missing, is none, cannot be read, or has another size."""
    for each in files:
        if what := _size_fault(each):
            raise _problem(warehouse, Fault(each, what))


def check(warehouse: Files, files: Iterable[Live], tables: Mapping[str, Table], deep: bool = False) -> None:
    """Raise DamagedError for the first file that is damaged."""
    for fault in faults(files, tables, deep):
        raise _problem(warehouse, fault)


@contextmanager
def explain_errors(warehouse: Files, files: Collection[Live] | None = None) -> Iterator[None]:
    """What a reader raises within becomes a DamagedError if one of the files (None: a live one) is damaged."""
    try:
        yield
    except BaseException as error:
        if not _may_come_from_a_file(error):
            raise
        manifest = warehouse.manifest()
        looked_at = live(warehouse.folder, manifest, manifest.tables) if files is None else files
        check(warehouse, looked_at, manifest.tables)
        if _may_come_from_content(error):
            check(warehouse, looked_at, manifest.tables, deep=True)
        raise


def read_live(path: Path) -> pl.DataFrame:
    """The rows of a live file, for a worker, which has no manifest. Raises DamagedError for one that is damaged."""
    try:
        return pl.read_parquet(path, hive_partitioning=False, glob=False)
    except BaseException as error:
        if not _may_come_from_a_file(error):
            raise
        raise _of_a_worker(path, f"it cannot be read ({first_line(error)})") from error


def columns_of_staged(path: Path) -> dict[str, pl.DataType]:
    """The columns of a file that is staged. Raises DamagedError if it cannot be read."""
    try:
        return dict(pl.read_parquet_schema(path))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DamagedError(f"{path} was staged, and cannot be read: {first_line(error)}; run it again") from error


def _of_a_worker(path: Path, what: str) -> DamagedError:
    """What the path of a live file says: data/<table>/<day>/<name>."""
    try:
        table, day = path.parts[-3], date.fromisoformat(path.parts[-2])
        todo = _command(str(path.parents[3]), table, day, day)
    except (IndexError, ValueError):  # not of a local warehouse
        return DamagedError(f"{path} is damaged: {what}; run it again")
    return DamagedError(_line(Fault(Live(table, f"{day}", LiveFile(str(path), 0, 0), path), what), todo))


def describe(warehouse: Files, fault: Fault) -> str:
    """One line: the file, its table and day, what is wrong, and what to do."""
    return _line(fault, remedy(warehouse, fault))


def remedy(warehouse: Files, fault: Fault) -> str:
    """What puts the file right."""
    table, first = fault.live.table, day_from(fault.live.day)
    if is_answer(warehouse.manifest().tables[table]):
        return answers.remedy(fault.live.path.parents[3].parent)
    if table == ERASURES.name or first is None:
        return "restore it from a backup"
    return _command(warehouse.name, table, *_span(warehouse, table, first))


def _span(warehouse: Files, table: str, day: date) -> tuple[date, date]:
    """The first and the last damaged day around one: a run reads the days beside those that it writes."""
    manifest, ends = warehouse.manifest(), [day, day]
    for end, step in enumerate((timedelta(days=-1), timedelta(days=1))):
        while next(faults(live(warehouse.folder, manifest, [table], [ends[end] + step]), manifest.tables), None):
            ends[end] += step
    return ends[0], ends[1]


def _command(name: str, table: str, first: date, last: date) -> str:
    days = f"--warehouse {shlex.quote(name)} --start {first} --end {last + timedelta(days=1)}"
    if table in BY_INPUT:
        return f"restore it from a backup, or write the day again: audience backfill --replace {days} --input FILES"
    return f"restore it from a backup, or compute the day again: audience recompute {days}"


def _line(fault: Fault, what_to_do: str) -> str:
    each = fault.live
    return f"{each.path} is damaged: {fault.what}; it holds rows of table {each.table}, day {each.day}: {what_to_do}"


def _problem(warehouse: Files, fault: Fault) -> WarehouseError:
    if fault.live.file.path not in warehouse.manifest().paths():
        return WarehouseError(f"{fault.live.path} was replaced by another run while it was read; try again")
    return DamagedError(describe(warehouse, fault))


def _size_fault(each: Live) -> str | None:
    try:
        found = os.stat(each.path)
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if not stat.S_ISREG(found.st_mode):
        return "it is no regular file"
    if not os.access(each.path, os.R_OK):
        return "it cannot be read (Permission denied)"
    if found.st_size != each.file.bytes:
        return f"it has {found.st_size:,} bytes, the manifest says {each.file.bytes:,}"
    return None


def _footer_fault(each: Live, table: Table) -> str | None:
    import pyarrow.parquet as pq  # whose errors are errors: Polars may panic

    try:
        rows = pq.read_metadata(each.path).num_rows
        found = pl.read_parquet_schema(each.path)
    except BaseException as error:
        if not _may_come_from_a_file(error):
            raise
        return f"its footer cannot be read ({first_line(error)})"
    if rows != each.file.rows:
        return f"it has {rows:,} rows, the manifest says {each.file.rows:,}"
    declared = polars_schema(table)
    for name in (table.partition, *found):  # a column that is not declared is one of a former version
        if found.get(name) != declared.get(name, found.get(name)):
            return f"its column {name!r} is {found.get(name, 'missing')}, declared is {declared[name]}"
    return None


def _content_fault(each: Live) -> str | None:
    try:
        with open(each.path, "rb") as file:
            if each.file.xxh3 and digest(file) != each.file.xxh3:
                return "its bytes are not those that were committed (checksum)"
        if not each.file.xxh3:
            for part in pl.scan_parquet(each.path, glob=False).collect_batches(chunk_size=100_000):
                del part  # a file of before there were checksums: all that can be seen is whether it decodes
    except BaseException as error:
        if not _may_come_from_a_file(error):
            raise
        return f"it cannot be read ({first_line(error)})"
    return None


def _may_come_from_a_file(error: BaseException) -> bool:
    if isinstance(error, BrokenPipeError):
        return False
    kinds = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or not kinds.isdisjoint(_READERS)


def _may_come_from_content(error: BaseException) -> bool:
    """Whether what is read, not how it is asked or where it is put, may be the cause: looking costs a pass over it."""
    text = str(error)
    by_system = (isinstance(error, OSError) and error.errno is not None) or "(os error " in text
    return not by_system and not text.startswith(_OF_THE_QUESTION)
