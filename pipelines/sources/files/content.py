"""What a file is by its first bytes, whatever its name: compression, encoding, and what cannot be read at all.

    compression_of(head)    gzip, zstd, bzip2, xz, zip; plain if none
    encoding_of(head)       by byte order mark, or by the zeros of UTF-16 and UTF-32 text; "" for UTF-8
    refuse_other(head, ..)  workbooks, documents, archives and formats of other tools: what it is, and how to turn it
    decoded(chunks, ..)     text of another encoding as UTF-8, a piece at a time

What cannot be decoded becomes bytes that are no UTF-8 either, so that the record with them is refused by itself.
"""

import codecs
from collections.abc import Iterable, Iterator

from transforms.errors import SourceError

HEAD_BYTES = 64 << 10
_COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # without a member
}
_MARKS = {  # UTF-32 before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_BY_ZEROS = {"x000": "utf-32-le", "000x": "utf-32-be", "x0x0": "utf-16-le", "0x0x": "utf-16-be"}
_DUCKDB = "INSTALL {0}; LOAD {0}; COPY (FROM {1}('FILE')) TO 'FILE.parquet'"
_OTHERS = {
    b"%PDF-": ("a PDF", "export its tables as CSV"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook (xls)", "save its sheet as CSV in UTF-8"),
    b"Obj\x01": ("Avro", f'convert it: duckdb -c "{_DUCKDB.format("avro", "read_avro")}"'),
    b"ORC": (  # and then bytes that are no text
        "ORC",
        "convert it: python -c \"from pyarrow import orc, parquet; parquet.write_table(orc.read_table('FILE'),"
        " 'FILE.parquet')\"",
    ),
    b"ARROW1": (
        "an Arrow file",
        "convert it: python -c \"from pyarrow import feather, parquet; parquet.write_table(feather.read_table('FILE'),"
        " 'FILE.parquet')\"",
    ),
    b"SQLite format 3\0": ("an SQLite database", "export a table: sqlite3 -header -csv FILE 'SELECT * FROM events'"),
    b"Rar!": ("a RAR archive", "unpack it: unrar x FILE"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it: 7z x FILE"),
    b"\x04\x22\x4d\x18": ("compressed by lz4", "unpack it: lz4 -d FILE"),
    b"\xff\x06\x00\x00sNaPpY": ("compressed by snappy", "unpack it: snzip -d FILE"),
    b"\x1f\x9d": ("compressed by compress (.Z)", "unpack it: uncompress FILE"),
    b"\x89PNG": ("a picture", "name a file of events"),
    b"\xff\xd8\xff": ("a picture", "name a file of events"),
    b"\x89HDF": ("HDF5", "export its tables as CSV or Parquet"),
    b"\x80\x04\x95": ("a Python pickle, which is never run", "export the data as Parquet or JSON lines"),
    b"{\\rtf": ("a text document (RTF)", "save it as plain text"),
}
_MARKUP = {
    b"<!doctype html": ("an HTML page", "download the file itself, or export the table as CSV"),
    b"<html": ("an HTML page", "download the file itself, or export the table as CSV"),
    b"<?xml": ("XML", "convert it to JSON lines: xq -c '.events.event[]' FILE"),
}
_OFFICE = {
    "xl/": ("an Excel workbook (xlsx)", "save its sheet as CSV in UTF-8"),
    "word/": ("a Word document", "export its table as CSV"),
    "content.xml": ("an OpenDocument file", "save its sheet as CSV in UTF-8"),
    "META-INF/MANIFEST.MF": ("a Java archive", "name a file of events"),
}
_KEPT = "audience-kept"


def compression_of(head: bytes) -> str:
    """The compression of a file that begins like this, `plain` if none."""
    return next((name for magic, name in _COMPRESSIONS.items() if head.startswith(magic)), "plain")


def encoding_of(head: bytes) -> str:
    """The encoding of a text that begins like this; "" for UTF-8, and for what cannot be known."""
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    start = head[:64]
    if len(start) < 8 or b"\0" not in start:
        return ""
    # Of four bytes in a row, which are zero in nearly all of the text.
    zeros = "".join("0" if start[at::4].count(0) * 4 >= len(start) - 4 else "x" for at in range(4))
    return _BY_ZEROS.get(zeros, "")


def refuse_other(head: bytes, place: str) -> None:
    """Refuse what no format of ours begins with. Errors: SourceError that says what it is, and how to turn it."""
    found = next((words for magic, words in _OTHERS.items() if head.startswith(magic)), None)
    found = None if head.startswith(b"ORC") and b"\0" not in head else found
    if found is None:
        text = head[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        found = next((words for begin, words in _MARKUP.items() if text.startswith(begin)), None)
    if found is None and head[257:262] == b"ustar":
        found = ("a tar archive", "unpack it: tar -xf FILE")
    if found is not None:
        _refuse(place, *found)


def refuse_office(names: Iterable[str], place: str) -> None:
    """Refuse a zip file that is a document. Errors: SourceError."""
    for name in names:
        for begin, words in _OFFICE.items():
            if name.startswith(begin):
                _refuse(place, *words)


def _refuse(place: str, what: str, how: str) -> None:
    raise SourceError(f"{place}: is {what}, allowed are JSON, CSV and Parquet; {how}")


def decoded(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Text of an encoding as UTF-8, chunk by chunk, without a byte order mark."""
    decoder = codecs.getincrementaldecoder(encoding)(_KEPT)
    for chunk in chunks:
        if text := decoder.decode(chunk):
            yield text.encode("utf-8", "surrogateescape")
    if text := decoder.decode(b"", final=True):
        yield text.encode("utf-8", "surrogateescape")


def _keep(problem: UnicodeError) -> tuple[str, int]:
    """What stands for bytes that cannot be decoded: themselves, or if UTF-8 has them, one that it never has."""
    assert isinstance(problem, UnicodeDecodeError)
    bad = problem.object[problem.start : problem.end]
    return "".join(chr(0xDC00 + (byte if byte >= 0x80 else 0xFF)) for byte in bad), problem.end


codecs.register_error(_KEPT, _keep)
