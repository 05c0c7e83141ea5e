"""The views that ask the events themselves: money, the events of a visit, first touches and their cohorts, by hand.

Each is asked of a local warehouse and of BigQuery's emulator, in the time zone of Berlin.
"""

from datetime import date
from decimal import Decimal

import pytest

from pipelines.warehouse.tables import EVENTS, SESSIONS
from tests.pipelines.warehouse.test_metric_views import (
    BUY,
    CURRENT,
    METRICS,
    VIEW,
    at,
    event,
    march,
    new_warehouse,
    rows_of,
    visit,
    write,
)

US = {"channel": "web", "country": "US", "currency": "USD"}
EUR = {"currency": "EUR"}
MONEY = [
    event("c1", BUY, at(2), value=Decimal(50), **US),
    event("c2", BUY, at(2), value=Decimal(20), **US),
    # one source writes a refund with a sign, another without
    event("c1", "refund", at(3), value=Decimal(-15), **US),
    event("c1", "refund", at(4), value=Decimal(35), **US),
    # 23:30 UTC is the next day; nobody buys too, and something without a price; a program does not
    event(None, BUY, at(3, 0, 30), "00", value=Decimal("0.1"), **EUR),
    event("e1", BUY, at(3), **EUR),
    event("e1", BUY, at(3, 13), value=Decimal("0.2"), **EUR),
    event("e2", BUY, at(3), "again", value=Decimal(3), **EUR),
    event("e2", BUY, at(4), "again", value=Decimal(3), **EUR),  # an id that came again after its dedup window
    event("bot", BUY, at(3), value=Decimal(999), is_bot=True, **EUR),
    event("g1", BUY, at(2), value=Decimal(1), currency="GBP"),
    event("g2", BUY, at(5), value=Decimal(1), currency="GBP"),
]
TOUCHES = [
    event("p", VIEW, at(1, 9), "1", sequence=2, channel="web", campaign="b", anonymous_id="a1"),
    event("p", VIEW, at(1, 9), "2", sequence=1, campaign="c", anonymous_id="a1"),
    event("p", VIEW, at(1, 9, 0, 1), "3", channel="email", country="DE", device="watch"),
    event("p", VIEW, at(1, 9, 0, 1), "4", channel="email", country="FR", received_time=at(1, 8)),
    event("p", VIEW, at(1, 9, 0, 1), "5", device="phone"),  # equal to 3 in all: the smaller text
    event("bot", VIEW, at(1, 9), "6", channel="iot", is_bot=True),
    event(None, VIEW, at(1, 9), "7", anonymous_id="q"),
    event(None, VIEW, at(1, 9), "8"),
]
VISITS = [
    visit("v1", at(1, 9), "web", None, "a1", "p", 600, country="FR", device="phone", is_converted=True),
    visit("v2", at(1, 9), "email", None, None, "q", 600, country="DE", device="phone"),  # the user q
    visit("v3", at(1, 11), "web", None, "q", None, 600, country="FR", device="watch", is_engaged=False),
]
USER_DAYS = [
    {"bucket_start": at(day, 0), "person": person, "events": 1, "bot_events": 0} | CURRENT
    for person, day in (("p", 1), ("p", 3), ("q", 1), ("p", 15), ("late", 3))
]


