"""What a stream before left: rows of its tables, and records that landed."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from pipelines.sources.landing import Lander
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.sink import by_day, shaped
from transforms.block import RAW_SCHEMA

MINUTE = timedelta(minutes=1)


def rows_of(table, *rows: dict) -> pl.DataFrame:
    """Rows of a table, 0 or null in the columns that are not stated."""
    numbers = {column.name: 0 for column in table.columns if column.type == "INT64" and column.mode == "REQUIRED"}
    names = [column.name for column in table.columns]
    full = [dict.fromkeys(names) | numbers | row for row in rows]
    return shaped(pl.DataFrame({name: [row[name] for row in full] for name in names}, strict=False), table)


def book(at: datetime, input: str, generation: int = 1, **counts) -> dict:
    stamps = {"firing": "early", "generation": generation, "revision": 1, "source": "web"}
    return {"bucket_start": at, "bucket_end": at + MINUTE, "input": input, **stamps, **counts}


def write(into, table, *rows: dict) -> None:
    frame = rows_of(table, *rows)
    days = by_day(frame, table.partition, "UTC")
    into.run.commit([write_file(into.run.staging, table.name, day, part) for day, part in days])


def land(folder: Path, input: str, at: datetime, rows: int) -> str:
    """Land rows of one minute in a landing folder; their input."""
    block = pl.DataFrame({"payload": [b"{}"] * rows, "received_time": [at] * rows, "source": ["web"] * rows})
    full = block.select(
        (pl.col(name) if name in block.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in RAW_SCHEMA.items()
    )
    return Lander(str(folder), input, "run", 0).land(full)["input"][0]
