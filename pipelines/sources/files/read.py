"""Files: JSON, CSV and Parquet, plain or compressed, local or `gs://`, as raw blocks.

    input                       read as                               position
    plain JSONL, local          byte ranges, cut by a scan            file:line, from 1
    plain JSONL, remote         byte ranges, cut by arithmetic        file@byte offset of the line
    plain CSV                   byte ranges, cut by a scan            file:line on which the record begins
    JSONL or CSV, compressed,   one stream, a block at a time         file:line
      zipped, of an encoding
    JSON arrays and documents   one stream, a record at a time        file@byte offset of the record, in UTF-8
    Parquet                     row groups                            file:row group:row within it, from 0

Ranges are reshuffled, so one huge plain file is read by all workers; no file is ever whole in memory. A block is
bounded by its rows, by the bytes of their payloads, and by the bytes that each row repeats, such as a wide CSV header.
A user error is a `SourceError`: `check_inputs` finds nearly all before the pipeline runs.
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

from pipelines.sources.files import documents, parquet
from pipelines.sources.files.discover import (
    LINES,
    LOCAL_TIMES,
    FileInput,
    after_header,
    check_inputs,
    columns_of,
    find_files,
    layout_of,
)
from pipelines.sources.files.open_file import READ_BYTES, chunks_of, name_of, naming, opened_file
from pipelines.sources.files.received import Received
from pipelines.sources.files.split import (
    MOST_ROWS,
    Batch,
    Piece,
    batches,
    payloads,
    pieces,
    spans,
    without_bom,
)
from pipelines.sources.files.standard_input import known_as
from pipelines.system.progress import Notes
from transforms.block import TIME
from transforms.records.csv_format import CsvFormat
from transforms.records.csv_rows import form_of
from transforms.records.paths import parse_path

__all__ = ["CsvFormat", "FileInput", "ReadFiles", "check_inputs"]

BLOCK_BYTES = 16 << 20
REPEATED_BYTES = 16 << 20  # of a block, that each of its rows repeats: the names of a CSV header, the name of the file
SCAN_BYTES = 256 << 10
TAIL_BYTES = 64 << 10  # read at a time behind a range, for the end of its last line
TO_THE_END = -1  # the end of a range that is read as a stream, from the start of its file
NO_LINE = 0  # the line of a range whose lines were not counted: its records are identified by their bytes
PARQUET_ATTRIBUTES = '{"format":"parquet"}'


class Range(NamedTuple):
    """What one worker reads: of Parquet the row group `start`, else the bytes [start, end)."""

    path: str
    format: str
    compression: str
    start: int
    end: int
    line: int
    encoding: str = ""
    member: str = ""
    shape: str = LINES


coders.registry.register_coder(Range, coders.RowCoder)


class ReadFiles(beam.PTransform):
    """PBegin -> PCollection[RAW_SCHEMA block] of the files that match.

    source  the name for records that state none
    notes   record what was read
    files   what matched when somebody looked; a job that starts later then reads these, and none that came since
    received  counts the records of each file
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
        received: Received = Received(),  # noqa: B008 (never changed)
    ):
        super().__init__()
        self.patterns, self.source, self.format = tuple(patterns), source, format
        self.csv, self.block_bytes, self.notes, self.files = csv, block_bytes, notes, files
        self.received = received

    def expand(self, begin):
        return (
            (self._found(begin) if self.files is None else begin | "List files" >> beam.Create(self.files))
            | "Spread files" >> beam.Reshuffle()
            | "Cut files" >> beam.FlatMap(cut, self.csv, self.block_bytes).with_output_types(Range)
            | "Spread ranges" >> beam.Reshuffle()
            | "Read ranges" >> beam.ParDo(_Read(self)).with_output_types(pl.DataFrame)
        )

    def _found(self, begin):
        patterns = begin | "Name patterns" >> beam.Create([self.patterns])
        return patterns | "Find files" >> beam.FlatMap(find_files, self.format).with_output_types(FileInput)


