"""The oracle itself, against answers worked out by hand: a proof against a wrong oracle proves nothing."""

import gzip
import importlib.util
import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.real_data import real_set

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).parent / "oracle.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
oracle = _module.oracle

NOON = "2026-03-01T12:00:00Z"


def line(**fields) -> bytes:
    """A native record; a field given as None is left out."""
    record = {"event_id": "e1", "event_type": "page_view", "event_time": NOON, "received_time": NOON} | fields
    return json.dumps({name: value for name, value in record.items() if value is not None}).encode()


@pytest.fixture
def ask(tmp_path):
    """ask(lines, query, **options) -> rows; `lines` is written as it stands, joined by newlines."""

    def answer(lines, query, name="events.jsonl", kind="native", **options):
        path = tmp_path / name
        content = b"\n".join(lines) + b"\n"
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return oracle([str(path)], kind, **options).sql(query).fetchall()

    return answer


def fate(ask, **fields):
    """(stage, code) of one native record; None for an event."""
    rows = ask([line(**fields)], "SELECT stage, code FROM o_quarantine UNION ALL SELECT NULL, NULL FROM o_events")
    assert len(rows) == 1
    return rows[0] if rows[0][0] else None


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_every_line_but_an_empty_one_is_a_record(ask, name):
    broken = [
        b"\xff\xfe",
        b"caf\xe9",
        b'{"event_type": "cli',
        b"[1]",
        b"null",
        b"42",
        b"a,b",
        b'"q',
        b"  \t",
        b'{"a":"\\ud800"}',
    ]
    lenient = [
        b'{"event_type":"click",}',
        b'{"event_type":"click","value":NaN}',
        b'{"event_type":"click","value":-Infinity}',
    ]
    lines = [
        line(),
        *broken,
        b"",
        b"\r",
        *lenient,
        line(event_id="e2") + b"\r",
        line(event_id="e3", text="NaN, }\u20ac"),
    ]
    counts = ask(
        lines,
        "SELECT (SELECT count(*) FROM o_events),"
        " (SELECT count(*) FROM o_quarantine WHERE code = 'invalid_json'),"
        " (SELECT sum(received) FROM o_quality)",
        name=name,
    )
    assert counts == [(3, len(broken) + len(lenient), 3 + len(broken) + len(lenient))]


@pytest.mark.parametrize(
    "fields",
    [{"user_id": 5}, {"value": "5"}, {"value": {}}, {"quantity": 1.5}, {"quantity": 3.0}, {"quantity": 2**63},
     {"quantity": "1"}, {"is_bot": 1}, {"rating": "good"}, {"event_type": ["click"]}, {"source": 1},
     {"text": True}],
)  # fmt: skip
def test_a_wrong_json_type_is_refused(ask, fields):
    assert fate(ask, **fields) == ("parse", "wrong_type")


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("invalid_event_id", {"event_id": ""}),
        ("invalid_event_id", {"event_id": "x" * 129}),
        ("invalid_event_id", {"event_id": "a\nb"}),
        ("missing_event_type", {"event_type": None}),
        ("invalid_event_type", {"event_type": ""}),
        ("invalid_event_type", {"event_type": "Click"}),
        ("invalid_event_type", {"event_type": "x" * 65}),
        ("invalid_event_type", {"event_type": "click\n"}),
        ("invalid_source", {"source": "My Shop"}),
        ("too_long", {"user_id": "u" * 257}),
        ("too_long", {"referrer": "r" * 2049}),
        ("too_long", {"text": "\u20ac" * 2731}),
        ("invalid_channel", {"channel": "tv"}),
        ("invalid_channel", {"channel": ""}),
        ("invalid_currency", {"currency": "usd"}),
        ("invalid_value", {"value": 1e29}),
        # the first of several rules in the order of the contract
        ("invalid_event_id", {"event_id": "", "event_type": None, "channel": "tv"}),
        ("too_long", {"device": "d" * 257, "channel": "tv", "value": 1e30}),
        ("invalid_channel", {"channel": "tv", "currency": "usd", "value": 1e30}),
    ],
)
def test_the_first_broken_rule_gives_the_code(ask, code, fields):
    assert fate(ask, **fields) == ("validate", code)


