"""A warehouse in a folder: what it refuses, what a commit does, what a query sees."""

import os
import resource
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pytest

from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import Column, metric_table, polars_schema
from transforms.errors import WarehouseError

FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)
VISITS = metric_table("visits_1d", "Visits", ["channel"], [Column("n", "INT64", "REQUIRED", "visits")])


def rows(*counts: int, table=VISITS) -> pl.DataFrame:
    """Rows that state only `n`."""
    schema = polars_schema(table)
    return pl.DataFrame({"n": counts}).select(
        pl.col(name) if name == "n" else pl.lit(None, dtype).alias(name) for name, dtype in schema.items()
    )


def put(warehouse, *staged, replace_days=None, keep=None, table=VISITS):
    """Commit frames of (day, counts) in a run of its own."""
    with warehouse.writer() as run:
        put_in(run, *staged, replace_days=replace_days, keep=keep, table=table)


def put_in(run, *staged, replace_days=None, keep=None, table=VISITS):
    run.declare([table])
    entries = [write_file(run.staging, table.name, day, rows(*n, table=table)) for day, n in staged]
    run.commit(entries, replace_days=replace_days, keep=keep)


def counts(warehouse, days=None) -> list[int]:
    return sorted(warehouse.scan("visits_1d", days).collect()["n"].to_list())


def data_files(warehouse) -> int:
    return sum(1 for path in (warehouse.folder / "data").rglob("*") if path.is_file())


@pytest.fixture
def warehouse(tmp_path):
    return LocalWarehouse.open(tmp_path / "w", create=True)


def test_what_is_no_warehouse_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("x")
    for folder, create, text in [
        ("absent", False, "is no warehouse; make it with `audience backfill"),
        ("file", True, "is a file, not a folder"),
        ("file/below", True, "cannot be written: Not a directory"),
        ("foreign", True, "holds other files and no warehouse.json"),
        ("foreign", False, "holds other files and no warehouse.json"),
        ("a*b", True, "its path has one of"),
    ]:
        with pytest.raises(WarehouseError, match=text) as refused:
            LocalWarehouse.open(tmp_path / folder, create=create)
        assert "\n" not in str(refused.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "foreign"]
    assert os.listdir(tmp_path / "foreign") == ["thesis.txt"]


def test_an_unknown_time_zone_is_refused_and_nothing_is_made(tmp_path):
    with pytest.raises(WarehouseError, match="time zone 'Mars/Olympus' is not known"):
        LocalWarehouse.open(tmp_path / "w", time_zone="Mars/Olympus", create=True)
    assert not (tmp_path / "w").exists()


def test_a_newer_or_damaged_warehouse_is_refused(warehouse):
    (warehouse.folder / "manifest.json").write_text('{"format": 9}')
    with pytest.raises(WarehouseError, match="format 9, this version reads up to 1; upgrade"):
        warehouse.manifest()
    (warehouse.folder / "manifest.json").write_text("{")
    with pytest.raises(WarehouseError, match="is damaged"):
        warehouse.manifest()
    (warehouse.folder / "warehouse.json").write_text('{"format": 9, "time_zone": "UTC"}')
    with pytest.raises(WarehouseError, match="format 9, this version reads up to 1; upgrade"):
        LocalWarehouse.open(warehouse.folder)


def test_a_folder_left_by_a_kill_while_it_was_made_is_taken_over(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "lock").touch()
    (tmp_path / "w" / "warehouse.json.tmp").write_text("{")
    assert LocalWarehouse.open(tmp_path / "w", create=True).time_zone == "UTC"


def test_of_a_replaced_day_what_is_kept_stays(warehouse):
    put(warehouse, (FIRST, [1, 2]), (FIRST, [3]), (SECOND, [1, 4]))
    put(warehouse, (FIRST, [9]), replace_days={"visits_1d": None}, keep={"visits_1d": pl.col("n") > 1})
    assert counts(warehouse, [FIRST]) == [2, 3, 9]
    assert counts(warehouse, [SECOND]) == [4]
    assert warehouse.rows_by_day("visits_1d") == {FIRST: 3, SECOND: 1}


def test_of_a_replaced_day_only_what_is_dropped_goes_and_files_without_any_stay(warehouse):
    put(warehouse, (FIRST, [1, 2]), (FIRST, [3]), (SECOND, [1]))
    before = warehouse.files("visits_1d")
    with warehouse.writer() as run:
        run.commit([], {"visits_1d": [FIRST]}, drop={"visits_1d": pl.col("n") == 1})
    assert counts(warehouse, [FIRST]) == [2, 3]
    assert counts(warehouse, [SECOND]) == [1]
    assert len(set(before) & set(warehouse.files("visits_1d"))) == 2
    with warehouse.writer() as run:  # what is NULL is not dropped
        run.commit([], {"visits_1d": [FIRST]}, drop={"visits_1d": (pl.col("n") == 3) | (pl.col("channel") == "web")})
    assert counts(warehouse, [FIRST]) == [2]


