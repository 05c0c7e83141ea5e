"""Sample files of an unknown format: detect the format, and read some of their records as raw blocks.

Records are read by the files source itself, so they get the positions that a backfill gives them. Nothing is written.
"""

import csv as csv_module
import io
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

import polars as pl

from pipelines.sources.files.discover import (
    DEFLATED_BYTES,
    FORMATS,
    LINES,
    chunks_of,
    find_files,
    naming,
    opened_file,
)
from pipelines.sources.files.read import FileInput, cut, read, whole_of
from pipelines.sources.files.split import CsvFormat, without_bom
from transforms.errors import SourceError

BLOCK_BYTES = 1 << 20
HEAD_BYTES = 256 << 10  # read to detect the format, the delimiter and the quote
MOST_BYTES = 64 << 20  # of payloads, read for an even sample of a file
MOST_FILES = 50
DELIMITERS = (",", ";", "\t", "|")
_NUMBER_OR_TIME = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?|\d{4}-\d{2}-\d{2}.*|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}.*")


class Form(NamedTuple):
    """The format of files, and for CSV its layout."""

    format: str
    csv: CsvFormat


def found_files(patterns: Sequence[str], format: str = "auto") -> tuple[list[FileInput], str]:
    """Return (files, their one format), detected by name, else by their first bytes. Errors: SourceError."""
    try:
        files = find_files(patterns, format)
    except SourceError:
        if format != "auto":
            raise
        files = find_files(patterns, "jsonl")  # raises again if the error is not about the format
        files = [file._replace(format=_format_of(file)) for file in files]
    formats = sorted({file.format for file in files})
    if len(formats) > 1:
        raise SourceError(f"got files of {' and '.join(formats)}, allowed files of one format; narrow the pattern")
    return files, formats[0]


def form_of(file: FileInput) -> Form:
    """Return the format of a file; the CSV layout is detected from its first records. Errors: SourceError."""
    if file.format != "csv":
        if file.format == "jsonl" and file.shape == LINES:
            _refuse_documents(file)
        return Form(file.format, CsvFormat())
    with naming(file.path):
        text = _head(file).decode("utf-8", errors="replace")
    delimiter, quote = _delimiter_and_quote(text)
    by_name = "\t" if re.search(r"\.tsv(\.\w+)?$", file.path.lower()) else ","
    stated = "" if delimiter == by_name else delimiter
    first = next(_rows(text, delimiter, quote), [])
    if not first:
        raise SourceError(f"{file.path}: contains no records; name a file that has some")
    if any(_NUMBER_OR_TIME.fullmatch(cell.strip()) for cell in first):  # not a column name
        names = tuple(f"column_{at}" for at in range(1, len(first) + 1))
        return Form("csv", CsvFormat(delimiter=stated, quote=quote, header=False, columns=names))
    return Form("csv", CsvFormat(delimiter=stated, quote=quote))


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


def spread_rows(files: Sequence[FileInput], csv: CsvFormat, source: str, limit: int) -> list[pl.DataFrame]:
    """Return about `limit` rows: the first rows of each file, and as many spread evenly over the rest."""
    chosen = list(files)[:: -(-len(files) // MOST_FILES)]
    budget = max(limit // len(chosen), 10)
    return list(chain.from_iterable(_spread(_blocks(file, csv, source), budget) for file in chosen))


def _blocks(file: FileInput, csv: CsvFormat, source: str) -> Iterator[pl.DataFrame]:
    # Read as a stream, not in ranges: to find ranges, a whole plain file would have to be scanned first.
    stream = [whole_of(file)]
    for part in cut(file, csv, BLOCK_BYTES) if file.format == "parquet" else stream:
        yield from read(part, source, csv, BLOCK_BYTES)


def _spread(found: Iterator[pl.DataFrame], budget: int) -> Iterator[pl.DataFrame]:
    first, tail, stride, held, size = budget // 2, [], 1, 0, 0
    for block in found:
        size += int(block["payload"].bin.size().sum())
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
        if size > MOST_BYTES:
            break
    yield from (part for part in tail if len(part))


def _format_of(file: FileInput) -> str:
    with naming(file.path):
        head = _head(file)
    if head.startswith(b"PAR1"):
        return "parquet"
    if b"\0" in head:
        allowed = f"JSON lines, CSV or Parquet, such as a file that ends in {', '.join(FORMATS)}"
        raise SourceError(f"{file.path}: not a text file; allowed: {allowed}")
    return "jsonl" if head.lstrip()[:1] in (b"{", b"[") else "csv"


def _refuse_documents(file: FileInput) -> None:
    """Refuse JSON that is one document instead of one record per line, and say how to convert it."""
    with naming(file.path):
        head = _head(file).lstrip()
    first = head.split(b"\n", 1)[0].strip()
    if head.startswith(b"["):
        raise SourceError(f"{file.path}: one JSON array, allowed one object per line; convert it: jq -c '.[]' FILE")
    if first == b"{":
        raise SourceError(f"{file.path}: multi-line JSON, allowed one object per line; convert it: jq -c . FILE")


def _head(file: FileInput) -> bytes:
    with opened_file(file.path, file.member) as opened:
        chunks, _ = without_bom(chunks_of(opened, file.compression, DEFLATED_BYTES, file.encoding))
        head = b""
        for chunk in chunks:
            head += chunk
            if len(head) >= HEAD_BYTES:
                break
    return head


def _delimiter_and_quote(text: str) -> tuple[str, str]:
    """Return the pair that splits most records into as many fields as the first record, and more than one."""
    pairs = [(delimiter, quote) for delimiter in DELIMITERS for quote in ('"', "'")]
    scores = {pair: _regularity(text, *pair) for pair in pairs}
    return max(pairs, key=lambda pair: scores[pair])


def _regularity(text: str, delimiter: str, quote: str) -> tuple[float, bool, int]:
    rows = [row for row in islice(_rows(text, delimiter, quote), 200) if row]
    width = len(rows[0]) if rows else 0
    if width < 2:
        return 0.0, False, 0
    even = sum(len(row) == width for row in rows) / len(rows)
    # A quote must enclose fields: an apostrophe within a text does not count.
    used = any(f"{quote}{delimiter}{quote}" in line for line in text.splitlines()[:200])
    return round(even, 1), quote == '"' or used, width + used


def _rows(text: str, delimiter: str, quote: str) -> Iterator[list[str]]:
    whole = text.rpartition("\n")[0] or text  # the last record may be cut
    try:
        yield from csv_module.reader(io.StringIO(whole, newline=""), delimiter=delimiter, quotechar=quote)
    except csv_module.Error:
        return
