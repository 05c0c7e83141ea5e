"""The files source: what it reads is the same wherever blocks are cut, and what it cannot read it names."""

import bz2
import csv
import gzip
import io
import json
from datetime import datetime
from decimal import Decimal

import apache_beam as beam
import msgspec
import polars as pl
import pytest
import zstandard
from apache_beam import coders
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sources.files import read as files
from pipelines.sources.files import split as cuts
from pipelines.sources.files.content import refuse_other
from pipelines.sources.files.discover import find_files, kind_of, layout_of
from pipelines.sources.files.inflate import inflate
from pipelines.sources.files.read import CsvFormat, FileInput, Range, ReadFiles, check_inputs, cut, read
from pipelines.sources.files.split import Piece, batches, bounds, payloads, pieces
from transforms.block import RAW_SCHEMA
from transforms.errors import SourceError

COMMA = CsvFormat(delimiter=",")
COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".bz2": bz2.compress,
}


class Distant(LocalFileSystem):
    """Local files under a scheme of their own: to the source they are remote."""

    @classmethod
    def scheme(cls):
        return "distant"

    def match(self, patterns, limits=None):
        found = super().match([pattern.removeprefix("distant://") for pattern in patterns], limits)
        for result in found:
            result.metadata_list = [
                FileMetadata(f"distant://{file.path}", file.size_in_bytes) for file in result.metadata_list
            ]
        return found

    def open(self, path, *args, **kwargs):
        return super().open(path.removeprefix("distant://"), *args, **kwargs)


def blocks(pattern, block_bytes=files.BLOCK_BYTES, csv=CsvFormat(), format="auto"):  # noqa: B008
    """Every block that the source reads, in order."""
    return [
        block
        for file in find_files([str(pattern)], format)
        for part in cut(file, csv, block_bytes)
        for block in read(part, "shop", csv, block_bytes)
    ]


def rows(found, folder=""):
    """(position without the folder, payload) of blocks."""
    return [
        (position.replace(f"{folder}/", ""), payload)
        for block in found
        for position, payload in zip(block["position"], block["payload"], strict=True)
    ]


def cut_rows(data, block_bytes, layout, chunk, most_rows=cuts.MOST_ROWS):
    """(line, payload) of bytes that arrive in chunks."""
    chunks = [data[start : start + chunk] for start in range(0, len(data), chunk)]
    found = batches(pieces(chunks, block_bytes, layout), layout, block_bytes, most_rows)
    return [row for batch in found for row in rows([files.block_of(batch, "f", False, "s", None)])]


def written(path, data):
    path.write_bytes(data)
    return path


# Where blocks are cut


def is_plain(some: list[bytes]) -> bool:
    """Whether the lines do not begin as a file of another format does, which is refused."""
    try:
        refuse_other(b"\n".join(some), "x")
    except SourceError:
        return False
    return True


lines = st.lists(st.binary(max_size=6).map(lambda b: b.replace(b"\n", b"\x0b\r\x1c")), max_size=12).filter(is_plain)


@given(lines, st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.integers(1, 30), st.integers(1, 9))
@settings(deadline=None)
def test_jsonl_rows_are_the_same_wherever_blocks_are_cut(some, end, last, block_bytes, chunk):
    data = end.join(some) + (end if last else b"")
    expected = [
        (f"f:{number}", line.removesuffix(b"\r"))
        for number, line in enumerate(data.split(b"\n"), 1)
        if line.removesuffix(b"\r")
    ]
    assert cut_rows(data, block_bytes, None, chunk) == expected


@given(
    st.lists(st.lists(st.text('aé,"\n\r ', max_size=5), min_size=2, max_size=2), max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 40),
)
@settings(deadline=None)
def test_quoted_newlines_delimiters_and_quotes_stay_in_their_field(records, end, block_bytes):
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=end).writerows(records)
    found = cut_rows(text.getvalue().encode(), block_bytes, COMMA, 7)
    assert [next(csv.reader([payload.decode()])) for _, payload in found] == records


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.csv.gz", "x.jsonl.zst", "x.parquet"])
def test_small_blocks_and_one_block_hold_the_same_rows(tmp_path, name):
    table = pl.DataFrame({"id": range(500), "text": [f'{n},"\n{n}' if n % 7 else None for n in range(500)]})
    plain = io.BytesIO()
    if name.endswith(".parquet"):
        table.write_parquet(plain, row_group_size=120)
    elif ".csv" in name:
        table.write_csv(plain)
    else:
        table.write_ndjson(plain)
    path = written(tmp_path / name, COMPRESS.get(path_ending(name), bytes)(plain.getvalue()))
    one, many = blocks(path), blocks(path, 900)
    assert len(many) > len(one) + 5
    assert rows(one) == rows(many)
    assert sum(block.height for block in one) == 500
    assert all(block.schema == RAW_SCHEMA and block.height for block in one + many)


