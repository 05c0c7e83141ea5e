"""The manifest: the one file that says which Parquet files of a local warehouse are live.

Readers believe nothing else, so that one rename of `manifest.json` shows all of a commit at once: a process
killed at any moment leaves the manifest before it or the one after it.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from pipelines.settings.attribution import Attribution
from pipelines.system.disk import write_atomically
from pipelines.warehouse.day_files import day_from, day_name
from pipelines.warehouse.tables import TABLES, TYPES, Column, Table
from transforms.errors import WarehouseError, first_line
from transforms.sessions.funnel import Funnel

FORMAT = 1
NAME = "manifest.json"
DATA = "data"
STAGING = "staging"
ABOUT = "warehouse.json"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_FILE = re.compile(r"[\w/-]+/[A-Za-z0-9][\w.-]*", re.ASCII)  # nothing that a list of files expands


class _Format(msgspec.Struct):
    format: Annotated[int, msgspec.Meta(ge=1)]


Count = Annotated[int, msgspec.Meta(ge=0)]


class LiveFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A Parquet file; `path` is relative to the warehouse's folder, `xxh3` the checksum of its bytes (damage.py).

    Files that an older version wrote have no checksum.
    """

    path: str
    rows: Count
    bytes: Count
    xxh3: str = ""


class Manifest(msgspec.Struct):
    """What a warehouse holds.

    tables  the tables that runs declared, by name: what a query may name even before it has rows
    files   table -> day (ISO date or `unknown`) -> its live files
    funnel, attribution
            those of the last run, which their views ask; None where no run has declared one
    uniform tables whose files all have the same columns -> what stands for these (declarations.py): the first file says
            what the others have; a table that is not listed may have files of different columns
    """

    format: Annotated[int, msgspec.Meta(ge=1)]
    run: str
    tables: dict[str, Table]
    files: dict[str, dict[str, list[LiveFile]]]
    funnel: Funnel | None = None
    uniform: dict[str, str] = {}
    attribution: Attribution | None = None

    def paths(self) -> set[str]:
        """Every live path, relative to the folder."""
        return {file.path for days in self.files.values() for files in days.values() for file in files}

    def forget(self, paths: Collection[str]) -> None:
        """Leave these files out, as if they had never been live."""
        for days in self.files.values() if paths else ():
            for day, files in days.items():
                days[day] = [file for file in files if file.path not in paths]


def empty() -> Manifest:
    """The manifest of a warehouse that nobody has written yet."""
    return Manifest(FORMAT, "", {table.name: table for table in TABLES}, {})


def load(folder: Path) -> Manifest:
    """Read the manifest; without one, and without data, there are no rows.

    Raises WarehouseError: unreadable, newer, or damaged, which it also is if it names anything but files of `data/` or
    what no run writes: its names become paths and SQL.
    """
    path = folder / NAME
    try:
        content = path.read_bytes()
        found = msgspec.json.decode(content, type=_Format)
        if found.format <= FORMAT:
            manifest = msgspec.json.decode(content, type=Manifest)
            _check(manifest)
    except FileNotFoundError as error:
        if (folder / DATA).is_dir() and any((folder / DATA).glob("*/*/*")):
            raise _damaged(path, "it is missing, and there is data") from error
        return empty()
    except OSError as error:
        raise WarehouseError(f"{path} cannot be read: {error.strerror}; check the folder's permissions") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _damaged(path, first_line(error)) from error
    if found.format > FORMAT:
        raise WarehouseError(
            f"{path} has format {found.format}, this version reads up to {FORMAT}; upgrade audience-insights"
        )
    manifest.tables = {**manifest.tables, **{table.name: table for table in TABLES}}
    return manifest


def _damaged(path: Path, why: str) -> WarehouseError:
    return WarehouseError(f"{path} is damaged: {why}; restore it from a backup, or backfill into a new folder")


def _check(manifest: Manifest) -> None:
    """Raise ValueError for what no run writes."""
    for name, table in manifest.tables.items():
        if name != table.name:
            raise ValueError(f"table {table.name!r} stands under {name!r}")
        for each in (name, *_names(table.columns)):
            if not _NAME.fullmatch(each):
                raise ValueError(f"table {name!r}: {each!r} is no name of a table or column")
    seen = set[str]()
    for name, days in manifest.files.items():
        if name not in manifest.tables:
            raise ValueError(f"it has files of table {name!r}, which it does not declare")
        for day, files in days.items():
            if day_name(day_from(day)) != day:
                raise ValueError(f"{day!r} is no day")
            for file in files:
                if file.path.rpartition("/")[0] != f"{DATA}/{name}/{day}" or not _FILE.fullmatch(file.path):
                    raise ValueError(f"{file.path!r} is no file of table {name}, day {day}")
                if file.path in seen:
                    raise ValueError(f"it names {file.path!r} twice")
                seen.add(file.path)


def _names(columns: Iterable[Column]) -> Iterator[str]:
    """The names of columns, those within them too. Raises ValueError for a type that there is not."""
    for column in columns:
        if column.type not in (*TYPES, "RECORD") or column.mode not in ("NULLABLE", "REQUIRED", "REPEATED"):
            raise ValueError(f"column {column.name!r} is {column.mode} {column.type}")
        yield column.name
        yield from _names(column.fields)


def begin(folder: Path) -> None:
    """Save an empty manifest where there is none: from then on one that is missing was lost. Raises as `load`."""
    if not (folder / NAME).exists():
        save(folder, load(folder))


def save(folder: Path, manifest: Manifest) -> None:
    """Put `manifest` in the place of the present one, durably and at once. Raises OSError."""
    write_atomically(folder / NAME, msgspec.json.encode(manifest))
