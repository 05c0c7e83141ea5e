"""What is written is for its owner, or for a group that was named, whatever the umask; and doctor sees what is not."""

import grp
import json
import os
import stat
from pathlib import Path

import pytest

from pipelines.apps.doctor.privacy import access_checks
from pipelines.cli import main
from pipelines.system.private import make_folder, umask
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.support.files import modes
from transforms.errors import WarehouseError

RECORDS = [
    {"event_id": "1", "event_type": "page_view", "event_time": "2026-03-01T10:00:00Z", "user_id": "u"},
    {"event_id": "2", "event_type": "page_view", "event_time": "never"},
]
# Only who is in several groups, or may do all, can give a folder to another.
GROUPS = sorted({*os.getgroups(), *((1,) if os.geteuid() == 0 else ())} - {os.getegid()})


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder to work in with a file of events, under a umask that lets everybody write."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    with umask(0):
        yield tmp_path


def backfill(*words: str) -> int:
    return main(["backfill", "--input", "e.jsonl", "--warehouse", "wh", *words])


def test_what_any_command_writes_is_for_its_owner(home):
    assert backfill("--workers", "1") == 0  # by processes of their own: test_worker_processes.py
    assert main(["report", "--warehouse", "wh", "--output", "r.html"]) == 0
    assert main(["mapping", "--from", "e.jsonl", "--output", "m.yaml"]) == 0
    assert main(["simulate", "--events", "10", "--output", "s.jsonl.gz", "--ledger", "l.json"]) == 0
    assert modes(home / "wh") == {"d700", "f600"}
    for name in ("r.html", "m.yaml", "s.jsonl.gz", "l.json"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600, name
    assert os.umask(0) == 0  # as it was


def test_what_a_run_stages_is_private_while_it_is_written(tmp_path):
    with umask(0):
        warehouse = LocalWarehouse.open(tmp_path / "wh", create=True)
        with warehouse.writer() as run:
            (run.staging / "quarantine").mkdir()
            (run.staging / "quarantine" / "part").touch()
            assert modes(tmp_path / "wh") == {"d700", "f600"}
        assert os.umask(0) == 0


@pytest.mark.skipif(not GROUPS, reason="the user is in one group only")
def test_a_warehouse_for_a_group_is_read_by_its_members_and_written_by_its_owner(home, capsys):
    name = grp.getgrgid(GROUPS[0]).gr_name
    assert backfill("--workers", "1", "--group", name) == 0
    assert modes(home / "wh") == {"d2750", "f640"}
    assert {each.stat().st_gid for each in (home / "wh").rglob("*")} == {GROUPS[0]}
    [row] = of_folder(home / "wh")
    assert (row.state, row.facts["mode"], row.facts["group"]) == ("found", "2750", name)
    capsys.readouterr()
    assert backfill("--add", "--group", grp.getgrgid(os.getegid()).gr_name) == 2
    assert "was not created for group" in capsys.readouterr().err


@pytest.mark.skipif(not GROUPS, reason="the user is in one group only")
def test_the_commands_of_the_error_share_a_warehouse_that_was_private(tmp_path):
    folder, name = tmp_path / "a 'w", grp.getgrgid(GROUPS[0]).gr_name
    LocalWarehouse.open(folder, create=True)
    with pytest.raises(WarehouseError, match="leave --group out, or share it: ") as refused:
        LocalWarehouse.open(folder, group=name)
    assert os.system(str(refused.value).partition("share it: ")[2]) == 0
    with LocalWarehouse.open(folder, group=name).writer() as run:
        (run.staging / "file").touch()
        assert modes(folder) == {"d2750", "f640"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--group", "no-such-group"], "--group: got 'no-such-group'; allowed: a Unix group of this machine"),
        (["--group", "a b"], "--group: got 'a b'; allowed: the name of a Unix group"),
        (["--group", "root", "--dataset", "my-project.audience"], "--group: got 'root' for --dataset"),
    ],
)
def test_a_group_that_cannot_be_is_a_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.jsonl").write_text(json.dumps(RECORDS[0]) + "\n")
    assert main(["backfill", "--input", "e.jsonl", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {said}") and err.count("\n") == 1
    assert not (tmp_path / "warehouse").exists()


def test_a_group_of_others_is_refused_and_leaves_no_folder(tmp_path, monkeypatch):
    def chown(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.chown", chown)
    with pytest.raises(WarehouseError, match="a group that you belong to"):
        make_folder(tmp_path / "wh", grp.getgrgid(os.getegid()).gr_name)
    assert not (tmp_path / "wh").exists()


def test_a_folder_that_is_there_keeps_its_mode_and_what_is_made_in_it_is_private(tmp_path):
    folder = tmp_path / "wh"
    folder.mkdir(0o755)
    folder.chmod(0o755)
    with LocalWarehouse.open(folder, create=True).writer() as run:
        (run.staging / "file").touch()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o700, 0o600}


def of_folder(folder: Path) -> list:
    return [row for row in access_checks(folder) if str(folder) in row.name]


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "said"),
    [
        (0o700, 0o666, None),  # nobody gets there
        (0o755, 0o600, "every user of this machine may read it"),
        (0o777, 0o600, "every user of this machine may change it"),
        (0o711, 0o604, "every user of this machine may read it"),
        (0o701, 0o602, "every user of this machine may change it"),
        (0o750, 0o600, "may read it"),
        (0o2750, 0o640, None),
        (0o2750, 0o644, None),  # nobody but members gets there
        (0o2750, 0o660, "may change it"),
        (0o2770, 0o640, "may change it"),
    ],
)
def test_doctor_says_who_else_reads_or_changes_a_warehouse(folder_mode, file_mode, said, tmp_path):
    folder = tmp_path / "a b"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "file").touch()
    (folder / "data" / "file").chmod(file_mode)
    (folder / "data").chmod(folder_mode | 0o055)
    folder.chmod(folder_mode)
    [row] = of_folder(folder)
    assert row.state == ("wrong" if said else "found")
    assert said is None or said in row.detail
    if said:
        assert os.system(row.get) == 0
        assert of_folder(folder)[0].state == "found"


