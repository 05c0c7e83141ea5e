"""Sample files of an unknown format: detect the format, and read some of their records as raw blocks.

Records are read by the files source itself, so they get the positions that a backfill gives them. Nothing is written.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec
import polars as pl

from pipelines.apps.mapping.layout import Layout, detect_layout
from pipelines.apps.mapping.ready import layout_of, ready_mapping
from pipelines.sources.files.discover import (
    DEFLATED_BYTES,
    FORMATS,
    LINES,
    chunks_of,
    find_files,
    naming,
    opened_file,
)
from pipelines.sources.files.read import FileInput, Range, cut, read, whole_of
from pipelines.sources.files.split import CsvFormat, without_bom
from transforms.errors import SourceError

BLOCK_BYTES = 1 << 20
HEAD_BYTES = 256 << 10  # read to detect the format, the delimiter and the quote
MOST_BYTES = 5 << 20  # of payloads, read for a sample of all files
MOST_FILES = 32
PARQUET_TIMES = 10  # as many bytes of Parquet: its columns are read faster, and a row group only from its start
ENCODING = "cp1252"  # of text that is not UTF-8: the commonest, which reads any byte but five
PARTS = 8  # of a plain file, up to its end
_JSON = re.compile(rb"\s*(\{|\[\s*([{\[\]\"]|$))")


class Form(NamedTuple):
    """The format of files, and for CSV its layout."""

    format: str
    csv: CsvFormat
    multiline: bool = False  # whether values of the CSV hold line ends
    encoding: str = ""  # to state: of text that is not UTF-8 and has no byte order mark
    records: str = ""  # the list of records in JSON documents
    ready: str = ""  # the shipped mapping that fits


def found_files(patterns: Sequence[str], format: str = "auto") -> tuple[list[FileInput], str]:
    """Return (files, their one format), detected by name, else by their first bytes. Errors: SourceError."""
    try:
        files = find_files(patterns, format)
    except SourceError:
        if format != "auto":
            raise
        files = find_files(patterns, "jsonl")  # raises again if the error is not about the format
        files = [file._replace(format=_format_of(file), shape=LINES) for file in files]
    if format == "auto":
        files = [_looked_into(file) if file.format == "jsonl" else file for file in files]
    formats = sorted({file.format for file in files})
    if len(formats) > 1:
        raise SourceError(f"got files of {' and '.join(formats)}, allowed files of one format; narrow the pattern")
    if formats[0] != "parquet" and not _is_utf8(files[0]):
        files = [file._replace(encoding=file.encoding or ENCODING) for file in files]
    return files, formats[0]


def _looked_into(file: FileInput) -> FileInput:
    """Return JSON as it is, and text that merely begins with a bracket, such as a log, as CSV."""
    with naming(file.name):
        head = _head(file)
    is_json = _JSON.match(head) or file.path.lower().endswith(tuple(name for name in FORMATS if "js" in name))
    return file if is_json else file._replace(format="csv", shape=LINES)


def _is_utf8(file: FileInput) -> bool:
    """Return whether the text is UTF-8, or of the encoding that its first bytes tell."""
    if file.encoding:
        return True
    with naming(file.name):
        head = _head(file)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def form_of(file: FileInput, delimiter: str = "") -> Form:
    """Return the format of a file; the CSV layout is detected from its first records. Errors: SourceError."""
    encoding = ENCODING if file.encoding == ENCODING else ""
    if file.format == "parquet":
        return Form(file.format, CsvFormat())
    with naming(file.name):
        head = _head(file)
    ready = ready_mapping(head)
    if file.format != "csv":
        return Form(file.format, CsvFormat(), encoding=encoding, ready=ready)
    by_name = "\t" if re.search(r"\.tsv(\.\w+)?$", file.path.lower()) else ","
    found = detect_layout(head, by_name, delimiter)
    if found is None:
        raise SourceError(f"{file.name}: contains no records; name a file that has some")
    known = layout_of(ready) if ready and not delimiter else None
    if known is not None and not found.csv.comment:  # behind which the names of the columns are
        found = Layout(msgspec.structs.replace(known, null=known.null or found.csv.null), multiline=False)
    return Form("csv", found.csv, found.multiline, encoding, ready=ready)


def blocks(files: Sequence[FileInput], csv: CsvFormat, source: str) -> Iterator[pl.DataFrame]:
    """Yield the RAW_SCHEMA blocks of files, in order."""
    for file in files:
        yield from _blocks(file, csv, source)


def first_rows(found: Iterator[pl.DataFrame], limit: int) -> Iterator[pl.DataFrame]:
    """Yield the blocks up to `limit` rows."""
    for block in found:
        if len(block) >= limit:
            yield block.head(limit)
            return
        limit -= len(block)
        yield block


def spread_rows(files: Sequence[FileInput], form: Form, source: str, limit: int) -> list[pl.DataFrame]:
    """Return about `limit` rows: the first rows of each file, and as many spread over the rest.

    What is read is bounded, whatever the size of the files: the beginning, and of a plain file parts up to its end.
    """
    chosen = list(files)[:: -(-len(files) // MOST_FILES)]
    rows, size = max(limit // len(chosen), 10), max(MOST_BYTES // len(chosen), BLOCK_BYTES // 4)
    return list(chain.from_iterable(_spread(_sampled(file, form, source, size), rows) for file in chosen))


def _sampled(file: FileInput, form: Form, source: str, size: int) -> Iterator[pl.DataFrame]:
    """Yield blocks of the file of about `size` bytes in all."""
    block_bytes = min(BLOCK_BYTES, size // PARTS)
    if file.format == "parquet":
        groups = list(cut(file, form.csv, block_bytes))
        for group in groups[:: -(-len(groups) // PARTS)] if groups else ():
            most = PARQUET_TIMES * size // min(PARTS, len(groups))
            yield from _first_bytes(read(group, source, form.csv, BLOCK_BYTES), most)
        return
    stream = read(whole_of(file), source, form.csv, block_bytes)
    as_it_is = file.compression == "plain" and not file.encoding and not file.member and file.shape == LINES
    if not as_it_is or form.multiline or file.size <= size:
        yield from _first_bytes(stream, size)
        return
    head = size // 2
    yield from _first_bytes(stream, head)
    step = (file.size - head) // PARTS
    for at in range(PARTS):
        end = head + (at + 1) * step
        part = _lines_between(file, max(end - head // PARTS, head), end)
        if part is not None:
            yield from read(part, source, form.csv, block_bytes)


def _first_bytes(found: Iterator[pl.DataFrame], size: int) -> Iterator[pl.DataFrame]:
    for block in found:
        yield block
        size -= int(block["payload"].bin.size().sum())
        if size <= 0:
            return


def _lines_between(file: FileInput, start: int, end: int) -> Range | None:
    """Return the whole lines in these bytes as a range, None if there are none.

    The byte offset stands for the number of the first line, which nobody has counted: positions stay distinct.
    """
    with naming(file.path), opened_file(file.path) as opened:
        opened.seek(start)
        data = opened.read(end - start)
    first, last = data.find(b"\n") + 1, data.rfind(b"\n") + 1
    if not 0 < first < last:
        return None
    return whole_of(file)._replace(start=start + first, end=start + last, line=start + first)


def _blocks(file: FileInput, csv: CsvFormat, source: str) -> Iterator[pl.DataFrame]:
    # Read as a stream, not in ranges: to find ranges, a whole plain file would have to be scanned first.
    stream = [whole_of(file)]
    for part in cut(file, csv, BLOCK_BYTES) if file.format == "parquet" else stream:
        yield from read(part, source, csv, BLOCK_BYTES)


def _spread(found: Iterator[pl.DataFrame], budget: int) -> Iterator[pl.DataFrame]:
    first, tail, stride, held = budget // 2, [], 1, 0
    for block in found:
        if first:
            yield block.head(first)
            block, first = block[first:], first - min(first, len(block))
        block = block.gather_every(stride)
        tail.append(block)
        held += len(block)
        while held > budget - budget // 2:
            stride *= 2
            tail = [part.gather_every(2) for part in tail]
            held = sum(map(len, tail))
    yield from (part for part in tail if len(part))


def _format_of(file: FileInput) -> str:
    with naming(file.name):
        head = _head(file)
    if head.startswith(b"PAR1"):
        return "parquet"
    if b"\0" in head:
        allowed = f"JSON lines, CSV or Parquet, such as a file that ends in {', '.join(FORMATS)}"
        raise SourceError(f"{file.path}: not a text file; allowed: {allowed}")
    return "jsonl" if _JSON.match(head) else "csv"


def _head(file: FileInput) -> bytes:
    with opened_file(file.path, file.member) as opened:
        chunks, _ = without_bom(chunks_of(opened, file.compression, DEFLATED_BYTES, file.encoding))
        head = b""
        for chunk in chunks:
            head += chunk
            if len(head) >= HEAD_BYTES:
                break
    return head