@pytest.mark.parametrize(
    "fields",
    [{"event_id": "\u00e9" * 128}, {"event_type": "x" * 64}, {"source": "a.b-c_1"},
     {"user_id": "\u20ac" * 256}, {"referrer": "r" * 2048}, {"text": "\u20ac" * 2730}, {"channel": "pos"},
     {"currency": "EUR"}, {"value": 9.9e28}, {"value": -12}, {"quantity": -3}, {"rating": 4},
     {"properties": [1, {"a": None}]}, {"unknown": {"b": 1}}],
)  # fmt: skip
def test_the_limits_themselves_are_allowed(ask, fields):
    assert fate(ask, **fields) is None


@pytest.mark.parametrize(
    ("source", "time", "fields"),
    [
        ("client", "12:00:00", {}),
        ("client", "12:00:00", {"received_time": None}),
        ("client", "12:00:00", {"received_time": None, "sent_time": "2026-03-01T13:00:00Z"}),
        ("client", "12:00:00", {"event_time": "2026-03-01T17:30:00+05:30"}),
        ("client", "12:00:00.123456", {"event_time": "2026-03-01T12:00:00.1234569Z"}),
        ("client", "13:00:00", {"event_time": "2026-03-01T13:00:00Z"}),
        ("future_clamped", "12:00:00", {"event_time": "2026-03-01T13:00:00.000001Z"}),
        ("received_missing", "12:00:00", {"event_time": None}),
        ("received_invalid", "12:00:00", {"event_time": "yesterday"}),
        ("received_invalid", "12:00:00", {"event_time": "2026-02-30T12:00:00Z"}),
        ("received_invalid", "12:00:00", {"event_time": "2026-03-01T12:00:00"}),
        ("received_invalid", "12:00:00", {"event_time": 1772366400}),
        ("client", "12:00:00", {"sent_time": "2026-03-01T12:01:00Z"}),
        # sent 90 s after it was received: the clock is 90 s fast
        ("skew_corrected", "11:58:30", {"sent_time": "2026-03-01T12:01:30Z"}),
        # 3 h fast: the shift brings a time of tomorrow back
        (
            "skew_corrected",
            "11:59:00",
            {"event_time": "2026-03-01T14:59:00Z", "sent_time": "2026-03-01T15:00:00Z"},
        ),
        (
            "future_clamped",
            "12:00:00",
            {"event_time": "2026-03-03T12:00:00Z", "sent_time": "2026-03-01T15:00:00Z"},
        ),
    ],
)
def test_event_time_rules(ask, source, time, fields):
    rows = ask([line(**fields)], "SELECT time_source, event_time FROM o_events")
    assert rows == [(source, datetime.fromisoformat(f"2026-03-01T{time}"))]


def test_no_time_and_too_late(ask):
    assert fate(ask, event_time="?", received_time=None) == ("event_time", "no_time")
    assert fate(ask, received_time="2026-03-02T12:00:00Z") is None
    assert fate(ask, received_time="2026-03-02T12:00:00.001Z") == ("late", "too_late")
    rows = ask([line(received_time="2026-03-01T12:00:02Z")], "SELECT code FROM o_quarantine", max_lateness_s=1)
    assert rows == [("too_late",)]


def test_a_trusted_clock_is_not_corrected(ask):
    record = {"id": "1", "dt": NOON, "repo": "a/b", "type": "watch", "actor": "c"}
    columns = "event_type, time_source, user_id, content_id, channel"
    rows = ask([json.dumps(record).encode()], f"SELECT {columns} FROM o_events", kind="github", clock="trusted")
    assert rows == [("like", "trusted", "c", "a/b", "social")]


def test_false_ids_become_null_with_a_warning(ask):
    rows = ask(
        [
            line(user_id="[object Object]", anonymous_id="a1"),
            line(event_id="e2", user_id="", anonymous_id="NaN"),
        ],
        "SELECT user_id, person, warnings FROM o_events ORDER BY event_id",
    )
    assert rows == [(None, "a1", "null_user_id"), (None, None, "null_user_id,null_anonymous_id")]


