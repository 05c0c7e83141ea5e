"""`audience doctor`: what is there, what is missing and how to get it, and what a warehouse holds."""

import ast
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import polars as pl
import pytest

from pipelines import launcher
from pipelines.apps.doctor.check import FOUND, MISSING, REQUIRED, WRONG, Check
from pipelines.apps.doctor.machine import faults, optional_checks, required_checks
from pipelines.apps.doctor.warehouse import warehouse_checks
from pipelines.cli import main
from pipelines.runners import choose as runners
from pipelines.system.disk import lock_holder
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.local.warehouse import LocalWarehouse

ROOT = Path(__file__).parents[3]


def event(n: int, day: int = 1) -> str:
    time = f"2026-03-0{day}T10:00:00Z"
    return json.dumps({"event_id": f"e{n}", "event_type": "click", "event_time": time, "received_time": time}) + "\n"


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    """A warehouse with four events on two days."""
    folder = tmp_path_factory.mktemp("filled")
    (folder / "events.jsonl").write_text(event(1) + event(2) + event(3) + event(4, day=2) + "broken\n")
    argv = ["--input", str(folder / "events.jsonl"), "--warehouse", str(folder / "warehouse"), "--workers", "1"]
    assert launcher.main([*argv, "--time_zone", "Europe/London"]) == 0
    return folder / "warehouse"


