"""Load jobs: staged Parquet files into a staging table, from this machine or from a bucket.

From this machine files are merged up to LOAD_BYTES before they are sent, since a table takes 1,500 loads in a day; from
a bucket one job takes LOAD_FILES.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
from google.cloud import bigquery

from pipelines.warehouse.bigquery.dataset import Dataset
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.staged import in_bucket
from pipelines.warehouse.tables import Table
from pipelines.warehouse.tables import bigquery_schema as fields_of

LOAD_BYTES = 256 << 20  # of Parquet in one load job from this machine
LOAD_FILES = 10_000  # of a bucket in one load job


def staging_fields(table: Table, columns: Sequence[str]) -> list[bigquery.SchemaField]:
    """These columns as a Parquet file fills them: text, where the table has JSON, which no such file has."""
    return [
        bigquery.SchemaField(
            field["name"],
            "STRING" if field["type"] == "JSON" else field["type"],
            "REPEATED" if field["mode"] == "REPEATED" else "NULLABLE",
            fields=map(bigquery.SchemaField.from_api_repr, field.get("fields", ())),
        )
        for field in fields_of(table)
        if field["name"] in columns
    ]


def load(
    warehouse: Dataset, target: bigquery.TableReference, files: Sequence[FileEntry], spare: Path
) -> Iterator[bigquery.LoadJob]:
    """Append the rows of staged files to a table that is there: each job is given when it was started.

    spare  local folder for files on their way
    """
    lists = bigquery.ParquetOptions()
    lists.enable_list_inference = True  # a list as Parquet writes it is REPEATED, and not a RECORD with a list
    config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
        create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
        parquet_options=lists,
    )
    here = [file for file in files if not in_bucket(file.path)]
    there = [file.path for file in files if in_bucket(file.path)]
    for first in range(0, len(there), LOAD_FILES):
        part = there[first : first + LOAD_FILES]
        yield warehouse.client.load_table_from_uri(part, target, location=warehouse.location, job_config=config)
    for path in _merged(here, spare):
        with path.open("rb") as file:
            yield warehouse.client.load_table_from_file(file, target, location=warehouse.location, job_config=config)


def _merged(files: Sequence[FileEntry], spare: Path) -> Iterator[Path]:
    """The rows in as few files as loads of LOAD_BYTES take, one on the disk at a time."""
    for number, part in enumerate(_cut(files)):
        if len(part) == 1:
            yield Path(part[0].path)
            continue
        merged = spare / f"load-{part[0].table}-{number}.parquet"
        paths = [file.path for file in part]
        pl.scan_parquet(paths, glob=False).sink_parquet(merged, compression="zstd", compression_level=1)
        yield merged
        merged.unlink()


def _cut(files: Sequence[FileEntry]) -> Iterator[list[FileEntry]]:
    """Files in groups of LOAD_BYTES, or of one that is larger."""
    group: list[FileEntry] = []
    size = 0
    for file in files:
        if group and size + file.bytes > LOAD_BYTES:
            yield group
            group, size = [], 0
        group.append(file)
        size += file.bytes
    if group:
        yield group
