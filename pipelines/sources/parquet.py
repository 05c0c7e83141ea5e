"""Parquet row groups as JSON lines: pure functions under the files source.

Each row becomes one JSON object, keyed by column. Numbers stay numbers, a decimal column with all its digits.
Times are RFC 3339; one without a zone is taken as UTC, which is how Spark, DuckDB and pandas write UTC. Bytes
are text if they are UTF-8 (old writers mark no strings), else base64. NaN and infinity are null.
"""

import base64
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec
import polars as pl
import pyarrow.parquet as pq
from polars import selectors as cs

from pipelines.sources.cuts import bounds, payloads

MOST_ROWS = 65_536  # in a slice: the footer tells encoded sizes, and a dictionary hides long strings


class UnreadableColumn(ValueError):
    """A column has a type that has no JSON form."""


def row_groups(file: BinaryIO) -> int:
    """The number of row groups. Errors: `ArrowException` for no Parquet file, `UnreadableColumn`."""
    parquet = _opened(file)
    found = pl.from_arrow(parquet.schema_arrow.empty_table())
    assert isinstance(found, pl.DataFrame)
    for name, dtype in found.schema.items():
        if dtype != pl.Binary and _holds_bytes(dtype):
            raise UnreadableColumn(f"column {name!r} holds bytes within {dtype}, which has no JSON form")
    return parquet.num_row_groups


def group_bytes(file: BinaryIO, group: int, file_bytes: int) -> int:
    """What a row group takes of a file of this size; the groups of a file take all of it, its footer too."""
    metadata = _opened(file).metadata
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    sizes = [sum(about.column(n).total_compressed_size for n in range(about.num_columns)) for about in groups]
    until, all_of_it = sum(sizes[: group + 1]), max(sum(sizes), 1)
    return file_bytes * until // all_of_it - file_bytes * (until - sizes[group]) // all_of_it


def rows_as_json(file: BinaryIO, group: int, block_bytes: int) -> Iterator[pl.Series]:
    """The rows of a row group in order as series of JSON (Binary), each of about `block_bytes`."""
    parquet = _opened(file)
    about = parquet.metadata.row_group(group)
    rows = block_bytes * about.num_rows // max(about.total_byte_size, 1)
    for batch in parquet.iter_batches(min(max(rows, 1), MOST_ROWS), row_groups=[group], use_threads=False):
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        slices = int(frame.estimated_size()) // block_bytes + 1
        for part in frame.iter_slices(max(frame.height // slices, 1)):
            yield json_rows(part)


def json_rows(frame: pl.DataFrame) -> pl.Series:
    """Each row as a JSON object, Binary."""
    frame = frame.with_columns(_texts(column) for column in frame.select(cs.binary()))
    zoned = {name: _zoned(dtype) for name, dtype in frame.schema.items()}
    frame = frame.cast({name: dtype for name, dtype in zoned.items() if dtype != frame.schema[name]})
    exact = frame.select(cs.decimal())
    rest = frame.drop(exact.columns)
    written = _written(rest) if rest.width else pl.repeat("{}", frame.height, eager=True).cast(pl.Binary)
    if not exact.width:
        return written
    # Polars writes a decimal as a string; as a number it can be summed without a mapping, and loses no digit.
    numbers = [
        pl.concat_str(pl.lit(_key(name)), pl.col(name).cast(pl.String).fill_null("null")) for name in exact.columns
    ]
    tail = written.cast(pl.String).str.slice(1)
    joint = "," if rest.width else ""
    return (
        exact.select(pl.concat_str(pl.lit("{"), pl.concat_str(numbers, separator=","), pl.lit(joint), pl.lit(tail)))
        .to_series()
        .cast(pl.Binary)
    )


def _opened(file: BinaryIO) -> Any:
    return pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)


def _written(frame: pl.DataFrame) -> pl.Series:
    lines = io.BytesIO()
    frame.write_ndjson(lines)
    data = lines.getvalue()
    found = bounds(data, None)
    return payloads(data, found.starts, found.stops)


def _key(name: str) -> str:
    return msgspec.json.encode(name).decode() + ":"


def _texts(column: pl.Series) -> pl.Series:
    # Value by value: Polars' cast refuses the whole column for one value that is no UTF-8.
    texts = [None if value is None else _text(value) for value in column]
    return pl.Series(column.name, texts, dtype=pl.String)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _zoned(dtype: pl.DataType) -> pl.DataType:
    """The type with UTC in each time that has no zone, inside lists and structs too."""
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        return pl.Datetime(dtype.time_unit, "UTC")
    if isinstance(dtype, pl.List | pl.Array):
        return pl.List(_zoned(dtype.inner))  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _zoned(field.dtype) for field in dtype.fields})  # type: ignore[arg-type]
    return dtype


def _holds_bytes(dtype: Any) -> bool:
    if isinstance(dtype, pl.Struct):
        return any(_holds_bytes(field.dtype) for field in dtype.fields)
    return _holds_bytes(dtype.inner) if isinstance(dtype, pl.List | pl.Array) else dtype == pl.Binary
