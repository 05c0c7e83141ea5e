"""Where records begin and end in bytes: pure functions under the files source.

Record  JSONL: what stands between two newlines; only `\\n` ends it (`splitlines` would also cut at `\\r`,
        `\\x0b` and `\\x1c`). CSV: the same, except that a newline inside quotes belongs to the record. One
        `\\r` before the newline is dropped, a record of no bytes is none, the last newline may be missing.
Line    counted from 1 by `\\n`, in blank lines and inside quotes too; a record has the line it begins on.
Quotes  a quote opens a field only at the field's start, and inside one a doubled quote is a character: what
        `csv` and DuckDB read. A quote elsewhere is a character too, so `12" pipe` swallows no newline.
"""

import bz2
import csv
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import zstandard

from transforms.csv_format import CsvFormat

BOM = b"\xef\xbb\xbf"
NEWLINE = ord("\n")
SEARCH_BYTES = 256 << 10
RECORD_LIMIT = 64 << 20  # bytes; a longer "record" is a quote that never closes, or another format


class Piece(NamedTuple):
    """Whole records of a file: their bytes, the line and the byte offset in the file at which they begin."""

    data: bytes
    line: int
    offset: int


class Bounds(NamedTuple):
    """Records of a piece, as Int64 arrays: first byte, byte behind the last, newlines before the record."""

    starts: np.ndarray
    stops: np.ndarray
    lines: np.ndarray


class RecordTooLong(ValueError):
    """No end of a record within `RECORD_LIMIT`."""


def inflate(chunks: Iterable[bytes], compression: str, most: int = 1 << 20) -> Iterator[bytes]:
    """Uncompress a stream of one or more gzip, zstd or bzip2 members into chunks of at most `most` bytes.

    Errors: `EOFError` where the file ends within a member. Beam's own CompressedFile takes that for the
    end of the file, and the records behind it would be lost without a word.
    """
    decoder: Any = None
    begun = False
    for chunk in chunks:
        while chunk:
            if decoder is None:
                chunk = chunk.lstrip(b"\0")  # padding behind a member, which no member begins with
                if not chunk:
                    break
                decoder, begun = DECODERS[compression](), True
            data = decoder.decompress(chunk)
            for start in range(0, len(data), most):
                yield data[start : start + most]
            if not decoder.eof:
                break
            chunk, decoder = decoder.unused_data, None
    if decoder is not None or not begun:
        raise EOFError(f"the {compression} data ends too early")


DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(zlib.MAX_WBITS | 16),
    "zstd": lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj(),
    "bzip2": bz2.BZ2Decompressor,
}


def without_bom(chunks: Iterable[bytes]) -> tuple[Iterator[bytes], int]:
    """The chunks without a byte order mark at their head, and the number of bytes dropped (0 or 3)."""
    rest = iter(chunks)
    head = b""
    for chunk in rest:
        head += chunk
        if len(head) >= len(BOM):
            break
    dropped = len(BOM) if head.startswith(BOM) else 0
    return chain([head[dropped:]], rest), dropped


def pieces(
    chunks: Iterable[bytes], block_bytes: int, layout: CsvFormat | None, line: int = 1, offset: int = 0
) -> Iterator[Piece]:
    """Cut a stream of bytes that begins at a record into pieces of about `block_bytes` of whole records.

    layout  None for JSONL, else the CSV's with its delimiter set.
    """
    held: list[bytes] = []
    size, wanted = 0, block_bytes
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size < wanted:
            continue
        data = b"".join(held)
        end = last_end(data, layout)
        if not end:
            if size > RECORD_LIMIT:
                raise RecordTooLong(f"line {line}: no end of the record within {RECORD_LIMIT >> 20} MB")
            # Doubled, so that a long record is not looked through anew at every chunk.
            held, wanted = [data], 2 * size
            continue
        yield Piece(data[:end], line, offset)
        line += int(np.count_nonzero(np.frombuffer(data, np.uint8, end) == NEWLINE))
        offset += end
        held, size, wanted = [data[end:]], len(data) - end, block_bytes
    if size:
        yield Piece(b"".join(held), line, offset)


def spans(found: Iterable[Piece], block_bytes: int) -> Iterator[tuple[int, int, int]]:
    """(first byte, byte behind the last, line) of successive pieces joined until they hold `block_bytes`."""
    start, end, line = 0, 0, 0
    for piece in found:
        if start == end:
            start, line = piece.offset, piece.line
        end = piece.offset + len(piece.data)
        if end - start >= block_bytes:
            yield start, end, line
            start = end
    if start < end:
        yield start, end, line


