"""A question that names a day reads the files of that day and the stated few around it, and its answer is the same."""

import random
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
import sqlglot
from sqlglot import exp

from pipelines.settings.attribution import Attribution
from pipelines.settings.config import read_config
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.metric_tables import tables_of
from pipelines.warehouse.sink import by_day
from pipelines.warehouse.tables import EVENTS
from pipelines.warehouse.views import bigquery_views
from tests.pipelines.warehouse.test_metric_views import METRICS, SESSIONS, frame_of

FIRST = date(2026, 3, 1)
DAYS = 12
DAY = FIRST + timedelta(days=6)
NEAR = {  # view -> the days from DAY on whose files a question about DAY reads
    "events_unique": range(-1, 2),
    "visits": range(1),
    "engagement_by_day": range(1),
    "engagement_by_device": range(1),
    "engagement_by_channel": range(1),
    "engagement_by_content": range(1),
    "conversion_by_campaign": range(1),
    "conversion_by_channel": range(1),
    "conversion_by_country": range(1),
    "funnel_by_day": range(-1, 4),  # its window of 24 hours may end two days later, where clocks are set forward
    "revenue_by_day": range(-1, 2),
    "attribution_by_day": range(-3, 2),
    "active_days": range(1),
}
CONFIGURATION = read_config(None)
TABLES = tables_of(CONFIGURATION.metrics)
ATTRIBUTION = Attribution(look_back_days=3)


def at(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 3, 1, hour, tzinfo=UTC) + timedelta(days=day)


def write(folder, events: list[dict], others=()) -> LocalWarehouse:
    warehouse = LocalWarehouse.open(folder, create=True)
    with warehouse.writer() as run:
        run.declare(TABLES.values(), CONFIGURATION.funnel, ATTRIBUTION)
        rows = [(EVENTS, events), *others]
        run.commit(
            write_file(run.staging, table.name, day, part)
            for table, some in rows
            for day, part in by_day(frame_of(table, some), table.partition, "UTC")
        )
    return warehouse


def event(number: int, day: int, kind: str, **columns) -> dict:
    row = {"event_id": f"{number}", "event_type": kind, "event_time": at(day), "received_time": at(day)}
    return row | {"source": "s", "user_id": f"u{number % 7}", "channel": "web"} | columns


def rows_of_every_day() -> tuple[list[dict], list]:
    kinds = [*CONFIGURATION.funnel.steps, "refund"]
    events = [event(4 * day + n, day, kind, value=n + 1) for day in range(DAYS) for n, kind in enumerate(kinds)]
    current = {"generation": 1, "revision": 1, "firing": "on_time"}
    spans = [{"bucket_start": at(day, 0), "bucket_end": at(day, 1)} | current for day in range(DAYS)]
    visits = [{"visit_id": f"{day}", "session_start": at(day), "session_end": at(day, 13)} for day in range(DAYS)]
    return events, [
        (SESSIONS, [row | {"anonymous_id": "a", "channel": "web"} | current for row in visits]),
        (METRICS["user_days"], [row | {"person": "u1", "events": 2, "bot_events": 0} for row in spans]),
        (METRICS["content_1h"], [row | {"content_id": "c", "views": 1} for row in spans]),
        (METRICS["activity_1m"], [row | {"channel": "web", "event_type": "click", "events": 1} for row in spans]),
    ]


def answer(warehouse: LocalWarehouse, sql: str) -> pl.DataFrame:
    rows = warehouse.answer(sql).frame()
    return rows.sort(rows.columns)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> LocalWarehouse:
    return write(tmp_path_factory.mktemp("whole") / "w", *rows_of_every_day())


@pytest.fixture
def spoiled(tmp_path):
    """spoiled(days) -> a warehouse whose files are garbage of the same size, but for those of these days from DAY on,
    and those of the first day, whose columns stand for those of all files."""

    def make(near: range) -> LocalWarehouse:
        warehouse = write(tmp_path / "w", *rows_of_every_day())
        intact = {FIRST, *(DAY + timedelta(days=n) for n in near)}
        for table in warehouse.tables():
            for path in warehouse.files(table):
                if date.fromisoformat(path.parent.name) not in intact:
                    path.write_bytes(b"x" * path.stat().st_size)
        return warehouse

    return make


@pytest.mark.parametrize("view", NEAR)
def test_a_question_about_a_day_opens_the_files_of_the_stated_days_alone(view, whole, spoiled):
    expected = answer(whole, f"SELECT * FROM {view}").filter(pl.col("day") == DAY)
    assert len(expected)
    warehouse = spoiled(NEAR[view])
    for condition in (f"= DATE '{DAY}'", f"BETWEEN '{DAY}' AND '{DAY}'", f"IN (DATE '{DAY}')"):
        assert answer(warehouse, f"SELECT * FROM {view} WHERE day {condition}").equals(expected), condition


def test_the_day_of_events_decides_their_files(spoiled):
    assert answer(spoiled(range(1)), f"SELECT count(*) AS n FROM events WHERE day = '{DAY}'").item() == 4


# What needs more than some days around, and what counts places over all of its rows.
OF_ALL_DAYS = {
    *("activity_by_day", "lifecycle_by_day", "retention_by_day", "retention_by_week", "retention_by_channel"),
    *("first_touches", "content_leaderboard", "rfm_segments", "identities", "live_now"),
    *("quality_summary", "quarantine_open", "quarantine_by_code"),
}


def test_every_window_of_a_view_by_day_has_the_day_in_its_key():
    """In BigQuery, a condition passes a window only if it is one on the window's key."""
    made = bigquery_views(TABLES.values(), "Europe/Berlin", CONFIGURATION.funnel, attribution=ATTRIBUTION)
    for name, sql in made:
        if name not in OF_ALL_DAYS:
            for window in sqlglot.parse_one(sql, read="bigquery").find_all(exp.Window):
                keys = {each.sql("bigquery").replace("`", "") for each in window.args.get("partition_by", ())}
                days = {f"DATE({time}, 'Europe/Berlin')" for time in ("bucket_start", "session_start", "event_time")}
                assert keys & {"day", *days}, (name, window.sql("bigquery"))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_id_that_returns_on_the_next_day_counts_once_whichever_day_is_asked(seed, tmp_path):
    draw = random.Random(seed)
    events = []
    for number in range(60):
        day, kind = draw.randrange(1, DAYS - 1), draw.choice(CONFIGURATION.funnel.steps)
        events.append(event(number, day, kind))
        if draw.random() < 0.5:
            received = at(draw.randrange(DAYS), draw.randrange(24))
            events.append(event(number, day + draw.choice((-1, 0, 1)), kind, received_time=received, quantity=1))
    draw.shuffle(events)
    warehouse = write(tmp_path / "w", events)
    once = (
        "SELECT event_id, day, quantity FROM events QUALIFY row_number() OVER (PARTITION BY source, event_id ORDER BY "
    )
    expected = answer(warehouse, once + "received_time, event_time, input) = 1")
    columns = "SELECT event_id, day, quantity FROM events_unique"
    assert answer(warehouse, columns).equals(expected)
    days = [answer(warehouse, f"{columns} WHERE day = '{FIRST + timedelta(days=day)}'") for day in range(DAYS)]
    assert pl.concat(days).sort(expected.columns).equals(expected)
