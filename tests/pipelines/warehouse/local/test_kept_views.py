"""Kept answers of views: taken while their tables are what they were computed from, and computed otherwise."""

import os
import signal
import stat
import subprocess
import sys
from datetime import timedelta

import polars as pl
import pytest

from pipelines.cli import main
from pipelines.insight.passes import PASSES
from pipelines.warehouse.answers import AS_OF
from pipelines.warehouse.conditions import Without
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.local.kept_views import FOLDER, KEPT, refresh
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.sink import by_day
from pipelines.warehouse.tables import EVENTS
from tests.pipelines.warehouse.test_day_questions import DAYS, at, event, rows_of_every_day, write
from tests.pipelines.warehouse.test_metric_views import METRICS, frame_of
from tests.servers.needed import LIMIT

TABLES = [table.name for each in PASSES for table in each.tables]  # of answers, which the command shows after the views
USER_DAYS = METRICS["user_days"]


@pytest.fixture
def warehouse(tmp_path) -> LocalWarehouse:
    return write(tmp_path / "w", *rows_of_every_day())


def answers(warehouse: LocalWarehouse) -> dict:
    found = {name: warehouse.answer(f"SELECT * FROM {name}").frame() for name in KEPT}
    return {name: (rows.schema, sorted(map(repr, rows.rows()))) for name, rows in found.items()}


def computed(warehouse: LocalWarehouse) -> dict:
    """The answers without what is kept."""
    aside = warehouse.folder / "aside"
    (warehouse.folder / FOLDER).rename(aside)
    try:
        return answers(warehouse)
    finally:
        aside.rename(warehouse.folder / FOLDER)


def kept(warehouse: LocalWarehouse) -> set[str]:
    return {path.name for path in (warehouse.folder / FOLDER).iterdir()}


def add(warehouse: LocalWarehouse, table, rows: list[dict]) -> None:
    with warehouse.writer() as run:
        days = by_day(frame_of(table, rows), table.partition, "UTC")
        run.commit([write_file(run.staging, table.name, day, part) for day, part in days])


def late_person(day: int) -> dict:
    span = {"bucket_start": at(day, 0), "bucket_end": at(day + 1, 0)}
    return span | {"person": "late", "events": 1, "bot_events": 0, "generation": 2, "revision": 1, "firing": "late"}


def test_a_kept_answer_is_that_of_the_view_and_opens_no_table(warehouse):
    before = answers(warehouse)
    assert [each.is_new for each in refresh(warehouse)] == [True] * len(KEPT)
    assert answers(warehouse) == before
    for table in warehouse.tables():
        for path in warehouse.files(table):
            path.unlink()
    assert answers(warehouse) == before


def test_a_refresh_writes_nothing_where_nothing_changed_and_else_what_changed_only(warehouse):
    refresh(warehouse)
    before = kept(warehouse)
    times = {path: path.stat().st_mtime_ns for path in (warehouse.folder / FOLDER).iterdir()}
    assert not any(each.is_new for each in refresh(warehouse))
    assert {path: path.stat().st_mtime_ns for path in (warehouse.folder / FOLDER).iterdir()} == times
    add(warehouse, USER_DAYS, [late_person(3)])
    of_people = {"activity_by_day", "lifecycle_by_day", "retention_by_day", "retention_by_week"}
    assert {each.view for each in refresh(warehouse) if each.is_new} == of_people
    assert {name.partition("-")[0] for name in kept(warehouse) - before} == of_people


@pytest.mark.parametrize("day", range(0, DAYS, 3))
def test_late_rows_of_any_day_are_in_the_answers_at_once_and_after_the_next_refresh(day, warehouse):
    refresh(warehouse)
    before = answers(warehouse)
    add(warehouse, USER_DAYS, [late_person(day), late_person(DAYS - 1)])
    add(warehouse, EVENTS, [event(900, day, "purchase", value=5, currency="EUR")])
    after = answers(warehouse)
    assert after["lifecycle_by_day"] != before["lifecycle_by_day"] and after["rfm_segments"] != before["rfm_segments"]
    assert after == computed(warehouse)
    refresh(warehouse)
    assert answers(warehouse) == after


