"""One damaged file is one damaged file: what still works, what names it, and what puts it right."""

import json
import os
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from pipelines.apps.doctor.warehouse import warehouse_checks
from pipelines.cli import main
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.local import damage
from pipelines.warehouse.local.notes import Note
from pipelines.warehouse.local.notes import write as write_note
from pipelines.warehouse.local.run import Merge
from pipelines.warehouse.local.stream_commits import Appender
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import EVENTS
from transforms.errors import DamagedError, WarehouseError

FIRST, DAY, LAST = date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3)
SPAN = ["--start", f"{DAY}", "--end", f"{LAST}"]
OTHER = "SELECT received, balance FROM quality_summary"  # reads no events
EVENTS_ASKED = "SELECT count(*) FROM events"


def lines_of(day: date) -> str:
    time = f"{day}T10:00:00Z"
    shared = {"event_time": time, "received_time": time, "event_type": "view", "user_id": "u1", "content_id": "c"}
    events = [json.dumps(shared | {"event_id": f"{day}-{n}", "text": f"words {n} {hash(n):x}" * 9}) for n in range(40)]
    return (
        "\n".join([*events, events[0], json.dumps({"event_id": "x", "event_time": time, "received_time": time})]) + "\n"
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a warehouse of three days, and the input of each."""
    folder = tmp_path_factory.mktemp("damage")
    for day in (FIRST, DAY, LAST):
        (folder / f"{day}.jsonl").write_text(lines_of(day))
    (folder / "all.jsonl").write_text("".join(map(lines_of, (FIRST, DAY, LAST))))
    argv = ["--input", str(folder / "all.jsonl"), "--warehouse", str(folder / "w"), "--workers", "1"]
    assert main(["backfill", *argv]) == 0
    return folder


@pytest.fixture
def house(made, tmp_path) -> Path:
    return Path(shutil.copytree(made / "w", tmp_path / "w"))


def file_of(house: Path, table: str = "events", day: date = DAY) -> Path:
    [path] = (house / "data" / table / f"{day}").glob("*.parquet")
    return path


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def flipped(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def flipped_in_a_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")  # where the footer begins
    content[4:end] = bytes(end - 4)  # every page, so that whoever reads a column stumbles
    path.write_bytes(content)


def flipped_in_the_footer(path: Path) -> None:
    flipped(path, -6)  # of its length


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def another_file(path: Path) -> None:
    pl.DataFrame({"other": [1]}).write_parquet(path)


KINDS: dict[str, Callable[[Path], None]] = {
    "truncated": truncated,
    "missing": Path.unlink,
    "empty": emptied,
    "page": flipped_in_a_page,
    "footer": flipped_in_the_footer,
    "folder": a_folder,
    "other": another_file,
}


@pytest.fixture
def told(capsys):
    """Run a command: (status, stdout, stderr)."""

    def run(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(list(argv))
        return (status, *capsys.readouterr())

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_each_damage_is_one_line_that_names_the_file_and_spares_the_rest(kind, house, made, told, tmp_path):
    path, at = file_of(house), ("--warehouse", str(house))
    KINDS[kind](path)
    status, out, _ = told("query", OTHER, "--json", *at)
    assert (status, json.loads(out)) == (0, {"received": 126, "balance": 0})
    assert told("query", "SHOW TABLES", *at)[0] == 0
    add = ["backfill", "--add", *SPAN, "--input", str(made / f"{DAY}.jsonl"), "--workers", "1", *at]
    commands = [
        ["query", "SELECT max(text) FROM events", *at],
        ["query", "SELECT max(text) FROM events_unique", "--dialect", "bigquery", *at],
        ["report", "--output", str(tmp_path / "r.html"), *at],
        ["person", "--find", "u1", *at],
        ["doctor", "--audit", *at],
        add,
        ["recompute", *SPAN, "--workers", "1", *at],
        ["person", "--delete", "u1", "--workers", "1", *at],
    ]
    before = (house / "manifest.json").read_bytes()
    # Each kind is met before a graph starts, but the one that only readers see.
    for command in commands if kind in ("page", "missing") else commands[:2] + commands[3:6]:
        status, _, err = told(*command)
        assert status == 2, command
        assert err.count("\n") == 1 and err.startswith(f"error: {path} is damaged: "), command
        assert f"table events, day {DAY}" in err
        fix = f"audience backfill --replace --warehouse {house} --start {DAY} --end {LAST} --input FILES"
        assert fix in err, command
    assert (house / "manifest.json").read_bytes() == before
    deep = ["--deep"] if kind == "page" else []
    status, out, err = told("doctor", "--json", *deep, *at)
    [row] = [json.loads(line) for line in out.splitlines() if '"damaged file"' in line]
    assert (status, row["name"], row["table"], row["day"]) == (2, str(path), "events", f"{DAY}")
    assert err.startswith(f"error: {path} cannot be used: ") and err.count("\n") == 1
    assert told("doctor", *deep, "--warehouse", str(made / "w"))[0] == 0


def test_of_several_questions_each_opens_what_it_names_alone(house):
    flipped_in_the_footer(file_of(house))
    with LocalWarehouse.open(house).asking() as ask:
        for _ in range(2):
            assert ask(OTHER).height == 1
            with pytest.raises(DamagedError, match="events"):
                ask(EVENTS_ASKED)


def totals(house: Path) -> dict[str, int]:
    sums = ", ".join(
        f"SUM({name}) AS {name}" for name in ("received", "events", "duplicates", "quarantined", "replaced")
    )
    parts = LocalWarehouse.open(house).ask(f"SELECT {sums}, SUM(balance) AS balance FROM quality_1m_current")
    return {name: int(value) for name, value in pl.concat(list(parts)).row(0, named=True).items()}


def replace_day(house: Path, made: Path, told) -> str:
    argv = ["--replace", *SPAN, "--input", str(made / f"{DAY}.jsonl"), "--workers", "1"]
    status, _, err = told("backfill", *argv, "--warehouse", str(house))
    assert status == 0, err
    return err


@pytest.mark.parametrize("kind", ["page", "folder"])
def test_a_replacement_puts_a_day_of_events_right_and_books_what_was_lost(kind, house, made, told):
    path, record = file_of(house), int(kind == "folder")
    KINDS[kind](path)
    if record:
        KINDS["missing"](file_of(house, "quarantine"))
    err = replace_day(house, made, told)
    assert f"{path} was damaged" in err and "its 40 rows of events, day 2026-03-02, are gone" in err
    assert told("query", EVENTS_ASKED, "--csv", "--warehouse", str(house))[1] == "count_star()\n120\n"
    # Of the first input, which had 126 records, 40 events are gone; the second has 42 records of its own.
    found = {"received": 168, "events": 120, "duplicates": 4, "balance": 0}
    assert totals(house) == found | {"quarantined": 4 - record, "replaced": 40 + record}
    assert told("doctor", "--audit", "--warehouse", str(house))[0] == 0
    assert told("doctor", "--deep", "--warehouse", str(house))[0] == 0
    with LocalWarehouse.open(house).writer() as run:
        run.purge()  # whatever stands where the file was
    assert not path.exists()


def test_a_replacement_puts_every_table_of_the_day_right(house, made, told):
    for table, kind in {
        "events": "truncated",
        "sessions": "footer",
        "user_days": "missing",
        "quality_1m": "page",
        "quarantine": "empty",
    }.items():
        KINDS[kind](file_of(house, table))
    err = replace_day(house, made, told)
    assert err.count(" was damaged (") == 5
    # The audit counts of the day are gone too: the 40 events are no longer received.
    found = {"received": 126, "events": 120, "duplicates": 3, "quarantined": 3, "replaced": 0, "balance": 0}
    assert totals(house) == found
    assert told("doctor", "--audit", "--warehouse", str(house))[0] == 0
    assert told("doctor", "--deep", "--warehouse", str(house))[0] == 0


def test_damaged_metrics_are_computed_again_by_a_recompute_alone(house, told):
    before = pl.concat(LocalWarehouse.open(house).ask("SELECT person, events FROM user_days_current ORDER BY 1, 2"))
    for table, kind in {"user_days": "page", "sessions": "missing"}.items():
        KINDS[kind](file_of(house, table))
    status, _, err = told("query", "SELECT * FROM user_days", "--warehouse", str(house))
    assert (status, err.count("\n")) == (2, 1)
    assert err.endswith(f"audience recompute --warehouse {house} --start {DAY} --end {LAST}\n")
    assert told("recompute", *SPAN, "--workers", "1", "--warehouse", str(house))[0] == 0
    after = pl.concat(LocalWarehouse.open(house).ask("SELECT person, events FROM user_days_current ORDER BY 1, 2"))
    assert after.equals(before)
    assert totals(house)["replaced"] == 0
    assert told("doctor", "--deep", "--warehouse", str(house))[0] == 0


def test_damaged_days_side_by_side_are_named_as_one_range(house, told):
    for day in (DAY, LAST):
        truncated(file_of(house, day=day))
    _, _, err = told("query", EVENTS_ASKED, "--warehouse", str(house))
    assert f"--start {DAY} --end 2026-03-04 " in err


def test_a_bit_that_flipped_is_seen_by_its_checksum_alone(house, told):
    path = file_of(house)
    flipped(path, 2000)
    assert told("doctor", "--warehouse", str(house))[0] == 0
    status, out, _ = told("doctor", "--deep", "--json", "--warehouse", str(house))
    assert status == 2 and "its bytes are not those that were committed (checksum)" in out


def test_files_without_a_checksum_are_read_and_counted(house, told):
    manifest = json.loads((house / "manifest.json").read_text())
    [file] = manifest["files"]["events"][f"{DAY}"]
    del file["xxh3"]
    (house / "manifest.json").write_text(json.dumps(manifest))
    status, out, _ = told("doctor", "--deep", "--json", "--warehouse", str(house))
    assert status == 0 and "have no checksum, as an older version wrote them" in out
    flipped_in_a_page(file_of(house))
    assert told("doctor", "--deep", "--warehouse", str(house))[0] == 2


def test_what_belongs_to_no_table_is_named(house):
    for name in ("data/events/2026-03-02/old.parquet", "data/events/2026-03-02/new.parquet", "staging/run/x"):
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        (house / name).touch()
    os.utime(house / "data/events/2026-03-02/old.parquet", (0, 0))
    rows = {row.name: row for row in warehouse_checks(str(house)) if row.section == "left over"}
    assert set(rows) == {f"{house}/staging/run", f"{house}/data/events/2026-03-02/old.parquet", "1 files"}
    assert rows["1 files"].facts["paths"] == [f"{house}/data/events/2026-03-02/new.parquet"]
    with LocalWarehouse.open(house).writer():
        assert not [row for row in warehouse_checks(str(house)) if row.section == "left over"]


def test_a_file_that_another_run_replaced_meanwhile_is_not_called_damaged(house):
    warehouse = LocalWarehouse.open(house)
    manifest = warehouse.manifest()
    files = damage.live(house, manifest, ["events"], [DAY])
    with LocalWarehouse.open(house).writer() as run:
        run.commit([], {"events": [DAY]})
        run.purge()
    with pytest.raises(WarehouseError, match="was replaced by another run while it was read; try again"):
        damage.check(warehouse, files, manifest.tables)


def test_a_stream_commits_on_where_a_merge_meets_a_damaged_file(house):
    warehouse = LocalWarehouse.open(house)
    rows = warehouse.scan("events", [DAY]).collect()
    with warehouse.writer() as run:
        run.commit([write_file(run.staging, EVENTS.name, DAY, rows) for _ in range(9)])
        newest = warehouse.files("events", [DAY])[-1]
        flipped_in_a_page(newest)
        with pytest.raises(DamagedError, match=f"^{newest} is damaged: .*audience backfill --replace"):
            run.merge(Merge("events", f"{DAY}", tuple(warehouse.manifest().files["events"][f"{DAY}"])))
        appender = Appender(run)
        for _ in range(2):
            appender.step()
            appender._merges.submit(lambda: None).result()  # the merge before it is done
            write_note(run.staging, EVENTS.name, Note([write_file(run.staging, EVENTS.name, LAST, rows)]))
            assert appender.step() == 1
        assert appender.figures().problem.startswith(f"{newest} is damaged: ")
        appender.stop()
    assert LocalWarehouse.open(house).rows_by_day("events")[LAST] == 120


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "truncated"),
        ("{}", "missing required field `format`"),
        ('{"format":1}', "missing required field `run`"),
        ('{"format":1,"run":"","tables":{}', "truncated"),
        ('{"format":"1","run":"","tables":{},"files":{}}', "Expected `int`"),
        ('{"format":-1,"run":"","tables":{},"files":{}}', ">= 1"),
        ('{"format":1,"run":"","tables":[],"files":{}}', "Expected `object`"),
        ('{"format":1,"x":' + "[" * 100_000, "recursion"),
        ("null", "Expected `object`"),
        ('{"format":1,"run":"","tables":{},"files":{"nope":{}}}', "table 'nope', which it does not declare"),
    ],
)
def test_a_manifest_that_no_run_wrote_is_damaged_and_never_empty(content, said, house, made, told):
    (house / "manifest.json").write_text(content)
    at = ["--warehouse", str(house)]
    add = ["--add", *SPAN, "--input", str(made / f"{DAY}.jsonl")]
    for command in (["query", "SELECT 1", *at], ["backfill", *add, *at], ["person", "--find", "u1", *at]):
        status, _, err = told(*command)
        assert (status, err.count("\n")) == (2, 1)
        assert err.startswith(f"error: {house}/manifest.json is damaged: ") and said in err
    assert told("doctor", *at)[0] == 2
    assert (house / "manifest.json").read_text() == content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"path": "../../../../etc/passwd"}, "is no file of table events"),
        ({"path": "/etc/passwd"}, "is no file of table events"),
        ({"path": "data/events/2026-03-02/../../../lock"}, "is no file of table events"),
        ({"path": "data/events/2026-03-01/x.parquet"}, "is no file of table events, day 2026-03-02"),
        ({"path": "data/events/2026-03-02/*.parquet"}, "is no file of table events"),
        ({"path": "data/events/2026-03-02/"}, "is no file of table events"),
        ({"rows": -1}, ">= 0"),
        ({"rows": 1.5}, "Expected `int`"),
        ({"bytes": -1}, ">= 0"),
        ({"bytes": None}, "Expected `int`"),
        ("twice", "twice"),
        ("day", "day is out of range for month"),
        ("name", "is no name of a table or column"),
        ("type", "is NULLABLE TEXT"),
    ],
)
def test_a_manifest_names_nothing_but_what_a_run_writes(change, said, house, told):
    manifest = json.loads((house / "manifest.json").read_text())
    days = manifest["files"]["events"]
    if change == "twice":
        days[f"{DAY}"] *= 2
    elif change == "day":
        days["2026-03-99"] = []
    elif change == "name":
        hostile = "x\"; COPY (SELECT 1) TO 'pwn.csv"
        manifest["tables"][hostile] = manifest["tables"]["user_days"] | {"name": hostile}
    elif change == "type":
        manifest["tables"]["user_days"]["columns"][0] |= {"type": "TEXT", "mode": "NULLABLE"}
    else:
        days[f"{DAY}"][0] |= change
    (house / "manifest.json").write_text(json.dumps(manifest))
    status, _, err = told("query", "SHOW TABLES", "--warehouse", str(house))
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: {house}/manifest.json is damaged: ") and said in err


def test_a_manifest_that_is_missing_beside_data_is_damaged(house, told):
    (house / "manifest.json").unlink()
    status, _, err = told("query", EVENTS_ASKED, "--warehouse", str(house))
    assert status == 2 and "manifest.json is damaged: it is missing, and there is data" in err
    with pytest.raises(WarehouseError, match="it is missing, and there is data"):
        LocalWarehouse.open(house).writer().__enter__()


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '{"format":1}', '{"format":0,"time_zone":"UTC"}', '{"format":1,"time_zone":"UTC\'); --"}'],
)
def test_what_a_warehouse_says_of_itself_is_looked_at(content, house, told):
    (house / "warehouse.json").write_text(content)
    status, _, err = told("query", "SELECT 1", "--warehouse", str(house))
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: {house}/warehouse.json is damaged: ")
    assert told("doctor", "--warehouse", str(house))[0] == 2