def test_dedup_keeps_the_first_received_and_counts_the_others(ask):
    lines = [
        line(value=1, received_time="2026-03-01T12:00:05Z"),  # conflict: another value
        line(value=2, received_time="2026-03-01T12:00:01Z"),  # kept
        line(value=2, received_time="2026-03-01T12:00:09Z", sent_time="2026-03-01T12:00:00Z"),  # duplicate
        line(value=1, source="shop"),  # another source
        line(value=1, event_time="2026-02-28T23:59:59Z"),  # another day of the client's time
        line(value=1, event_time=None),  # no time of its own: the day of received_time, so the id's fourth copy
    ]
    # The last copy has the smallest received_time (12:00:00) of its day, so it is the one that is kept.
    assert ask(lines, "SELECT source, event_time, value FROM o_events ORDER BY ALL") == [
        ("events", datetime(2026, 2, 28, 23, 59, 59), Decimal(1)),
        ("events", datetime(2026, 3, 1, 12), Decimal(1)),
        ("shop", datetime(2026, 3, 1, 12), Decimal(1)),
    ]
    assert ask(lines[:3], "SELECT value, received_time FROM o_events") == [(2, datetime(2026, 3, 1, 12, 0, 1))]
    assert ask(lines[:5], "SELECT conflict FROM o_duplicates ORDER BY ALL") == [(False,), (True,)]
    assert ask(lines[:5], "SELECT event_id, dedup_day, copies, conflicts, tied FROM o_conflicted") == [
        ("e1", date(2026, 3, 1), 3, 1, False)
    ]


def test_copies_received_together_that_differ_are_marked_tied(ask):
    assert ask([line(value=1), line(value=2)], "SELECT conflicts, tied FROM o_conflicted") == [(1, True)]


def test_records_without_id_are_the_same_if_all_but_transport_is(ask):
    first = {"event_type": "click", "event_time": NOON, "received_time": NOON, "a": 1}
    again = {"a": 1, "received_time": "2026-03-01T12:00:01Z", "event_time": NOON, "event_type": "click"}
    other = first | {"a": 2}
    lines = [json.dumps(record).encode() for record in (first, again, other)]
    assert ask(lines, "SELECT (SELECT count(*) FROM o_events), (SELECT count(*) FROM o_duplicates)") == [(2, 1)]
    assert ask(lines, "SELECT DISTINCT event_id, id_source FROM o_events") == [(None, "derived")]


def test_range_is_cut_at_a_margin_before_dedup_and_at_the_days_after_it(ask):
    def at(day, name, second=0):
        return line(event_id=name, event_time=f"{day}T12:00:00Z", received_time=f"{day}T12:00:{second:02}Z")

    lines = [at("2026-02-27", "far"), at("2026-02-27", "far", 1), at("2026-02-28", "margin"),
             at("2026-02-28", "margin", 1), at("2026-03-01", "in"), at("2026-03-02", "margin"),
             at("2026-03-03", "far")]  # fmt: skip
    books = "SELECT sum(received), sum(events), sum(duplicates), sum(out_of_range) FROM o_quality"
    assert ask(lines, books, start="2026-03-01", end="2026-03-02") == [(7, 1, 1, 5)]
    assert ask(lines, "SELECT event_id FROM o_events", start="2026-03-01", end="2026-03-02") == [("in",)]


PURCHASE = {"event_type": "purchase", "campaign": "m", "channel": "web"}
SIGNUP = {"event_id": "8", "event_type": "signup", "campaign": "m", "channel": "web"}
SHOP = [
    line(event_id="1", event_type="impression", user_id="u", content_id="c", category="k", channel="web"),
    line(event_id="2", event_type="click", user_id="u", content_id="c", category="k", channel="web"),
    line(event_id="3", event_type="click", anonymous_id="v", content_id="c", category="k", channel="web"),
    line(event_id="4", event_type="add_to_cart", user_id="u", campaign="m", channel="web"),
    line(event_id="5", user_id="u", currency="EUR", value=0.1, **PURCHASE),
    line(event_id="6", user_id="w", currency="EUR", value=0.2, **PURCHASE),
    line(event_id="7", user_id="w", currency="USD", value=5, event_time="2026-03-01T12:59:59Z", **PURCHASE),
    line(**SIGNUP),
    line(received_time="2026-03-01T12:01:00Z", **SIGNUP),
    b"not json",
    line(event_id="9", channel="tv"),
]  # fmt: skip


def test_the_catalogue_of_a_small_shop(ask):
    noon, day = datetime(2026, 3, 1, 12), datetime(2026, 3, 1)
    assert ask(SHOP, "SELECT * FROM o_activity_1m WHERE event_type = 'click'") == [(noon, "web", "click", 2, 2)]
    assert ask(SHOP, "SELECT * FROM o_content_1h") == [(noon, "c", "k", 0, 2, 1, 0, 0, 0, 2)]
    assert ask(SHOP, "SELECT * FROM o_campaign_1h ORDER BY currency NULLS FIRST") == [
        (noon, "m", "web", None, 1, 1, 1, 0, 0, None),
        (noon, "m", "web", "EUR", 2, 0, 0, 2, 2, Decimal("0.300000000")),
        (noon, "m", "web", "USD", 1, 0, 0, 1, 1, Decimal("5.000000000")),
    ]
    assert ask(SHOP, "SELECT * FROM o_user_days WHERE person = 'w'") == [
        (day, "w", 2, 0, 0, 0, 0, 0, 0, 0, 2, noon, datetime(2026, 3, 1, 12, 59, 59))
    ]


