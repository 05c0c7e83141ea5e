"""Files are read by what they hold, whatever their name, and what cannot be read is named with how to turn it."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import tarfile
import zipfile

import polars as pl
import pytest
import zstandard

from pipelines.sources.files.content import decoded, encoding_of
from pipelines.sources.files.discover import check_inputs
from pipelines.sources.files.read import CsvFormat, cut, read
from transforms.errors import SourceError

LINES = b'{"a": "Jos\xc3\xa9"}\n{"a": "Zo\xc3\xab"}\n'
TABLE = b"a,b\nJos\xc3\xa9,1\nZo\xc3\xab,2\n"
PACKED = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def written(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


def zipped(members, **how):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, **how) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def payloads(path, csv=CsvFormat(), format="auto", encoding=""):  # noqa: B008
    """[(position, payload)] of a file, after the look at it."""
    files = check_inputs([str(path)], format, csv, encoding=encoding)
    parts = [part for file in files for part in cut(file, csv, 1 << 20)]
    blocks = [block for part in parts for block in read(part, "shop", csv, 1 << 20)]
    return [row for block in blocks for row in zip(block["position"], block["payload"], strict=True)]


def texts(path, *given, **how):
    return [payload.decode() for _, payload in payloads(path, *given, **how)]


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.log"])
def test_a_compression_is_known_by_its_bytes(tmp_path, name, pack):
    assert texts(written(tmp_path, name, pack(LINES))) == ['{"a": "José"}', '{"a": "Zoë"}']


def test_a_plain_file_with_the_name_of_a_compressed_one_is_read(tmp_path):
    assert len(texts(written(tmp_path, "x.jsonl.gz", LINES))) == 2
    with pytest.raises(SourceError, match=r"x.csv.gz: cannot be read"):
        payloads(written(tmp_path, "x.csv.gz", TABLE))


def test_parquet_is_known_by_its_bytes_and_refused_where_it_is_packed(tmp_path):
    table = io.BytesIO()
    pl.DataFrame({"a": [1, 2]}).write_parquet(table)
    assert texts(written(tmp_path, "x.json", table.getvalue())) == ['{"a":1}', '{"a":2}']
    for name, data in [
        ("a.json.gz", gzip.compress(table.getvalue())),
        ("b.zip", zipped({"a.parquet": table.getvalue()})),
    ]:
        with pytest.raises(SourceError, match="allowed Parquet as it is; unpack it"):
            payloads(written(tmp_path, name, data))
    with pytest.raises(SourceError, match="is Parquet, got format csv; leave the format out"):
        payloads(tmp_path / "x.json", format="csv")


def test_all_files_of_a_zip_are_read_and_keep_their_names(tmp_path):
    packed = zipped(
        {"b/x.csv": TABLE, "a.jsonl": LINES, "c.json.gz": gzip.compress(b'[{"n": 1}]'), "__MACOSX/._a": b"x"}
    )
    path = written(tmp_path, "export.zip", packed)
    found = [(place.removeprefix(f"{tmp_path}/"), payload.decode()) for place, payload in payloads(path)]
    assert found == [
        ("export.zip/a.jsonl:1", '{"a": "José"}'),
        ("export.zip/a.jsonl:2", '{"a": "Zoë"}'),
        ("export.zip/b/x.csv:2", "José,1"),
        ("export.zip/b/x.csv:3", "Zoë,2"),
        ("export.zip/c.json.gz@1", '{"n": 1}'),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (zipped({"a.txt": b"hello"}), r"a.txt: the name tells no format"),
        (zipped({"a.zip": zipped({"b.csv": TABLE})}), r"a.zip: is a zip file in a zip file; unpack it: unzip FILE"),
        (
            zipped({"xl/workbook.xml": b"<"}),
            r"x.zip: is an Excel workbook \(xlsx\), allowed are JSON, CSV and Parquet;",
        ),
        (zipped({"a.csv": TABLE})[:-30], r"x.zip: cannot be read: "),
        (
            zipped({"a.csv": TABLE}).replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
            r"x.zip: 'a.csv' in it is encrypted; unpack it",
        ),
    ],
    ids=["text", "zip in zip", "xlsx", "torn", "encrypted"],
)
def test_a_zip_that_cannot_be_read_is_refused(tmp_path, data, message):
    with pytest.raises(SourceError, match=message):
        payloads(written(tmp_path, "x.zip", data))


def test_an_unpacked_zip_is_held_a_piece_at_a_time(tmp_path):
    path = written(tmp_path, "bomb.zip", zipped({"x.jsonl": b"0" * (40 << 20) + b"\n" + LINES}))
    assert path.stat().st_size < 100_000
    sizes = [len(payload) for _, payload in payloads(path)]
    assert sizes[0] == (10 << 20) + 1
    assert len(sizes) == 3


ENCODINGS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_utf_16_and_utf_32_are_known_by_their_mark_or_their_zeros(tmp_path, encoding):
    assert texts(written(tmp_path, "x.jsonl", LINES.decode().encode(encoding))) == ['{"a": "José"}', '{"a": "Zoë"}']
    assert texts(written(tmp_path, "x.csv", TABLE.decode().encode(encoding))) == ["José,1", "Zoë,2"]
    packed = gzip.compress(codecs.BOM_UTF16_BE + TABLE.decode().encode("utf-16-be"))
    assert texts(written(tmp_path, "y.csv.gz", packed)) == ["José,1", "Zoë,2"]


@pytest.mark.parametrize(
    ("encoding", "word"),
    [
        ("latin-1", "José"),
        ("cp1252", "€5"),
        ("shift_jis", "日本"),
        ("gb18030", "中文"),
        ("koi8-r", "мир"),
        ("cp037", "a"),
    ],
)
def test_an_encoding_is_stated(tmp_path, encoding, word):
    path = written(tmp_path, "x.csv", f"a,b\n{word},1\n".encode(encoding))
    assert texts(path, CsvFormat(encoding=encoding)) == [f"{word},1"]
    lines = written(tmp_path, "x.jsonl", f'{{"a": "{word}"}}\n'.encode(encoding))
    assert texts(lines, encoding=encoding) == [f'{{"a": "{word}"}}']


def test_bytes_that_an_encoding_has_not_are_no_text_and_stay_in_their_record(tmp_path):
    path = written(tmp_path, "x.csv", b"a,b\n1,\x81\n2,\x80\n")
    assert [payload for _, payload in payloads(path, CsvFormat(encoding="cp1252"))] == [b"1,\x81", "2,€".encode()]
    assert b"".join(decoded([b"a\0\x00", b"\xd8b\0"], "utf-16-le")) == b"a\xff\xd8b"


def test_a_few_zeros_are_no_encoding():
    assert encoding_of(b"a,b\n1,\0\n") == ""
    assert encoding_of(b"a\0b") == ""


def in_tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        about = tarfile.TarInfo("a.csv")
        about.size = len(TABLE)
        archive.addfile(about, io.BytesIO(TABLE))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"%PDF-1.7\n", "is a PDF, allowed are JSON, CSV and Parquet; export its tables as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", r"is an old Excel workbook \(xls\), .*; save its sheet as CSV in UTF-8"),
        (b"Obj\x01\x04\x14avro.codec", r"is Avro, .*; convert it: duckdb -c .*read_avro"),
        (b"ORC\x11\0\0", r"is ORC, .*; convert it: python -c"),
        (b"ARROW1\0\0", "is an Arrow file, "),
        (b"SQLite format 3\0", "is an SQLite database, .*; export a table: sqlite3"),
        (in_tar(), "is a tar archive, .*; unpack it: tar -xf FILE"),
        (gzip.compress(in_tar()), "is a tar archive, "),
        (gzip.compress(gzip.compress(LINES)), "is compressed twice; unpack it once"),
        (b"\n<?xml version='1.0'?><a/>", "is XML, .*; convert it to JSON lines"),
        (b"<!DOCTYPE html><html>", "is an HTML page, .*; download the file itself"),
        (b"\x04\x22\x4d\x18...", "is compressed by lz4, .*; unpack it: lz4 -d FILE"),
        (b"\x80\x04\x95cos\nsystem\n", "is a Python pickle, which is never run"),
    ],
    ids=lambda value: repr(value)[2:12],
)
@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.dat"])
def test_what_cannot_be_read_is_named_with_how_to_turn_it(tmp_path, name, data, message):
    with pytest.raises(SourceError, match=f"{name}: {message}") as refused:
        payloads(written(tmp_path, name, data))
    assert "\n" not in str(refused.value)


def test_a_header_that_begins_like_another_format_is_a_header(tmp_path):
    assert texts(written(tmp_path, "x.csv", b"ORCID,b\n1,2\n")) == ["1,2"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("array.json", json.dumps([{"n": 1}, {"n": 2}]).encode()),
        ("array.json", json.dumps([{"n": 1}, {"n": 2}], indent=2).encode()),
        ("x.jsonl", b'{"n": 1}{"n": 2}'),
        ("x.jsonl", b'{"n": 1} {"n": 2}\n'),
        ("x.jsonl", b'{"n": 1},\n{"n": 2},\n'),
        ("x.txt", b'\xef\xbb\xbf[\n{"n": 1},\n{"n": 2}\n]\n'),
    ],
)
def test_json_of_any_form_is_read_in_any_encoding_and_compression(tmp_path, name, data):
    for made in (data, gzip.compress(data), data.decode("utf-8-sig").encode("utf-16")):
        assert [json.loads(payload) for _, payload in payloads(written(tmp_path, name, made))] == [{"n": 1}, {"n": 2}]
