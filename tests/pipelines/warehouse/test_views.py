"""The views over rows of known content, their figures worked out by hand."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
import sqlglot

from pipelines.settings.attribution import Attribution
from pipelines.settings.config import read_config
from pipelines.warehouse.bigquery.schema import view_description
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.dialect import relations_of, to_duckdb, view_to_duckdb
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.sink import by_day
from pipelines.warehouse.tables import (
    EVENTS,
    QUALITY_1M,
    QUARANTINE,
    SESSIONS,
    Column,
    metric_table,
    polars_schema,
)
from pipelines.warehouse.tables import TABLES as SHIPPED_TABLES
from pipelines.warehouse.views import VIEWS, _shipped, bigquery_views, in_duckdb
from tests.support.rows import asked
from transforms import quality
from transforms.sessions.funnel import Funnel

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATE = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)  # already 2 March in Berlin
COUNTS = ("views", "clicks", "impressions", "likes", "shares", "comments")
CONTENT = metric_table(
    "content_1h",
    "Contents",
    ["content_id", "category"],
    [Column(name, "INT64", "REQUIRED", name) for name in COUNTS],
)
ACTIVITY = metric_table("activity_1m", "Activity", ["channel", "event_type"], [Column("events", "INT64")])
TABLES = (CONTENT, ACTIVITY)
USER_DAYS = metric_table("user_days", "", ["person"], [Column("events", "INT64"), Column("bot_events", "INT64")])
FUNNEL = Funnel(("page_view", "signup"))


@pytest.fixture
def ask(tmp_path):
    """ask(sql, (table, [row, ...]), ...) -> answer as tuples, of a warehouse in Berlin with these rows."""
    warehouse = LocalWarehouse.open(tmp_path / "w", time_zone="Europe/Berlin", create=True)

    def answer(sql, *tables):
        with warehouse.writer() as run:
            run.declare(TABLES)
            frames = [(table, pl.DataFrame(rows, schema=polars_schema(table))) for table, rows in tables]
            run.commit(
                write_file(run.staging, table.name, day, part)
                for table, frame in frames
                for day, part in by_day(frame, table.partition, warehouse.time_zone)
            )
        return asked(warehouse, sql).rows()

    return answer


def content(content_id, generation, revision, *counts, at=NOON, category="news") -> dict:
    row = {"bucket_start": at, "content_id": content_id, "category": category, "firing": "on_time"}
    return row | {"generation": generation, "revision": revision} | dict(zip(COUNTS, counts, strict=True))


def test_current_is_the_highest_generation_then_revision_of_each_key(ask):
    rows = [
        content("a", 1, 9, 1, 0, 0, 0, 0, 0),
        content("a", 2, 1, 2, 0, 0, 0, 0, 0),
        content("a", 2, 2, 3, 0, 0, 0, 0, 0),
        content("a", 1, 1, 4, 0, 0, 0, 0, 0, at=LATE),
        content("a", 1, 1, 5, 0, 0, 0, 0, 0, category=None),
        content("a", 1, 2, 6, 0, 0, 0, 0, 0, category=None),
    ]
    assert ask("SELECT views FROM content_1h_current ORDER BY views", (CONTENT, rows)) == [(3,), (4,), (6,)]


def test_rates_of_a_content_are_of_its_day_and_null_without_a_denominator(ask):
    rows = [
        content("a", 1, 1, 8, 3, 10, 1, 0, 1),
        content("a", 1, 1, 2, 1, 10, 1, 1, 0, at=NOON + timedelta(hours=1)),
        content("a", 1, 1, 0, 0, 5, 1, 0, 0, at=LATE),
        content("b", 1, 1, 4, 1, 0, 0, 0, 0),
    ]
    sql = """SELECT content_id, CAST(day AS VARCHAR), views, clicks, impressions, likes, shares, comments,
        click_through_rate, engagement_rate FROM engagement_by_content ORDER BY content_id, day"""
    assert ask(sql, (CONTENT, rows)) == [
        ("a", "2026-03-01", 10, 4, 20, 2, 1, 1, 0.2, 0.4),
        ("a", "2026-03-02", 0, 0, 5, 1, 0, 0, 0.0, None),
        ("b", "2026-03-01", 4, 1, 0, 0, 0, 0, None, 0.0),
    ]


def test_rates_of_a_channel_come_from_its_event_types(ask):
    events = [("web", "page_view", 8), ("web", "click", 2), ("web", "impression", 16), ("web", "like", 2)]
    events += [("web", "purchase", 5), (None, "share", 3)]
    rows = [
        {
            "bucket_start": NOON,
            "channel": channel,
            "event_type": kind,
            "events": n,
            "generation": 1,
            "revision": 1,
        }
        for channel, kind, n in events
    ]
    sql = """SELECT channel, events, views, clicks, impressions, likes, shares, comments,
        click_through_rate, engagement_rate FROM engagement_by_channel ORDER BY channel"""
    assert ask(sql, (ACTIVITY, rows)) == [
        ("web", 33, 8, 2, 16, 2, 0, 0, 0.125, 0.25),
        (None, 3, 0, 0, 0, 0, 3, 0, None, None),
    ]


def test_an_event_is_unique_by_its_earliest_receipt(ask):
    rows = [
        {
            "source": source,
            "event_id": "1",
            "event_time": NOON,
            "received_time": NOON + timedelta(hours=hours),
            "quantity": n,
        }
        for source, hours, n in [("a", 30, 1), ("a", 2, 2), ("b", 40, 3)]
    ]
    assert ask("SELECT quantity FROM events_unique ORDER BY 1", (EVENTS, rows)) == [(2,), (3,)]


def books(input_, at, revision, firing, *values) -> dict:
    """A row of the audit counts; `values` are those of quality.COUNTS, in their order."""
    row = {"source": "s", "input": input_, "bucket_start": at, "firing": firing, "generation": 1}
    return row | {"revision": revision} | dict(zip(quality.COUNTS, values, strict=True))


def test_the_books_balance_by_minute_and_input(ask):
    rows = [
        books("f1", NOON, 1, "early", 10, 0, 2, 0, 0, 0, 0, 0, 0),
        books("f1", NOON, 2, "on_time", 10, 3, 4, 2, 1, 1, 2, 1, 3),
        books("f1", None, 1, "on_time", 3, 0, 0, 0, 0, 3, 0, 0, 0),
        books("f2", NOON, 1, "early", 7, 0, 4, 1, 0, 0, 0, 0, 0),
    ]
    table = (QUALITY_1M, rows)
    minutes = "SELECT input, balance, in_flight FROM quality_1m_current ORDER BY input, bucket_start NULLS LAST"
    assert ask(minutes, table) == [("f1", 0, False), ("f1", 0, False), ("f2", 2, True)]
    assert ask("SELECT * FROM quality_summary ORDER BY input") == [
        ("s", "f1", 13, 3, 4, 2, 1, 4, 2, 1, 3, 0, 0),
        ("s", "f2", 7, 0, 4, 1, 0, 0, 0, 0, 0, 2, 1),
    ]


def test_open_quarantine_is_the_last_attempt_of_what_never_passed(ask):
    rows = [
        {
            "quarantine_id": id_,
            "attempt": attempt,
            "stage": "validate",
            "code": code,
            "source": "s",
            "input": "f",
        }
        for id_, attempt, code in [
            ("1", 1, "too_long"),
            ("1", 2, "invalid_currency"),
            ("2", 1, "too_long"),
            ("2", 2, None),
            ("3", 1, "too_long"),
        ]
    ]
    opened = ask("SELECT quarantine_id, attempt, code FROM quarantine_open ORDER BY 1", (QUARANTINE, rows))
    assert opened == [("1", 2, "invalid_currency"), ("3", 1, "too_long")]
    by_code = ask("SELECT source, input, stage, code, records FROM quarantine_by_code ORDER BY code")
    assert by_code == [("s", "f", "validate", "invalid_currency", 1), ("s", "f", "validate", "too_long", 1)]


def test_a_view_without_its_table_or_columns_is_left_out():
    without_likes = metric_table("content_1h", "", ["content_id", "category"], CONTENT.columns[4:7])
    names = [name for name, _ in bigquery_views([EVENTS, without_likes], "UTC")]
    assert names == [
        "content_1h_current",
        "events_unique",
        "first_touches",
        "revenue_by_day",
        "rfm_segments",
        "live_now",
    ]


def test_without_a_funnel_or_attribution_its_view_is_left_out():
    assert "attribution_by_day" not in dict(bigquery_views([EVENTS, SESSIONS], "UTC"))
    assert "funnel_by_day" not in dict(bigquery_views([EVENTS], "UTC"))
    assert "funnel_by_day" in dict(bigquery_views([EVENTS], "UTC", FUNNEL))


def test_a_view_comes_after_the_views_it_reads_and_parses_as_bigquery():
    tables = (EVENTS, QUARANTINE, QUALITY_1M, SESSIONS, USER_DAYS, *TABLES)
    views = bigquery_views(tables, "UTC", FUNNEL, attribution=Attribution())
    names = [name for name, _ in views]
    for position, (name, sql) in enumerate(views):
        tree = sqlglot.parse_one(sql, read="bigquery")
        own = {each.alias for each in tree.find_all(sqlglot.exp.CTE)}
        read = {table.name for table in tree.find_all(sqlglot.exp.Table)} - own
        assert read & set(names) <= set(names[:position]), name
        assert "{{" not in sql
    current = {f"{table}_current" for table in ("quality_1m", "sessions", "user_days", "content_1h", "activity_1m")}
    assert set(names) == current | {view.name for view in VIEWS}
    assert len(names) == len(set(names))


def translated(name: str, sql: str) -> str:
    return view_to_duckdb(sql, frozenset(view.name for view in VIEWS), name.endswith("_current"))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_a_shipped_translation_is_what_the_parser_makes_of_the_view_in_any_time_zone(zone):
    configuration = read_config(None)
    tables = [*SHIPPED_TABLES, *map(table_of, configuration.metrics)]
    made = bigquery_views(tables, zone, configuration.funnel, attribution=configuration.attribution)
    shipped = {name: _shipped(sql, zone) for name, sql in made}
    assert None not in shipped.values()
    asked = [(name, in_duckdb(name, sql, zone)) for name, sql in made]
    assert asked == [(name, translated(name, sql)) for name, sql in made]
    assert {name: set(each.reads) for name, each in shipped.items()} == {name: relations_of(sql) for name, sql in made}


def test_a_view_of_another_funnel_is_translated_when_it_is_asked():
    (sql,) = [sql for name, sql in bigquery_views([EVENTS], "UTC", FUNNEL) if name == "funnel_by_day"]
    assert _shipped(sql, "UTC") is None
    assert in_duckdb("funnel_by_day", sql, "UTC") == translated("funnel_by_day", sql)


def test_a_view_says_in_its_first_line_what_it_is():
    tables = (EVENTS, QUARANTINE, QUALITY_1M, SESSIONS, USER_DAYS, *TABLES)
    for name, sql in bigquery_views(tables, "UTC", FUNNEL, attribution=Attribution()):
        assert view_description(sql).endswith("."), name


def test_a_whole_division_is_of_the_whole_operands(ask):
    assert ask(to_duckdb("SELECT DIV(3 + 4, 2) AS a, DIV(7, 1 + 2) AS b, DIV(7, 2) AS c")) == [(3, 2, 3)]


def test_bigquery_numeric_and_countif_keep_their_meaning(ask):
    sql = "SELECT CAST('1.123456789' AS NUMERIC) AS v, COUNTIF(is_bot) AS n, SAFE_DIVIDE(1, 0) AS r FROM events"
    assert ask(to_duckdb(sql)) == [(Decimal("1.123456789"), 0, None)]