def test_the_books_balance_by_minute_of_receipt(ask):
    noon = datetime(2026, 3, 1, 12)
    columns = "bucket_start, received, events, duplicates, conflicts, quarantined, out_of_range"
    assert ask(SHOP, f"SELECT {columns} FROM o_quality ORDER BY 1 NULLS FIRST") == [
        (None, 1, 0, 0, 0, 1, 0),
        (noon, 9, 8, 0, 0, 1, 0),
        (noon.replace(minute=1), 1, 0, 1, 0, 0, 0),
    ]


GITHUB = {"publish": 82830, "comment": 16398, "submit": 11802, "like": 9327, "share": 4149, "delete": 2274}
GITHUB |= {"follow": 617}


@pytest.mark.parametrize(
    ("kind", "name", "files", "by_type", "users", "contents"),
    [
        ("github", "github-events", "*.json.gz", GITHUB, 45170, 48772),
        ("wikipedia", "wikipedia-edits", "*.jsonl.gz", {"edit": 36966, "publish": 2278}, 10531, 35278),
        ("ads", "ad-impressions", "men.csv.gz", {"impression": 10000, "click": 69}, 238, 34),
        ("otto", "otto-sessions", "train.jsonl", {"click": 800, "add_to_cart": 52, "purchase": 10}, 20, 510),
        ("retail", "retail-orders", "*.parquet", {"purchase": 231897, "refund": 4262}, 2974, 3645),
    ],
)  # fmt: skip
def test_real_data_gives_the_figures_of_its_readme(kind, name, files, by_type, users, contents):
    connection = oracle(sorted(map(str, real_set(name).glob(files))), kind)
    assert dict(connection.sql("SELECT event_type, count(*) FROM o_events GROUP BY ALL").fetchall()) == by_type
    distinct = connection.sql("SELECT count(DISTINCT person), count(DISTINCT content_id) FROM o_events").fetchall()
    assert distinct == [(users, contents)]
    assert connection.sql("SELECT count(*) FROM o_quarantine").fetchall() == [(0,)]


def at(time: str, **fields) -> bytes:
    return line(event_time=f"2026-03-01T{time}Z", received_time=f"2026-03-01T{time}Z", **fields)


def test_a_visit_ends_with_thirty_minutes_without_an_event(ask):
    lines = [
        at("12:00:00", event_id="1", anonymous_id="a"),
        at("12:29:59.999999", event_id="2", anonymous_id="a", user_id="u", content_id="x"),
        at("12:59:59.999999", event_id="3", anonymous_id="a", content_id="y"),
        at("12:01:00", event_id="4", user_id="a"),  # another visitor than the anonymous a
        at("12:02:00", event_id="5"),  # nobody
    ]
    found = ask(
        lines, "SELECT anonymous_id, user_id, events, entry_content_id, duration_seconds FROM o_sessions ORDER BY ALL"
    )
    assert found == [("a", "u", 2, "x", 1799.999999), ("a", None, 1, "y", 0.0), (None, "a", 1, None, 0.0)]


def test_of_several_at_one_time_the_smallest_text_is_first_and_the_largest_last(ask):
    lines = [at("12:00:00", event_id=id, anonymous_id="a", content_id=id, user_id=id) for id in ("n", "m", "o")]
    rows = ask(lines, "SELECT entry_content_id, exit_content_id, user_id, is_engaged FROM o_sessions")
    assert rows == [("m", "o", "o", True)]  # three views


def test_the_revenue_of_a_visit_is_told_by_currency(ask):
    lines = [
        at(f"12:0{n}:00", event_id=str(n), anonymous_id="a", event_type=kind, value=value, currency=currency)
        for n, (kind, value, currency) in enumerate(
            [("purchase", 1.5, "EUR"), ("purchase", 2, "EUR"), ("purchase", 7, None), ("click", 9, "EUR")]
        )
    ]
    rows = ask(lines, "SELECT currency, value FROM o_session_revenue ORDER BY ALL NULLS LAST")
    assert rows == [("EUR", Decimal("3.5")), (None, Decimal(7))]
    assert ask(lines, "SELECT purchases, is_converted, furthest_step FROM o_sessions") == [(3, True, 3)]


