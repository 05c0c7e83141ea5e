"""The files that a run reads: which match, of what format and compression, and a look at each before the run.

A user error is a `SourceError` of one line that names the file or the pattern.
"""

import codecs
import os
import zipfile
from collections.abc import Collection, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import msgspec
from apache_beam import coders
from apache_beam.io.filesystems import FileSystems

from pipelines.sources.files import parquet
from pipelines.sources.files.content import (
    HEAD_BYTES,
    compression_of,
    decoded,
    encoding_of,
    refuse_office,
    refuse_other,
)
from pipelines.sources.files.documents import is_of_documents
from pipelines.sources.files.open_file import (
    DEFLATED_BYTES,
    Stored,
    chunks_of,
    name_of,
    naming,
    opened_file,
)
from pipelines.sources.files.split import CsvFormat, first_record, header_of, without_bom, without_head
from pipelines.sources.files.standard_input import (
    format_of,
    is_spooled,
    known_as,
    refuse_stream,
)
from transforms.errors import SourceError

MOST_COLUMNS = 10_000  # of a CSV: as many as a table of BigQuery may have
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}
LINES, DOCUMENTS, LOCAL_TIMES = "lines", "documents", "local times"
LONGEST_HEAD = 1 << 20  # bytes in which the first line is looked for
MEMBERS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what can be unpacked without holding more than is asked for
MOST_MEMBERS = 100_000


class FileInput(NamedTuple):
    """A file to read: path (absolute if local), format, compression (`plain` if none), size in bytes.

    encoding  "" for UTF-8
    member    of a zip file, "" for other files
    shape     LINES; DOCUMENTS: JSON that is not one object a line; `DOCUMENTS:path` of the list of records;
              LOCAL_TIMES: Parquet of which times without a zone are given none
    """

    path: str
    format: str
    compression: str
    size: int
    encoding: str = ""
    member: str = ""
    shape: str = LINES

    @property
    def name(self) -> str:
        """What positions and messages call it."""
        return name_of(self.path, self.member)


coders.registry.register_coder(FileInput, coders.RowCoder)


class Stated(NamedTuple):
    """What is stated of files: their format, their encoding, the path of the list of records in JSON documents."""

    format: str = "auto"
    encoding: str = ""
    records: str = ""


def check_inputs(
    patterns: Sequence[str],
    format: str = "auto",
    csv: CsvFormat = CsvFormat(),  # noqa: B008 (frozen)
    required_columns: Collection[str] = (),
    encoding: str = "",
    records: str = "",
    local_times: bool = False,
) -> list[FileInput]:
    """The files that match, sorted by path, each once, after a look at the first bytes of each.

    local_times   the mapping states the zone of times that have none, so those of Parquet stay without one

    Errors: SourceError for a pattern without a file, a name that tells no format, a file that cannot be
    opened, a CSV without one of `required_columns`, a Parquet file without a readable footer.
    """
    files = find_files(patterns, format, encoding or csv.encoding, records)
    for file in files:
        if file.format == "jsonl":
            continue
        with naming(file.name), opened_file(file.path, file.member) as opened:
            if file.format == "parquet":
                parquet.row_groups(opened)
            else:
                layout = layout_of(file.member or file.path, csv)
                _check_columns(file.name, columns_of(opened, file, layout), layout, required_columns)
    return [file._replace(shape=LOCAL_TIMES) if local_times and file.format == "parquet" else file for file in files]


def find_files(patterns: Sequence[str], format: str = "auto", encoding: str = "", records: str = "") -> list[FileInput]:
    """The files that match any of the patterns, sorted by path, each once. Errors: SourceError."""
    if format != "auto" and format not in FORMATS.values():
        raise SourceError(f"format {format!r}: allowed are auto, jsonl, csv, parquet")
    sizes = {path: size for pattern in patterns for path, size in _matches(pattern)}
    stated = Stated(format, "" if _is_utf8(encoding) else encoding, records)
    return [file for path, size in sorted(sizes.items()) for file in _looked_at(path, size, stated)]


def _is_utf8(encoding: str) -> bool:
    return not encoding or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def _looked_at(path: str, size: int, stated: Stated) -> list[FileInput]:
    """A file by its first bytes, or the members of a zip file."""
    with naming(path), opened_file(path) as opened:
        head = opened.read(HEAD_BYTES)
        members = _members(opened, known_as(path)) if compression_of(head) == "zip" else None
    if members is None:
        return [_file_of(FileInput(path, "", "", size), head, stated)]
    files = []
    for member, length in members:
        file = FileInput(path, "", "", length, member=member)
        with naming(file.name), opened_file(path, member) as opened:
            head = opened.read(HEAD_BYTES)
        files.append(_file_of(file, head, stated))
    return files


def _members(opened: BinaryIO, place: str) -> list[tuple[str, int]]:
    """(name, size) of the files in a zip file. Errors: SourceError for what cannot be read."""
    with zipfile.ZipFile(opened) as archive:
        members = [
            about
            for about in archive.infolist()
            if not about.is_dir() and "__MACOSX" not in about.filename and not about.filename.endswith(".DS_Store")
        ]
    refuse_office([about.filename for about in members], place)
    if len(members) > MOST_MEMBERS:
        raise SourceError(f"{place}: has {len(members):,} files, allowed {MOST_MEMBERS:,}; unpack it")
    for about in members:
        if about.flag_bits & 1 or about.compress_type not in MEMBERS:
            how = "is encrypted" if about.flag_bits & 1 else "is compressed in a rare way"
            raise SourceError(f"{place}: {about.filename!r} in it {how}; unpack it: unzip FILE")
    return sorted((about.filename, about.file_size) for about in members)


