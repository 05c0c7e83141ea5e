"""Audit counts: every record read ends in exactly one place, and the table `quality_1m` proves it.

    PCollection[BOOKS_SCHEMA block], from every stage that ends a record's path -> Aggregate -> quality_1m

    received + exploded = events + duplicates + quarantined + out_of_range + replaced + erased   (the balance is 0)

`received` is counted where raw bytes are read; `exploded` counts the events of a record beyond its first. The time of a
record in a file is known only after parsing, so the reader counts it under the NULL minute, and parse moves the count
to the minute of `received_time`. The sinks count `events` and `quarantined` from what they wrote. A block that is lost
on its way therefore leaves a nonzero balance in the minute and the source where it was last seen. Counts are
PCollections, never Metrics counters: a retried bundle would count twice.
"""

from datetime import timedelta

import apache_beam as beam
import polars as pl

from transforms.block import TIME, empty

COUNTS = (
    "received",
    "exploded",
    "events",
    "duplicates",
    "conflicts",
    "quarantined",
    "out_of_range",
    "replaced",
    "erased",
)
BOOKS_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "bucket_start": TIME,
    "source": pl.String,
    "input": pl.String,
    **dict.fromkeys(COUNTS, pl.Int64),
}
MINUTE = timedelta(minutes=1)


def count(block: pl.DataFrame, outcome: str) -> pl.DataFrame:
    """Count rows (source, received_time, input) as one of COUNTS, by minute: a BOOKS_SCHEMA block."""
    counted = block.group_by(pl.col("received_time").dt.truncate("1m").alias("bucket_start"), "source", "input").len()
    return entries(counted.with_columns(pl.col("len").cast(pl.Int64).alias(outcome)))


def entries(counted: pl.DataFrame) -> pl.DataFrame:
    """Fill missing counts with zero, and order the columns as BOOKS_SCHEMA."""
    missing = [pl.lit(0, pl.Int64).alias(name) for name in COUNTS if name not in counted.columns]
    return counted.with_columns(missing).select(list(BOOKS_SCHEMA))


def redate(settled: pl.DataFrame, source: str, *, queue: bool) -> pl.DataFrame:
    """Move rows (source, received_time, input, part) from the reader's entry to their actual source and minute.

    The reader of a queue already knew the minute (`queue`); a reader of files counted under NULL. The parts of a record
    after its first were not received: they count as `exploded`.
    """
    arrived = count(settled.filter(pl.col("part") == 0), "received")
    minute = pl.col("bucket_start") if queue else pl.lit(None, TIME)
    left = arrived.with_columns(minute.alias("bucket_start"), received=-pl.col("received"), source=pl.lit(source))
    parts = settled.filter(pl.col("part") > 0)
    return merge([arrived, left] if parts.is_empty() else [arrived, left, count(parts, "exploded")])


def merge(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Add up entries: one row per (bucket_start, source, input), in that order."""
    if not parts:
        return empty(BOOKS_SCHEMA)
    keys = ["bucket_start", "source", "input"]
    return pl.concat(parts).group_by(keys).agg(pl.col(COUNTS).sum()).sort(keys)


class CountOutcome(beam.DoFn):
    """PCollection[block with source, received_time, input] -> PCollection[BOOKS_SCHEMA block]."""

    def __init__(self, outcome: str):
        self.outcome = outcome

    def process(self, block):
        yield count(block, self.outcome)