def seen(n: int, person: str, day: int, kind: str = "page_view", hour: int = 12, **fields) -> bytes:
    at = f"2026-03-{day:02}T{hour:02}:00:00Z"
    return line(event_id=f"{n:02}", event_type=kind, user_id=person, event_time=at, received_time=at, **fields)


# Ann is there on the 1st, 2nd and 9th, bob on the 1st and 3rd, a program on the 2nd.
PEOPLE = [
    *(seen(1, "ann", 1), seen(2, "ann", 1, "add_to_cart", 13), seen(3, "ann", 2, "purchase", 13, value=5)),
    *(seen(4, "ann", 9, "purchase", value=6), seen(5, "bob", 1, "add_to_cart", 11), seen(6, "bob", 1)),
    *(seen(7, "bob", 3, "purchase", value=11), seen(8, "crawler", 2, is_bot=True)),
]


def test_what_the_views_must_say_of_a_few_people(ask):
    def found(query):
        return ask(PEOPLE, query, views=True)

    assert found("SELECT dau, wau, mau FROM o_activity_by_day ORDER BY day") == [
        *((2, 2, 2), (1, 2, 2), (1, 2, 2), (0, 2, 2), (0, 2, 2), (0, 2, 2), (0, 2, 2)),
        *((0, 2, 2), (1, 2, 2)),  # the 8th: 2 to 8; the 9th: 3 to 9
    ]
    lifecycle = found("SELECT * EXCLUDE (day) FROM o_lifecycle_by_day ORDER BY day")
    assert lifecycle[:4] == [(2, 2, 0, 0, 0), (1, 0, 1, 0, 1), (1, 0, 0, 1, 1), (0, 0, 0, 0, 1)]
    assert lifecycle[8] == (1, 0, 0, 1, 0)
    days = found("SELECT n, cohort_size, retained_on, retained_on_or_after FROM retention(1, 10) ORDER BY n")
    assert days[:4] == [(0, 2, 2, 2), (1, 2, 1, 2), (2, 2, 1, 2), (3, 2, 0, 1)]
    assert days[8:] == [(8, 2, 1, 1), (9, 2, None, None)]
    # 1 March 2026 is a Sunday, and the week of the 9th is not over.
    weeks = found("SELECT cohort, n, retained_on FROM retention(7, 3) ORDER BY n")
    assert weeks == [(date(2026, 2, 23), 0, 2), (date(2026, 2, 23), 1, 2), (date(2026, 2, 23), 2, None)]
    # Ann bought a day after her cart, and 25 hours after her view; bob's cart was before his view.
    funnel = (
        "SELECT persons_1, persons_2, persons_3, median_2 FROM funnel(['page_view', 'add_to_cart', 'purchase'], {})"
    )
    assert found(funnel.format(25 * 3600)) == [(2, 1, 1, 3600.0)]
    assert found(funnel.format(25 * 3600 - 1)) == [(2, 1, 0, 3600.0)]
    scores = (
        "SELECT person, recency_days, purchases, revenue, recency_score, frequency_score FROM o_rfm ORDER BY person"
    )
    assert found(scores) == [("ann", 0, 2, 11, 3, 3), ("bob", 6, 1, 11, 1, 1)]
    money = "SELECT day, orders, buyers, revenue, refunds, refunded_buyers FROM o_revenue ORDER BY day"
    assert found(money) == [
        (date(2026, 3, 2), 1, 1, 5, 0, 0),
        (date(2026, 3, 3), 1, 1, 11, 0, 0),
        (date(2026, 3, 9), 1, 1, 6, 0, 0),
    ]
    assert found("SELECT * FROM o_first_channel ORDER BY person") == [("ann", None), ("bob", None)]


def test_the_leaderboard_is_of_the_last_seven_days(ask):
    contents = [seen(1, "a", 1, content_id="old"), seen(2, "a", 2, content_id="new"), seen(3, "a", 8, content_id="new")]
    contents += [seen(4, "a", 8, "like", content_id="new")]
    rows = ask(contents, "SELECT content_id, views, reactions, smoothed_engagement_rate FROM o_leaderboard", views=True)
    assert rows == [("new", 2, 1, (1 + 20 * 0.5) / 22)]
