"""Standard input as a file, and what is no file."""

import bz2
import gzip
import io
import json
import os
import socket
import sys
from pathlib import Path

import pytest
import zstandard

from pipelines.apps.mapping.sample import found_files
from pipelines.batch import backfill
from pipelines.cli import main
from pipelines.sources.files import standard_input
from pipelines.sources.files.read import check_inputs
from pipelines.sources.files.standard_input import known_as, spool
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.support.rows import asked
from transforms.errors import SourceError

LINES = "".join(
    json.dumps({"event_id": f"e{n}", "event_type": "click", "event_time": "2026-03-01T10:00:00Z"}) + "\n"
    for n in range(5)
).encode()


@pytest.fixture
def piped(monkeypatch):
    """Give bytes to standard input."""

    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


@pytest.fixture
def run(tmp_path, piped, capfd):
    """Backfill bytes from standard input: (status, stderr)."""

    def backfilled(data: bytes, *words: str) -> tuple[int, str]:
        piped(data)
        status = main(["backfill", "--input", "-", "--warehouse", str(tmp_path / "w"), "--workers", "1", *words])
        return status, capfd.readouterr().err

    return backfilled


def ask(tmp_path: Path, sql: str) -> list[tuple]:
    return asked(tmp_path / "w", sql).rows()


def test_what_is_piped_in_is_read_as_a_file_and_twice_is_once(run, tmp_path):
    status, said = run(LINES + b"{broken\n")
    assert status == 0 and "no record was received" not in said
    books = "SELECT input, received, events, quarantined, balance FROM quality_summary ORDER BY ALL"
    [first] = before = ask(tmp_path, books)
    assert first[0].startswith("stdin #")
    assert first[1:] == (6, 5, 1, 0)
    [(position,)] = ask(tmp_path, "SELECT position FROM quarantine")
    assert run(LINES + b"{broken\n", "--add")[0] == 0
    assert ask(tmp_path, books) == before
    other = LINES.replace(b"e1", b"x1") + b"{broken\n"
    assert run(other, "--add")[0] == 0
    assert sorted(row[1:] for row in ask(tmp_path, books)) == [(6, 1, 1, 0), (6, 5, 1, 0)]
    positions = {at for (at,) in ask(tmp_path, "SELECT position FROM quarantine")}
    assert len(positions) == 2 and position in positions
    assert all(at.startswith("stdin-") and at.endswith(":6") for at in positions)
    assert list((tmp_path / "w" / "staging").iterdir()) == []


def test_a_torn_pipe_changes_nothing_and_leaves_nothing(run, tmp_path):
    status, said = run(gzip.compress(LINES)[:-9])
    assert status == 2
    assert said.startswith("error: stdin-") and "the gzip data ends too early" in said and said.count("\n") == 1
    left = {path.name for path in (tmp_path / "w").rglob("*") if path.is_file()}
    assert left == {"lock", "manifest.json", "warehouse.json"}


COMPRESSED = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "bzip2": bz2.compress,
}


@pytest.mark.parametrize("compression", COMPRESSED)
def test_its_first_bytes_tell_its_compression_and_its_format(compression, piped, tmp_path):
    piped(COMPRESSED[compression](LINES))
    path = spool(tmp_path)
    [found] = check_inputs([path])
    assert found[1:3] == ("jsonl", compression)
    assert found_files([path])[0] == [found]
    [csv] = check_inputs([path], "csv")
    assert csv.format == "csv"


def test_a_format_that_nothing_tells_is_asked_for(piped, tmp_path):
    piped(b"a,b\n1,2\n")
    path = spool(tmp_path)
    with pytest.raises(SourceError, match=r"begins with b'a,b.n1,2.n', which tells no format; state it with --format"):
        check_inputs([path])
    assert found_files([path])[0][0].format == "csv"  # a proposal looks at more than the first byte


def test_it_is_copied_a_piece_at_a_time(monkeypatch, piped, tmp_path):
    monkeypatch.setattr(standard_input, "PIECE", 7)
    piped(LINES)
    path = spool(tmp_path)
    assert Path(path).read_bytes() == LINES
    assert known_as(path) == f"stdin-{Path(path).parent.name}"
    assert known_as("/x/stdin") == "/x/stdin"


def test_a_closed_standard_input_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match="standard input is closed"):
        spool(tmp_path)


