"""Progress: what is noted is what was read, a terminal shows it and is left clean, and anything else sees nothing."""

import gzip
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest

from pipelines.cli import main
from pipelines.sources.files.discover import find_files
from pipelines.sources.files.read import CsvFormat, cut, read
from pipelines.system.progress import FOLDER, Line, Notes, Read, Watch, read_notes, size
from pipelines.system.terminal import ERASE
from tests.support.terminal import on_a_terminal, screen, with_a_terminal

ROOT = Path(__file__).parents[3]
# As the fixture `often`, for a process of its own.
DRAWN = (
    "import sys, pipelines.system.progress as p; p.EVERY = 0.02; "
    "from pipelines.cli import main; sys.exit(main(sys.argv[1:]))"
)


def event(n: int) -> str:
    time = f"2026-03-01T{n % 24:02}:00:00Z"
    stated = {"event_id": f"e{n}", "event_type": "click", "event_time": time, "received_time": time}
    return json.dumps(stated) + "\n"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> str:
    """A glob of forty files of 500 events."""
    folder = tmp_path_factory.mktemp("inputs")
    for n in range(40):
        lines = "".join(map(event, range(n * 500, n * 500 + 500)))
        (folder / f"{n:02}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return str(folder / "*.jsonl.gz")


def backfill(inputs: str, warehouse: Path, *more: str) -> list[str]:
    return ["backfill", "--input", inputs, "--warehouse", str(warehouse), *more]


@pytest.fixture
def often(monkeypatch) -> None:
    """Every 0.02 s instead of 0.5, so that a short run draws as many lines as a long one."""
    monkeypatch.setattr("pipelines.system.progress.EVERY", 0.02)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_terminal_shows_what_is_read_and_is_left_clean(workers, often, inputs, tmp_path):
    words = backfill(inputs, tmp_path / "w", "--workers", workers)
    if workers == "2":  # whose stderr is the terminal as well
        sent, status = on_a_terminal([sys.executable, "-c", DRAWN, *words])
    else:
        sent, status = with_a_terminal(lambda: main(words))
    assert status == 0, sent
    drawn = re.findall(r"\r([^\r\x1b]+)\x1b\[K", sent)
    pattern = r"reading  (\d+)%  [\d.]+ k?B of [\d.]+ kB  ([\d,]+) events  [\d,]+ per second  0:\d\d"
    reading = [re.fullmatch(pattern, line) for line in drawn if line.startswith("reading")]
    assert reading and all(reading)
    shares = [int(found[1]) for found in reading]
    assert shares == sorted(shares) and shares[-1] < 100
    after = [line for line in drawn if line.startswith(("removing duplicates", "writing "))]
    assert after and all("  20,000 events  0:" in line for line in after)
    assert drawn[0].startswith("starting") and drawn[-1].startswith(("writing", "committing"))
    assert max(map(len, drawn)) < 80
    left = screen(sent)
    assert left[0].startswith("00.jsonl.gz and 39 more #")
    assert "\x1b" not in "".join(left)


def test_a_first_pass_over_the_input_is_told_by_its_own_words(often, inputs, tmp_path):
    words = backfill(inputs, tmp_path / "w", "--workers", "1", "--add")
    assert main(words) == 0
    sent, status = with_a_terminal(lambda: main(words))
    assert status == 0, sent
    drawn = re.findall(r"\r([^\r\x1b]+)\x1b\[K", sent)
    first = [at for at, line in enumerate(drawn) if line.startswith("finding the days  ")]
    second = [at for at, line in enumerate(drawn) if line.startswith("reading  ")]
    assert first and second and max(first) < min(second)
    assert all("%" in drawn[at] for at in second)  # what the first pass read is no part of it


def test_a_mistake_on_a_terminal_is_one_line_behind_an_erased_one(often, tmp_path):
    torn = tmp_path / "torn.jsonl.gz"
    whole = gzip.compress("".join(event(n) + os.urandom(9).hex() for n in range(30_000)).encode())
    torn.write_bytes(whole[:-9])
    sent, status = with_a_terminal(lambda: main(backfill(str(torn), tmp_path / "w", "--workers", "1")))
    assert status == 2
    assert ERASE in sent
    assert screen(sent) == [
        f"error: {torn}: cannot be read: the gzip data ends too early; fix the file or leave it out",
        "",
    ]


def test_a_stderr_that_is_no_terminal_is_sent_no_control_character(often, inputs, tmp_path, capfd):
    assert main(backfill(inputs, tmp_path / "w", "--workers", "1")) == 0
    said = capfd.readouterr()
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f]", said.err + said.out) is None
    assert said.err.startswith("00.jsonl.gz and 39 more #")


def test_a_terminal_that_cannot_erase_is_sent_no_control_character(often, inputs, tmp_path):
    sent, status = with_a_terminal(lambda: main(backfill(inputs, tmp_path / "w", "--workers", "1")), TERM="dumb")
    assert status == 0
    assert re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]", sent) is None  # a terminal makes \r\n of \n


