"""A file as bytes: what is stored, or a member of a zip file, uncompressed and in UTF-8; errors are of one line."""

import csv as csv_module
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol

import polars as pl
import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipelines.sources.files import parquet
from pipelines.sources.files.content import decoded
from pipelines.sources.files.inflate import inflate
from pipelines.sources.files.split import HeaderTooLong
from pipelines.sources.files.standard_input import known_as
from pipelines.system.unforeseen import READING
from transforms.errors import AudienceError, SourceError

READ_BYTES = 1 << 20  # of a plain file at a time
DEFLATED_BYTES = 64 << 10  # of a compressed file at a time: what comes out of it is many times as much
UNREADABLE = (
    OSError,
    EOFError,
    BeamIOError,
    HeaderTooLong,
    UnicodeDecodeError,
    parquet.UnreadableColumn,
    csv_module.Error,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    pa.ArrowException,
    pl.exceptions.PolarsError,
)


class Stored(Protocol):
    """What of a file tells how to read its bytes."""

    @property
    def path(self) -> str: ...
    @property
    def member(self) -> str: ...
    @property
    def compression(self) -> str: ...
    @property
    def encoding(self) -> str: ...


def name_of(path: str, member: str) -> str:
    """What positions and messages call a file, or a member of a zip file."""
    return f"{known_as(path)}/{member}" if member else known_as(path)


def chunks_of(opened: BinaryIO, compression: str, block_bytes: int, encoding: str = "") -> Iterator[bytes]:
    """The uncompressed bytes of a file from where it stands, as UTF-8, in chunks of about `block_bytes` at most."""
    size = min(READ_BYTES, block_bytes)
    if compression != "plain":
        chunks = inflate(iter(lambda: opened.read(DEFLATED_BYTES), b""), compression, size)
    else:
        chunks = iter(lambda: opened.read(size), b"")
    return decoded(chunks, encoding) if encoding else chunks


def opened_file(path: str, member: str = "") -> BinaryIO:
    """The file as it is stored, or a member of a zip file as it was packed."""
    # Uncompressed by us: Beam's own reader inflates 16 MB at a time and takes a torn file for a whole one.
    opened = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return _member(opened, member) if member else opened


def _member(opened: BinaryIO, member: str) -> BinaryIO:
    try:
        archive = zipfile.ZipFile(opened)
        file = archive.open(member)
    except BaseException:
        opened.close()
        raise
    close = file.close

    def close_all() -> None:
        close()
        archive.close()
        opened.close()

    file.close = close_all  # type: ignore[method-assign]
    return file  # type: ignore[return-value]


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