@pytest.fixture(scope="module", params=["local", "bigquery"])
def ask(request, tmp_path_factory):
    """ask(BigQuery's SQL) -> rows as tuples, of a warehouse with all rows above."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "bigquery":
            for name, value in request.getfixturevalue("bigquery_server").environment.items():
                patch.setenv(name, value)
        with new_warehouse(request.param, tmp_path_factory.mktemp(request.param)) as warehouse:
            write(
                warehouse,
                (EVENTS, [*MONEY, *TOUCHES]),
                (SESSIONS, VISITS),
                (METRICS["user_days"], USER_DAYS),
            )
            yield lambda sql: rows_of(warehouse, sql)


def test_revenue_is_gross_and_a_refund_is_subtracted_whatever_its_sign(ask):
    money = "orders, buyers, revenue, refunds, refunded_buyers, net_revenue"
    rows = ask(f"SELECT day, channel, country, currency, {money} FROM revenue_by_day ORDER BY day, currency")
    assert rows == [
        (march(2), None, None, "GBP", 1, 1, 1, 0, 0, 1),
        (march(2), "web", "US", "USD", 2, 2, 70, 0, 0, 70),
        (march(3), None, None, "EUR", 4, 2, Decimal("3.3"), 0, 0, Decimal("3.3")),
        (march(3), "web", "US", "USD", 0, 0, 0, 15, 1, -15),
        (march(4), "web", "US", "USD", 0, 0, 0, 35, 1, -35),
        (march(5), None, None, "GBP", 1, 1, 1, 0, 0, 1),
    ]
    total = "SELECT SUM(revenue) AS a, SUM(refunds) AS b, SUM(net_revenue) AS c FROM revenue_by_day"
    assert ask(f"{total} WHERE currency = 'USD'") == [(70, 50, 20)]


def test_recency_is_unknown_where_all_bought_last_on_one_day(ask):
    columns = "currency, person, recency_score, segment"
    assert ask(f"SELECT {columns} FROM rfm_segments ORDER BY currency, person") == [
        ("EUR", "e1", None, "unknown"),
        ("EUR", "e2", None, "unknown"),
        ("GBP", "g1", 1, "lost"),
        ("GBP", "g2", 3, "promising"),
        ("USD", "c1", None, "unknown"),
        ("USD", "c2", None, "unknown"),
    ]


def test_an_event_has_the_visit_that_its_visitor_was_in(ask):
    rows = ask("SELECT event_id, visit_id FROM visit_events WHERE LENGTH(event_id) = 1 ORDER BY event_id")
    # The anonymous q is not the user q, and its own visit began later.
    assert rows == [("1", "v1"), ("2", "v1"), *((n, None) for n in "345678")]
    joined = "SELECT day, person, visits.channel AS c FROM visit_events JOIN visits USING (visit_id)"
    assert ask(joined.replace("day", "visits.day AS d")) == [(march(1), "p", "web")] * 2
    assert ask("SELECT COUNT(*) AS n FROM visit_events") == ask("SELECT COUNT(*) AS n FROM events")


def test_a_first_touch_goes_by_time_then_sequence_then_receipt_then_text(ask):
    columns = "person, first_seen, channel, campaign, country, device"
    rows = ask(f"SELECT {columns} FROM first_touches WHERE person IN ('p', 'q', 'bot') ORDER BY person")
    assert rows == [("p", at(1, 9), "web", "c", "FR", "phone"), ("q", at(1, 9), None, None, None, None)]


def test_cohorts_of_a_week_by_the_channel_that_they_came_from(ask):
    counts = "cohort_size, retained_on, retained_on_or_after"
    cells = f"SELECT cohort_week, channel, week_n, {counts} FROM retention_by_channel"
    # 1 March is a Sunday, of the week of 23 February; the last day is the 15th, a Sunday.
    assert ask(f"{cells} WHERE week_n < 4 ORDER BY cohort_week, channel, week_n") == [
        *(
            (date(2026, 2, 23), None, n, 1, *counted)
            for n, counted in enumerate([(1, 1), (0, 0), (0, 0), (None, None)])
        ),
        *(
            (date(2026, 2, 23), "web", n, 1, *counted)
            for n, counted in enumerate([(1, 1), (1, 1), (1, 1), (None, None)])
        ),
        *((march(2), None, n, 1, *counted) for n, counted in enumerate([(1, 1), (0, 0), (None, None), (None, None)])),
    ]


def test_sessions_by_device_and_country(ask):
    devices = "SELECT device, sessions, engaged_sessions, bounces FROM engagement_by_device ORDER BY device"
    assert ask(devices) == [("phone", 2, 2, 0), ("watch", 1, 0, 1)]
    countries = "SELECT country, sessions, converted_sessions, visitors, converters FROM conversion_by_country"
    assert ask(f"{countries} ORDER BY country") == [("DE", 1, 0, 1, 0), ("FR", 2, 1, 2, 1)]


def test_events_once_have_their_day_and_person(ask):
    rows = ask(
        "SELECT event_id, day, person FROM events_unique WHERE event_id IN ('00', '1', '7', 'again') ORDER BY event_id"
    )
    assert rows == [("00", march(3), None), ("1", march(1), "p"), ("7", march(1), "q"), ("again", march(3), "e2")]
