"""Audit counts: every record read ends in exactly one place, and the table `quality_1m` proves it.

    PCollection[packed entries], from every stage that ends a record's path -> Aggregate -> quality_1m

    received + exploded = events + duplicates + quarantined + out_of_range + replaced + erased   (the balance is 0)

`received` is counted where raw bytes are read; `exploded` counts the events of a record beyond its first. The time of a
record in a file is known only after parsing, so the reader counts it under the NULL minute, and parse moves the count
to the minute of `received_time`. The sinks count `events` and `quarantined` from what they wrote. A block that is lost
on its way therefore leaves a nonzero balance in the minute and the source where it was last seen. Counts are
PCollections, never Metrics counters: a retried bundle would count twice.

Between steps a block's counts are a list of Entry, packed as bytes: a few numbers, where a frame would cost more than
they do. In the warehouse they are rows of BOOKS_SCHEMA.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta

import msgspec
import polars as pl

from transforms.block import TIME, empty
from transforms.windows import to_micros

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
FEW_ROWS = 5_000  # that are counted faster in Python than by Polars
Entry = tuple[int | None, str, str | None, str, int]  # minute in microseconds since 1970, source, input, outcome, count
_MINUTE = to_micros(MINUTE)
_decode = msgspec.msgpack.Decoder(list[Entry]).decode
_KEYS = ["bucket_start", "source", "input"]


def entries_of(block: pl.DataFrame, outcome: str) -> list[Entry]:
    """Count rows (source, received_time, input) as one of COUNTS, by minute."""
    rows = block.select(pl.col("received_time").dt.epoch("us") // _MINUTE * _MINUTE, "source", "input")
    if rows.height <= FEW_ROWS:
        counts = Counter(_tuples(rows))
        return [(*key, outcome, number) for key, number in counts.items()]
    return [(*key, outcome, number) for *key, number in _tuples(rows.group_by(rows.columns).len())]


def _tuples(few: pl.DataFrame) -> Iterator[tuple]:
    return zip(*few.to_dict(as_series=False).values(), strict=True)


def add_up(entries: Iterable[Entry]) -> list[Entry]:
    """Add up entries of one key and outcome; those of zero are left out."""
    sums = Counter[tuple]()
    for *key, number in entries:
        sums[tuple(key)] += number
    return [(*key, number) for key, number in sums.items() if number]


def frame_of(entries: Iterable[Entry]) -> pl.DataFrame:
    """Return entries as a BOOKS_SCHEMA block: one row per (bucket_start, source, input), in that order."""
    rows: dict[tuple, list[int]] = {}
    for *key, outcome, number in entries:
        rows.setdefault(tuple(key), [0] * len(COUNTS))[COUNTS.index(outcome)] += number
    flat = [(*key, *counts) for key, counts in rows.items()]
    return pl.DataFrame(flat, schema=BOOKS_SCHEMA, orient="row").sort(_KEYS)


def pack(entries: Iterable[Entry]) -> bytes:
    """Return entries as an element of a PCollection: added up, as MessagePack."""
    return msgspec.msgpack.encode(add_up(entries))


def unpack(packed: bytes) -> list[Entry]:
    """Return what `pack` made."""
    return _decode(packed)


def count(block: pl.DataFrame, outcome: str) -> pl.DataFrame:
    """Count rows (source, received_time, input) as one of COUNTS, by minute: a BOOKS_SCHEMA block."""
    return frame_of(entries_of(block, outcome))


def entries(counted: pl.DataFrame) -> pl.DataFrame:
    """Fill missing counts with zero, and order the columns as BOOKS_SCHEMA."""
    missing = [pl.lit(0, pl.Int64).alias(name) for name in COUNTS if name not in counted.columns]
    return counted.with_columns(missing).select(list(BOOKS_SCHEMA))


def merge(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Add up entries: one row per (bucket_start, source, input), in that order."""
    if not parts:
        return empty(BOOKS_SCHEMA)
    return pl.concat(parts).group_by(_KEYS).agg(pl.col(COUNTS).sum()).sort(_KEYS)
