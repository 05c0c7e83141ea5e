"""The books: every record read ends in exactly one place, and the table `quality_1m` proves it.

    PCollection[BOOKS_SCHEMA block], from every stage that ends a record's way -> Aggregate -> quality_1m

    received + exploded = events + duplicates + quarantined + out_of_range + replaced + erased   (the balance is 0)

`received` is counted where raw bytes are read; `exploded` are the events that a record made beyond its first. A record
of a file tells its time only once it is parsed, so the reader counts it under the NULL minute and parse moves the count
to the minute of `received_time`. `events` and `quarantined` are counted by the sinks, from what they wrote. So a block
that is lost anywhere on its way leaves a balance that is not zero, in the minute and the source where it was last seen.
Counts are PCollections, never Metrics counters: a bundle that is tried again would count twice.
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
    """Fill the counts that a block of entries lacks with zero, in the order of BOOKS_SCHEMA."""
    missing = [pl.lit(0, pl.Int64).alias(name) for name in COUNTS if name not in counted.columns]
    return counted.with_columns(missing).select(list(BOOKS_SCHEMA))


def redate(settled: pl.DataFrame, source: str, *, queue: bool) -> pl.DataFrame:
    """Move rows (source, received_time, input, part) from the reader's entry to the source and minute they turned out
    to have.

    The reader of a queue knew the minute already (`queue`); a reader of files counted under NULL. The parts of a
    record behind its first were never received: they are `exploded`.
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
