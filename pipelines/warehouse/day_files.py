"""Day files: the Parquet files that hold the rows of one table and day, as they are written and named."""

import hashlib
import os
import uuid
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import BinaryIO

import polars as pl
import xxhash

from pipelines.system.disk import WRITE_ERRORS, cannot_write

SMALL_ROWS = 2_000  # below which zstd takes longer to begin than all of the rest, to save a sixth of a small file
UNKNOWN = "unknown"  # the day of rows whose partition column is NULL


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A staged Parquet file: its table, day (None: unknown), absolute path, rows, size in bytes, and checksum.

    synced  whether it outlives a loss of power; if not, the commit that takes it in sees to that
    """

    table: str
    day: date | None
    path: str
    rows: int
    bytes: int
    xxh3: str = ""
    synced: bool = True


def write_file(
    staging: str | Path, table_name: str, day: date | None, frame: pl.DataFrame, synced: bool = True
) -> FileEntry:
    """Write `frame` (the table's columns, any row order) to the run's staging folder, durably if it is `synced`.

    Safe to call from many processes and again for the same rows: only entries given to `commit` count.
    Raises WarehouseError if the disk is full or not writable.
    """
    table = f"{os.path.abspath(staging)}/{table_name}"
    # Without a folder a day, if the file is not synced: a run of many days would make and remove as many.
    folder = f"{table}/{day_name(day)}" if synced else table
    path = f"{folder}/{uuid.uuid4().hex}"
    try:
        for each in (table, folder):
            if not os.path.isdir(each):  # not the staging folder: a worker that outlives its run writes nothing
                Path(each).mkdir(exist_ok=True)
        size, checksum = write_parquet(f"{path}.tmp", frame, synced)
        os.replace(f"{path}.tmp", f"{path}.parquet")  # whoever looks for a person's rows after a kill reads whole files
    except WRITE_ERRORS as error:
        raise cannot_write(Path(f"{path}.parquet"), error) from error
    return FileEntry(table_name, day, f"{path}.parquet", frame.height, size, checksum, synced)


def write_parquet(path: str | Path, frame: pl.DataFrame, synced: bool = True) -> tuple[int, str]:
    """Write a file, durably if it is `synced`; (its size, its checksum). Raises WRITE_ERRORS."""
    with open(path, "w+b") as file:
        if frame.height < SMALL_ROWS:
            frame.write_parquet(file, compression="snappy")
        else:
            frame.write_parquet(file, compression="zstd", compression_level=1)
        file.flush()
        if synced:
            os.fsync(file.fileno())
        size = file.tell()
        file.seek(0)
        return size, digest(file)  # of what the system has of the file: it was written this moment


def digest(file: BinaryIO) -> str:
    """The checksum of a file's bytes from where it stands: XXH3, 128 bits, at more than 5 GB/s."""
    return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()  # type: ignore[arg-type]


def day_name(day: date | None) -> str:
    """The name of a day's folder and manifest entry; None is `unknown`."""
    return UNKNOWN if day is None else day.isoformat()


def day_from(name: str) -> date | None:
    """The inverse of `day_name`. Raises ValueError for what is no such name."""
    return None if name == UNKNOWN else date.fromisoformat(name)