def special(folder: Path, kind: str) -> str:
    """The name of something that is no file."""
    path = folder / "x.jsonl"
    if kind in ("pipe", "link to a pipe"):
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(folder)  # a socket's name is short
            server.bind("x.jsonl")
            os.chdir(here)
    elif kind == "device":
        path.symlink_to("/dev/null")
    elif kind == "descriptor":
        path.symlink_to("/dev/stdin")
    if kind == "link to a pipe":
        path.rename(folder / "p")
        path.symlink_to(folder / "p")
    return str(path)


@pytest.mark.parametrize("by", ["name", "glob"])
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "socket", "device", "descriptor"])
def test_what_is_no_file_is_one_line_that_names_standard_input(kind, by, tmp_path, capfd):
    path = special(tmp_path, kind)
    pattern = path if by == "name" else f"{tmp_path}/*.jsonl"
    for words in (["backfill", "--warehouse", str(tmp_path / "w"), "--input", pattern], ["mapping", "--from", pattern]):
        assert main(words) == 2
        said = capfd.readouterr().err
        assert said.startswith(f"error: {path}: is a") and "give --input - instead" in said and said.count("\n") == 1
    assert not (tmp_path / "w").exists()


def test_a_descriptor_of_a_regular_file_is_refused_too(tmp_path, capfd):
    (tmp_path / "e.jsonl").write_bytes(LINES)
    with open(tmp_path / "e.jsonl") as file:
        assert main(["backfill", "--format", "jsonl", "--input", f"/dev/fd/{file.fileno()}"]) == 2
    assert "is a descriptor of a process, allowed are regular files" in capfd.readouterr().err


def test_a_mapping_is_proposed_and_checked_from_standard_input(piped, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    piped(b"what,when\nview,2026-03-01T10:00:00Z\nclick,2026-03-01T10:00:01Z\n")
    assert main(["mapping", "--from", "-"]) == 0
    assert "mapping --check stdin.yaml --input -" in capfd.readouterr().err
    piped(b"what,when\nview,2026-03-01T10:00:00Z\n")
    assert main(["mapping", "--check", "stdin.yaml", "--input", "-"]) == 0
    piped(b"")
    assert main(["mapping", "--from", "-", "--output", "x.yaml"]) == 2
    assert capfd.readouterr().err.startswith("error: stdin-")


@pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0", "/dev/null", "/dev/../dev/stdin"])
def test_a_descriptor_is_refused_by_its_name_whatever_is_behind_it(name, capfd):
    assert main(["backfill", "--format", "jsonl", "--input", name]) == 2
    assert "give --input - instead" in capfd.readouterr().err


def test_a_run_without_a_record_says_so(run):
    status, said = run(b"\xef\xbb\xbf\n\n\r\n")
    assert status == 0
    assert "no record was received: the file is empty, or holds only blank lines or a header; check --input" in said


@pytest.mark.parametrize("change", ["grows", "vanishes", "is replaced"])
def test_a_file_that_changes_while_it_is_read_is_one_line_and_nothing_is_written(change, tmp_path, monkeypatch, capfd):
    path = tmp_path / "e.jsonl"
    path.write_bytes(LINES)
    run_bounded = backfill.run_bounded

    def changed(*given):
        run_bounded(*given)
        if change == "vanishes":
            path.unlink()
        elif change == "is replaced":
            (tmp_path / "other").write_bytes(LINES)
            os.replace(tmp_path / "other", path)
        else:
            path.write_bytes(LINES * 2)

    monkeypatch.setattr(backfill, "run_bounded", changed)
    assert main(["backfill", "--input", str(path), "--warehouse", str(tmp_path / "w"), "--workers", "1"]) == 2
    said = capfd.readouterr().err
    assert said.startswith(f"error: {path}: ") and "nothing was written" in said and said.count("\n") == 1
    assert LocalWarehouse.open(tmp_path / "w").manifest().files == {}


@pytest.mark.parametrize("pattern", ["bad\udcff.jsonl", "bad*.jsonl"])
def test_a_name_that_is_not_utf_8_is_one_line(pattern, tmp_path, capfd):
    (tmp_path / "bad\udcff.jsonl").write_bytes(LINES)
    assert main(["backfill", "--input", f"{tmp_path}/{pattern}", "--warehouse", f"{tmp_path / 'w'}"]) == 2
    said = capfd.readouterr().err
    assert said.endswith("is a name that is not UTF-8; rename the file\n") and said.count("\n") == 1
