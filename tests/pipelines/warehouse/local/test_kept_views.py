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
from pipelines.warehouse.local.kept_days import FOLDER as BY_DAY_FOLDER
from pipelines.warehouse.local.kept_views import BY_DAY, FOLDER, KEPT, keep_days, kept_days_of, refresh
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.sink import by_day
from pipelines.warehouse.tables import EVENTS
from tests.pipelines.warehouse.test_day_questions import DAYS, at, event, rows_of_every_day, write
from tests.pipelines.warehouse.test_metric_views import METRICS, SESSIONS, frame_of
from tests.servers.needed import LIMIT

TABLES = [table.name for each in PASSES for table in each.tables]  # of answers, which the command shows after the views
USER_DAYS = METRICS["user_days"]


@pytest.fixture
def warehouse(tmp_path) -> LocalWarehouse:
    return write(tmp_path / "w", *rows_of_every_day())


def answers(warehouse: LocalWarehouse, names=KEPT) -> dict:
    found = {name: warehouse.answer(f"SELECT * FROM {name}").frame() for name in names}
    return {name: (rows.schema, sorted(map(repr, rows.rows()))) for name, rows in found.items()}


def computed(warehouse: LocalWarehouse, names=KEPT) -> dict:
    """The answers without what is kept."""
    for name in (FOLDER, BY_DAY_FOLDER):
        (warehouse.folder / name).mkdir(exist_ok=True)
        (warehouse.folder / name).rename(warehouse.folder / f"{name}-aside")
    try:
        return answers(warehouse, names)
    finally:
        for name in (FOLDER, BY_DAY_FOLDER):
            (warehouse.folder / f"{name}-aside").rename(warehouse.folder / name)


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


def lacking(warehouse: LocalWarehouse) -> dict[str, str | None]:
    """The days of which there are no kept rows, by view."""
    manifest = warehouse.manifest()
    parts = kept_days_of(warehouse, manifest, manifest, warehouse.view_texts(), BY_DAY)
    return {name: part.others for name, part in parts.items()}


def test_kept_days_of_views_stand_beside_the_days_that_have_changed(warehouse):
    keep_days(warehouse, 1)
    assert lacking(warehouse) == dict.fromkeys(BY_DAY, f"day IN (DATE '{at(DAYS - 1).date()}')")
    assert answers(warehouse, BY_DAY) == computed(warehouse, BY_DAY)
    keep_days(warehouse)
    assert lacking(warehouse) == dict.fromkeys(BY_DAY)
    before = answers(warehouse, BY_DAY)
    add(warehouse, USER_DAYS, [late_person(3)])
    session = {"visit_id": "late", "session_start": at(4), "session_end": at(4, 13), "anonymous_id": "late"}
    add(warehouse, SESSIONS, [session | {"generation": 2, "revision": 1, "firing": "late"}])
    assert lacking(warehouse) == {
        "visits": f"day IN (DATE '{at(4).date()}')",
        "active_days": f"day IN (DATE '{at(3).date()}')",
        "engagement_by_content": None,
    }
    after = answers(warehouse, BY_DAY)
    assert after == computed(warehouse, BY_DAY) and after["active_days"] != before["active_days"]
    for day in (3, 4):
        asked = f"SELECT COUNT(*) AS n FROM active_days JOIN visits USING (day) WHERE day = DATE '{at(day).date()}'"
        expected = [sum(repr(at(day).date()) in row for row in after[name][1]) for name in ("active_days", "visits")]
        assert warehouse.answer(asked).frame()["n"][0] == expected[0] * expected[1] > 0


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
