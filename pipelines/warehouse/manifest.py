"""The manifest: the one file that says which Parquet files of a local warehouse are live.

Readers believe nothing else, so that one rename of `manifest.json` shows all of a commit at once: a process
killed at any moment leaves the manifest before it or the one after it.
"""

import os
from datetime import date
from pathlib import Path

import msgspec

from pipelines.warehouse.tables import TABLES, Table
from transforms.errors import WarehouseError
from transforms.funnel import Funnel

FORMAT = 1
UNKNOWN = "unknown"  # the day of rows whose partition column is NULL
NAME = "manifest.json"


class LiveFile(msgspec.Struct, frozen=True):
    """A Parquet file; `path` is relative to the warehouse's folder."""

    path: str
    rows: int
    bytes: int


class Manifest(msgspec.Struct):
    """What a warehouse holds.

    tables  the tables that runs declared, by name: what a query may name even before it has rows
    files   table -> day (ISO date or `unknown`) -> its live files
    funnel  that of the last run, which its view asks; None where no run has told one
    """

    format: int = FORMAT
    run: str = ""
    tables: dict[str, Table] = msgspec.field(default_factory=lambda: {table.name: table for table in TABLES})
    files: dict[str, dict[str, list[LiveFile]]] = msgspec.field(default_factory=dict)
    funnel: Funnel | None = None

    def paths(self) -> set[str]:
        """Every live path, relative to the folder."""
        return {file.path for days in self.files.values() for files in days.values() for file in files}


def day_name(day: date | None) -> str:
    """The folder and manifest key of a day; None is `unknown`."""
    return UNKNOWN if day is None else day.isoformat()


def day_from(name: str) -> date | None:
    """The inverse of `day_name`."""
    return None if name == UNKNOWN else date.fromisoformat(name)


def load(folder: Path) -> Manifest:
    """Read the manifest; without one there are no rows. Raises WarehouseError: unreadable, or newer."""
    path = folder / NAME
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return Manifest()
    except OSError as error:
        raise WarehouseError(f"{path} cannot be read: {error.strerror}; check the folder's permissions") from error
    except msgspec.DecodeError as error:
        raise WarehouseError(f"{path} is damaged: {error}; restore it, or backfill into a new folder") from error
    if found.format > FORMAT:
        raise WarehouseError(
            f"{path} has format {found.format}, this version reads up to {FORMAT}; upgrade audience-insights"
        )
    found.tables = {**found.tables, **{table.name: table for table in TABLES}}
    return found


def save(folder: Path, manifest: Manifest) -> None:
    """Put `manifest` in the place of the present one, durably and at once. Raises OSError."""
    write_atomically(folder / NAME, msgspec.json.encode(manifest))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is seen whole or not at all, even after a loss of power. Raises OSError."""
    aside = path.with_name(path.name + ".tmp")
    with open(aside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