class _Read(beam.DoFn):
    def __init__(self, files: ReadFiles):
        self.how = (files.source, files.csv, files.block_bytes, files.notes)
        self.notes, self.received = files.notes, files.received

    def process(self, part):
        rows = 0
        for block in read(part, *self.how):
            rows += len(block)
            yield block
        self.received(name_of(part.path, part.member), rows)

    def finish_bundle(self):
        self.notes.flush()


def cut(file: FileInput, csv: CsvFormat, block_bytes: int) -> Iterator[Range]:
    """The ranges of a file, in order."""
    path, format, size = file.path, file.format, file.size
    whole = whole_of(file)
    remote = FileSystems.get_scheme(path) is not None
    is_plain = file.compression == "plain" and not file.encoding and not file.member and file.shape == LINES
    if format == "jsonl" and remote and is_plain:
        for start in range(0, size, block_bytes):
            yield whole._replace(start=start, end=min(start + block_bytes, size), line=NO_LINE)
    elif format != "parquet" and (not is_plain or size <= block_bytes):
        yield whole
    else:
        with naming(path), opened_file(path) as opened:
            if format == "parquet":
                for group in range(parquet.row_groups(opened)):
                    yield whole._replace(start=group)
                return
            # CSV is scanned even where the bytes come over a network: whether a newline ends a record depends
            # on every quote before it, so no worker can find a first record by itself.
            layout = layout_of(file.member or path, csv) if format == "csv" else None
            body = _body(opened, file, layout) if layout else None
            # Scanned in small pieces, which stay in the processor's cache.
            scanned = _pieces(opened, file, layout, body, max(min(SCAN_BYTES, block_bytes // 8), 1))
            for start, end, line in spans(scanned, block_bytes):
                yield whole._replace(start=start, end=end, line=line)


def whole_of(file: FileInput) -> Range:
    """All of a file, to be read as a stream."""
    path, format, compression, _, encoding, member, shape = file
    return Range(path, format, compression, 0, TO_THE_END, 1, encoding, member, shape)


def read(
    part: Range,
    source: str,
    csv: CsvFormat,
    block_bytes: int,
    notes: Notes = Notes(),  # noqa: B008 (never changed)
) -> Iterator[pl.DataFrame]:
    """The RAW_SCHEMA blocks of a range, in order, none of them empty. Errors: SourceError if corrupt."""
    with naming(name_of(part.path, part.member)), opened_file(part.path, part.member) as opened:
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
    format, start, end, line, name = part.format, part.start, part.end, part.line, name_of(part.path, part.member)
    if format == "parquet":
        yield from _read_group(opened, part, source, block_bytes)
        return
    layout = layout_of(part.member or part.path, csv) if format == "csv" else None
    body = _body(opened, part, layout) if layout else None
    # What is needed to read a record of this file again.
    attributes = msgspec.json.encode(form_of(body, body.columns)).decode() if body else None
    step = min(READ_BYTES, block_bytes)
    rows = most_rows(len(name) + len(source) + len(attributes or ""))
    if part.shape != LINES:
        for batch in _document_batches(opened, part, step, block_bytes, rows):
            yield block_of(batch, name, True, source, attributes)
        return
    if end == TO_THE_END:
        found: Iterable[Piece] = _pieces(opened, part, layout, body, step)
    elif line == NO_LINE:
        chunks, first = lines_within(opened, start, end, step)
        found = pieces(chunks, step, None, offset=first)
    else:
        found = pieces(_chunks_between(opened, start, end, step), step, body, line, start)
    for batch in batches(found, body, block_bytes, rows):
        yield block_of(batch, name, line == NO_LINE, source, attributes)


def _document_batches(opened: BinaryIO, part: Range, step: int, block_bytes: int, rows: int) -> Iterator[Batch]:
    chunks, dropped = without_bom(chunks_of(opened, part.compression, step, part.encoding))
    path = part.shape.partition(":")[2]
    keys = [str(key) for key in parse_path(path)] if path else []
    return documents.batches(chunks, keys, block_bytes, rows, dropped)


def most_rows(repeated: int) -> int:
    """The rows of a block at most, where each holds so many bytes that all hold."""
    return max(1, min(MOST_ROWS, REPEATED_BYTES // max(repeated, 1)))


def block_of(batch: Batch, name: str, by_offset: bool, source: str, attributes: str | None) -> pl.DataFrame:
    """A batch of records as a RAW_SCHEMA block."""
    place, numbers = (f"{name}@", batch.offsets) if by_offset else (f"{name}:", batch.lines)
    return _raw(payloads(batch.data, batch.starts, batch.stops), place, numbers, source, attributes)


def lines_within(opened: BinaryIO, start: int, end: int, size: int) -> tuple[Iterator[bytes], int]:
    """The lines that begin in [start, end), each to its end, in chunks of about `size`, and where the first begins.

    A line that began before is another range's.
    """
    at, data = max(start - 1, 0), b""
    opened.seek(at)
    if not start:
        chunks, dropped = without_bom(_lines_to(opened, b"", 0, end, size))
        return chunks, dropped
    while at < end and (data := _read_up_to(opened, min(size, end - at))):
        newline = data.find(b"\n") + 1
        at += newline or len(data)
        if newline:
            return _lines_to(opened, data[newline:], at, end, size), at
    return iter(()), at


def _lines_to(opened: BinaryIO, data: bytes, at: int, end: int, size: int) -> Iterator[bytes]:
    """The data, which begin at a line and at `at`, and what follows, to the end of the line that holds byte end - 1."""
    if at >= end:
        return
    last = data
    if data:
        yield data
    at += len(data)
    while at < end and (data := opened.read(min(size, end - at))):
        yield data
        at, last = at + len(data), data
    while not last.endswith(b"\n") and (data := opened.read(TAIL_BYTES)):
        last = data[: data.find(b"\n") + 1] or data
        yield last


def _chunks_between(opened: BinaryIO, start: int, end: int, size: int) -> Iterator[bytes]:
    opened.seek(start)
    while start < end:
        data = _read_up_to(opened, min(size, end - start))
        if not data:
            raise EOFError("it became shorter while it was read")
        yield data
        start += len(data)


def _read_group(opened: BinaryIO, part: Range, source: str, block_bytes: int) -> Iterator[pl.DataFrame]:
    row = 0
    for rows in parquet.rows_as_json(opened, part.start, block_bytes, part.shape == LOCAL_TIMES):
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


def _pieces(
    opened: BinaryIO, file: FileInput | Range, layout: CsvFormat | None, body: CsvFormat | None, block_bytes: int
) -> Iterator[Piece]:
    """The pieces of a file from its start, without a byte order mark and a CSV header."""
    if layout is None:
        chunks, offset = without_bom(chunks_of(opened, file.compression, block_bytes, file.encoding))
        return pieces(chunks, block_bytes, None, offset=offset)
    opened.seek(0)
    headed = after_header(opened, file, layout, block_bytes)
    return pieces(headed.chunks, block_bytes, body, headed.line, headed.offset)


def _body(opened: BinaryIO, file: FileInput | Range, layout: CsvFormat) -> CsvFormat:
    """The layout of a file's records behind the header, which names the columns."""
    names = columns_of(opened, file, layout)
    return msgspec.structs.replace(layout, header=False, columns=tuple(names))


def _read_up_to(opened: BinaryIO, size: int) -> bytes:
    """`size` bytes, fewer only at the end of the file; a remote file may give less at a time."""
    data = opened.read(size)
    while len(data) < size and (more := opened.read(size - len(data))):
        data += more
    return data