def path_ending(name):
    return "." + name.rsplit(".", 1)[1]


def test_a_compressed_file_is_read_as_a_stream_of_blocks():
    data = b"".join(b'{"id":%d}\n' % n for n in range(300_000))
    packed = gzip.compress(data)
    read_so_far = []

    def chunks():
        for start in range(0, len(packed), 50_000):
            read_so_far.append(start)
            yield packed[start : start + 50_000]

    stream = pieces(inflate(chunks(), "gzip"), 200_000, None)
    first = next(stream)
    assert len(read_so_far) == 1
    assert len(first.data) < len(data) / 4
    assert first.data + b"".join(piece.data for piece in stream) == data


# Remote files


@given(lines, st.booleans(), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_remote_jsonl_is_cut_without_a_scan_and_told_by_byte_offset(tmp_path_factory, some, bom, block_bytes):
    data = (b"\xef\xbb\xbf" if bom else b"") + b"\n".join(some)
    path = written(tmp_path_factory.mktemp("far") / "x.jsonl", data)
    found = rows(blocks(f"distant://{path}", block_bytes), f"distant://{path.parent}")
    assert found == rows(blocks(f"distant://{path}"), f"distant://{path.parent}")
    plain = data.removeprefix(b"\xef\xbb\xbf")
    kept = [line.removesuffix(b"\r") for line in plain.split(b"\n")]
    assert [payload for _, payload in found] == [line for line in kept if line]
    assert all(data[int(at.split("@")[1]) :].startswith(payload) for at, payload in found)


def test_remote_csv_is_scanned_and_told_by_line(tmp_path):
    path = written(tmp_path / "x.csv", b'id,t\n1,"a\nb"\n2,c\n')
    found = rows(blocks(f"distant://{path}", 8), f"distant://{tmp_path}")
    assert found == [("x.csv:2", b'1,"a\nb"'), ("x.csv:4", b"2,c")]


# What a row holds


def test_csv_rows_carry_header_and_delimiter_and_begin_behind_the_header(tmp_path):
    path = written(tmp_path / "x.tsv", b'\xef\xbb\xbf"i\nd"\tb\r\n1\t2\r\n\r\n3\t"4"')
    (block,) = blocks(path)
    assert rows([block], tmp_path) == [("x.tsv:3", b"1\t2"), ("x.tsv:5", b'3\t"4"')]
    assert block["attributes"].unique().to_list() == [
        r'{"format":"csv","header":["i\nd","b"],"delimiter":"\t","quote":"\""}'
    ]
    assert block["source"].unique().to_list() == ["shop"]
    assert block["received_time"].null_count() == 2


def test_csv_without_header_takes_the_names_given(tmp_path):
    path = written(tmp_path / "x.csv", b"1;2\n")
    (block,) = blocks(path, csv=CsvFormat(";", quote="", header=False, columns=("a", "b")))
    assert rows([block], tmp_path) == [("x.csv:1", b"1;2")]
    assert json.loads(block["attributes"][0]) == {
        "format": "csv",
        "header": ["a", "b"],
        "delimiter": ";",
        "quote": "",
    }


def test_a_stray_quote_swallows_no_record(tmp_path):
    data = b'id,t\n1,12" pipe\n2,"a"b"\n3,"x\n\ny"\n'
    found = rows(blocks(written(tmp_path / "x.csv", data)), tmp_path)
    assert found == [("x.csv:2", b'1,12" pipe'), ("x.csv:3", b'2,"a"b"'), ("x.csv:4", b'3,"x\n\ny"')]


def test_a_file_of_nothing_or_of_blank_lines_gives_no_block(tmp_path):
    assert blocks(written(tmp_path / "a.jsonl", b"")) == []
    assert blocks(written(tmp_path / "b.jsonl", b"\n\r\n\n")) == []
    assert blocks(written(tmp_path / "c.jsonl.gz", gzip.compress(b""))) == []


def test_parquet_rows_are_json_of_their_own_types(tmp_path):
    noon = datetime(2024, 3, 1, 12)
    table = pl.DataFrame(
        {
            "when": [noon, None],
            "lists": [[{"at": noon}], []],
            "price": pl.Series([Decimal("12345678901234567.89"), None], dtype=pl.Decimal(38, 2)),
            "raw": [b"text", b"\xff"],
            "ratio": [0.5, float("nan")],
            "big": [2**63 - 1, None],
        }
    )
    table.write_parquet(tmp_path / "x.parquet", row_group_size=1)
    found = blocks(tmp_path / "x.parquet")
    assert [position for position, _ in rows(found, tmp_path)] == ["x.parquet:0:0", "x.parquet:1:0"]
    first, second = (msgspec.json.decode(payload) for _, payload in rows(found))
    utc = "2024-03-01T12:00:00+00:00"
    assert first == {
        "when": utc,
        "lists": [{"at": utc}],
        "price": 12345678901234567.89,
        "raw": "text",
        "ratio": 0.5,
        "big": 2**63 - 1,
    }
    assert b'"price":12345678901234567.89' in rows(found)[0][1]  # all digits, which a float would not keep
    assert second == {"when": None, "lists": [], "price": None, "raw": "/w==", "ratio": None, "big": None}
    assert found[0]["attributes"].to_list() == ['{"format":"parquet"}']


def test_every_format_and_compression_comes_through_the_pipeline(tmp_path):
    table = pl.DataFrame({"id": [1, 2, 3]})
    for name, plain in {"x.jsonl": table.write_ndjson(), "y.csv": table.write_csv()}.items():
        for ending, compress in COMPRESS.items():
            written(tmp_path / f"{name}{ending}", compress(plain.encode()))
    table.write_parquet(tmp_path / "z.parquet", row_group_size=2)
    expected = [
        *((f"x.jsonl{ending}:{n}", b'{"id":%d}' % n) for ending in COMPRESS for n in (1, 2, 3)),
        *((f"y.csv{ending}:{n + 1}", b"%d" % n) for ending in COMPRESS for n in (1, 2, 3)),
        *((f"z.parquet:{at}", b'{"id":%d}' % n) for at, n in (("0:0", 1), ("0:1", 2), ("1:0", 3))),
    ]
    with beam.Pipeline("FnApiRunner") as pipeline:
        found = pipeline | ReadFiles([str(tmp_path / "*.*"), str(tmp_path / "x.jsonl")], "shop", block_bytes=12)
        assert found.element_type is pl.DataFrame
        assert_that(found | beam.FlatMap(lambda block: rows([block], tmp_path)), equal_to(expected))


@pytest.mark.parametrize("shuffled", [FileInput, Range])
def test_what_crosses_a_shuffle_is_not_pickled(shuffled):
    coder = coders.registry.get_coder(shuffled)
    assert isinstance(coder, coders.RowCoder)
    value = shuffled(*("p" if kind is str else -1 for kind in shuffled.__annotations__.values()))
    assert coder.decode(coder.encode(value)) == value


# Names


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("2015-02-22-21.min.json.gz", ("jsonl", "gzip")),
        ("gs://b/x.NDJSON", ("jsonl", "plain")),
        ("x.tsv.zst", ("csv", "zstd")),
        ("x.parquet", ("parquet", "plain")),
        ("x.csv.bz2", ("csv", "bzip2")),
    ],
)
def test_the_name_tells_format_and_compression(path, kind):
    assert kind_of(path) == kind


