"""What is read is bounded: by rows, by bytes, by what a decoder gives at a time; and a longer record stops nothing."""

import bz2
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.cli import main
from pipelines.sources.files import parquet, quotes
from pipelines.sources.files import read as files
from pipelines.sources.files import split as cuts
from pipelines.sources.files.discover import MOST_COLUMNS, check_inputs, find_files
from pipelines.sources.files.inflate import inflate
from pipelines.sources.files.read import REPEATED_BYTES, CsvFormat, cut, read
from pipelines.sources.files.split import HEADER_LIMIT, MOST_ROWS, batches, pieces
from transforms.block import held_bytes
from transforms.errors import SourceError
from transforms.records.payloads import KEPT_BYTES, RECORD_LIMIT

ROOT = Path(__file__).parents[4]
MB = 1 << 20
COMMA = CsvFormat(delimiter=",")
EVENT = b'{"event_type":"page_view","event_time":"2026-03-01T10:00:00Z","user_id":"u%d"}\n'
COMPRESS = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress, "bzip2": bz2.compress}
ENDINGS = {"gzip": ".gz", "zstd": ".zst", "bzip2": ".bz2"}


# Decompression


@pytest.mark.parametrize("compression", COMPRESS)
@given(data=st.binary(max_size=300), times=st.integers(1, 50), size=st.integers(1, 40), most=st.integers(1, 64))
@settings(max_examples=60, deadline=None)
def test_no_chunk_is_more_than_was_asked_for(compression, data, times, size, most):
    packed = COMPRESS[compression](data * times) + COMPRESS[compression](data)
    chunks = [packed[at : at + size] for at in range(0, len(packed), size)]
    found = list(inflate(chunks, compression, most))
    assert b"".join(found) == data * times + data
    assert all(0 < len(chunk) <= most for chunk in found)


# The memory map's own peak: that of getrusage is of the process that started it, where it held more.
PEAK = """
import re, sys
from pathlib import Path
from pipelines.sources.files.inflate import inflate
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
total = 0
with open(sys.argv[1], "rb") as file:
    for chunk in inflate(iter(lambda: file.read(65536), b""), sys.argv[2]):
        total += len(chunk)
print(total, peak() - before)
"""


@pytest.mark.parametrize("compression", COMPRESS)
def test_memory_does_not_grow_with_what_a_file_expands_to(tmp_path, compression):
    path = tmp_path / "bomb"
    path.write_bytes(COMPRESS[compression](bytes(150 * MB)))
    assert path.stat().st_size < MB
    done = subprocess.run(
        [sys.executable, "-c", PEAK, path, compression], cwd=ROOT, capture_output=True, text=True, check=True
    )
    total, grown_kb = map(int, done.stdout.split())
    assert total == 150 * MB
    assert grown_kb < 40_000


def test_a_zstd_frame_that_asks_for_a_large_window_is_refused_in_one_line(tmp_path):
    asked = zstandard.ZstdCompressionParameters.from_level(3, window_log=30, enable_ldm=True)
    path = tmp_path / "x.jsonl.zst"
    with path.open("wb") as file, zstandard.ZstdCompressor(compression_params=asked).stream_writer(file) as packer:
        packer.write(b"{}\n")
    with pytest.raises(
        SourceError, match=r"x.jsonl.zst: cannot be read: its zstd frame asks for a window of over 128 MB"
    ):
        check_inputs([str(path)])


# Blocks


lines = st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"\r")), max_size=30)
shapes = {
    "block_bytes": st.integers(1, 60),
    "chunk": st.integers(1, 40),
    "most_rows": st.integers(1, 5),
    "limit": st.integers(3, 12),
}


def cut_up(data, layout, block_bytes, chunk, most_rows):
    """[(line, offset, payload)] of each batch of bytes that arrive in chunks."""
    chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    found = batches(pieces(chunks, block_bytes, layout), layout, block_bytes, most_rows)
    return [
        [
            (line, offset, batch.data[start:stop])
            for start, stop, line, offset in zip(batch.starts, batch.stops, batch.lines, batch.offsets, strict=True)
        ]
        for batch in found
    ]


