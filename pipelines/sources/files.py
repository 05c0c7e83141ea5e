"""Files: JSON lines, CSV and Parquet, plain or compressed, local or `gs://`, as raw blocks.

    input                       read as                               position
    plain JSONL, local          byte ranges, cut by a scan            file:line, from 1
    plain JSONL, remote         byte ranges, cut by arithmetic        file@byte offset of the line
    plain CSV                   byte ranges, cut by a scan            file:line on which the record begins
    JSONL or CSV, compressed    one stream, a block at a time         file:line
    Parquet                     row groups                            file:row group:row within it, from 0

Ranges are reshuffled, so one huge plain file is read by all workers; no file is ever whole in memory.
A mistake a person can mend is a `SourceError`: `check_inputs` finds nearly all before the pipeline runs.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import apache_beam as beam
import msgspec
import numpy as np
import polars as pl
from apache_beam import coders
from apache_beam.io.filesystems import FileSystems

from pipelines.progress import Notes
from pipelines.sources import parquet
from pipelines.sources.cuts import (
    BOM,
    RECORD_LIMIT,
    Piece,
    RecordTooLong,
    bounds,
    payloads,
    pieces,
    spans,
    without_bom,
)
from pipelines.sources.inputs import (
    FileInput,
    after_header,
    check_inputs,
    chunks_of,
    columns_of,
    find_files,
    layout_of,
    naming,
    opened_file,
)
from pipelines.sources.standard_input import known_as
from transforms.block import TIME
from transforms.csv_format import CsvFormat

__all__ = ["CsvFormat", "FileInput", "ReadFiles", "check_inputs"]

BLOCK_BYTES = 16 << 20
SCAN_BYTES = 256 << 10
TAIL_BYTES = 64 << 10  # read at a time behind a range, for the end of its last line
TO_THE_END = -1  # the end of a range that is read as a stream, from the start of its file
NO_LINE = 0  # the line of a range whose lines were not counted
PARQUET_ATTRIBUTES = '{"format":"parquet"}'


class Range(NamedTuple):
    """What one worker reads: of Parquet the row group `start`, else the bytes [start, end)."""

    path: str
    format: str
    compression: str
    start: int
    end: int
    line: int


coders.registry.register_coder(Range, coders.RowCoder)


class ReadFiles(beam.PTransform):
    """PBegin -> PCollection[RAW_SCHEMA block] of the files that match.

    source  the name for records that state none
    notes   are told what was read
    files   what matched when somebody looked; a job that starts later then reads these, and none that came since
    """

    def __init__(
        self,
        patterns: Sequence[str],
        source: str,
        format: str = "auto",
        csv: CsvFormat = CsvFormat(),  # noqa: B008 (frozen)
        block_bytes: int = BLOCK_BYTES,
        notes: Notes = Notes(),  # noqa: B008 (never changed)
        files: Sequence[FileInput] | None = None,
    ):
        super().__init__()
        self.patterns, self.source, self.format = tuple(patterns), source, format
        self.csv, self.block_bytes, self.notes, self.files = csv, block_bytes, notes, files

    def expand(self, begin):
        return (
            (self._found(begin) if self.files is None else begin | "List files" >> beam.Create(self.files))
            | "Spread files" >> beam.Reshuffle()
            | "Cut files" >> beam.FlatMap(cut, self.csv, self.block_bytes).with_output_types(Range)
            | "Spread ranges" >> beam.Reshuffle()
            | "Read ranges"
            >> beam.ParDo(_Read(self.source, self.csv, self.block_bytes, self.notes)).with_output_types(pl.DataFrame)
        )

    def _found(self, begin):
        patterns = begin | "Name patterns" >> beam.Create([self.patterns])
        return patterns | "Find files" >> beam.FlatMap(find_files, self.format).with_output_types(FileInput)


class _Read(beam.DoFn):
    def __init__(self, source: str, csv: CsvFormat, block_bytes: int, notes: Notes):
        self.how, self.notes = (source, csv, block_bytes, notes), notes

    def process(self, part):
        return read(part, *self.how)

    def finish_bundle(self):
        self.notes.flush()


def cut(file: FileInput, csv: CsvFormat, block_bytes: int) -> Iterator[Range]:
    """The ranges of a file, in order."""
    path, format, compression, size = file
    whole = Range(path, format, compression, 0, TO_THE_END, 1)
    remote = FileSystems.get_scheme(path) is not None
    if format == "jsonl" and remote and compression == "plain":
        for start in range(0, size, block_bytes):
            yield Range(path, format, compression, start, min(start + block_bytes, size), NO_LINE)
    elif format != "parquet" and (compression != "plain" or size <= block_bytes):
        yield whole
    else:
        with naming(path), opened_file(path) as opened:
            if format == "parquet":
                for group in range(parquet.row_groups(opened)):
                    yield whole._replace(start=group)
                return
            # CSV is scanned even where the bytes come over a network: whether a newline ends a record depends
            # on every quote before it, so no worker can find a first record by itself.
            layout = layout_of(path, csv) if format == "csv" else None
            # Scanned in small pieces, which stay in the processor's cache.
            scanned = _pieces(opened, file, layout, max(min(SCAN_BYTES, block_bytes // 8), 1))
            for start, end, line in spans(scanned, block_bytes):
                yield Range(path, format, compression, start, end, line)


def read(
    part: Range,
    source: str,
    csv: CsvFormat,
    block_bytes: int,
    notes: Notes = Notes(),  # noqa: B008 (never changed)
) -> Iterator[pl.DataFrame]:
    """The RAW_SCHEMA blocks of a range, in order, none of them empty. Errors: SourceError if corrupt."""
    with naming(part.path), opened_file(part.path) as opened:
        is_stream, behind = part.format != "parquet" and part.end == TO_THE_END, 0
        for block in _blocks(opened, part, source, csv, block_bytes):
            at = opened.tell() if is_stream else behind
            notes(at - behind, len(block))
            behind = at
            yield block
        if notes.folder is not None:
            notes((opened.tell() if is_stream else _size_of(opened, part)) - behind, 0)


def _size_of(opened: BinaryIO, part: Range) -> int:
    """The bytes of a range as they are stored."""
    if part.format != "parquet":
        return part.end - part.start
    return parquet.group_bytes(opened, part.start, opened.seek(0, os.SEEK_END))


def _blocks(opened: BinaryIO, part: Range, source: str, csv: CsvFormat, block_bytes: int) -> Iterator[pl.DataFrame]:
    path, format, _, start, end, line = part
    if format == "parquet":
        yield from _read_group(opened, part, source, block_bytes)
        return
    layout = layout_of(path, csv) if format == "csv" else None
    attributes = _csv_attributes(opened, part, layout) if layout else None
    if end == TO_THE_END:
        found: Iterable[Piece] = _pieces(opened, part, layout, block_bytes)
    elif line == NO_LINE:
        found = [lines_within(opened, start, end)]
    else:
        found = [Piece(_read_exactly(opened, start, end), line, start)]
    for piece in found:
        block = block_of(piece, layout, path, source, attributes)
        if not block.is_empty():
            yield block


def block_of(piece: Piece, layout: CsvFormat | None, path: str, source: str, attributes: str | None) -> pl.DataFrame:
    """The records of a piece as a RAW_SCHEMA block."""
    found = bounds(piece.data, layout)
    place, numbers = f"{known_as(path)}:", found.lines + piece.line
    if piece.line == NO_LINE:
        place, numbers = f"{path}@", found.starts + piece.offset
    block = _raw(payloads(piece.data, found), place, numbers, source, attributes)
    blank = found.stops == found.starts
    return block.filter(~pl.Series(blank)) if blank.any() else block


def lines_within(opened: BinaryIO, start: int, end: int) -> Piece:
    """The lines that begin in [start, end), each to its end; a line that began before is another range's."""
    opened.seek(max(start - 1, 0))
    data = _read_up_to(opened, end - max(start - 1, 0))
    first = start
    if start:
        head = data.find(b"\n") + 1
        data, first = data[head:] if head else b"", start - 1 + head
    if data and not data.endswith(b"\n"):
        data += _line_tail(opened, end)
    if not start and data.startswith(BOM):
        data, first = data[len(BOM) :], len(BOM)
    return Piece(data, NO_LINE, first)


