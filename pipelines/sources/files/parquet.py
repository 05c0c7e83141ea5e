"""Parquet row groups as JSON lines: pure functions under the files source.

Each row becomes one JSON object, keyed by column. Numbers stay numbers, a decimal column with all its digits.
Times are RFC 3339; one without a zone is taken as UTC, which is how Spark, DuckDB and pandas write UTC, unless the
mapping states its zone. Bytes
are text if they are UTF-8 (old writers mark no strings), else base64, a UUID is a UUID. NaN and infinity are null.
What else has no JSON form becomes a text, value by value (parquet_values.py): no value ends a run. A column whose type
has none, or whose name is taken, is an `UnreadableColumn`, before anything is read.
"""

import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from pipelines.sources.files import parquet_values
from pipelines.sources.files.split import bounds, payloads
from transforms.records.payloads import RECORD_LIMIT

MOST_ROWS = 65_536  # in a slice: the footer tells encoded sizes, and a dictionary hides long strings


class UnreadableColumn(ValueError):
    """A column has a type that has no JSON form, or the name of another."""


def row_groups(file: BinaryIO) -> int:
    """The number of row groups. Errors: `ArrowException` for no Parquet file, `UnreadableColumn`."""
    parquet = _opened(file)
    if problem := parquet_values.unwritable(parquet.schema_arrow):
        raise UnreadableColumn(problem)
    return parquet.num_row_groups


def group_bytes(file: BinaryIO, group: int, file_bytes: int) -> int:
    """What a row group takes of a file of this size; the groups of a file take all of it, its footer too."""
    metadata = _opened(file).metadata
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    sizes = [sum(about.column(n).total_compressed_size for n in range(about.num_columns)) for about in groups]
    until, all_of_it = sum(sizes[: group + 1]), max(sum(sizes), 1)
    return file_bytes * until // all_of_it - file_bytes * (until - sizes[group]) // all_of_it


def rows_as_json(file: BinaryIO, group: int, block_bytes: int, local_times: bool = False) -> Iterator[pl.Series]:
    """The rows of a row group in order as series of JSON (Binary), each of about `block_bytes`.

    local_times   a time without a zone is written without one, for a mapping to state it
    """
    metadata = _opened(file).metadata
    about = metadata.row_group(group)
    _check_values(about, group)
    # A text that rows share stays one until it is known how many of them fit a block: a column of 100 kB may hold a
    # text of megabytes for each of a million rows.
    schema = metadata.schema.to_arrow_schema()
    texts = [field.name for field in schema if _is_text(field.type)]
    parquet = _opened(file, metadata, texts)
    named = sum(len(name.encode()) + 8 for name in schema.names)  # the keys of each row
    rows = min(block_bytes * about.num_rows // max(about.total_byte_size, 1), block_bytes // max(named, 1), MOST_ROWS)
    for batch in parquet.iter_batches(max(rows, 1), row_groups=[group], use_threads=False):
        yield from (json_rows(part, local_times) for part in _parts(batch, block_bytes))


def _check_values(about: Any, group: int) -> None:
    for number in range(about.num_columns):
        column = about.column(number)
        size = column.total_uncompressed_size // max(column.num_values, 1)
        if size > RECORD_LIMIT:
            raise UnreadableColumn(
                f"column {column.path_in_schema!r} of row group {group} holds values of {size >> 20:,} MB each, allowed"
                f" {RECORD_LIMIT >> 20} MB"
            )


def _is_text(dtype: pa.DataType) -> bool:
    return any(is_it(dtype) for is_it in (pt.is_string, pt.is_binary, pt.is_large_string, pt.is_large_binary))


def _parts(batch: pa.RecordBatch, block_bytes: int) -> Iterator[pa.RecordBatch]:
    """The rows of a batch in parts of about `block_bytes`, with texts of their own."""
    sizes = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        if pt.is_dictionary(column.type) and _is_text(column.type.value_type):
            lengths = pc.binary_length(column.dictionary).cast(pa.int64())
            sizes += pc.fill_null(lengths.take(column.indices), 0).to_numpy(zero_copy_only=False)
        else:
            sizes += column.nbytes // max(batch.num_rows, 1)
    ends, start = np.cumsum(sizes), 0
    while start < batch.num_rows:
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + block_bytes, "right")), start + 1)
        columns = [
            column.dictionary_decode() if pt.is_dictionary(column.type) else column
            for column in batch.slice(start, stop - start).columns
        ]
        yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        start = stop


def json_rows(batch: pa.RecordBatch, local_times: bool = False) -> pl.Series:
    """Each row as a JSON object, Binary."""
    if not batch.num_columns:
        return pl.repeat(b"{}", batch.num_rows, dtype=pl.Binary, eager=True)
    plain: dict[str, pa.Array] = {}
    parts: list[pl.Series] = []  # of each row, what stands between its braces
    for name, column in zip(batch.schema.names, map(parquet_values.settled, batch.columns), strict=True):
        if name and parquet_values.is_plain(column):  # Polars would give a column without a name another one
            plain[name] = column
        else:
            parts.append(parquet_values.texts(column).alias(name))
    if not parts:
        return _written(plain, local_times)
    keyed = [pl.concat_str(pl.lit(_key(part.name)), pl.lit(part)) for part in parts]
    if plain:
        rest = _written(plain, local_times).cast(pl.String)
        keyed.append(pl.lit(rest).str.slice(1).str.head(-1))
    row = pl.concat_str(pl.lit("{"), pl.concat_str(keyed, separator=","), pl.lit("}"))
    return pl.select(row).to_series().cast(pl.Binary)


def _opened(file: BinaryIO, metadata: Any = None, texts: Sequence[str] = ()) -> Any:
    return pq.ParquetFile(
        file,
        metadata=metadata,
        read_dictionary=texts,
        pre_buffer=False,
        page_checksum_verification=True,
        coerce_int96_timestamp_unit="us",  # nanoseconds of 64 bits end with the year 2262
    )


def _written(columns: dict[str, pa.Array], local_times: bool) -> pl.Series:
    frame = pl.from_arrow(pa.table(columns))
    assert isinstance(frame, pl.DataFrame)
    zoned = {} if local_times else {name: _zoned(dtype) for name, dtype in frame.schema.items()}
    frame = frame.cast({name: dtype for name, dtype in zoned.items() if dtype != frame.schema[name]})
    lines = io.BytesIO()
    frame.write_ndjson(lines)
    data = lines.getvalue()
    found = bounds(data, None)
    return payloads(data, found.starts, found.stops)


def _key(name: str) -> str:
    return msgspec.json.encode(name).decode() + ":"


def _zoned(dtype: pl.DataType) -> pl.DataType:
    """The type with UTC in each time that has no zone, inside lists and structs too."""
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        return pl.Datetime(dtype.time_unit, "UTC")
    if isinstance(dtype, pl.List | pl.Array):
        return pl.List(_zoned(dtype.inner))  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _zoned(field.dtype) for field in dtype.fields})  # type: ignore[arg-type]
    return dtype
