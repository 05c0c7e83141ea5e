"""Rows that are computed of each day once, and kept until the files of the day, or of a day beside it, change.

    days/<name>.<table>+<table>.<before>.<after>/<day>-<what>-<state>.parquet

`what` stands for what computes the rows, such as SQL; `state` for the files of these tables, of the day and of so many
days before and after, and for the version. So no late event, recompute, replay or erasure has to remember the rows,
and what is out of date is known by its name alone.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import xxhash

from pipelines.system.disk import WRITE_ERRORS, cannot_write, write_atomically
from pipelines.system.private import mask_of, umask
from pipelines.version import VERSION
from pipelines.warehouse.day_files import day_from
from pipelines.warehouse.local.manifest import Manifest

if TYPE_CHECKING:
    import polars as pl


FOLDER = "days"
MOST_ROWS = 2_000_000  # of the tables' days that are computed at once: so much is in memory


class Source(Protocol):
    """A folder with its manifest of this moment."""

    folder: Path
    time_zone: str

    def manifest(self) -> Manifest:
        """The live files."""


class DayRows(NamedTuple):
    """What is kept of each day.

    name           letters, digits and _
    tables         that it reads; a day without rows of the first one has none
    before, after  how many days before and after the day it reads
    what           what computes it: of another text there are other rows
    """

    name: str
    tables: tuple[str, ...]
    before: int
    after: int
    what: str

    @property
    def folder(self) -> str:
        """The name of the folder of its files."""
        return f"{self.name}.{'+'.join(self.tables)}.{self.before}.{self.after}"


class KeptDays:
    """The kept rows of a warehouse as a manifest has it."""

    def __init__(self, warehouse: Source, manifest: Manifest):
        self._warehouse, self._manifest = warehouse, manifest
        self._state = cache(lambda tables, before, after, day: state(manifest, tables, before, after, day))

    def days(self, kept: DayRows, first: date = date.min, last: date = date.max) -> list[date]:
        """The days from first to last that may have rows, in order."""
        live = self._manifest.files.get(kept.tables[0], {})
        found = (day for name, files in live.items() if files and (day := day_from(name)))
        return sorted(day for day in found if first <= day <= last)

    def path(self, kept: DayRows, day: date) -> Path:
        """Where the rows of a day are kept, if they are."""
        what = xxhash.xxh3_64_hexdigest(kept.what.encode())
        found = self._state(kept.tables, kept.before, kept.after, day)
        return self._warehouse.folder / FOLDER / kept.folder / f"{day}-{what}-{found}.parquet"

    def missing(self, kept: DayRows, days: Sequence[date]) -> Iterator[list[date]]:
        """Those of the days that are not kept, in runs of days that follow each other and are not too many."""
        run, rows = list[date](), 0
        for day in (day for day in days if not self.path(kept, day).is_file()):
            live = (self._manifest.files.get(table, {}).get(f"{day}", ()) for table in kept.tables)
            more = sum(file.rows for files in live for file in files)
            if run and (day != run[-1] + timedelta(days=1) or rows + more > MOST_ROWS):
                yield run
                run, rows = [], 0
            run, rows = [*run, day], rows + more
        if run:
            yield run

    def read(self, kept: DayRows, day: date) -> "pl.DataFrame | None":
        """The kept rows of a day; None if they are not there, or damaged: such a file is removed."""
        import polars as pl

        path = self.path(kept, day)
        try:
            return pl.read_parquet(path, glob=False)
        except FileNotFoundError:
            return None
        except pl.exceptions.ComputeError:
            path.unlink(missing_ok=True)
            return None

    def keep(self, kept: DayRows, found: "Mapping[date, pl.DataFrame]") -> None:
        """Keep the rows of some days. Raises WarehouseError for a folder that cannot be written."""
        folder, paths = self._warehouse.folder, {day: self.path(kept, day) for day in found}
        for day, path in paths.items():
            write_rows(folder, path, found[day])
        # A run may have removed what was out of date before these were there: nobody else would before the next run.
        now = KeptDays(self._warehouse, self._warehouse.manifest())
        for day, path in paths.items():
            if now.path(kept, day) != path:
                path.unlink(missing_ok=True)


def write_rows(folder: Path, path: Path, rows: "pl.DataFrame") -> None:
    """Write rows to a file inside a warehouse's folder, at once. Raises WarehouseError if it cannot be written."""
    content = BytesIO()
    rows.write_parquet(content)
    try:
        with umask(mask_of(folder)):
            os.makedirs(path.parent, exist_ok=True)
            write_atomically(path, content.getvalue())
    except WRITE_ERRORS as error:
        raise cannot_write(folder, error) from error


def state(manifest: Manifest, tables: Sequence[str], before: int, after: int, day: date) -> str:
    """A hash of the files of these tables, of a day and of those beside it."""
    near = [f"{day + timedelta(days=far)}" for far in range(-before, after + 1)]
    live = (file for table in tables for each in near for file in manifest.files.get(table, {}).get(each, ()))
    listed = [VERSION, *sorted(f"{file.path} {file.xxh3}" for file in live)]
    return xxhash.xxh3_128_hexdigest("\n".join(listed).encode())


def sweep(folder: Path, manifest: Manifest, seconds: float) -> None:
    """Remove rows that are out of date, once they are so many seconds old: a reader may be at them. Raises OSError."""
    for path in (folder / FOLDER).glob("*/*"):
        with suppress(FileNotFoundError):
            if not _is_live(manifest, path) and path.stat().st_mtime <= time.time() - seconds:
                path.unlink()


def _is_live(manifest: Manifest, path: Path) -> bool:
    try:
        _, tables, before, after = path.parent.name.split(".")
        day, known = date.fromisoformat(path.name[:10]), path.stem.rpartition("-")[2]
        return state(manifest, tables.split("+"), int(before), int(after), day) == known
    except ValueError:  # no name that `path` gives, as of a file that a killed refresh was writing
        return False