def _file_of(file: FileInput, raw: bytes, stated: Stated) -> FileInput:
    """A file that begins like this, as its content and its name say. Errors: SourceError."""
    ending, outer = _endings(file.member or file.path)
    compression = compression_of(raw)
    if compression == "zip":
        raise SourceError(f"{file.name}: is a zip file in a zip file; unpack it: unzip FILE")
    if compression == "plain" and outer and raw.lstrip()[:1] not in (b"{", b"["):
        compression = COMPRESSIONS[outer]  # which says what is wrong with it
    file = file._replace(compression=compression)
    head, at_end = _head(file)
    refuse_other(head, file.name)
    if head.startswith(b"PAR1") or (ending == ".parquet" and stated.format == "auto"):
        return _parquet_of(file, stated)
    if compression_of(head) != "plain":
        raise SourceError(f"{file.name}: is compressed twice; unpack it once")
    file = file._replace(encoding=stated.encoding or encoding_of(head))
    text = b"".join(decoded([head], file.encoding)) if file.encoding else head
    format = stated.format if stated.format != "auto" else FORMATS.get(ending, "")
    if not format:
        format = _format_by_content(file, text)
    if format != "jsonl":
        return file._replace(format=format)
    shape = f"{DOCUMENTS}:{stated.records}" if stated.records else LINES
    if not stated.records and is_of_documents(text, at_end):
        shape = DOCUMENTS
    return file._replace(format=format, shape=shape)


def _head(file: FileInput) -> tuple[bytes, bool]:
    """The first bytes of what a file holds, to behind a newline if there is one near, and whether that is all."""
    head = b""
    with naming(file.name), opened_file(file.path, file.member) as opened:
        for chunk in chunks_of(opened, file.compression, HEAD_BYTES):
            head += chunk
            if len(head) >= HEAD_BYTES and (b"\n" in head or len(head) >= LONGEST_HEAD):
                return head, False
    return head, True


def _parquet_of(file: FileInput, stated: Stated) -> FileInput:
    if file.compression == "plain" and not file.member and stated.format in ("auto", "parquet"):
        return file._replace(format="parquet")
    if is_spooled(file.path):
        raise SourceError(f"--input -: got Parquet in {file.compression}, allowed Parquet as it is")
    if stated.format not in ("auto", "parquet"):
        raise SourceError(f"{file.name}: is Parquet, got format {stated.format}; leave the format out")
    if file.compression == "plain" and file.member:
        raise SourceError(f"{file.name}: is Parquet in a zip file, allowed Parquet as it is; unpack it: unzip FILE")
    kind_of(file.path, stated.format)
    raise SourceError(f"{file.name}: is Parquet in {file.compression}, allowed Parquet as it is; unpack it")


def _format_by_content(file: FileInput, text: bytes) -> str:
    """The format of a file whose name tells none. Errors: SourceError."""
    if is_spooled(file.path):
        return format_of(text)
    if text.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"["):
        return "jsonl"
    kind_of(file.member or file.path)
    raise AssertionError(file)


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


def columns_of(opened: BinaryIO, file: Stored, layout: CsvFormat) -> list[str]:
    """The names of a CSV's columns. Errors: SourceError if its first line should name them and does not."""
    if not layout.header:
        return list(layout.columns)
    name = name_of(file.path, file.member)
    names = header_of(after_header(opened, file, layout, DEFLATED_BYTES).header, layout)
    if not names:
        raise SourceError(f"{name}: has no CSV header in its first line; give one, or set csv header false")
    if len(names) > MOST_COLUMNS:
        raise SourceError(
            f"{name}: the CSV header names {len(names):,} columns, allowed {MOST_COLUMNS:,}; check the"
            f" delimiter ({layout.delimiter!r}), or leave columns out"
        )
    return names


class Headed(NamedTuple):
    """A CSV file behind its header: the chunks, the header (b"" if it has none), the line and the offset behind it."""

    chunks: Iterator[bytes]
    header: bytes
    line: int
    offset: int


def after_header(opened: BinaryIO, file: Stored, layout: CsvFormat, block_bytes: int) -> Headed:
    """Read a CSV file up to its first record."""
    chunks, offset = without_bom(chunks_of(opened, file.compression, block_bytes, file.encoding))
    chunks, lines, size = without_head(chunks, layout)
    if not layout.header:
        return Headed(chunks, b"", 1 + lines, offset + size)
    header, rest = first_record(chunks, layout)
    return Headed(rest, header, 1 + lines + header.count(b"\n"), offset + size + len(header))


def _check_columns(name: str, names: list[str], layout: CsvFormat, required: Collection[str]) -> None:
    if missing := [name for name in required if name not in names]:
        raise SourceError(
            f"{name}: the CSV header lacks {_listed(missing)}; found {_listed(names)}"
            f" (delimiter {layout.delimiter!r}); correct the mapping, the delimiter or the file"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def layout_of(path: str, csv: CsvFormat) -> CsvFormat:
    """The CSV format with the delimiter that the file's name tells, if it states none."""
    by_name = "\t" if _endings(path)[0] == ".tsv" else ","
    return msgspec.structs.replace(csv, delimiter=csv.delimiter or by_name)