def test_a_stated_format_counts_more_than_the_name():
    assert kind_of("events.log.gz", "jsonl") == ("jsonl", "gzip")


def test_the_delimiter_follows_the_name_unless_it_is_stated():
    assert layout_of("a/x.tsv.gz", CsvFormat()).delimiter == "\t"
    assert layout_of("a.tsv/x.csv", CsvFormat()).delimiter == ","
    assert layout_of("x.tsv", CsvFormat(";")).delimiter == ";"


def test_check_inputs_lists_each_file_once_by_path(tmp_path, monkeypatch):
    for name in ("b.jsonl", "a[1].csv"):
        written(tmp_path / name, b"id\n")
    monkeypatch.chdir(tmp_path)
    found = check_inputs(["*.jsonl", "./b.jsonl", "a[1].csv", str(tmp_path / "*")], csv=COMMA)
    assert found == [
        FileInput(str(tmp_path / "a[1].csv"), "csv", "plain", 3),
        FileInput(str(tmp_path / "b.jsonl"), "jsonl", "plain", 3),
    ]


# Bad input


GZIP = gzip.compress(b'{"id":1}\n' * 9, mtime=0)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "x.txt",
            b"",
            "{path}: the name tells no format: allowed are .jsonl, .ndjson, .json, .csv, .tsv, .parquet,",
        ),
        ("x.parquet.gz", GZIP, "{path}: the name tells no format: allowed are"),
        (
            "x.jsonl.gz",
            b"no gzip",
            "{path}: cannot be read: Error -3 while decompressing data: incorrect header",
        ),
        (
            "x.jsonl.gz",
            b"",
            "{path}: cannot be read: the gzip data ends too early; fix the file or leave it out",
        ),
        (
            "x.jsonl.zst",
            b"no zstd",
            "{path}: cannot be read: ZSTD decompress failed: Unknown frame descriptor",
        ),
        ("x.csv.bz2", b"no bzip2", "{path}: cannot be read: Invalid data stream"),
        ("x.parquet", b"no parquet", "{path}: cannot be read: Parquet magic bytes not found in footer"),
        ("x.csv", b"", "{path}: has no CSV header in its first line; give one, or set csv header false"),
        ("x.csv", b"\xff,b\n", "{path}: cannot be read: 'utf-8' codec can't decode byte 0xff"),
        (
            "x.csv",
            b"id,b\n1,2\n",
            "{path}: the CSV header lacks 'user', 'when'; found 'id', 'b' (delimiter ','); correct",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path, name, data, message):
    path = written(tmp_path / name, data)
    with pytest.raises(SourceError) as refused:
        check_inputs([str(path)], required_columns=["id", "user", "when"])
    assert str(refused.value).startswith(message.format(path=path))
    assert "\n" not in str(refused.value)


