"""The block: the element of the graph.

A block is a `polars.DataFrame` of a few thousand rows; Beam moves it as one element, coded as an Arrow IPC stream. This
file holds the schemas of the blocks, their coder, the hash for shards and deduplication, and the day of a time.

Hash    xxh3-64 of the UTF-8 bytes, pinned by golden values in the tests: state and shard keys must survive an upgrade
        of Polars, whose own `Expr.hash` is not stable across versions.
Threads One Polars thread per process (`POLARS_MAX_THREADS`, set in `transforms/__init__.py`): a runner already starts a
        process or a thread per core.
"""

import io
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import polars as pl
import xxhash
from apache_beam import coders

from transforms.windows import TIME

NUMERIC = pl.Decimal(38, 9)  # BigQuery's NUMERIC: sums are exact, so where blocks are cut cannot change them

RAW_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "payload": pl.Binary,
    "received_time": TIME,  # null if the record itself must state it
    "source": pl.String,
    "position": pl.String,  # file:line, file:row group:row, message id
    "attributes": pl.String,  # JSON object: what is needed to read the payload again (CSV header, message attributes)
}

# Lineage of a record: where it was read, and how often. `parse` passes these columns on unchanged.
ORIGIN: dict[str, pl.DataType | type[pl.DataType]] = {
    "payload": pl.Binary,
    "position": pl.String,
    "attributes": pl.String,
    "input": pl.String,  # the input that it is read from, to which its quarantine and audit counts belong
    "quarantine_id": pl.String,  # of a record replayed from quarantine; else null
    "attempt": pl.Int64,  # 1 for the first reading
    "part": pl.Int64,  # numbers the events of an exploded record from 0; part 0 is the record itself
}
RECORD_SCHEMA = {**RAW_SCHEMA, **ORIGIN}

# The fields of an event that a record may state, in the order of the `events` table.
FIELDS: dict[str, pl.DataType | type[pl.DataType]] = {
    "event_id": pl.String,
    "event_type": pl.String,
    "user_id": pl.String,
    "anonymous_id": pl.String,
    "session_id": pl.String,
    "sequence": pl.Int64,  # orders the events of one time
    "content_id": pl.String,
    "content_type": pl.String,
    "category": pl.String,
    "channel": pl.String,
    "campaign": pl.String,
    "referrer": pl.String,
    "country": pl.String,
    "device": pl.String,
    "value": NUMERIC,
    "currency": pl.String,
    "quantity": pl.Int64,
    "is_bot": pl.Boolean,
    "text": pl.String,
    "rating": pl.Float64,
    "properties": pl.String,  # JSON
    "extra": pl.String,  # JSON: every field that neither the contract nor the mapping names
}

# A block after parse and map: the fields, the times as stated in the record, and the raw bytes.
PARSED_SCHEMA = {
    **FIELDS,
    "id_source": pl.String,  # client, derived
    "client_time": TIME,  # the client's own time, null if absent or unreadable
    "client_time_given": pl.Boolean,  # whether the record had one at all
    "sent_time": TIME,
    "received_time": TIME,
    "clock": pl.String,  # trusted, client
    "source": pl.String,
    "source_format": pl.String,
    **ORIGIN,
}

# A record on its way to quarantine.
REJECTED_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    **ORIGIN,
    "received_time": TIME,
    "event_time": TIME,  # null if it was rejected before the event time was determined
    "source": pl.String,
    "source_format": pl.String,
    "stage": pl.String,  # parse, map, validate, event_time, late, load
    "code": pl.String,
    "errors": pl.String,  # JSON array of {path, code, message}; the path of the field, never its value
}

# An event: the columns of the `events` table.
EVENT_SCHEMA = {
    "event_id": pl.String,
    "id_source": pl.String,
    "event_type": pl.String,
    "event_time": TIME,
    "time_source": pl.String,
    "received_time": TIME,
    "client_time": TIME,
    "sent_time": TIME,
    "source": pl.String,
    "source_format": pl.String,
    "input": pl.String,  # where the run read it: lineage, which also makes adding a file twice idempotent
    **{name: dtype for name, dtype in FIELDS.items() if name not in ("event_id", "event_type")},
    "warnings": pl.String,  # codes joined by commas
}

# An event in the graph: `stored` if it was read from the warehouse, which has already counted it.
FLOW_SCHEMA = {**EVENT_SCHEMA, "stored": pl.Boolean}
FLOW_COLUMNS = list(FLOW_SCHEMA)

LARGE_ROWS = 5_000  # of a block whose few rows are worth a copy
SEPARATOR = "\x1f"  # between the parts of a hashed key: no printable identifier holds it