def told(capsys, *argv: str) -> list[dict]:
    assert main(["doctor", "--json", *argv]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return [json.loads(line) for line in captured.out.splitlines()]


def test_what_setup_asks_for_is_told_with_its_version(tmp_path, capsys):
    found = told(capsys, "--warehouse", str(tmp_path / "none"))
    rows = {row["name"]: row for row in found if row["section"] == REQUIRED}
    assigned = [node for node in ast.parse((ROOT / "setup.py").read_text()).body if isinstance(node, ast.Assign)]
    [asked] = [ast.literal_eval(node.value) for node in assigned if ast.unparse(node.targets[0]) == "REQUIRES"]
    assert [row["needs"] for row in rows.values()][1:] == asked
    assert rows["Python"]["detail"] == platform.python_version()
    for name in ("polars", "apache-beam", "tzdata"):
        assert (rows[name]["state"], rows[name]["detail"]) == (FOUND, metadata.version(name))


def test_without_its_packages_it_still_tells_all_and_ends_with_one_line_and_status_2():
    # -S: none of what is installed is seen, as in a Python that nothing was installed into.
    command = [sys.executable, "-S", "-m", "pipelines.cli", "doctor", "--json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    missing = {row["name"]: row["get"] for row in rows if row["section"] == REQUIRED and row["state"] == MISSING}
    assert missing["polars"] == 'pip install "polars>=2.1,<3"'
    assert len(missing) == len([row for row in rows if row["section"] == REQUIRED]) - 1  # Python itself is there
    assert {row["section"] for row in rows} == {"required", "machine", "optional"}
    assert ran.stderr.startswith("error: required but missing: apache-beam (missing), ")
    assert ran.stderr.count("\n") == 1


def test_a_version_that_does_not_do_is_wrong(monkeypatch):
    monkeypatch.setattr("pipelines.apps.doctor.machine._declared", lambda: (">=3.99", ["polars>=99", "msgspec"]))
    python, polars, msgspec = required_checks()
    assert [row.state for row in (python, polars, msgspec)] == [WRONG, WRONG, FOUND]
    assert polars.detail == f"{metadata.version('polars')}, needs polars>=99"
    assert faults([python, polars, msgspec, Check("optional", "Java", MISSING)]) == [python, polars]


def test_an_installed_package_tells_what_it_needs_without_its_setup_file(monkeypatch):
    declared = [row.name for row in required_checks()]
    monkeypatch.setattr("pipelines.apps.doctor.machine.SETUP", Path("none"))
    assert [row.name for row in required_checks()] == declared


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH with nothing but programs of these scripts, and no credentials."""

    def put(**scripts: str) -> dict[str, Check]:
        for name, script in scripts.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(runners, "PRISM_HERE", tmp_path / "none")
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud-config"))
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.chdir(tmp_path)
        return {row.name: row for row in optional_checks()}

    return put


def test_what_is_optional_says_what_it_would_allow_and_how_to_get_it(programs):
    rows = programs()
    assert list(rows) == ["Java", "Go", "gcloud", "Docker", "Prism", "Google credentials"]
    assert {row.state for row in rows.values()} == {MISSING}
    assert all(row.allows and row.get for row in rows.values())
    assert rows["Prism"].get == "make prism"


def test_a_program_is_asked_for_its_version(programs):
    rows = programs(
        java="echo 'openjdk version \"17.0.15\" 2025-04-15' >&2",
        go="exit 3",
        gcloud="echo 'Google Cloud SDK 528.0.0'",
        docker="[ $1 = --version ] && echo 'Docker version 28.2.2, build e6534b4'",
    )
    assert (rows["Java"].state, rows["Java"].detail) == (FOUND, "17.0.15")
    assert (rows["Go"].state, rows["Go"].detail) == (WRONG, "go version fails")
    assert (rows["gcloud"].state, rows["gcloud"].detail) == (FOUND, "528.0.0")
    assert (rows["Docker"].state, rows["Docker"].detail) == (WRONG, "28.2.2, but docker info fails")


def test_credentials_are_a_file(programs, tmp_path, monkeypatch):
    (path := tmp_path / "gcloud-config/application_default_credentials.json").parent.mkdir()
    path.touch()
    assert programs()["Google credentials"].state == FOUND
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "gone.json"))
    [credentials] = [row for row in optional_checks() if row.name == "Google credentials"]
    assert (credentials.state, credentials.detail) == (MISSING, f"{tmp_path}/gone.json does not exist")


def test_a_warehouse_is_told_with_its_tables_and_nothing_is_written(filled, capsys):
    before = sorted((path, path.stat().st_mtime_ns) for path in filled.rglob("*"))
    rows = told(capsys, "--warehouse", str(filled))
    [about] = [row for row in rows if row["section"] == "warehouse"]
    assert (about["format"], about["time_zone"], about["writer"]) == (1, "Europe/London", None)
    tables = {row["name"]: row for row in rows if row["section"] == "table"}
    events = tables["events"]
    assert (events["rows"], events["days"], events["first"], events["last"]) == (4, 2, "2026-03-01", "2026-03-02")
    assert events["files"] == len(LocalWarehouse.open(filled).files("events"))
    assert events["bytes"] == sum(path.stat().st_size for path in LocalWarehouse.open(filled).files("events"))
    assert tables["quarantine"]["rows"] == 1
    assert sorted((path, path.stat().st_mtime_ns) for path in filled.rglob("*")) == before


def test_the_process_that_writes_is_told_while_it_does(filled):
    assert lock_holder(filled) is None
    with LocalWarehouse.open(filled).writer():
        assert lock_holder(filled) == os.getpid()
        assert warehouse_checks(str(filled))[0].detail.endswith(f"being written by process {os.getpid()}")
    assert lock_holder(filled) is None


def test_books_are_recounted_while_a_run_writes_but_for_minutes_that_are_in_flight(filled, tmp_path, capsys):
    folder = shutil.copytree(filled, tmp_path / "w")
    command = ["doctor", "--audit", "--warehouse", str(folder)]
    assert main(command) == 0
    assert "writing" not in capsys.readouterr().err
    warehouse = LocalWarehouse.open(folder)
    event = warehouse.scan("events").head(1).collect()
    fresh = event.with_columns(received_time=pl.col("received_time") + pl.duration(hours=1))
    with warehouse.writer() as run:
        run.commit([write_file(run.staging, "events", fresh["event_time"][0].date(), fresh)])
        assert main(command) == 0
        assert f"the counts reconcile; process {os.getpid()} is writing" in capsys.readouterr().err
    assert main(command) == 1, "now nobody is about to write its books"


def test_a_run_that_was_killed_writes_no_more(filled):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (filled / "lock").write_text(str(ended.pid))
    assert lock_holder(filled) is None


@pytest.mark.parametrize(
    ("about", "state", "said"),
    [
        ("{", WRONG, "is damaged"),
        ('{"format": 99, "time_zone": "UTC"}', WRONG, "has format 99"),
        (None, MISSING, "no "),
    ],
    ids=["damaged", "newer", "none"],
)
def test_a_warehouse_that_cannot_be_read_is_a_row(about, state, said, tmp_path):
    if about:
        (tmp_path / "warehouse.json").write_text(about)
    [row] = warehouse_checks(str(tmp_path))
    assert row.state == state
    assert said in row.detail


def test_the_warehouse_is_that_of_the_configuration(filled, tmp_path, capsys):
    (tmp_path / "own.yaml").write_text(f"warehouse: {filled}\n")
    [about] = [row for row in told(capsys, "--config", str(tmp_path / "own.yaml")) if row["section"] == "warehouse"]
    assert about["name"] == str(filled)


def test_the_forms_hold_the_same_rows(filled, capsys):
    rows = told(capsys, "--warehouse", str(filled))
    assert main(["doctor", "--csv", "--warehouse", str(filled)]) == 0
    listed = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["name"] for row in listed] == [row["name"] for row in rows]
    assert main(["doctor", "--warehouse", str(filled)]) == 0
    table = capsys.readouterr().out
    at = [table.index(f"\n  {row['name']} ") for row in rows]
    assert at == sorted(at)
    for row in rows:
        assert (f"fix: {row['get']}\n" in table) == (row["state"] != FOUND and bool(row["get"]))