def test_a_pattern_without_a_file_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for pattern, message in {
        "gone.jsonl": "'gone.jsonl': there is no such file; check the path",
        "no/*.jsonl": "'no/*.jsonl': no file matches the pattern; check it, and quote it in a shell",
        str(tmp_path): f"'{tmp_path}': is a directory; name the files in it, such as '{tmp_path}/*.jsonl'",
        "far://b/x.csv": "far://b/x.csv: cannot be read: Unable to get filesystem from specified path",
    }.items():
        with pytest.raises(SourceError) as refused:
            check_inputs([pattern])
        assert str(refused.value).startswith(message)


def test_an_unknown_format_is_refused_with_the_allowed():
    with pytest.raises(SourceError, match=r"^format 'xml': allowed are auto, jsonl, csv, parquet$"):
        check_inputs(["x.jsonl"], "xml")


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2"])
def test_a_torn_compressed_file_is_never_taken_for_a_whole_one(tmp_path, ending):
    packed = COMPRESS[ending](b'{"id":1}\n' * 9)
    assert len(blocks(written(tmp_path / f"x.jsonl{ending}", packed * 2))[0]) == 18
    path = written(tmp_path / f"x.jsonl{ending}", packed + packed[:-3])
    with pytest.raises(SourceError, match=rf"x.jsonl\{ending}: cannot be read: the \w+ data ends too early"):
        blocks(path)


def test_a_file_corrupt_in_its_middle_stops_the_pipeline_with_its_name(tmp_path):
    packed = bytearray(gzip.compress(b"".join(b'{"id":%d}\n' % n for n in range(200_000)), mtime=0))
    packed[len(packed) // 2] ^= 1  # one bit
    path = written(tmp_path / "x.jsonl.gz", packed)
    assert [file.path for file in check_inputs([str(path)])] == [str(path)]
    pipeline = beam.Pipeline("FnApiRunner")
    pipeline | ReadFiles([str(path)], "shop")
    with pytest.raises(SourceError, match=rf"^{path}: cannot be read: Error -3 while decompressing"):
        pipeline.run()


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"delimiter": ",,"}, ".delimiter: got ',,', allowed one ASCII character, 'blanks' or ''"),
        ({"quote": "\n"}, r".quote: got '\n', allowed one ASCII character or ''"),
        ({"delimiter": "|", "quote": "|"}, ".quote: got '|', which is also the delimiter; give another"),
        ({"header": False}, ".columns: got [] with header false, allowed names if header is false"),
        ({"columns": ["a"]}, ".columns: got ['a'] with header true, allowed names if header is false"),
        ({"sep": ","}, "Object contains unknown field `sep`"),
    ],
)
def test_a_csv_format_that_cannot_be_is_refused(form, message):
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(form, CsvFormat)
    assert message in str(refused.value)


def test_payloads_of_a_piece_are_its_bytes():
    piece = Piece(b"a\r\n\nb", 1, 0)
    found = bounds(piece.data, None)
    assert payloads(piece.data, found.starts, found.stops).to_list() == [b"a", b"", b"b"]
    assert found.lines.tolist() == [0, 1, 2]