def test_doctor_says_where_anybody_may_put_another_folder_in_the_place_of_a_warehouse(tmp_path):
    open_to_all = tmp_path / "open"
    warehouse = open_to_all / "inner" / "wh"
    warehouse.mkdir(parents=True)
    open_to_all.chmod(0o1777)
    before = access_checks(warehouse)
    open_to_all.chmod(0o777)
    [row] = [row for row in access_checks(warehouse) if row not in before]
    assert (row.name, row.state) == (str(open_to_all), "wrong")
    assert os.system(row.get) == 0
    assert access_checks(warehouse) == before


def test_doctor_looks_at_the_warehouse_and_at_what_a_stream_landed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    LocalWarehouse.open("wh", create=True)
    Path("wh").chmod(0o755)
    assert main(["doctor", "--warehouse", "wh", "--json"]) == 0
    [row] = [row for row in map(json.loads, capsys.readouterr().out.splitlines()) if row["name"] == "readers of wh"]
    assert (row["state"], row["mode"]) == ("wrong", "0755") and row["get"].startswith("chmod -R go= ")
    from pipelines.apps.doctor import machine as doctor
    from pipelines.apps.doctor import warehouse as doctor_warehouse

    monkeypatch.setattr(doctor_warehouse, "dataset_checks", lambda dataset: [])
    Path("landing/p.d").mkdir(parents=True)
    Path("landing/p.d").chmod(0o707)
    [row] = [
        row for row in doctor.checks(None, "p.d", None, "landing") if row.section == "access" and "p.d" in row.name
    ]
    assert row.state == "wrong" and "may change it" in row.detail