def first_record(chunks: Iterable[bytes], layout: CsvFormat) -> tuple[bytes, Iterator[bytes]]:
    """The bytes of the first record with its newline (all there is, if none), and the chunks after."""
    rest = iter(chunks)
    head = b""
    for chunk in rest:
        head += chunk
        newlines = record_newlines(np.frombuffer(head, np.uint8), layout)[1]
        if newlines.size:
            end = int(newlines[0]) + 1
            return head[:end], chain([head[end:]], rest)
        if len(head) > RECORD_LIMIT:
            raise RecordTooLong(f"line 1: no end of the header within {RECORD_LIMIT >> 20} MB")
    return head, rest


def last_end(data: bytes, layout: CsvFormat | None) -> int:
    """The offset behind the last newline that ends a record, 0 if there is none."""
    if layout is None or not layout.quote or layout.quote.encode() not in data:
        return data.rfind(b"\n") + 1
    newlines = record_newlines(np.frombuffer(data, np.uint8), layout)[1]
    return int(newlines[-1]) + 1 if newlines.size else 0


def record_newlines(data: np.ndarray, layout: CsvFormat | None) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of all newlines, and of those that end a record, in bytes that begin at a record."""
    newlines = offsets_of(NEWLINE, data)
    if layout is None or not layout.quote:
        return newlines, newlines
    quotes = field_quotes(data, layout)
    if not quotes.size:
        return newlines, newlines
    return newlines, newlines[np.searchsorted(quotes, newlines) % 2 == 0]


def offsets_of(byte: int, data: np.ndarray) -> np.ndarray:
    """Where a byte stands in an array of bytes, ascending, Int64."""
    # In steps: the mask of a whole block leaves the processor's cache and costs as much as the search itself.
    steps = range(0, max(data.size, 1), SEARCH_BYTES)
    return np.concatenate([np.flatnonzero(data[at : at + SEARCH_BYTES] == byte) + at for at in steps])


def field_quotes(data: np.ndarray, layout: CsvFormat) -> np.ndarray:
    """Offsets of the quotes that open and close fields, by turns.

    As long as each quote that opens stands at a field's start or right behind a quote (a doubled one), every
    quote counts. Where one does not, it is a character, and the turns have to be followed one by one.
    """
    quotes = offsets_of(ord(layout.quote), data)
    before = np.where(quotes > 0, data[quotes - 1], NEWLINE) if quotes.size else quotes
    at_start = (before == NEWLINE) | (before == ord(layout.delimiter))
    if np.all((at_start | (before == ord(layout.quote)))[0::2]):
        return quotes
    counted: list[int] = []
    open_, closed = False, -1
    for offset, starts_field in zip(quotes.tolist(), at_start.tolist(), strict=True):
        if open_ or starts_field or closed == offset - 1:
            counted.append(offset)
            open_, closed = not open_, offset if open_ else -1
    return np.array(counted, dtype=np.int64)


def bounds(data: bytes, layout: CsvFormat | None) -> Bounds:
    """Where the records of a piece are, without line ends and blank lines."""
    array = np.frombuffer(data, np.uint8)
    newlines, stops = record_newlines(array, layout)
    if not data.endswith(b"\n") or (stops.size and stops[-1] + 1 < array.size) or not stops.size:
        stops = np.append(stops, array.size)
    starts = np.concatenate(([0], stops[:-1] + 1))
    lines = np.arange(starts.size) if newlines is stops else np.searchsorted(newlines, starts)
    if b"\r" in data:
        stops = stops - ((stops > starts) & (array[stops - 1] == ord("\r")))
    return Bounds(starts, stops, lines)


def payloads(data: bytes, found: Bounds) -> pl.Series:
    """The bytes of each record as Binary: views of `data`, which is not copied record by record."""
    offsets = np.append(found.starts, len(data)).astype(np.int64)
    wide = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), found.starts.size, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    length = pl.Series("length", found.stops - found.starts)
    return pl.DataFrame({"payload": pl.from_arrow(wide), "length": length}).select(
        pl.col("payload").bin.slice(0, pl.col("length"))
    )["payload"]


def header_of(record: bytes, layout: CsvFormat) -> list[str]:
    """The names in a CSV header. Errors: `UnicodeDecodeError`."""
    text = record.decode("utf-8").rstrip("\r\n")
    if not layout.quote:
        return text.split(layout.delimiter) if text else []
    return next(csv.reader([text], delimiter=layout.delimiter, quotechar=layout.quote), [])