def _line_tail(opened: BinaryIO, end: int) -> bytes:
    parts: list[bytes] = []
    while more := opened.read(TAIL_BYTES):
        newline = more.find(b"\n") + 1
        parts.append(more[:newline] if newline else more)
        if newline:
            break
        if len(parts) * TAIL_BYTES > RECORD_LIMIT:
            raise RecordTooLong(f"byte {end}: no end of the line within {RECORD_LIMIT >> 20} MB")
    return b"".join(parts)


def _read_group(opened: BinaryIO, part: Range, source: str, block_bytes: int) -> Iterator[pl.DataFrame]:
    row = 0
    for rows in parquet.rows_as_json(opened, part.start, block_bytes):
        numbers = np.arange(row, row + len(rows))
        yield _raw(rows, f"{known_as(part.path)}:{part.start}:", numbers, source, PARQUET_ATTRIBUTES)
        row += len(rows)


def _raw(payload: pl.Series, place: str, numbers: np.ndarray, source: str, attributes: str | None) -> pl.DataFrame:
    return pl.DataFrame({"payload": payload, "number": numbers}).select(
        "payload",
        pl.lit(None, TIME).alias("received_time"),
        pl.lit(source).alias("source"),
        pl.concat_str(pl.lit(place), "number").alias("position"),
        pl.lit(attributes, pl.String).alias("attributes"),
    )


def _pieces(opened: BinaryIO, file: FileInput | Range, layout: CsvFormat | None, block_bytes: int) -> Iterator[Piece]:
    """The pieces of a file from its start, without a byte order mark and a CSV header."""
    if layout is None:
        chunks, offset = without_bom(chunks_of(opened, file.compression, block_bytes))
        return pieces(chunks, block_bytes, None, offset=offset)
    opened.seek(0)
    chunks, header, offset = after_header(opened, file.compression, layout, block_bytes)
    return pieces(chunks, block_bytes, layout, line=1 + header.count(b"\n"), offset=offset)


def _csv_attributes(opened: BinaryIO, part: Range, layout: CsvFormat) -> str:
    """What is needed to read a record of this file again, as JSON."""
    names = columns_of(opened, part.path, part.compression, layout)
    form = {"format": "csv", "header": names, "delimiter": layout.delimiter, "quote": layout.quote}
    return msgspec.json.encode(form).decode()


def _read_up_to(opened: BinaryIO, size: int) -> bytes:
    """`size` bytes, fewer only at the end of the file; a remote file may give less at a time."""
    data = opened.read(size)
    while len(data) < size and (more := opened.read(size - len(data))):
        data += more
    return data


def _read_exactly(opened: BinaryIO, start: int, end: int) -> bytes:
    opened.seek(start)
    data = _read_up_to(opened, end - start)
    if len(data) < end - start:
        raise EOFError("it became shorter while it was read")
    return data
