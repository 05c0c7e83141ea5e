"""`audience simulate`: the same lines wherever they go, and each wrong value told in one line."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pipelines.apps.simulator.faults import NAMES, USUAL_FAULTS
from pipelines.apps.simulator.simulate import Ledger, faults, simulate
from pipelines.cli import main

ROOT = Path(__file__).parents[3]
GIVEN = ["simulate", "--events", "300", "--seed", "3"]


def test_the_options_are_those_of_simulate(tmp_path, capsys):
    output, ledger = str(tmp_path / "e.jsonl.gz"), str(tmp_path / "l.json")
    more = ["--days", "4", "--start", "2026-05-30", "--faults", "none", "--faults", "late=0.2", "--faults", "bots=0.1"]
    assert main([*GIVEN, *more, "--output", output, "--ledger", ledger]) == 0
    told = msgspec.json.decode((tmp_path / "l.json").read_bytes(), type=Ledger)
    assert capsys.readouterr() == ("", f"{told.lines:,} lines in {output}: {told.accepted:,} events to accept\n")
    assert told.faults == faults("none", late=0.2, bots=0.1)
    assert (told.events, told.seed, told.days, told.start.isoformat()) == (300, 3, 4, "2026-05-30")
    assert gzip.decompress((tmp_path / "e.jsonl.gz").read_bytes()).count(b"\n") == told.lines == 300
    assert min(told.late, told.bots) > 0


@pytest.mark.parametrize("rate", [[], ["--rate", "1e6"]])
def test_a_dash_is_stdout_and_the_ledger_a_file(tmp_path, rate):
    simulate(300, 3, tmp_path / "events.jsonl")
    command = [sys.executable, "-m", "pipelines.cli", *GIVEN, *rate, "--output", "-", "--ledger", tmp_path / "l.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == (tmp_path / "events.jsonl").read_bytes()
    assert done.stderr.endswith(b" events to accept\n")
    assert json.loads((tmp_path / "l.json").read_bytes())["lines"] == done.stdout.count(b"\n")
    assert not (ROOT / "-").exists()


def test_a_reader_that_leaves_is_no_error():
    command = [sys.executable, "-m", "pipelines.cli", "simulate", "--events", "20000", "--output", "-"]
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_help_lists_each_fault_with_its_usual_rate(capsys):
    with pytest.raises(SystemExit):
        main(["simulate", "--help"])
    shown = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines() if len(line.split()) > 1)
    assert {name: float(shown[name]) for name in NAMES} == {name: getattr(USUAL_FAULTS, name) for name in NAMES}


FILE = "allowed: a file, compressed if it ends in .gz or .zst, or - for stdout"
WRONG = {
    "no number": (["--seed", "-1"], "--seed: got '-1'; allowed: a whole number, at least 0"),
    "no day": (["--start", "2026-02-30"], "--start: got '2026-02-30'; allowed: a calendar date, such as"),
    "a day of no time": (["--start", "1969-07-20"], "--start: got '1969-07-20'; it must be 1970-01-02 or later"),
    "too many days": (["--days", "999999"], "--days: got 999999; 2026-03-01 and so many days must end by 2200-01-01"),
    "too many digits": (["--seed", "9" * 5_000], "; allowed: a whole number, at least 0, of at most 18 digits"),
    "too many events": (["--events", "9" * 18], "it must be 1,000,000,000 or less"),
    "an unknown fault": (["--faults", "lat=1"], "--faults: got 'lat=1'; allowed: none, usual, many, or NAME=RATE of"),
    "a rate above 1": (["--faults", "late=2"], "--faults: got 'late=2'; allowed: none, usual, many, or NAME=RATE of"),
    "too many faults": (["--faults", "late=0.6", "--faults", "future=0.6"], "faults: the rates add up to 1.2"),
    "a pace of nothing": (["--rate", "0"], "--rate: got '0'; allowed: a number of lines a second, above 0"),
    "no pace": (["--rate", "fast"], "--rate: got 'fast'; allowed: a number of lines a second, above 0"),
    "an endless pace": (["--rate", "inf"], "--rate: got 'inf'; allowed: a number of lines a second, above 0"),
    "another form": (["--output", "events.parquet"], f"--output: got 'events.parquet'; {FILE}"),
    "a folder": (["--output", "."], f"--output: got '.', a folder; {FILE}"),
    "a ledger on stdout": (["--ledger", "-"], "--ledger: got '-'; allowed: a file of its own"),
    "one file for both": (["--output", "same", "--ledger", "same"], "--ledger: got 'same'; allowed: a file of its own"),
    "a ledger in no folder": (["--ledger", "no/l.json"], "no/l.json: cannot be written (No such file or directory)"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_value_is_one_line_and_nothing_is_written(mistake, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv, said = WRONG[mistake]
    assert main(["simulate", "--events", "10", "--output", "events.jsonl", *argv]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert said in shown.err
    assert list(tmp_path.iterdir()) == []
