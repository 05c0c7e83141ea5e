"""Where records begin and end in bytes: pure functions under the files source.

Record  JSONL: what stands between two newlines; only `\\n` ends it (`splitlines` would also cut at `\\r`,
        `\\x0b` and `\\x1c`). CSV: the same, except that a newline inside quotes belongs to the record. One
        `\\r` before the newline is dropped, a record of no bytes is none, the last newline may be missing.
Line    counted from 1 by `\\n`, in blank lines and inside quotes too; a record has the line it begins on.
Long    a record of more than `RECORD_LIMIT` bytes is too long, and no more of it is held. What stands for it is its
        first line, or as much of that as shows that it is too long; reading goes on with the next line.
Quotes  a quote opens a field only at the field's start, and inside one a doubled quote is a character: what
        `csv` and DuckDB read. A quote elsewhere is a character too, so `12" pipe` swallows no newline. A quote that is
        a mistake costs the line on which it stands, and not those that follow (quotes.py).
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from pipelines.sources.files.quotes import NEWLINE, newlines_of
from transforms.records.csv_format import CsvFormat
from transforms.records.csv_rows import form_of, rows_of
from transforms.records.payloads import RECORD_LIMIT

BOM = b"\xef\xbb\xbf"
HEADER_LIMIT = 256 << 10  # bytes; the names go with each block of records
MOST_ROWS = 65_536  # in a block: short records cost by their number, not by their bytes


class Piece(NamedTuple):
    """Whole records of a file: their bytes, the line and the byte offset in the file at which they begin.

    long  0, or how many bytes of the file the line has, with its end, with which a record that is too long begins:
          `data` is then the head of that line, without its end
    """

    data: bytes
    line: int
    offset: int
    long: int = 0


class Bounds(NamedTuple):
    """Records of a piece, as Int64 arrays: first byte, byte behind the last, newlines before the record."""

    starts: np.ndarray
    stops: np.ndarray
    lines: np.ndarray


class Batch(NamedTuple):
    """Records that make a block: the bytes of `data` from `starts` to `stops`, each with its line and its offset.

    Int64 arrays of one height, which is not 0.
    """

    data: bytes
    starts: np.ndarray
    stops: np.ndarray
    lines: np.ndarray
    offsets: np.ndarray


class HeaderTooLong(ValueError):
    """No end of a CSV header within `HEADER_LIMIT`."""


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
    rest, data, wanted = iter(chunks), b"", block_bytes
    while True:
        data, at_end = _filled(data, rest, wanted)
        end, is_long = _settled(data, layout, at_end)
        if end:
            yield Piece(data[:end], line, offset)
            line += int(np.count_nonzero(np.frombuffer(data, np.uint8, end) == NEWLINE))
            offset += end
        data = data[end:]
        if is_long:
            head, length, data = _first_line(data, rest)
            yield Piece(head, line, offset, length)
            line, offset = line + 1, offset + length
        elif at_end:
            return
        # Doubled, so that a long record is not searched again at every chunk.
        wanted = max(block_bytes, len(data) + 1, min(2 * len(data), RECORD_LIMIT + RECORD_LIMIT // 4))


def _filled(data: bytes, rest: Iterator[bytes], wanted: int) -> tuple[bytes, bool]:
    """The data with chunks behind it, of at least `wanted` bytes, and whether the chunks are at their end."""
    held, size = [data], len(data)
    while size < wanted:
        chunk = next(rest, None)
        if chunk is None:
            return b"".join(held), True
        held.append(chunk)
        size += len(chunk)
    return b"".join(held), False


def _settled(data: bytes, layout: CsvFormat | None, at_end: bool) -> tuple[int, bool]:
    """(how many bytes of whole records the data begin with, whether the line behind them is too long)"""
    if len(data) <= RECORD_LIMIT and _has_no_quotes(data, layout):
        return len(data) if at_end else data.rfind(b"\n") + 1, False
    found = newlines_of(data, layout, at_end)
    if len(data) > RECORD_LIMIT:
        starts = np.append(0, found.ends + 1)
        last = int(starts[-1])
        # A record of several lines that is too long gives up its first line: what is too long here is a line.
        is_long = np.append(found.ends - starts[:-1], 0 if data.find(b"\n", last) >= 0 else len(data) - last)
        if (is_long > RECORD_LIMIT).any():
            return int(starts[(is_long > RECORD_LIMIT).argmax()]), True
    return found.decided, False


def _has_no_quotes(data: bytes, layout: CsvFormat | None) -> bool:
    """Whether every newline ends a record."""
    if layout is None or not layout.multiline:
        return True
    return not any(mark and mark.encode() in data for mark in (layout.quote, layout.escape))


def _first_line(data: bytes, rest: Iterator[bytes]) -> tuple[bytes, int, bytes]:
    """(head of the first line, its length with its end, what follows it of what had to be read)"""
    head, length, end = data[: RECORD_LIMIT + 1], 0, data.find(b"\n")
    while end < 0 and data:
        length += len(data)
        data = next(rest, b"")
        end = data.find(b"\n")
    length += max(end, 0)
    if length <= len(head):  # all of the line
        head = head[:length].removesuffix(b"\r")
    return head, length + (end >= 0), data[end + 1 :]


def batches(
    found: Iterable[Piece], layout: CsvFormat | None, block_bytes: int, most_rows: int = MOST_ROWS
) -> Iterator[Batch]:
    """The records of successive pieces, joined until they are `most_rows` or hold `block_bytes`, without blank ones."""
    held: list[Batch] = []
    rows = size = 0
    for part in _portions(found, layout, most_rows):
        more = int((part.stops - part.starts).sum())
        # A range of a file is a little more than a block, and should be no second one.
        if held and (rows + part.starts.size > most_rows or size + more > block_bytes + block_bytes // 8):
            yield _joined(held)
            held, rows, size = [], 0, 0
        held.append(part)
        rows, size = rows + part.starts.size, size + more
    if held:
        yield _joined(held)


def _portions(found: Iterable[Piece], layout: CsvFormat | None, most_rows: int) -> Iterator[Batch]:
    """The records of each piece, at most `most_rows` at a time."""
    for piece in found:
        if piece.long:
            here = (np.array([number]) for number in (0, len(piece.data), piece.line, piece.offset))
            yield Batch(piece.data, *here)
            continue
        starts, stops, lines = bounds(piece.data, layout)
        some = np.flatnonzero(stops > starts)
        for at in range(0, some.size, most_rows):
            rows = some[at : at + most_rows]
            yield _cut_out(piece, starts[rows], stops[rows], lines[rows])


def _cut_out(piece: Piece, starts: np.ndarray, stops: np.ndarray, lines: np.ndarray) -> Batch:
    first, last = int(starts[0]), int(stops[-1])
    data = piece.data if last - first > len(piece.data) // 2 else piece.data[first:last]
    less = 0 if data is piece.data else first
    return Batch(data, starts - less, stops - less, lines + piece.line, starts + piece.offset)


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    before = np.cumsum([0, *(len(part.data) for part in parts[:-1])])
    starts = np.concatenate([part.starts + at for part, at in zip(parts, before, strict=True)])
    stops = np.concatenate([part.stops + at for part, at in zip(parts, before, strict=True)])
    return Batch(
        b"".join(part.data for part in parts),
        starts,
        stops,
        np.concatenate([part.lines for part in parts]),
        np.concatenate([part.offsets for part in parts]),
    )


def spans(found: Iterable[Piece], block_bytes: int) -> Iterator[tuple[int, int, int]]:
    """(first byte, byte behind the last, line) of successive pieces joined until they hold `block_bytes`."""
    start, end, line = 0, 0, 0
    for piece in found:
        if start == end:
            start, line = piece.offset, piece.line
        end = piece.offset + (piece.long or len(piece.data))
        if end - start >= block_bytes:
            yield start, end, line
            start = end
    if start < end:
        yield start, end, line


def first_record(chunks: Iterable[bytes], layout: CsvFormat) -> tuple[bytes, Iterator[bytes]]:
    """The bytes of the first record with its newline (all there is, if none), and the chunks after."""
    rest = iter(chunks)
    head, at_end = b"", False
    while not at_end and len(head) <= HEADER_LIMIT:
        chunk = next(rest, None)
        head, at_end = head + (chunk or b""), chunk is None
        ends = newlines_of(head, layout, at_end).ends
        if ends.size and ends[0] < HEADER_LIMIT:
            end = int(ends[0]) + 1
            return head[:end], chain([head[end:]], rest)
    if len(head) > HEADER_LIMIT:
        raise HeaderTooLong(f"line 1: the CSV header has more than {HEADER_LIMIT >> 10} kB, which is the most")
    return head, rest


def bounds(data: bytes, layout: CsvFormat | None) -> Bounds:
    """Where the records of a piece are, without line ends, blank lines and comments."""
    array = np.frombuffer(data, np.uint8)
    newlines, ends, _ = newlines_of(data, layout, at_end=True)
    is_last_open = not data.endswith(b"\n") or (ends.size and ends[-1] + 1 < array.size) or not ends.size
    stops = np.append(ends, array.size) if is_last_open else ends
    starts = np.concatenate(([0], stops[:-1] + 1))
    lines = np.arange(starts.size) if newlines is ends else np.searchsorted(newlines, starts)
    if b"\r" in data:
        stops = stops - ((stops > starts) & (array[stops - 1] == ord("\r")))
    if layout is not None and layout.comment:
        stops = np.where(_begin_with(array, starts, stops, layout.comment.encode()), starts, stops)
    return Bounds(starts, stops, lines)


def _begin_with(data: np.ndarray, starts: np.ndarray, stops: np.ndarray, text: bytes) -> np.ndarray:
    found = stops - starts >= len(text)
    for at, byte in enumerate(text):
        found &= data[np.minimum(starts + at, data.size - 1)] == byte
    return found


def payloads(data: bytes, starts: np.ndarray, stops: np.ndarray) -> pl.Series:
    """The bytes of each record as Binary: views of `data`, which is not copied record by record."""
    offsets = np.append(starts, len(data)).astype(np.int64)
    wide = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), starts.size, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    length = pl.Series("length", stops - starts)
    return pl.DataFrame({"payload": pl.from_arrow(wide), "length": length}).select(
        pl.col("payload").bin.slice(0, pl.col("length"))
    )["payload"]


def header_of(record: bytes, layout: CsvFormat) -> list[str]:
    """The names in a CSV header. Errors: `UnicodeDecodeError`, `csv.Error`."""
    text = record.decode("utf-8").rstrip("\r\n")
    names = next(iter(rows_of([text], form_of(layout))), []) if text else []
    return names[:-1] if layout.trailing and names[-1:] == [""] else names


def without_head(chunks: Iterable[bytes], layout: CsvFormat) -> tuple[Iterator[bytes], int, int]:
    """The chunks behind the lines to skip and the comments before a header, and how many lines and bytes these have."""
    rest, data, lines, size = iter(chunks), b"", 0, 0
    comment = layout.comment.encode() if layout.header else b""
    while True:
        skips = lines < layout.skip
        while not skips and len(data) < len(comment) and (chunk := next(rest, b"")):
            data += chunk
        if not skips and not (comment and data.startswith(comment)):
            return chain([data], rest), lines, size
        while (end := data.find(b"\n")) < 0:
            size += len(data)
            if not (data := next(rest, b"")):
                return iter(()), lines, size
        data, lines, size = data[end + 1 :], lines + 1, size + end + 1