def test_only_what_is_committed_is_seen(warehouse):
    with warehouse.writer() as run:
        run.declare([VISITS])
        kept = write_file(run.staging, "visits_1d", FIRST, rows(1))
        write_file(run.staging, "visits_1d", FIRST, rows(2))  # as a worker whose bundle was tried again
        assert "visits_1d" not in warehouse.manifest().tables
        run.commit([kept])
    assert counts(warehouse) == [1]
    assert os.listdir(warehouse.folder / "staging") == []


def test_a_second_writer_is_refused_and_told_who_writes(warehouse):
    with (
        warehouse.writer(),
        pytest.raises(WarehouseError, match=rf"being written by process {os.getpid()}; wait"),
    ):
        warehouse.writer().__enter__()
    with warehouse.writer() as run:
        assert run.staging.is_dir()


def test_the_lock_of_another_process_holds_until_it_dies(warehouse):
    code = (
        "import sys; from pipelines.warehouse.local.warehouse import LocalWarehouse\n"
        "with LocalWarehouse.open(sys.argv[1]).writer(): print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(warehouse.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(WarehouseError, match=rf"being written by process {other.pid};"):
            warehouse.writer().__enter__()
        assert len(os.listdir(warehouse.folder / "staging")) == 1, "a refused writer sweeps nothing"
        other.kill()
    with warehouse.writer() as run:
        assert os.listdir(warehouse.folder / "staging") == [run.id]


def test_a_reader_still_finds_its_files_for_a_while_after_they_were_replaced(warehouse, monkeypatch):
    put(warehouse, (FIRST, [1]))
    reader, lazy = warehouse.connect(), warehouse.scan("visits_1d")
    [old] = warehouse.files("visits_1d")
    os.utime(old, (0, 0))  # written long ago: what counts is when it was replaced
    for n in (2, 3):
        put(warehouse, (FIRST, [n]), replace_days={"visits_1d": {FIRST}})
    with warehouse.writer():
        pass  # a writer's sweep leaves them as well
    assert reader.sql("SELECT n FROM visits_1d").fetchall() == [(1,)]
    assert lazy.collect()["n"].to_list() == [1]
    assert warehouse.connect().sql("SELECT n FROM visits_1d").fetchall() == [(3,)]
    os.utime(old, (0, 0))
    with warehouse.writer():
        assert data_files(warehouse) == 2, "the sweep took the one that was replaced long ago"
    with pytest.raises(duckdb.Error, match="Cannot access file"):
        reader.sql("SELECT n FROM visits_1d").fetchall()
    monkeypatch.setattr("pipelines.warehouse.local.run.RETIRED_SECONDS", 0)
    with warehouse.writer() as run:
        put_in(run, (FIRST, [4]), replace_days={"visits_1d": {FIRST}})
        put_in(run, (SECOND, [5]))
        assert data_files(warehouse) == 2, "a run that lasts removes what it retired itself"


def test_a_purge_leaves_nothing_on_the_disk_but_what_is_live(warehouse):
    put(warehouse, (FIRST, [1]))
    put(warehouse, (FIRST, [2]), replace_days={"visits_1d": {FIRST}})
    assert data_files(warehouse) == 2
    with warehouse.writer() as run:
        run.purge()
    assert data_files(warehouse) == 1
    assert counts(warehouse) == [2]


def test_a_worker_that_outlives_its_run_writes_nothing(warehouse):
    with warehouse.writer() as run:
        pass
    with pytest.raises(WarehouseError, match="cannot be written: No such file"):
        write_file(run.staging, "visits_1d", FIRST, rows(1))
    assert not run.staging.exists()


def test_tables_without_rows_are_queried_in_their_types(warehouse):
    put(warehouse)
    connection = warehouse.connect()
    assert connection.sql("SELECT count(*), sum(n) FROM visits_1d").fetchall() == [(0, None)]
    assert connection.sql("SELECT count(*) FROM events WHERE event_time > now()").fetchall() == [(0,)]
    assert warehouse.scan("visits_1d").collect_schema() == polars_schema(VISITS)
    with pytest.raises(WarehouseError, match="'nope' is no table of this warehouse; tables are erasures, events, qual"):
        warehouse.scan("nope")


def test_a_commit_syncs_what_was_staged_without_before_the_manifest_names_it(warehouse, monkeypatch):
    done, fsync, replace_file = [], os.fsync, os.replace

    def noted_sync(descriptor):
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def noted_replace(source, target):
        replace_file(source, target)
        done.append(str(target))

    with warehouse.writer() as run:
        run.declare([VISITS])
        entries = [write_file(run.staging, "visits_1d", FIRST, rows(n), synced=n == 1) for n in (1, 2)]
        monkeypatch.setattr(os, "fsync", noted_sync)
        monkeypatch.setattr(os, "replace", noted_replace)
        run.commit(entries)
    synced, not_synced = (
        str(warehouse.folder / file.path) for file in warehouse.manifest().files["visits_1d"]["2026-03-01"]
    )
    published = done.index(str(warehouse.folder / "manifest.json"))
    assert done[:published].count(not_synced) == 2, "moved, and synced"
    assert done.count(synced) == 1, "its worker has synced it"
    assert os.path.dirname(synced) in done[:published]


def test_a_table_is_uniform_until_a_file_has_other_columns(warehouse):
    wider = replace(VISITS, columns=(*VISITS.columns, Column("clicks", "INT64", "NULLABLE", "clicks")))

    def asked(columns):
        return warehouse.connect().sql(f"SELECT {columns} FROM visits_1d ORDER BY n").fetchall()

    put(warehouse, (FIRST, [1]))
    uniform = warehouse.manifest().uniform
    assert uniform.keys() == {"visits_1d"}
    put(warehouse, (SECOND, [2]))
    assert warehouse.manifest().uniform == uniform
    assert asked("n") == [(1,), (2,)]
    put(warehouse, (SECOND, [3]), table=wider)
    assert warehouse.manifest().uniform == {}
    assert asked("n, clicks") == [(1, None), (2, None), (3, None)]
    put(warehouse, replace_days={"visits_1d": None})
    put(warehouse, (FIRST, [4]), table=wider)
    assert warehouse.manifest().uniform.keys() == {"visits_1d"}
    assert warehouse.manifest().uniform != uniform
    put(warehouse, (SECOND, [5]))
    assert warehouse.manifest().uniform == {}, "the last run has no such column"
    assert asked("n, clicks") == [(4, None), (5, None)]


def test_a_file_that_is_written_again_has_all_declared_columns(warehouse):
    wider = replace(VISITS, columns=(*VISITS.columns, Column("clicks", "INT64", "NULLABLE", "clicks")))
    put(warehouse, (FIRST, [1, 2]), (SECOND, [3]))
    put(warehouse, table=wider)
    assert warehouse.manifest().uniform.keys() == {"visits_1d"}
    put(warehouse, replace_days={"visits_1d": {FIRST}}, keep={"visits_1d": pl.col("n") == 1})
    assert warehouse.manifest().uniform == {}
    assert warehouse.connect().sql("SELECT n, clicks FROM visits_1d ORDER BY n").fetchall() == [(1, None), (3, None)]


def test_a_day_of_many_files_is_compacted_in_one_swap(warehouse):
    put(warehouse, *[(FIRST, [n]) for n in range(9)], *[(SECOND, [n]) for n in range(8)])
    reader = warehouse.connect()
    with warehouse.writer() as run:
        assert run.compact_all() == 1
    assert [len(warehouse.files("visits_1d", [day])) for day in (FIRST, SECOND)] == [1, 8]
    assert counts(warehouse, [FIRST]) == list(range(9))
    assert warehouse.rows_by_day("visits_1d") == {FIRST: 9, SECOND: 8}
    assert reader.sql("SELECT count(*) FROM visits_1d").fetchall() == [(17,)]


def test_a_full_disk_is_one_line_and_leaves_the_old_rows(warehouse):
    put(warehouse, (FIRST, [1]))
    with warehouse.writer() as run:
        run.declare([VISITS])
        entry = write_file(run.staging, "visits_1d", SECOND, rows(2))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))  # Python ignores SIGXFSZ: a write fails instead
        try:
            with pytest.raises(WarehouseError, match=r"cannot be written: File too large.*free space") as staging:
                write_file(run.staging, "visits_1d", FIRST, rows(3))
            with pytest.raises(WarehouseError, match="cannot be written: File too large") as commit:
                run.commit([entry])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "\n" not in f"{staging.value}{commit.value}"
    assert counts(warehouse) == [1]
    assert data_files(warehouse) == 1, "what the failed commit had moved is gone"


def test_a_folder_that_cannot_be_written_is_one_line():
    if not Path("/proc/self").is_dir():
        pytest.skip("needs a folder that nobody can write")
    with pytest.raises(WarehouseError, match=r"cannot be written: .*; free space, check permissions"):
        LocalWarehouse.open("/proc/self/warehouse", create=True)
