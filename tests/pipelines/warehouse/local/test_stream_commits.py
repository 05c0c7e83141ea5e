"""What the workers of a stream note is committed once, whatever is killed; small files are merged, rows stay."""

import contextlib
import errno
import subprocess
import sys
from concurrent.futures import Future
from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.local import compaction as tiers
from pipelines.warehouse.local import notes
from pipelines.warehouse.local.stream_commits import Appender
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE, polars_schema
from pipelines.warehouse.write_stats import points
from tests.servers.needed import wait_until
from transforms.errors import WarehouseError

DAY, NEXT = date(2026, 3, 1), date(2026, 3, 2)


class Inline:
    """Merges at once, in the caller's thread."""

    def submit(self, work):
        done = Future()
        done.set_result(work())
        return done

    def shutdown(self, cancel_futures):
        pass


def frame(table, ids, **columns) -> pl.DataFrame:
    """Rows of a table that state `source` and what is given."""
    given = {"source": [str(each) for each in ids]} | columns
    schema = polars_schema(table)
    return pl.DataFrame(given).select(
        pl.col(name).cast(dtype) if name in given else pl.lit(None, dtype).alias(name) for name, dtype in schema.items()
    )


def noted(run, table, ids, day=DAY, **columns) -> None:
    """What a bundle of a stream does: a file, then a note."""
    rows = frame(table, ids, **columns)
    received = points(rows["received_time"]) if table is EVENTS else []
    notes.write(run.staging, table.name, notes.Note([write_file(run.staging, table.name, day, rows)], received))


def sources(warehouse, table=EVENTS) -> list[str]:
    return warehouse.scan(table.name).select("source").collect().to_series().sort().to_list()


@pytest.fixture
def warehouse(tmp_path):
    return LocalWarehouse.open(tmp_path / "w", create=True)


def test_what_is_noted_becomes_live_in_one_commit_and_once(warehouse):
    with warehouse.writer() as run:
        appender = Appender(run, merges=Inline())
        noted(run, EVENTS, [1, 2])
        noted(run, QUARANTINE, [3])
        assert sources(warehouse) == []
        assert appender.step() == 2
        assert sources(warehouse) == ["1", "2"]
        assert sources(warehouse, QUARANTINE) == ["3"]
        assert appender.step() == 0
        noted(run, EVENTS, [4])
        appender.stop()
    assert sources(warehouse) == ["1", "2", "4"]
    assert list((warehouse.folder / "staging").iterdir()) == []


def test_tables_can_be_queried_before_anything_is_noted(warehouse):
    with warehouse.writer() as run:
        Appender(run).stop()
        assert warehouse.connect().execute("SELECT count(*) FROM quality_1m_current").fetchone() == (0,)


def test_rows_of_the_books_are_never_live_before_the_rows_that_they_tell_of(warehouse, monkeypatch):
    """A bundle that notes events, then books, while notes are being listed."""
    with warehouse.writer() as run:
        appender = Appender(run, merges=Inline())
        real, late = type(run.staging).glob, iter([True])

        def glob(path, pattern):
            found = list(real(path, pattern))
            if pattern == "*/*.json" or path.name == QUALITY_1M.name:
                for _ in late:  # once, between the two listings, whichever comes first
                    noted(run, EVENTS, [1])
                    noted(run, QUALITY_1M, [1])
            return iter(found)

        monkeypatch.setattr("pathlib.Path.glob", glob)
        appender.step()
        assert sources(warehouse, QUALITY_1M) == []
        assert sources(warehouse) == ["1"]
        appender.step()
        assert sources(warehouse, QUALITY_1M) == ["1"]


def test_whoever_keeps_the_books_gets_each_row_after_its_commit(warehouse):
    told = []
    with warehouse.writer() as run:
        appender = Appender(run, lambda rows: told.append((rows["source"].to_list(), sources(warehouse, QUALITY_1M))))
        noted(run, QUALITY_1M, ["a", "b"])
        appender.step()
        noted(run, EVENTS, [1])
        appender.step()
        noted(run, QUALITY_1M, ["c"])
        appender.stop()
    assert told == [(["a", "b"], ["a", "b"]), (["c"], ["a", "b", "c"])]