@given(lines, st.booleans(), *shapes.values())
@settings(max_examples=300, deadline=None)
def test_lines_are_cut_by_rows_and_bytes_and_a_long_one_stands_for_itself(some, last, block_bytes, chunk, most, limit):
    data = b"\n".join(some) + (b"\n" if last else b"")
    with patch.object(cuts, "RECORD_LIMIT", limit):
        found = cut_up(data, None, block_bytes, chunk, most)
    expected, offset = [], 0
    for number, line in enumerate(data.split(b"\n"), 1):
        kept = line[: limit + 1] if len(line) > limit + 1 else line.removesuffix(b"\r")
        if kept:
            expected.append((number, offset, kept))
        offset += len(line) + 1
    assert [row for batch in found for row in batch] == expected
    for batch in found:
        held = sum(len(payload) for _, _, payload in batch)
        assert 0 < len(batch) <= most
        # A piece is whole, and holds no more than a block's bytes, a chunk, and the record in which that ends.
        assert held <= block_bytes + block_bytes // 8 + chunk + 2 * limit + 2


@given(st.text('a,"\n', max_size=60), *shapes.values())
@settings(max_examples=300, deadline=None)
def test_where_csv_is_cut_does_not_matter_to_long_records_either(text, block_bytes, chunk, most, limit):
    with patch.object(cuts, "RECORD_LIMIT", limit), patch.object(quotes, "RECORD_LIMIT", limit):
        whole = cut_up(text.encode(), COMMA, 1_000, 1_000, 1_000)
        found = cut_up(text.encode(), COMMA, block_bytes, chunk, most)
    assert [row for batch in found for row in batch] == [row for batch in whole for row in batch]
    assert all(len(batch) <= most for batch in found)
    begun = [offset for batch in found for _, offset, _ in batch]
    assert begun == sorted(set(begun))


def test_a_quote_that_never_closes_costs_its_line_and_no_other():
    data = b'a,b\n1,2\n3,"x\n4,y\n' + b"5,z\n" * 20
    with patch.object(cuts, "RECORD_LIMIT", 30), patch.object(quotes, "RECORD_LIMIT", 30):
        rows = [row for batch in cut_up(data, COMMA, 8, 4, 100) for row in batch]
    assert [(line, payload) for line, _, payload in rows[:4]] == [(1, b"a,b"), (2, b"1,2"), (3, b'3,"x'), (4, b"4,y")]
    assert [payload for _, _, payload in rows[4:]] == [b"5,z"] * 20


def blocks(path, csv=CsvFormat(), block_bytes=files.BLOCK_BYTES):  # noqa: B008
    """Every block that the source reads, in order."""
    found = [part for file in find_files([str(path)]) for part in cut(file, csv, block_bytes)]
    return [block for part in found for block in read(part, "shop", csv, block_bytes)]


@pytest.mark.parametrize("compression", ["plain", *COMPRESS])
def test_a_longer_line_is_one_record_of_its_first_bytes_in_files_of_any_compression(tmp_path, compression):
    long = b"0" * (RECORD_LIMIT + 3 * MB)
    data = b"a\n" + long + b"\n" + b"1" * RECORD_LIMIT + b"\nb\n" + long
    path = tmp_path / f"x.jsonl{ENDINGS.get(compression, '')}"
    path.write_bytes(COMPRESS.get(compression, bytes)(data))
    rows = pl.concat(blocks(path))
    assert [position.rpartition(":")[2] for position in rows["position"]] == ["1", "2", "3", "4", "5"]
    sizes = [1, RECORD_LIMIT + 1, RECORD_LIMIT, 1, RECORD_LIMIT + 1]
    assert rows["payload"].bin.size().to_list() == sizes
    assert len(find_files([str(path)])) == 1


def test_short_lines_make_blocks_of_a_number_of_rows(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"x\n\n" * (2 * MOST_ROWS + 10))
    assert [block.height for block in blocks(path)] == [MOST_ROWS, MOST_ROWS, 10]


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_short_lines_under_a_wide_header_make_blocks_that_are_small_as_they_are_coded(tmp_path, name):
    header = ",".join(f"column_{n:05d}" for n in range(2_000)).encode()
    data = header + b"\n" + b"x\n" * 5_000
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    found = blocks(path)
    assert sum(block.height for block in found) == 5_000
    assert all(held_bytes(block) < REPEATED_BYTES * 1.1 for block in found)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"a" * HEADER_LIMIT, "line 1: the CSV header has more than 256 kB"),
        (b"a," * 20_000 + b"b", f"the CSV header names 20,001 columns, allowed {MOST_COLUMNS:,}"),
    ],
)
def test_a_header_without_bounds_is_refused_before_the_run(tmp_path, header, reason):
    path = tmp_path / "x.csv"
    path.write_bytes(header + b"\nx\n")
    with pytest.raises(SourceError) as refused:
        check_inputs([str(path)])
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