def tag_input(raw: pl.DataFrame, input: str) -> pl.DataFrame:
    """Return a source's RAW_SCHEMA block as a RECORD_SCHEMA block of `input`, at its first reading.

    A block that already has an `input` (a part of `input` that its source distinguishes) keeps it.
    """
    return raw.with_columns(
        input=pl.col("input") if "input" in raw.columns else pl.lit(input),
        quarantine_id=pl.lit(None, pl.String),
        attempt=pl.lit(1, pl.Int64),
        part=pl.lit(0, pl.Int64),
    )


def empty(schema: dict) -> pl.DataFrame:
    """Return a block without rows."""
    return pl.DataFrame(schema=schema)


def held_bytes(block: pl.DataFrame) -> int:
    """Return the size of a coded block in bytes: a string that rows share in memory counts for each row."""
    texts = block.select(_sums_of_texts(*_texts_of(block))).row(0)
    return sum(texts) + 8 * block.width * block.height


def compacted(block: pl.DataFrame, of: int) -> pl.DataFrame:
    """Return the rows, in buffers of their own if they are few of `of` rows: a selection keeps the texts of all."""
    if of < LARGE_ROWS or 2 * block.height > of:
        return block
    coder = BlockCoder()
    return coder.decode(coder.encode(block))


def split_to_size(block: pl.DataFrame, most_bytes: int) -> Iterator[pl.DataFrame]:
    """Yield the rows in nonempty blocks of at most `most_bytes`; a single larger row is a block of its own."""
    if held_bytes(block) <= most_bytes:
        if not block.is_empty():
            yield block
        return
    each = pl.sum_horizontal(pl.repeat(8 * block.width, pl.len(), dtype=pl.Int64), *_text_bytes(*_texts_of(block)))
    ends, start = block.select(each.cum_sum()).to_series().to_numpy(), 0
    while start < block.height:
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + most_bytes, "right")), start + 1)
        yield block[start:stop]
        start = stop


def _texts_of(block: pl.DataFrame) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the String columns, and of the Binary ones."""
    types = block.schema.items()
    strings, binaries = (tuple(name for name, dtype in types if dtype == wanted) for wanted in (pl.String, pl.Binary))
    return strings, binaries


@lru_cache(maxsize=256)
def _sums_of_texts(strings: tuple[str, ...], binaries: tuple[str, ...]) -> list[pl.Expr]:
    # Kept, since to make them takes longer than to sum up a small block.
    return [size.sum() for size in _text_bytes(strings, binaries)]


def _text_bytes(strings: tuple[str, ...], binaries: tuple[str, ...]) -> list[pl.Expr]:
    sizes = [pl.col(name).str.len_bytes() for name in strings] + [pl.col(name).bin.size() for name in binaries]
    return [size.cast(pl.Int64) for size in sizes]


def hash64(texts: pl.Series) -> pl.Series:
    """Return xxh3-64 of each string's UTF-8 bytes as UInt64; null hashes like the empty string."""
    return pl.Series(texts.name, hashes(texts))


def hashes(texts: pl.Series) -> np.ndarray:
    """Return the same as uint64."""
    return np.fromiter(map(xxhash.xxh3_64_intdigest, _parts(texts)), np.uint64, len(texts))


def digests(texts: pl.Series) -> pl.Series:
    """Return xxh3-128 of each string's UTF-8 bytes as 32 hex digits; null hashes like the empty string."""
    return pl.Series(texts.name, list(map(xxhash.xxh3_128_hexdigest, _parts(texts))), dtype=pl.String)


def _parts(texts: pl.Series) -> list[bytes]:
    texts = texts if texts.dtype == pl.Binary else texts.cast(pl.Binary)
    return (texts.fill_null(b"") if texts.null_count() else texts).to_list()


def hash128(parts: Iterable[bytes]) -> str:
    """Return xxh3-128 of the parts, separated, as 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(SEPARATOR.encode().join(parts))


def day_of(time: pl.Expr, zone: str) -> pl.Expr:
    """Return the calendar day of a UTC time in the warehouse's time zone, as Date."""
    return time.dt.convert_time_zone(zone).dt.date() if zone != "UTC" else time.dt.date()


class BlockCoder(coders.Coder):
    """A block as an Arrow IPC stream, lz4."""

    def encode(self, block):
        return block.write_ipc_stream(None, compression="lz4", compat_level=pl.CompatLevel.newest()).getvalue()

    def decode(self, encoded):
        return pl.read_ipc_stream(io.BytesIO(encoded))

    def is_deterministic(self):
        return False

    def estimate_size(self, block):
        return block.estimated_size()  # the default would encode every sampled block to measure it

    def to_type_hint(self):
        return pl.DataFrame


coders.registry.register_coder(pl.DataFrame, BlockCoder)