def test_figures_tell_rows_latency_share_of_quarantine_files_and_the_last_commit(warehouse):
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with warehouse.writer() as run:
        appender = Appender(run, clock=lambda: at.timestamp() + 100, merges=Inline())
        nothing = appender.figures()
        assert (nothing.latency_p50, nothing.quarantine_share, nothing.committed) == (None, None, None)
        seconds = pl.datetime_range(at, at.replace(minute=1, second=39), "1s", eager=True)  # 100 of them
        noted(run, EVENTS, range(100), received_time=seconds)
        noted(run, QUARANTINE, range(25))
        appender.step()
        figures = appender.figures()
    assert figures.rows == {"events": 100, "quarantine": 25}
    assert figures.latency_p50 == pytest.approx(50, abs=3)
    assert figures.latency_p99 == pytest.approx(99, abs=3)
    assert figures.quarantine_share == 0.2
    assert (figures.files, figures.committed, figures.problem) == (2, at.timestamp() + 100, None)


def test_points_of_a_few_times_are_the_times_and_of_none_none():
    times = pl.Series([datetime(1970, 1, 1, second=n, tzinfo=UTC) for n in (2, 0, 1)]).dt.cast_time_unit("us")
    assert points(times) == [0, 1_000_000, 2_000_000]
    assert points(times.clear()) == points(None) == []


def test_a_thread_commits_until_it_is_stopped(warehouse):
    with warehouse.writer() as run:
        appender = Appender(run)
        appender.start()
        noted(run, EVENTS, [1])
        wait_until(lambda: sources(warehouse) == ["1"])
        noted(run, EVENTS, [2])
        appender.stop()
        assert sources(warehouse) == ["1", "2"]


@pytest.mark.parametrize(
    "problem", [WarehouseError("the disk is full"), pl.exceptions.ComputeError("the disk is full")]
)
def test_a_commit_that_fails_is_told_and_tried_again(problem, warehouse, monkeypatch):
    with warehouse.writer() as run:
        appender, real = Appender(run), run.commit

        def full(*_, **__):
            raise problem

        monkeypatch.setattr(run, "commit", full)
        noted(run, EVENTS, [1])
        appender.start()
        wait_until(lambda: appender.figures().problem)
        assert appender.figures().problem == "the disk is full"
        monkeypatch.setattr(run, "commit", real)
        wait_until(lambda: not appender.figures().problem)
        appender.stop()
    assert sources(warehouse) == ["1"]


@pytest.mark.parametrize(
    ("problem", "ends"),
    [
        (WarehouseError("w cannot be written"), True),  # caused by what the system reports
        (OSError(errno.ENOSPC, "no space"), True),
        (OSError(errno.EISDIR, "Is a directory"), False),
        (WarehouseError("another writer holds it"), False),
    ],
)
def test_only_a_disk_that_stays_full_for_half_a_minute_ends_the_stream(problem, ends, warehouse, monkeypatch):
    moments = [100.0]
    with warehouse.writer() as run:
        appender, real = Appender(run, monotonic=lambda: moments[-1]), run.commit

        def fail(*_, **__):
            raise problem from (OSError(errno.EDQUOT, "quota") if "written" in str(problem) else None)

        noted(run, EVENTS, [1])
        monkeypatch.setattr(run, "commit", fail)
        for moment in (100.0, 129.0):
            moments.append(moment)
            appender._try()
            appender.check()
        moments.append(130.0)
        with (
            pytest.raises(WarehouseError, match="cannot be written: No space left on device; free space")
            if ends
            else (contextlib.nullcontext())
        ):
            appender.check()
        monkeypatch.setattr(run, "commit", real)
        appender._try()
        appender.check()
        assert appender.figures().problem is None
        appender.stop()


