"""The files that a run reads: which match, of what format and compression, and a look at each before the run.

A user error is a `SourceError` of one line that names the file or the pattern.
"""

import csv as csv_module
import os
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import msgspec
import polars as pl
import pyarrow as pa
from apache_beam import coders
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipelines.sources.files import parquet
from pipelines.sources.files.inflate import inflate
from pipelines.sources.files.split import CsvFormat, HeaderTooLong, first_record, header_of, without_bom, without_head
from pipelines.sources.files.standard_input import (
    compression_of,
    format_of,
    is_spooled,
    known_as,
    refuse_stream,
)
from pipelines.system.unforeseen import READING
from transforms.errors import AudienceError, SourceError

READ_BYTES = 1 << 20  # of a plain file at a time
MOST_COLUMNS = 10_000  # of a CSV: as many as a table of BigQuery may have
DEFLATED_BYTES = 64 << 10  # of a compressed file at a time: what comes out of it is many times as much
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2"}
UNREADABLE = (
    OSError,
    EOFError,
    BeamIOError,
    HeaderTooLong,
    UnicodeDecodeError,
    parquet.UnreadableColumn,
    csv_module.Error,
    zlib.error,
    pa.ArrowException,
    pl.exceptions.PolarsError,
)


class FileInput(NamedTuple):
    """A file to read: path (absolute if local), format, compression (`plain` if none), size in bytes."""

    path: str
    format: str
    compression: str
    size: int


coders.registry.register_coder(FileInput, coders.RowCoder)


def check_inputs(
    patterns: Sequence[str],
    format: str = "auto",
    csv: CsvFormat = CsvFormat(),  # noqa: B008 (frozen)
    required_columns: Collection[str] = (),
) -> list[FileInput]:
    """The files that match, sorted by path, each once, after a look at the first bytes of each.

    Errors: SourceError for a pattern without a file, a name that tells no format, a file that cannot be
    opened, a CSV without one of `required_columns`, a Parquet file without a readable footer.
    """
    files = find_files(patterns, format)
    for file in files:
        with naming(file.path), opened_file(file.path) as opened:
            if file.format == "parquet":
                parquet.row_groups(opened)
            elif file.format == "csv":
                layout = layout_of(file.path, csv)
                _check_columns(
                    file.path,
                    columns_of(opened, file.path, file.compression, layout),
                    layout,
                    required_columns,
                )
            else:
                next(chunks_of(opened, file.compression, READ_BYTES), None)
    return files


def find_files(patterns: Sequence[str], format: str = "auto") -> list[FileInput]:
    """The files that match any of the patterns, sorted by path, each once. Errors: SourceError."""
    if format != "auto" and format not in FORMATS.values():
        raise SourceError(f"format {format!r}: allowed are auto, jsonl, csv, parquet")
    sizes = {path: size for pattern in patterns for path, size in _matches(pattern)}
    kinds = {path: (_spooled_kind if is_spooled(path) else kind_of)(path, format) for path in sizes}
    return [FileInput(path, *kinds[path], size) for path, size in sorted(sizes.items())]


def _spooled_kind(path: str, format: str) -> tuple[str, str]:
    """The format and compression of what came through standard input. Errors: SourceError."""
    compression = compression_of(path)
    if format == "auto":
        with naming(path), opened_file(path) as opened:
            format = format_of(next(chunks_of(opened, compression, DEFLATED_BYTES), b""))
    if format == "parquet" and compression != "plain":
        raise SourceError(f"--input -: got Parquet in {compression}, allowed Parquet as it is")
    return format, compression


def kind_of(path: str, format: str = "auto") -> tuple[str, str]:
    """The format and compression of a file by its name; a stated format counts more. Errors: SourceError."""
    inner, outer = _endings(path)
    if format == "auto":
        format = FORMATS.get(inner, "")
    if not format or (format == "parquet" and outer):
        raise SourceError(
            f"{path}: the name tells no format: allowed are {', '.join(FORMATS)}, all but .parquet also with"
            f" {', '.join(COMPRESSIONS)} behind; narrow the pattern, rename the file, or state the format"
        )
    return format, COMPRESSIONS.get(outer, "plain")


def _endings(path: str) -> tuple[str, str]:
    """(".csv", ".gz") of `x.csv.gz`; the second is "" for a file that is not compressed."""
    stem, ending = os.path.splitext(path.lower())
    return (os.path.splitext(stem)[1], ending) if ending in COMPRESSIONS else (ending, "")