def test_days_that_are_rewritten_change_the_answers_and_back_again(warehouse):
    refresh(warehouse)
    before = answers(warehouse)
    day = at(4).date()
    rows = warehouse.scan("user_days", [day]).collect()
    with warehouse.writer() as run:
        run.commit([], {"user_days": [day]})
    assert answers(warehouse)["activity_by_day"] != before["activity_by_day"]
    with warehouse.writer() as run:
        run.commit([write_file(run.staging, "user_days", day, rows)])
    assert answers(warehouse) == before


def test_what_is_out_of_date_goes_when_rows_of_a_person_are_purged(warehouse):
    refresh(warehouse)
    [path] = (warehouse.folder / FOLDER).glob("rfm_segments-*")
    assert "u2" in pl.read_parquet(path)["person"]
    days = [at(day).date() for day in range(DAYS)]
    with warehouse.writer() as run:
        run.commit([], {"events": days}, keep={"events": Without(("user_id",), frozenset({"u2"}))})
        run.purge()
    assert {name.partition("-")[0] for name in kept(warehouse)} == set(KEPT) - {"rfm_segments"}
    assert answers(warehouse) == computed(warehouse)
    assert "u2" not in str(answers(warehouse)["rfm_segments"])


def test_what_is_out_of_date_stays_while_a_reader_may_be_at_it(warehouse):
    refresh(warehouse)
    before = kept(warehouse)
    add(warehouse, USER_DAYS, [late_person(3)])
    add(warehouse, USER_DAYS, [late_person(4)])
    assert kept(warehouse) == before
    for path in (warehouse.folder / FOLDER).iterdir():
        old = path.stat().st_mtime - timedelta(hours=1).total_seconds()
        os.utime(path, (old, old))
    add(warehouse, USER_DAYS, [late_person(5)])
    assert {name.partition("-")[0] for name in kept(warehouse)} == {"content_leaderboard", "rfm_segments", "identities"}


def test_the_command_says_what_it_kept_in_private_files(warehouse, capsys):
    command = ["refresh", "--warehouse", str(warehouse.folder)]
    assert main(command) == 0
    assert "activity_by_day" in (said := capsys.readouterr().err) and "written" in said
    assert main(command) == 0
    assert f"nothing has changed: {len(KEPT) + len(TABLES)} answers are kept already" in capsys.readouterr().err
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (warehouse.folder / FOLDER).iterdir()}
    assert modes == {0o600} and stat.S_IMODE((warehouse.folder / FOLDER).stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (["--warehouse", "nowhere"], "nowhere is no warehouse"),
        (["--every", "5"], "--every: got '5'; allowed: a number above 0 and one of s, m, h, d, such as 36h"),
    ],
)
def test_what_cannot_be_refreshed_is_one_line(where, said, capsys):
    assert main(["refresh", *where]) == 2
    assert said in (told := capsys.readouterr().err) and len(told.splitlines()) == 1


def test_a_refresh_beside_a_writer_follows_it_until_it_is_interrupted(warehouse):
    code = (
        "import signal, sys; from pipelines.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may have set it to be ignored
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "refresh", "--every", "1s", "--warehouse", str(warehouse.folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as following:
        try:
            first = [following.stderr.readline() for _ in (AS_OF, *KEPT, *TABLES)]
            assert all(line.endswith("written\n") for line in first[1:])
            add(warehouse, USER_DAYS, [late_person(3)])
            second = following.stderr.readline()
            assert second.startswith("as of 2026-03-12 01:00:00 UTC: ") and "answers written, " in second
            following.send_signal(signal.SIGINT)
            assert following.wait(timeout=LIMIT) == 130
        finally:
            following.kill()
    assert answers(warehouse) == computed(warehouse)