def test_a_panic_of_a_merge_leaves_the_thread_that_commits_alive(warehouse, monkeypatch):
    class Panic(BaseException):
        """As Polars raises it: no Exception."""

    with warehouse.writer() as run:
        appender, real = Appender(run), run.commit

        def panic(*_, **__):
            monkeypatch.setattr(run, "commit", real)
            raise Panic("a panic")

        monkeypatch.setattr(run, "commit", panic)
        noted(run, EVENTS, [1])
        appender.start()
        wait_until(lambda: sources(warehouse) == ["1"])
        appender.stop()


def test_books_whose_commit_failed_half_way_are_told_once_it_succeeds(warehouse, monkeypatch):
    told = []
    with warehouse.writer() as run:
        appender = Appender(run, lambda rows: told.append(rows["source"].to_list()))
        noted(run, QUALITY_1M, ["a"])
        with monkeypatch.context() as patched, pytest.raises(WarehouseError, match="no space"):
            patched.setattr(
                "pipelines.warehouse.local.run.save", lambda *_: (_ for _ in ()).throw(OSError(28, "no space"))
            )
            appender.step()
        assert (told, sources(warehouse, QUALITY_1M)) == ([], [])
        appender.step()
    assert told == [["a"]]
    assert sources(warehouse, QUALITY_1M) == ["a"]


def test_a_merge_whose_files_were_replaced_meanwhile_is_left_out(warehouse):
    with warehouse.writer() as run:
        appender = Appender(run, merges=Inline())
        for n in range(tiers.FAN + 1):
            noted(run, EVENTS, [n])
            appender.step(merge=n == tiers.FAN)  # the last one stages a merge
        run.commit([], replace_days={"events": [DAY]}, keep={"events": pl.col("source") > "5"})
        noted(run, EVENTS, ["new"])
        appender.step()
        assert sources(warehouse) == ["6", "7", "8", "new"]


def test_a_reader_keeps_its_rows_while_a_stream_commits_and_merges(warehouse):
    with warehouse.writer() as run:
        appender = Appender(run, merges=Inline())
        for n in range(5):
            noted(run, EVENTS, [n])
            appender.step()
        reader = warehouse.connect()
        for n in range(40):
            noted(run, EVENTS, [n])
            appender.step()
        assert reader.execute("SELECT count(*) FROM events").fetchone() == (5,)
        assert warehouse.connect().execute("SELECT count(*) FROM events").fetchone() == (45,)
        assert len(warehouse.files("events")) < 20


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    appends=st.lists(st.lists(st.tuples(st.integers(1, 40), st.sampled_from([DAY, NEXT])), max_size=5), max_size=25),
    fan=st.integers(2, 4),
)
def test_any_appends_and_merges_keep_every_row_and_few_files(tmp_path_factory, monkeypatch, appends, fan):
    warehouse = LocalWarehouse.open(tmp_path_factory.mktemp("merges"), create=True)
    monkeypatch.setattr(tiers, "FAN", fan)
    expected, rewritten = [], 0
    with warehouse.writer() as run:
        real = run.merge

        def counted(merge):
            nonlocal rewritten
            rewritten += tiers.rows_of(merge)
            return real(merge)

        monkeypatch.setattr(run, "merge", counted)
        appender = Appender(run, merges=Inline())
        for files in appends:
            for size, day in files:
                ids = range(len(expected), len(expected) + size)
                expected += map(str, ids)
                noted(run, EVENTS, ids, day)
            appender.step()
            assert sources(warehouse) == sorted(expected)
        while tiers.due(warehouse.manifest().files):
            appender.step()
        assert sources(warehouse) == sorted(expected)
        assert sum(warehouse.rows_by_day("events").values()) == len(expected)
        highest = tiers.tier(max(len(expected), 1))
        assert rewritten <= len(expected) * (highest + 1), "a row is rewritten at most once a tier"
        assert len(warehouse.files("events")) <= 2 * fan * (highest + 1)


@pytest.mark.parametrize("exponent", range(1, 13))
def test_more_than_fan_files_of_a_tier_make_one_of_a_higher_tier(exponent):
    least = tiers.FAN**exponent
    assert tiers.tier(least) == exponent == tiers.tier(least - 1) + 1
    assert tiers.tier(least * (tiers.FAN + 1)) > exponent


