"""The views of metrics over a small audience of known days, visits and events, their figures worked out by hand.

Each is asked of a local warehouse and of BigQuery's emulator, in the time zone of Berlin: 23:30 UTC is the next day.
"""

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from pipelines.apps.report.queries import DAY_QUESTIONS, QUESTIONS, numbers_of
from pipelines.settings.config import read_config
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.tables import EVENTS, SESSIONS
from pipelines.warehouse.views import VIEWS
from tests.support.rows import frame_of as frame_of
from tests.support.rows import write

ZONE = ZoneInfo("Europe/Berlin")
METRICS = {spec.name: table_of(spec) for spec in read_config(None).metrics}
CURRENT = {"generation": 1, "revision": 1, "firing": "on_time"}


def at(day: int, hour: int = 12, minute: int = 0, second: int = 0) -> datetime:
    """A time in Berlin in March 2026, in UTC."""
    return datetime(2026, 3, day, hour, minute, second, tzinfo=ZONE).astimezone(UTC)


def new_warehouse(kind: str, tmp_path):
    """A new warehouse in Berlin, local or in the emulator, as a context."""
    dataset = f"demo-project.d{uuid.uuid4().hex}" if kind == "bigquery" else None
    return open_warehouse(dataset, str(tmp_path / "w"), time_zone="Europe/Berlin", create=True)


