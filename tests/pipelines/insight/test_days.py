"""What a refresh keeps of each day: the answers are those without it, and a change is asked of the days it touches."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from pipelines.insight.days import asking
from pipelines.insight.feedback import compute as feedback
from pipelines.insight.series import read_series
from pipelines.insight.trends import busy_hours
from pipelines.settings.config import read_config
from pipelines.warehouse.conditions import Without
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.local.kept_days import FOLDER
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.sink import by_day
from pipelines.warehouse.tables import EVENTS
from tests.pipelines.warehouse.test_day_questions import TABLES
from tests.pipelines.warehouse.test_metric_views import METRICS, SESSIONS, frame_of

ZONE = "America/New_York"  # whose clocks change on 8 March 2026
FIRST, DAYS, LATE = date(2026, 3, 5), 7, 4  # a day is late where the clocks have changed before
START = datetime(2026, 3, 5, 5, tzinfo=UTC)
AS_OF = START + timedelta(days=DAYS, minutes=90)
CONFIGURATION = read_config(None)


def at(day: int, minutes: int = 0) -> datetime:
    return START + timedelta(days=day, hours=6, minutes=minutes)


def event(number: int, day: int, kind: str, minutes: int = 0, **columns) -> dict:
    time = at(day, minutes)
    row = {"source": "s", "event_id": f"{number}", "event_type": kind, "event_time": time, "received_time": time}
    return row | {"user_id": f"u{number % 5}", "channel": ("web", "app", None)[number % 3], "input": "a"} | columns


def rows() -> list:
    texts = ("This is wonderful, thank you", "Terrible, it never works", "The parcel came today")
    kinds = [("purchase", {"value": 7, "currency": "EUR"}), ("comment", {"text": texts[0]}), ("click", {})]
    events = [
        event(10 * day + n, day, kind, 97 * n, **more) for day in range(DAYS) for n, (kind, more) in enumerate(kinds)
    ]
    # Copies of one id on both sides of midnight: which one counts is known from the day beside alone.
    events += [
        event(500 + day, day, "purchase", 17 * 60 + 30, value=1, received_time=at(day, 3000)) for day in range(3)
    ]
    events += [event(500 + day, day + 1, "purchase", -5 * 60, value=2) for day in range(3)]
    now = {"generation": 1, "revision": 1, "firing": "on_time"}
    minutes = [{"bucket_start": at(n % DAYS, n * 61), "bucket_end": at(n % DAYS, n * 61 + 1)} for n in range(40)]
    counted = [now | row | {"channel": "web", "event_type": "click", "events": n} for n, row in enumerate(minutes)]
    visits = [
        {"visit_id": f"{n}", "session_start": at(n % DAYS, n), "session_end": at(n % DAYS, n + 9)} for n in range(9)
    ]
    visits = [now | row | {"anonymous_id": "a", "channel": "app", "is_bot": False} for row in visits]
    return [(EVENTS, events), (METRICS["activity_1m"], counted), (SESSIONS, visits)]


def add(warehouse: LocalWarehouse, given: list) -> None:
    with warehouse.writer() as run:
        run.declare(TABLES.values())
        parts = [
            (table, *part) for table, some in given for part in by_day(frame_of(table, some), table.partition, ZONE)
        ]
        run.commit([write_file(run.staging, table.name, day, part) for table, day, part in parts])


@pytest.fixture
def warehouse(tmp_path) -> LocalWarehouse:
    made = LocalWarehouse.open(tmp_path / "w", ZONE, create=True)
    add(made, rows())
    return made


def answers(warehouse: LocalWarehouse, keeps: bool = True) -> dict:
    with asking(warehouse, AS_OF, CONFIGURATION) as given:
        inputs = given if keeps else given._replace(kept=None)
        found = {f"series {every}": read_series(inputs, every, START, end) for every, end in ENDS.items()}
        busy = busy_hours(inputs, START, AS_OF.replace(minute=0) + timedelta(hours=1))
        return found | feedback(inputs) | {f"busy {key}": shape.tolist() for key, shape in busy.of.items()}


ENDS = {"1h": AS_OF.replace(minute=0), "1d": START + timedelta(days=DAYS, hours=-1)}  # a day of 23 hours is among them


def same(one: dict, other: dict) -> bool:
    equal = {
        name: rows.equals(other[name]) if hasattr(rows, "equals") else rows == other[name] for name, rows in one.items()
    }
    assert {name for name, is_equal in equal.items() if not is_equal} == set()
    return one.keys() == other.keys()


def kept(warehouse: LocalWarehouse) -> set[str]:
    return {f"{path.relative_to(warehouse.folder)}" for path in (warehouse.folder / FOLDER).glob("*/*")}


def days_of(names: set[str], of: str) -> set[int]:
    days = {date.fromisoformat(name.rpartition("/")[2][:10]) for name in names if f"/{of}." in name}
    return {(day - FIRST).days for day in days}


def add_late(warehouse: LocalWarehouse) -> None:
    add(warehouse, [(EVENTS, [event(900, LATE, "purchase", value=50, currency="EUR", text="Great")])])


def rewrite(warehouse: LocalWarehouse) -> None:
    """The day in a new file of equal rows, as a merge of small files or a replay that finds nothing new leaves it."""
    day = FIRST + timedelta(days=LATE)
    again = warehouse.scan("events", [day]).collect()
    with warehouse.writer() as run:
        run.commit([write_file(run.staging, "events", day, again)], {"events": [day]})


def recompute(warehouse: LocalWarehouse) -> None:
    day = FIRST + timedelta(days=LATE)
    others = warehouse.scan("events", [day]).filter(pl.col("event_id") != "900").collect()
    with warehouse.writer() as run:
        run.commit([write_file(run.staging, "events", day, others)], {"events": [day]})


def erase(warehouse: LocalWarehouse) -> None:
    days = [FIRST + timedelta(days=day) for day in range(DAYS)]
    with warehouse.writer() as run:
        run.commit([], {"events": days}, keep={"events": Without(("user_id",), frozenset({"u1"}))})
        run.purge()


def test_after_each_change_the_answers_are_those_of_all_days_and_the_days_it_touches_are_asked(warehouse):
    now, files = answers(warehouse), kept(warehouse)
    for change in (add_late, rewrite, recompute, erase):
        before = now
        change(warehouse)
        now = answers(warehouse)
        assert same(now, answers(warehouse, keeps=False))
        assert (change is rewrite) == before["series 1h"].equals(now["series 1h"])
        added, files = kept(warehouse) - files, kept(warehouse)
        if change is not erase:
            assert (
                days_of(added, "purchases_by_hour") == days_of(added, "feedback_events") == {LATE - 1, LATE, LATE + 1}
            )
        assert not days_of(added, "activity_1m_by_hour") and not days_of(added, "sessions_by_hour")
    times = {name: (warehouse.folder / name).stat().st_mtime_ns for name in files}
    assert same(now, answers(warehouse))
    assert {name: (warehouse.folder / name).stat().st_mtime_ns for name in kept(warehouse)} == times


def test_an_erasure_leaves_no_rows_of_the_person_and_all_days_without_them(warehouse):
    answers(warehouse)
    texts = list((warehouse.folder / FOLDER).glob("feedback_events.*/*"))
    assert "u1" in str([pl.read_parquet(path)["user_id"].to_list() for path in texts])
    erase(warehouse)
    texts = [path for path in (warehouse.folder / FOLDER).glob("*/*") if "hour" not in str(path)]
    assert "u1" not in str([pl.read_parquet(path)["user_id"].to_list() for path in texts])
    assert days_of(kept(warehouse), "sessions_by_hour") == set(range(DAYS))


def test_a_commit_while_a_day_is_asked_leaves_nothing_that_is_out_of_date(warehouse):
    with asking(warehouse, AS_OF, CONFIGURATION) as inputs:
        add_late(warehouse)
        read_series(inputs, "1h", START, ENDS["1h"])
    assert LATE not in days_of(kept(warehouse), "purchases_by_hour")
    assert same(answers(warehouse), answers(warehouse, keeps=False))
