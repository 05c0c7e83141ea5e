"""Staged files: Parquet that a run writes before its commit, in a folder of this machine or of a bucket (gs://...).

A job on a cluster shares no folder, so its workers write to a bucket: each file under a name of its own, whole or not
at all. In both places only files that the run confirmed are ever read again.
"""

import shutil
import uuid
from collections.abc import Sequence
from contextlib import closing
from datetime import date
from io import BytesIO
from pathlib import Path

import polars as pl
from apache_beam.io.filesystems import FileSystems

from pipelines.warehouse import day_files
from pipelines.warehouse.day_files import FileEntry, day_name
from transforms.errors import WarehouseError, first_line


def in_bucket(place: str | Path) -> bool:
    """Whether a folder or a file is in a bucket."""
    return "://" in str(place)


def write_file(
    staging: str | Path, table_name: str, day: date | None, frame: pl.DataFrame, synced: bool = True
) -> FileEntry:
    """Write `frame` (the table's columns, any row order) to the run's staging folder, as `day_files.write_file` does.

    Raises WarehouseError if it cannot be written.
    """
    if not in_bucket(staging):
        return day_files.write_file(staging, table_name, day, frame, synced)
    path = f"{staging}/{table_name}/{day_name(day)}/{uuid.uuid4().hex}.parquet"
    content = BytesIO()
    frame.write_parquet(content, compression="zstd", compression_level=1)
    try:
        with FileSystems.create(path) as file:
            file.write(content.getbuffer())
    except Exception as problem:  # of Beam, of Google's client, of the network
        raise WarehouseError(
            f"{path} cannot be written: {first_line(problem)}; check that the bucket is there and that the workers' "
            "account has the role roles/storage.objectUser on it"
        ) from problem
    return FileEntry(table_name, day, path, frame.height, content.tell())


def scan(paths: Sequence[str], columns: Sequence[str] | Sequence[pl.Expr]) -> pl.LazyFrame:
    """Columns of staged files of one table, of which there is at least one, or what is made of them row by row."""
    if not in_bucket(paths[0]):
        return pl.scan_parquet(list(paths), glob=False).select(columns)
    # By Beam's own client, which finds the bucket where everything else of the run finds it; a file at a time, so that
    # no more is held of it than what is asked for.
    return pl.concat(pl.scan_parquet(BytesIO(_read(path))).select(columns).collect() for path in paths).lazy()


def columns_of(path: str) -> dict[str, pl.DataType]:
    """The columns of a staged file and their types."""
    return dict(pl.read_parquet_schema(BytesIO(_read(path)) if in_bucket(path) else path))


def remove(staging: str, project: str) -> None:
    """Remove the staging folder of a run; it may be gone already. `project` is who asks."""
    if not in_bucket(staging):
        return shutil.rmtree(staging, ignore_errors=True)
    from google.cloud import storage

    name, _, folder = staging.partition("://")[2].partition("/")
    with closing(storage.Client(project=project)) as client:
        bucket = client.bucket(name)
        bucket.delete_blobs(list(client.list_blobs(bucket, prefix=f"{folder}/")), on_error=lambda blob: None)


def _read(path: str) -> bytes:
    with FileSystems.open(path) as file:
        return file.read()