def test_without_a_terminal_nothing_is_noted(tmp_path, monkeypatch):
    for stderr in (None, open(os.devnull, "w")):  # noqa: SIM115 - closed below
        monkeypatch.setattr("sys.stderr", stderr)
        watch = Watch(tmp_path, 10)
        assert watch.notes.folder is None
        with watch, watch.saying("committing"):
            watch.notes(1, 1)
        assert list(tmp_path.iterdir()) == []
    stderr.close()
    assert Watch(tmp_path, 10).notes.folder is None


FILES = {
    "range.jsonl": b'{"a": 1}\n\n{"b": "' + b"x" * 300 + b'"}\n{"c": 2}\n',
    "stream.jsonl.gz": gzip.compress(b'{"a": 1}\n{"b": 2}\n'),
    "range.csv": b"a,b\n" + b'1,"x\ny"\n' * 50,
    "stream.csv.gz": gzip.compress(b"a,b\n1,2\n3,4\n"),
    "empty.jsonl": b"",
}


@pytest.mark.parametrize("block_bytes", [64, 1 << 20])
@pytest.mark.parametrize("name", [*FILES, "groups.parquet"])
def test_what_is_noted_of_a_file_are_its_bytes_and_its_rows(name, block_bytes, tmp_path):
    path = tmp_path / name
    if name == "groups.parquet":
        pl.DataFrame({"n": range(1000), "text": [str(n) for n in range(1000)]}).write_parquet(path, row_group_size=300)
    else:
        path.write_bytes(FILES[name])
    (tmp_path / FOLDER).mkdir()
    notes, rows = Notes(str(tmp_path / FOLDER)), 0
    [file] = find_files([str(path)])
    for part in cut(file, CsvFormat(), block_bytes):
        rows += sum(len(block) for block in read(part, "shop", CsvFormat(), block_bytes, notes))
    notes.flush()
    header = len(b"a,b\n") if name == "range.csv" and block_bytes == 64 else 0  # no range holds it
    assert read_notes(tmp_path / FOLDER) == Read(path.stat().st_size - header, rows)


def test_notes_of_threads_and_processes_add_up(tmp_path):
    notes = Notes(str(tmp_path))
    threads = [threading.Thread(target=lambda: [notes(3, 1) for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    notes.flush()
    code = (
        "import sys; from pipelines.system.progress import Notes; n = Notes(sys.argv[1]); n(5, 2); n(5, 2); n.flush()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    assert read_notes(tmp_path) == Read(4 * 3000 + 10, 4000 + 4)


def test_a_process_writes_a_note_at_once_and_then_seldom(tmp_path):
    notes = Notes(str(tmp_path))
    notes(1, 1)
    notes(1, 1)
    assert read_notes(tmp_path) == Read(1, 1)
    notes.flush()
    assert read_notes(tmp_path) == Read(2, 2)


def test_notes_that_cannot_be_written_disturb_no_reader(tmp_path):
    notes = Notes(str(tmp_path / "gone"))
    notes(1, 1)
    notes.flush()


def test_the_line_tells_each_phase_in_words(tmp_path):
    (tmp_path / FOLDER).mkdir()
    notes = Notes(str(tmp_path / FOLDER))
    line = Line(tmp_path, 2_000_000, now=0)
    assert line.text(3) == "starting  0:03"
    notes(500_000, 1_000)
    assert line.text(5) == "reading  25%  500 kB of 2.0 MB  1,000 events  500 per second  0:05"
    notes(1_499_000, 3_000)
    notes.flush()
    assert line.text(60) == "removing duplicates  4,000 events  1:00"
    for table in ("quarantine", "events", "content_1h"):
        (tmp_path / table / "2026-03-01").mkdir(parents=True)
        (tmp_path / table / "2026-03-01" / "a.parquet").write_bytes(b"x" * 1000)
        said = line.text(61)
        files = {"quarantine": None, "events": "1 file  1.0 kB", "content_1h": "2 files  2.0 kB"}[table]
        expected = f"writing {table}  {files}" if files else "removing duplicates"
        assert said == f"{expected}  4,000 events  1:01"
    again = Line(tmp_path, 2_000_000, "committing", now=100)
    assert again.text(102) == "committing  0:02"


@pytest.mark.parametrize(
    ("bytes", "said"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (15_400, "15 kB"), (2_340_000, "2.3 MB"), (7 * 10**15, "7,000 TB")],
)
def test_a_size_has_few_digits(bytes, said):
    assert size(bytes) == said


def test_a_line_that_cannot_be_drawn_fails_no_run(tmp_path, monkeypatch):
    class Terminal:
        def isatty(self):
            return True

        def write(self, text):
            raise OSError("gone")

    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("pipelines.system.progress.EVERY", 0.001)
    watch = Watch(tmp_path, 10)
    assert watch.notes.folder is not None
    with watch:
        watch.notes(1, 1)
        watch._thread.join()  # it gives up by itself