# Forks a child for each step, as in test_crash: a stream's worker and the one who commits, in turn, merges at once. It
# logs what is noted; nothing durable happens between a note and its line in the log.
SCRIPT = """
import os, signal, sys
from datetime import date
import polars as pl
from pipelines.warehouse.local import compaction as tiers, notes, stream_commits as appender
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, polars_schema

tiers.FAN = 2
class Inline:
    def submit(self, work):
        made = work()
        class Done:
            def done(self): return True
            def result(self): return made
        return Done()
    def shutdown(self, cancel_futures): pass

def frame(table, id):
    schema = polars_schema(table)
    return pl.select(pl.lit(id if name == "source" else None, dtype).alias(name) for name, dtype in schema.items())

def stream(folder, log):
    with LocalWarehouse.open(folder, create=True).writer() as run:
        commits = appender.Appender(run, merges=Inline())
        for n in range(5):
            for table in (EVENTS, QUALITY_1M):
                made = write_file(run.staging, table.name, date(2026, 3, 1 + n % 2), frame(table, str(n)))
                notes.write(run.staging, table.name, notes.Note([made]))
                os.write(log, f"{table.name} {n}\\n".encode())
            commits.step()
        commits.stop()

def die_before(step):
    left = [step]
    def counted(real):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        return call
    for name in ("replace", "unlink", "fsync", "rmdir", "utime", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))

root, steps = sys.argv[1], 0
while True:
    folder = os.path.join(root, f"{steps:03}")
    pid = os.fork()
    if pid == 0:
        log = os.open(folder + ".log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        LocalWarehouse.open(folder, create=True)
        die_before(steps)
        stream(folder, log)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
        break
    steps += 3 if steps > 40 else 1
print(steps)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """(folder, {table: ids noted}) of streams killed before their first, second, ... step, and of one that was not."""
    root = tmp_path_factory.mktemp("killed")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(root)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    assert len(folders) > 60
    return [(folder, _logged(folder)) for folder in folders]


def _logged(folder) -> dict[str, list[str]]:
    lines = [line.split() for line in folder.with_suffix(".log").read_text().splitlines()]
    return {table.name: [id for name, id in lines if name == table.name] for table in (EVENTS, QUALITY_1M)}


def test_a_kill_leaves_a_warehouse_that_can_be_read_with_no_row_twice(killed):
    for folder, said in killed:
        warehouse = LocalWarehouse.open(folder)
        live = {table.name: sources(warehouse, table) for table in (EVENTS, QUALITY_1M)}
        for name, ids in live.items():
            assert len(set(ids)) == len(ids)
            assert set(ids) <= set(said[name])
        assert set(live["quality_1m"]) <= set(live["events"]), "books before the rows that they tell of"


def test_the_next_writer_takes_what_was_noted_all_of_it_and_once(killed):
    waiting = 0
    for folder, said in killed:
        warehouse = LocalWarehouse.open(folder)
        before = len(sources(warehouse))
        with warehouse.writer() as run:
            assert {table.name: sources(warehouse, table) for table in (EVENTS, QUALITY_1M)} == said
            assert [path.name for path in (folder / "staging").iterdir()] == [run.id]
        waiting += before < len(said["events"])
        with warehouse.writer():
            assert {table.name: sources(warehouse, table) for table in (EVENTS, QUALITY_1M)} == said
    assert waiting > 10, "in many of them something was noted and not committed"


def test_notes_are_found_where_the_warehouse_was_moved_to(warehouse, tmp_path):
    with warehouse.writer() as run:
        Appender(run)
        noted(run, EVENTS, [1])
    (warehouse.folder).rename(tmp_path / "elsewhere")
    moved = LocalWarehouse.open(tmp_path / "elsewhere")
    with moved.writer():
        assert sources(moved) == ["1"]


def test_a_note_that_a_loss_of_power_spoilt_stops_nobody(warehouse):
    with warehouse.writer() as run:
        Appender(run)
        noted(run, EVENTS, [1])
        noted(run, EVENTS, [2])
        notes.paths(run.staging)[0].write_bytes(b"")
    with warehouse.writer():
        assert len(sources(warehouse)) == 1