def _matches(pattern: str) -> list[tuple[str, int]]:
    local = FileSystems.get_scheme(pattern) is None
    # Absolute, so that a record has the same position from any working directory, however the file is named.
    full = os.path.abspath(os.path.expanduser(pattern)) if local else pattern
    if local and os.path.isdir(full):
        example = os.path.join(pattern, "*.jsonl")
        raise SourceError(f"{pattern!r}: is a directory; name the files in it, such as {example!r}")
    if local:
        _refuse_name(full)
        refuse_stream(full)
    if local and os.path.isfile(full):  # before matching: `[` in a name is no pattern if there is such a file
        return [(full, os.path.getsize(full))]
    with naming(pattern):
        try:
            found = [file for match in FileSystems.match([full]) for file in match.metadata_list]
        except ValueError as problem:  # what Beam raises for a scheme that it has no file system for
            raise OSError(problem) from problem
    files = [(file.path, file.size_in_bytes) for file in found if not file.path.endswith("/")]
    if files:
        for path, _ in files if local else ():
            _refuse_name(path)
            refuse_stream(path)
        return files
    if any(char in pattern for char in "*?["):
        raise SourceError(f"{pattern!r}: no file matches the pattern; check it, and quote it in a shell")
    raise SourceError(f"{pattern!r}: there is no such file; check the path")


def _refuse_name(path: str) -> None:
    """Refuse a name that is no text: positions and digests hold it. Errors: SourceError."""
    try:
        path.encode()
    except UnicodeEncodeError as problem:
        raise SourceError(f"{path!a}: is a name that is not UTF-8; rename the file") from problem


def columns_of(opened: BinaryIO, path: str, compression: str, layout: CsvFormat) -> list[str]:
    """The names of a CSV's columns. Errors: SourceError if its first line should name them and does not."""
    if not layout.header:
        return list(layout.columns)
    names = header_of(after_header(opened, compression, layout, DEFLATED_BYTES).header, layout)
    if not names:
        raise SourceError(f"{known_as(path)}: has no CSV header in its first line; give one, or set csv header false")
    if len(names) > MOST_COLUMNS:
        raise SourceError(
            f"{known_as(path)}: the CSV header names {len(names):,} columns, allowed {MOST_COLUMNS:,}; check the"
            f" delimiter ({layout.delimiter!r}), or leave columns out"
        )
    return names


class Headed(NamedTuple):
    """A CSV file behind its header: the chunks, the header (b"" if it has none), the line and the offset behind it."""

    chunks: Iterator[bytes]
    header: bytes
    line: int
    offset: int


def after_header(opened: BinaryIO, compression: str, layout: CsvFormat, block_bytes: int) -> Headed:
    """Read a CSV file up to its first record."""
    chunks, offset = without_bom(chunks_of(opened, compression, block_bytes))
    chunks, lines, size = without_head(chunks, layout)
    if not layout.header:
        return Headed(chunks, b"", 1 + lines, offset + size)
    header, rest = first_record(chunks, layout)
    return Headed(rest, header, 1 + lines + header.count(b"\n"), offset + size + len(header))


def _check_columns(path: str, names: list[str], layout: CsvFormat, required: Collection[str]) -> None:
    if missing := [name for name in required if name not in names]:
        raise SourceError(
            f"{known_as(path)}: the CSV header lacks {_listed(missing)}; found {_listed(names)}"
            f" (delimiter {layout.delimiter!r}); correct the mapping, the delimiter or the file"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def layout_of(path: str, csv: CsvFormat) -> CsvFormat:
    """The CSV format with the delimiter that the file's name tells, if it states none."""
    by_name = "\t" if _endings(path)[0] == ".tsv" else ","
    return msgspec.structs.replace(csv, delimiter=csv.delimiter or by_name)


def chunks_of(opened: BinaryIO, compression: str, block_bytes: int) -> Iterator[bytes]:
    """The uncompressed bytes of a file from where it stands, in chunks of at most `block_bytes`."""
    size = min(READ_BYTES, block_bytes)
    if compression != "plain":
        return inflate(iter(lambda: opened.read(DEFLATED_BYTES), b""), compression, size)
    return iter(lambda: opened.read(size), b"")


def opened_file(path: str) -> BinaryIO:
    """The file as it is stored."""
    # Uncompressed by us: Beam's own reader inflates 16 MB at a time and takes a torn file for a whole one.
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Turn what goes wrong while a file is read into a SourceError of one line that names it."""
    try:
        yield
    except AudienceError:
        raise
    except UNREADABLE as problem:
        told = (problem.strerror if isinstance(problem, OSError) else None) or str(problem)
        reason = " ".join(told.split()) or type(problem).__name__
        raise SourceError(f"{known_as(path)}: cannot be read: {reason}; fix the file or leave it out") from problem
    except GeneratorExit:
        raise
    except BaseException as problem:  # of no kind that a file is known to cause
        problem.add_note(f"{READING}{known_as(path)}")
        raise