@pytest.fixture(scope="module", params=["local", "bigquery"])
def audience(request, tmp_path_factory):
    """The warehouse with all rows below."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "bigquery":
            for name, value in request.getfixturevalue("bigquery_server").environment.items():
                patch.setenv(name, value)
        with new_warehouse(request.param, tmp_path_factory.mktemp(request.param)) as warehouse:
            write(
                warehouse,
                (METRICS["user_days"], USER_DAYS),
                (SESSIONS, VISITS),
                (EVENTS, [*FUNNEL, *PURCHASES]),
                (METRICS["content_1h"], CONTENTS),
            )
            yield warehouse


@pytest.fixture
def ask(audience):
    """ask(BigQuery's SQL) -> rows as tuples"""
    return lambda sql: rows_of(audience, sql)


def rows_of(warehouse, sql: str) -> list[tuple]:
    return pl.concat(list(warehouse.ask(sql))).rows()


def test_every_view_answers(ask):
    without_rows = {"quality_summary", "quarantine_open", "quarantine_by_code", "engagement_by_channel"}
    answered = {view.name for view in VIEWS if ask(f"SELECT COUNT(*) AS n FROM {view.name}")[0][0]}
    assert answered == {view.name for view in VIEWS} - without_rows


def test_a_report_asks_nothing_that_one_of_them_does_not_answer(audience):
    numbers = numbers_of(audience)
    empty = {name for name in (*QUESTIONS, *DAY_QUESTIONS) if numbers[name].is_empty()}
    assert empty == {"channels", "types", "received", "days", "books"}  # of which nothing was written, or asked
    assert numbers.last_day == march(12)
    assert numbers["funnel"].select("event_type", "persons").rows() == [(VIEW, 8.0), (CART, 6.0), (BUY, 1.0)]


# Who was there on which days of March. Cat is a program, so the last day is one without people.
DAYS = {"ann": (1, 2, 3, 10), "bob": (1, 8), "dan": (3, 5), "cat": (2, 12)}
USER_DAYS = [
    {
        "bucket_start": at(day, 0),
        "bucket_end": at(day + 1, 0),
        "person": person,
        "events": 5,
        "bot_events": {"cat": 5, "dan": 2}.get(person, 0),
        **CURRENT,
    }
    for person, days in DAYS.items()
    for day in days
]


def march(day: int) -> date:
    return date(2026, 3, day)


def test_people_of_a_day_of_7_days_and_of_28_days(ask):
    # 7 days up to the 12th are 6 to 12: bob (8) and ann (10). 28 days hold all three from the 3rd on.
    dau = [2, 1, 2, 0, 1, 0, 0, 1, 0, 1, 0, 0]
    wau = [2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2]
    mau = [2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]
    expected = [(march(n), d, w, m, n, d / m) for n, (d, w, m) in enumerate(zip(dau, wau, mau, strict=True), 1)]
    sql = "SELECT day, dau, wau, mau, days_known, stickiness FROM activity_by_day ORDER BY day"
    assert ask(sql) == expected


def test_a_person_of_a_day_is_new_returning_or_resurrecting(ask):
    told = {  # day: active, new, returning, resurrecting, dormant
        1: (2, 2, 0, 0, 0),  # ann and bob for the first time
        2: (1, 0, 1, 0, 1),  # ann again; bob not
        3: (2, 1, 1, 0, 0),  # dan for the first time
        4: (0, 0, 0, 0, 2),  # neither ann nor dan
        5: (1, 0, 0, 1, 0),  # dan after a day without
        6: (0, 0, 0, 0, 1),
        8: (1, 0, 0, 1, 0),  # bob after six days
        9: (0, 0, 0, 0, 1),
        10: (1, 0, 0, 1, 0),  # ann after a week
        11: (0, 0, 0, 0, 1),
    }
    columns = "active_persons, new_persons, returning_persons, resurrecting_persons, dormant_persons"
    rows = ask(f"SELECT day, {columns} FROM lifecycle_by_day ORDER BY day")
    assert rows == [(march(n), *told.get(n, (0,) * 5)) for n in range(1, 13)]


def test_new_returning_and_resurrecting_make_the_active_ones(ask):
    sums = "new_persons + returning_persons + resurrecting_persons AS parts"
    rows = ask(f"SELECT dau, active_persons, {sums} FROM lifecycle_by_day JOIN activity_by_day USING (day)")
    assert len(rows) == 12
    assert all(dau == active == parts for dau, active, parts in rows)


def test_retention_by_day_is_null_until_the_day_is_over(ask):
    columns = "day_n, cohort_size, retained_on, retained_on_or_after, retention_on, retention_on_or_after"
    first = ask(f"SELECT {columns} FROM retention_by_day WHERE cohort_day = '2026-03-01' ORDER BY day_n")
    on = {0: 2, 1: 1, 2: 1, 7: 1, 9: 1}  # ann on the 2nd, 3rd and 10th, bob on the 8th
    after = [2] * 8 + [1] * 2 + [0] * 2  # bob until the 8th, ann until the 10th; the 12th is the last day
    known = [(n, 2, on.get(n, 0), after[n], on.get(n, 0) / 2, after[n] / 2) for n in range(12)]
    assert first == known + [(n, 2, None, None, None, None) for n in range(12, 31)]
    third = ask("SELECT day_n, retained_on FROM retention_by_day WHERE cohort_day = '2026-03-03' ORDER BY day_n")
    on = {0: 1, 2: 1}  # dan on the 5th
    assert third == [*((n, on.get(n, 0)) for n in range(10)), *((n, None) for n in range(10, 31))]
    assert ask("SELECT COUNT(*) AS n FROM retention_by_day") == [(62,)]


def test_retention_by_week_is_null_until_the_week_is_over(ask):
    # 1 March 2026 is a Sunday: ann and bob are of the week of 23 February, dan is of the next. The 12th is a Thursday.
    columns = "cohort_week, week_n, cohort_size, retained_on, retained_on_or_after, retention_on"
    rows = ask(f"SELECT {columns} FROM retention_by_week WHERE week_n <= 2 ORDER BY 1, 2")
    assert rows == [
        (date(2026, 2, 23), 0, 2, 2, 2, 1.0),
        (date(2026, 2, 23), 1, 2, 2, 2, 1.0),
        (date(2026, 2, 23), 2, 2, None, None, None),
        (march(2), 0, 1, 1, 1, 1.0),
        (march(2), 1, 1, None, None, None),
        (march(2), 2, 1, None, None, None),
    ]


def visit(id_: str, start: datetime, channel: str, campaign, anonymous_id, user_id, seconds: float, **flags) -> dict:
    engaged = flags.pop("is_engaged", True)
    row = {"visit_id": id_, "session_start": start, "session_end": start + timedelta(seconds=seconds)}
    row |= {"channel": channel, "campaign": campaign, "anonymous_id": anonymous_id, "user_id": user_id}
    row |= {"duration_seconds": seconds, "is_engaged": engaged, "is_bounce": not engaged, "events": 1}
    return row | CURRENT | flags


LATE = at(2, 0, 30)  # still 1 March in UTC
VISITS = [
    visit("1", at(1), "web", "spring", "a1", "u1", 0.1, is_converted=True),
    visit("2", at(1, 13), "web", "spring", "a1", "u1", 5, is_engaged=False),
    visit("3", at(1), "web", None, "a2", None, 0.2),
    visit("4", at(1), "mobile", "spring", None, "u3", 0, is_converted=True),
    visit("5", at(1), "web", "spring", "a9", "u9", 99, is_bot=True),
    visit("6", at(1), "web", "spring", "a8", "u8", 99999, is_long=True),
    visit("7", LATE, "web", None, "a1", "u2", 60),
    visit("8", at(1), "web", "spring", "a7", "u7", 60),
    visit("8", at(1), "web", "spring", "a7", "u7", 60, revision=2, is_tombstone=True),
    visit("9", LATE, "email", None, "a4", None, 3, is_engaged=False),
]


def test_a_session_counts_once_on_the_day_of_its_start_without_programs_and_long_ones(ask):
    columns = "sessions, engaged_sessions, bounces, engaged_seconds"
    rates = "engagement_rate, bounce_rate, average_engaged_seconds"
    assert ask(f"SELECT day, channel, {columns}, {rates} FROM engagement_by_day ORDER BY 1, 2") == [
        (march(1), "mobile", 1, 1, 0, 0.0, 1.0, 0.0, 0.0),
        (march(1), "web", 3, 2, 1, 0.3, 2 / 3, 1 / 3, 0.15),  # and not 0.30000000000000004
        (march(2), "email", 1, 0, 1, 0.0, 0.0, 1.0, None),
        (march(2), "web", 1, 1, 0, 60.0, 1.0, 0.0, 60.0),
    ]


def test_conversion_names_both_denominators(ask):
    counts = "sessions, converted_sessions, visitors, converters"
    rates = "session_conversion_rate, visitor_conversion_rate"
    by_campaign = ask(f"SELECT day, campaign, channel, {counts}, {rates} FROM conversion_by_campaign ORDER BY 1, 2, 3")
    assert by_campaign == [
        (march(1), None, "web", 1, 0, 1, 0, 0.0, 0.0),
        (march(1), "spring", "mobile", 1, 1, 1, 1, 1.0, 1.0),
        (march(1), "spring", "web", 2, 1, 1, 1, 0.5, 1.0),
        (march(2), None, "email", 1, 0, 1, 0, 0.0, 0.0),
        (march(2), None, "web", 1, 0, 1, 0, 0.0, 0.0),
    ]
    by_channel = ask(f"SELECT day, channel, {counts}, {rates} FROM conversion_by_channel ORDER BY 1, 2")
    assert by_channel[1] == (march(1), "web", 3, 1, 2, 1, 1 / 3, 0.5)


@pytest.mark.parametrize("by", ["day", "channel", "day, channel", "TRUE"])
def test_a_rate_is_the_same_from_every_granularity(ask, by):
    """A rate made of the counts of finer rows is the rate over the visits themselves."""
    summed = "SUM(engaged_sessions) / SUM(sessions) AS a, SUM(bounces) / SUM(sessions) AS b"
    counted = "COUNTIF(is_engaged) / COUNT(*) AS a, COUNTIF(is_bounce) / COUNT(*) AS b"
    whole = ask(
        f"SELECT {by}, {counted}, COUNTIF(is_converted) / COUNT(*) AS c FROM visits GROUP BY {by} ORDER BY 2, 3"
    )
    converted = "SUM(converted_sessions) / SUM(sessions) AS c"
    for view in ("conversion_by_campaign", "conversion_by_channel"):
        assert sorted(row[-1] for row in ask(f"SELECT {by}, {converted} FROM {view} GROUP BY {by}")) == sorted(
            row[-1] for row in whole
        )
    parts = ask(f"SELECT {by}, {summed} FROM engagement_by_day GROUP BY {by} ORDER BY 2, 3")
    assert sorted(map(repr, parts)) == sorted(repr(row[:-1]) for row in whole)


def test_a_user_is_known_by_the_ids_of_its_sessions(ask):
    columns = "anonymous_id, user_id, sessions, first_seen, last_seen, users"
    assert ask(f"SELECT {columns} FROM identities ORDER BY 1, 2") == [
        ("a1", "u1", 2, at(1), at(1, 13, 0, 5), 2),
        ("a1", "u2", 1, LATE, LATE + timedelta(seconds=60), 2),
    ]


def event(person: str | None, kind: str, time: datetime, id_: str | None = None, **columns) -> dict:
    row = {"event_id": id_ or f"{person} {kind} {time}", "event_type": kind, "event_time": time}
    return row | {"received_time": time, "source": "shop", "user_id": person} | columns


VIEW, CART, BUY = read_config(None).funnel.steps
EXACTLY_A_DAY = at(3, 0, 30)
FUNNEL = [
    *(event("whole", VIEW, at(1, 10)), event("whole", CART, at(1, 10, 5)), event("whole", BUY, at(1, 10, 20))),
    # the cart was before the view
    *(event("backward", CART, at(1, 9)), event("backward", VIEW, at(1, 10)), event("backward", BUY, at(1, 11))),
    # bought an hour after the window
    *(event("late", VIEW, at(1, 10)), event("late", CART, at(1, 12)), event("late", BUY, at(2, 11))),
    # at one instant the steps are in their order, whatever the ids
    *(event("tie", VIEW, at(1, 10), "t2"), event("tie", CART, at(1, 10), "t1")),
    *(event("other tie", VIEW, at(1, 10), "o1"), event("other tie", CART, at(1, 10), "o2")),
    # the clock runs from the first view of the day
    *(event("twice", VIEW, at(1, 10)), event("twice", VIEW, at(1, 10, 30)), event("twice", CART, at(1, 10, 31))),
    # a program, and nobody
    *(event("bot", kind, at(1, 10), is_bot=True) for kind in (VIEW, CART, BUY)),
    *(event(None, kind, at(1, 10)) for kind in (VIEW, CART, BUY)),
    # the window's last instant counts, the one after it does not
    *(event("edge", VIEW, LATE), event("edge", CART, EXACTLY_A_DAY)),
    event("edge", BUY, EXACTLY_A_DAY + timedelta(microseconds=1)),
    event("only", VIEW, at(4)),
    # an id that came again after its dedup window: it is the first one's time that counts
    event("only", VIEW, at(5), f"only {VIEW} {at(4)}", received_time=at(7)),
]


def test_the_funnel_is_ordered_greedy_and_within_its_window(ask):
    columns = "step, event_type, persons, first_persons, previous_persons"
    rates = "conversion_from_first, conversion_from_previous, median_seconds_from_previous"
    assert ask(f"SELECT day, {columns}, {rates} FROM funnel_by_day ORDER BY day, step") == [
        (march(1), 1, VIEW, 6, 6, None, 1.0, None, None),
        # the ties after 0 s, whole 300 s, twice 1,860 s, late 7,200 s
        (march(1), 2, CART, 5, 6, 6, 5 / 6, 5 / 6, 300.0),
        (march(1), 3, BUY, 1, 6, 5, 1 / 6, 1 / 5, 900.0),
        (march(2), 1, VIEW, 1, 1, None, 1.0, None, None),
        (march(2), 2, CART, 1, 1, 1, 1.0, 1.0, 86400.0),
        (march(2), 3, BUY, 0, 1, 1, 0.0, 0.0, None),
        (march(4), 1, VIEW, 1, 1, None, 1.0, None, None),
        (march(4), 2, CART, 0, 1, 1, 0.0, 0.0, None),
        (march(4), 3, BUY, 0, 1, 0, 0.0, None, None),
    ]


def bought(person: str, currency: str, *values: tuple[int, int]) -> list[dict]:
    return [
        event(person, BUY, at(day, 12, n), currency=currency, value=Decimal(value))
        for n, (day, value) in enumerate(values)
    ]


PURCHASES = [
    *bought("q1", "EUR", (20, 10)),
    *bought("q2", "EUR", (13, 20), (14, 20), (15, 20)),
    *bought("q3", "EUR", (9, 30), (10, 30)),
    *bought("q4", "EUR", (5, 500)),
    *bought("q5", "EUR", (4, 5)),
    *bought("g1", "GBP", (20, 100), (20, 100)),
    *(row for n in range(2, 6) for row in bought(f"g{n}", "GBP", (14 - n, 7))),
]


def test_segments_score_each_currency_for_itself_and_equal_values_equally(ask):
    columns = "person, recency_days, purchases, revenue, recency_score, frequency_score, monetary_score, segment"
    assert ask(f"SELECT {columns} FROM rfm_segments WHERE currency = 'EUR' ORDER BY person") == [
        ("q1", 0, 1, 10, 5, 1, 2, "new"),
        ("q2", 5, 3, 60, 4, 5, 3, "loyal"),  # as much money as q3: the same score
        ("q3", 10, 2, 60, 3, 4, 3, "loyal"),
        ("q4", 15, 1, 500, 2, 1, 5, "at_risk"),
        ("q5", 16, 1, 5, 1, 1, 1, "lost"),
    ]
    segments = ask("SELECT person, recency_score, segment FROM rfm_segments WHERE currency = 'GBP' ORDER BY person")
    assert segments == [
        ("g1", 5, "champion"),
        ("g2", 4, "new"),
        ("g3", 3, "promising"),
        ("g4", 2, "lost"),
        ("g5", 1, "lost"),
    ]
    # Those who bought without a price are scored among themselves; programs and nobody are left out.
    without = ask("SELECT person, purchases, revenue FROM rfm_segments WHERE currency IS NULL ORDER BY person")
    assert without == [(person, 1, None) for person in ("backward", "edge", "late", "whole")]


def content(day: int, content_id: str, views: int, clicks: int, likes: int) -> dict:
    row = {"bucket_start": at(day), "bucket_end": at(day, 13), "content_id": content_id, "category": "news"}
    return row | {"views": views, "impressions": views, "clicks": clicks, "likes": likes} | CURRENT


# The 10th is the last day: the 4th is in its 7 days, the 3rd is not.
CONTENTS = [content(10, "x", 100, 10, 5), content(10, "y", 1, 1, 1), content(4, "z", 99, 9, 14)]
CONTENTS += [content(3, "x", 1000, 900, 800), content(3, "old", 9, 9, 9)]


def test_rates_of_the_leaderboard_are_drawn_to_the_overall_rate_with_a_weight_of_20(ask):
    columns = "content_id, views, click_through_rate, smoothed_click_through_rate, click_through_place"
    more = "engagement_rate, smoothed_engagement_rate, engagement_place"
    overall = "overall_click_through_rate, overall_engagement_rate"
    # Overall 20 of 200 clicked, and 20 of 200 reacted: 0.1, so 20 events more hold 2.
    assert ask(f"SELECT {columns}, {more}, {overall} FROM content_leaderboard ORDER BY content_id") == [
        ("x", 100, 0.1, 12 / 120, 2, 0.05, 7 / 120, 3, 0.1, 0.1),
        ("y", 1, 1.0, 3 / 21, 1, 1.0, 3 / 21, 1, 0.1, 0.1),
        ("z", 99, 9 / 99, 11 / 119, 3, 14 / 99, 16 / 119, 2, 0.1, 0.1),
    ]


@pytest.fixture(params=["local", "bigquery"])
def other(request, tmp_path):
    """Another new warehouse."""
    if request.param == "bigquery":
        request.getfixturevalue("bigquery")
    with new_warehouse(request.param, tmp_path) as warehouse:
        yield warehouse


def test_live_now_are_the_last_five_minutes(other):
    now = datetime.now(UTC)
    times = {"in": now - timedelta(minutes=1), "out": now - timedelta(minutes=6), "ahead": now + timedelta(hours=1)}
    rows = [event(person, VIEW, time, content_id="c") for person, time in times.items()]
    rows += [event("in", BUY, times["in"]), event("bot", VIEW, times["in"], is_bot=True)]
    write(other, (EVENTS, rows))
    columns = "persons, events, views, purchases, contents, last_event_time"
    assert rows_of(other, f"SELECT {columns} FROM live_now") == [(1, 2, 1, 1, 1, times["in"])]


def test_without_rows_no_view_invents_any(other):
    write(other)
    for view in VIEWS:
        expected = [(0,)] if view.name != "live_now" else [(1,)]
        assert rows_of(other, f"SELECT COUNT(*) AS n FROM {view.name}") == expected, view.name