# Parquet


def test_a_text_that_all_rows_share_is_cut_to_fit_a_block():
    value, rows = "x" * 100_000, 3_000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [value])
    file = io.BytesIO()
    # Without Arrow's own schema, by which it would be read as it was written.
    pq.write_table(pa.table({"n": range(rows), "text": column}), file, compression="zstd", store_schema=False)
    assert file.tell() < 100_000
    usual, pool = pa.default_memory_pool(), pa.system_memory_pool()
    pa.set_memory_pool(pool)
    try:
        sizes = [(len(part), part.bin.size().sum()) for part in parquet.rows_as_json(file, 0, MB)]
    finally:
        pa.set_memory_pool(usual)
    assert pool.max_memory() < 20 * MB
    assert sum(rows for rows, _ in sizes) == rows
    assert max(size for _, size in sizes) < MB * 1.2


def test_categories_are_read_as_what_they_stand_for():
    table = pa.table(
        {"n": pa.array([7, None, 7]).dictionary_encode(), "t": pa.array(["a", "b", None]).dictionary_encode()}
    )
    file = io.BytesIO()
    pq.write_table(table, file)
    (rows,) = parquet.rows_as_json(file, 0, MB)
    assert [json.loads(row) for row in rows] == [{"n": 7, "t": "a"}, {"n": None, "t": "b"}, {"n": 7, "t": None}]


def test_a_parquet_value_beyond_the_longest_record_is_refused_by_its_footer():
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["x" * (RECORD_LIMIT + 1000)]}), file, compression="zstd")
    with pytest.raises(parquet.UnreadableColumn, match=r"^column 'text' of row group 0 holds values of 10 MB each"):
        next(parquet.rows_as_json(file, 0, MB))


# Whole runs


# Between the test and what is measured: Linux counts what a process held before it became another program.
MEASURED = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def run(tmp_path, path, *more):
    """(exit status, standard error, peak memory in MB) of a backfill in a process of its own."""
    words = [sys.executable, "-m", "pipelines.cli", "backfill", "--input", path, "--warehouse", tmp_path / "w", *more]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr, int(done.stdout) / 1024


def books(told):
    found = [line.split() for line in told.splitlines()]
    return {words[0]: words[1] for words in found if words and words[0] in ("received", "events", "quarantined")}


def test_short_lines_that_would_repeat_gigabytes_of_a_wide_header_end_in_quarantine(tmp_path):
    path, mapping = tmp_path / "x.csv", tmp_path / "wide.yaml"
    names = ",".join("c" * 40 + f"{n:04d}" for n in range(5_000))
    path.write_text(f"event_type,event_time,{names}\n" + "x\n" * 12_000)
    mapping.write_text("source: w\nfields:\n  event_type: {path: event_type}\n  event_time: {path: event_time}\n")
    status, told, peak = run(tmp_path, path, "--mapping", mapping)
    assert (status, books(told)) == (3, {"received": "12,000", "events": "0", "quarantined": "12,000"})
    assert peak < 900


def test_a_line_of_a_hundred_megabytes_is_one_record_in_quarantine(tmp_path, capsys):
    path = tmp_path / "x.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(EVENT % 1)
        for _ in range(100):
            file.write(b"0" * MB)
        file.write(b"\n" + EVENT % 2)
    assert main(["backfill", "--input", str(path), "--warehouse", str(tmp_path / "w")]) == 0
    assert books(capsys.readouterr().err) == {"received": "3", "events": "2", "quarantined": "1"}
    question = "SELECT code, OCTET_LENGTH(payload) AS bytes FROM quarantine_open"
    assert main(["query", question, "--json", "--warehouse", str(tmp_path / "w")]) == 0
    assert json.loads(capsys.readouterr().out) == {"code": "record_too_long", "bytes": KEPT_BYTES}
