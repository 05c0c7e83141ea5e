"""What nobody foresaw is one line and status 1, the run leaves nothing, and nothing fails behind a commit."""

import os
import pickle
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from pipelines import cli
from pipelines.batch import backfill
from pipelines.batch.day_limit import NoteDays
from pipelines.runners.in_process import worker_processes
from pipelines.system.unforeseen import unforeseen_line
from pipelines.warehouse.local.warehouse import LocalWarehouse
from transforms.errors import SourceError

EVENT = '{"event_id":"%d","event_type":"click","event_time":"2026-03-%02dT10:00:00Z"}\n'
TRACEBACK = """Original Exception: x
Traceback (most recent call last):
  File "files.py", line 133, in read
OverflowError: date value out of range
while reading /x.parquet

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "common.py", line 1, in process
OverflowError: date value out of range [while running 'Read/Read ranges']
while reading /x.parquet
"""


def written(folder: Path, days: int = 2) -> str:
    path = folder / "e.jsonl"
    path.write_text("".join(EVENT % (day, day) for day in range(1, days + 1)))
    return str(path)


def run(folder: Path, *words: str) -> int:
    return cli.main(
        ["backfill", "--input", written(folder), "--warehouse", str(folder / "w"), "--workers", "1", *words]
    )


def panic() -> BaseException:
    """What Polars raises where its Rust panics: no Exception."""
    return pl.exceptions.PanicException("out-of-range date")


PROBLEMS = {
    "an error": (lambda: ZeroDivisionError("by\nzero"), "ZeroDivisionError: by (in "),
    "no memory": (MemoryError, "MemoryError: not enough memory (in "),
    "recursion": (lambda: RecursionError("too deep"), "RecursionError: too deep (in "),
    "a panic": (panic, "PanicException: out-of-range date (in "),
    "escapes": (lambda: ValueError("\x1b[2J\u202e"), r"ValueError: \x1b[2J\x202e (in "),
}


@pytest.mark.parametrize("where", ["run_bounded", "read_confirmed", "inspect_files"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_anything_is_one_line_and_status_1_and_leaves_nothing(problem, where, tmp_path, monkeypatch, capfd):
    made, said = PROBLEMS[problem]

    def fails(*_):
        raise made()

    monkeypatch.setattr(backfill, where, fails)
    if where == "read_confirmed":
        monkeypatch.setattr(backfill, "run_bounded", lambda *_: None)
    assert run(tmp_path) == 1
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: unforeseen: {said}audience backfill)") and shown.err.count("\n") == 1
    if where != "inspect_files":
        assert list((tmp_path / "w" / "staging").iterdir()) == []
        with LocalWarehouse.open(tmp_path / "w").writer():  # the lock is free
            assert LocalWarehouse.open(tmp_path / "w").manifest().files == {}


def test_debug_shows_its_traceback(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(backfill, "inspect_files", lambda *_: 1 / 0)
    assert run(tmp_path, "--debug") == 1
    assert capfd.readouterr().err.startswith("Traceback (most recent call last):\n")


def test_an_interruption_is_130(tmp_path, monkeypatch, capfd):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(backfill, "run_bounded", stopped)
    assert run(tmp_path) == 130
    assert capfd.readouterr().err == "error: interrupted\n"
    assert list((tmp_path / "w" / "staging").iterdir()) == []


class Broken:
    """Fails inside the graph, in whichever process."""

    def __call__(self, events):
        raise pickle.UnpicklingError("a bug of ours")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_error_of_the_graph_names_its_step_also_from_worker_processes(workers, tmp_path, monkeypatch, capfd):
    limited = backfill.limit_job
    monkeypatch.setattr(backfill, "limit_job", lambda *given: replace(limited(*given), limit=Broken()))
    assert run(tmp_path, "--workers", workers) == 1
    said = capfd.readouterr().err
    assert said.startswith("error: unforeseen: UnpicklingError: a bug of ours (in audience backfill, step '")
    assert "Limit the days" in said and said.count("\n") == 1
    assert LocalWarehouse.open(tmp_path / "w").manifest().files == {}


def test_the_traceback_of_a_worker_is_told_by_its_end_with_its_step_and_file():
    assert unforeseen_line(RuntimeError(TRACEBACK), "backfill").startswith(
        "unforeseen: OverflowError: date value out of range (in audience backfill, step 'Read/Read ranges', /x.parquet"
    )


def test_a_summary_that_cannot_be_made_behind_the_commit_says_committed_and_status_0(tmp_path, monkeypatch, capfd):
    def fails(*_):
        raise panic()

    monkeypatch.setattr("pipelines.batch.summary.summary_lines", fails)
    assert run(tmp_path) == 0
    said = capfd.readouterr().err
    assert "  events                   2\n" in said
    assert said.splitlines()[-1].startswith("committed, but the rest of this summary failed: ")
    assert sum(LocalWarehouse.open(tmp_path / "w").rows_by_day("events").values()) == 2


# Days


def test_more_days_than_are_allowed_are_one_line_and_nothing_is_written(tmp_path, capfd):
    path = written(tmp_path, 20)
    argv = ["backfill", "--input", path, "--warehouse", str(tmp_path / "w"), "--workers", "1", "--max_days"]
    assert cli.main([*argv, "19"]) == 2
    said = capfd.readouterr().err
    assert said == (
        "error: the events span at least 20 days, from 2026-03-01 to 2026-03-20; allowed: 19; nothing was "
        "written; name the days to write with --start and --end, or raise the limit with --max_days\n"
    )
    assert not list((tmp_path / "w" / "data").glob("*"))
    assert cli.main([*argv, "2", "--start", "2026-03-03", "--end", "2026-03-05"]) == 0  # its margin does not count
    assert cli.main([*argv, "20", "--add"]) == 0
    assert len(LocalWarehouse.open(tmp_path / "w").rows_by_day("events")) == 20


def test_stray_days_count_one_each_however_far_they_are(tmp_path):
    def of(*days: str) -> pl.DataFrame:
        return pl.DataFrame({"event_time": days}).select(pl.col("event_time").str.to_datetime(time_zone="UTC"))

    note = NoteDays(tmp_path, "UTC", most=3)
    for day in ("1971-01-01 10:00", "2262-01-01 10:00", "2026-03-01 00:00", "2026-03-01 23:59"):
        assert len(note(of(day))) == 1
    with pytest.raises(SourceError, match=r"at least 4 days, from 1971-01-01 to 2262-01-01; allowed: 3"):
        note(of("2026-03-02 10:00"))


class Killed:
    """Ends the worker process that works on events, as a machine without memory does."""

    def __call__(self, events):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's children")
def test_a_worker_process_that_is_killed_ends_the_run_with_one_line(tmp_path, monkeypatch, capfd):
    limited = backfill.limit_job
    monkeypatch.setattr(backfill, "limit_job", lambda *given: replace(limited(*given), limit=Killed()))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # put back what the run leaves
    assert run(tmp_path, "--workers", "2") == 2
    said = capfd.readouterr().err
    assert said.startswith("error: a worker process was killed") and said.count("\n") == 1
    assert worker_processes() == []
    assert LocalWarehouse.open(tmp_path / "w").manifest().files == {}
