"""Attribution: which visits get the conversions of a day, by hand and by small journeys, and that order is nothing.

The rows by hand are asked of a local warehouse and of BigQuery's emulator, in the time zone of Berlin.
"""

import random
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from pipelines.cli import main
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.tables import EVENTS, SESSIONS
from tests.pipelines.warehouse.test_metric_views import BUY, at, event, march, new_warehouse, rows_of, visit, write

EUR = {"currency": "EUR"}
THIRD = Decimal("0.066666667")


def touch(id_: str, start: datetime, channel: str, campaign=None, user=None, device=None, **flags) -> dict:
    return visit(id_, start, channel, campaign, device, user, 60, **flags)


VISITS = [
    # ann: five visits, the newest direct; she buys twice, the second time after one visit more
    touch("1", at(1, 9), "email", "spring", "ann"),
    touch("2", at(5, 9), "web", None, "ann"),
    touch("3", at(8, 9), "social", None, "ann"),
    touch("4", at(9, 9), "web", "sale", "ann"),
    touch("5", at(20, 9), "web", None, "ann"),
    touch("6", at(20, 13), "mobile", "app", "ann"),
    # bob: a visit too long ago; and none that counts, as one is a program's and one has no end
    touch("7", at(20, 9) - timedelta(days=31), "email", "old", "bob"),
    touch("8", at(19, 9), "web", "bot", "bob", is_bot=True),
    touch("9", at(19, 9), "web", "long", "bob", is_long=True),
    # cat: the day that just counts, two visits at one time on two devices, and one after the purchase
    touch("10", at(20, 0) - timedelta(days=30), "web", "edge", "cat"),
    touch("11", at(20, 9), "web", "b", "cat", "c1"),
    touch("12", at(20, 9), "mobile", "a", "cat", "c2"),
    touch("13", at(20, 15), "email", "late", "cat"),
    # dan: two visits of a device before he logs in there, and buys on another
    touch("14", at(18, 9), "social", None, None, "d1"),
    touch("15", at(19, 9), "web", None, None, "d1"),
    touch("16", at(20, 9), "web", None, "dan", "d1"),
    # a device of two users: what was before a login is of the next one, what is after of the last
    touch("17", at(10, 9), "email", "one", None, "e"),
    touch("18", at(11, 9), "web", None, "eve", "e"),
    touch("19", at(12, 9), "email", "two", None, "e"),
    touch("20", at(13, 9), "web", None, "fay", "e"),
    touch("21", at(14, 9), "email", "three", None, "e"),
    # direct only, of a device that nobody logged in on; the user of this name is another
    touch("22", at(19, 9), "web", None, None, "gus"),
    touch("23", at(20, 9), "mobile", None, None, "gus"),
    touch("24", at(20, 8), "email", "other", "gus"),
]
EVENTS_OF_20 = [
    event("ann", BUY, at(20, 12), value=Decimal(10), **EUR),
    event("ann", BUY, at(20, 14), value=Decimal(1), currency="USD"),
    event("bob", BUY, at(20, 10), value=Decimal(5), **EUR),
    event("bob", BUY, at(20, 10), value=Decimal(500), is_bot=True, **EUR),
    event("cat", BUY, at(20, 14), "again", value=Decimal(3), **EUR),
    event("cat", BUY, at(21, 14), "again", value=Decimal(3), **EUR),  # came again after its dedup window
    event("dan", BUY, at(20, 10), value=Decimal(7), **EUR),
    event("eve", "signup", at(20, 10), value=Decimal(99), **EUR),
    event("fay", "signup", at(20, 10), **EUR),
    event(None, BUY, at(20, 10), anonymous_id="gus", value=Decimal(2), **EUR),
    event(None, BUY, at(20, 11), value=Decimal(4), **EUR),  # of nobody
    event("ann", BUY, at(3, 12), **EUR),  # without a price, with one visit
]


@pytest.fixture(scope="module", params=["local", "bigquery"])
def ask(request, tmp_path_factory):
    """ask(BigQuery's SQL) -> rows as tuples."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "bigquery":
            for name, value in request.getfixturevalue("bigquery_server").environment.items():
                patch.setenv(name, value)
        with new_warehouse(request.param, tmp_path_factory.mktemp(request.param)) as warehouse:
            write(warehouse, (EVENTS, EVENTS_OF_20), (SESSIONS, VISITS))
            yield lambda sql: rows_of(warehouse, sql)


def credit(ask, model: str, condition: str = "day = '2026-03-20' AND event_type = 'purchase'") -> dict:
    """(channel, campaign, currency) -> (conversions, revenue)"""
    rows = ask(
        "SELECT channel, campaign, currency, conversions, revenue FROM attribution_by_day "
        f"WHERE model = '{model}' AND {condition}"
    )
    assert len({row[:3] for row in rows}) == len(rows)
    return {row[:3]: (Decimal(row[3]), Decimal(row[4])) for row in rows}


NOBODY = {(None, None, "EUR"): (2, 9)}  # bob, and who has no name
GUS = ("mobile", None, "EUR")


def test_the_first_visit_of_the_look_back(ask):
    assert credit(ask, "first_touch") == NOBODY | {
        ("email", "spring", "EUR"): (1, 10),
        ("email", "spring", "USD"): (1, 1),
        ("web", "edge", "EUR"): (1, 3),
        ("social", None, "EUR"): (1, 7),
        ("web", None, "EUR"): (1, 2),
    }


def test_the_last_visit_up_to_the_time_of_the_conversion(ask):
    assert credit(ask, "last_touch") == NOBODY | {
        ("web", None, "EUR"): (2, 17),  # ann, dan
        ("mobile", "app", "USD"): (1, 1),
        ("web", "b", "EUR"): (1, 3),  # at one time: by channel
        GUS: (1, 2),
    }


def test_the_last_visit_that_is_not_direct_or_the_last(ask):
    assert credit(ask, "last_non_direct") == NOBODY | {
        ("web", "sale", "EUR"): (1, 10),
        ("mobile", "app", "USD"): (1, 1),
        ("web", "b", "EUR"): (1, 3),
        ("social", None, "EUR"): (1, 7),
        GUS: (1, 2),
    }


def check(found: dict, expected: dict) -> None:
    """NUMERIC has 3 decimals in the emulator."""
    assert found.keys() == expected.keys()
    parts = [(mine - right) for key in expected for mine, right in zip(found[key], expected[key], strict=True)]
    assert max(map(abs, parts)) < Decimal("0.002"), found


def test_forty_twenty_forty_by_position(ask):
    middle, rest = Decimal("0.666666667"), Decimal("3.999999999")  # of 10: 4 to the first, 2 in three parts
    found = credit(ask, "position_based", "day = '2026-03-20' AND revenue <= 4 AND currency = 'EUR'")
    expected = {
        ("email", "spring", "EUR"): (Decimal("0.4"), 4),
        ("social", None, "EUR"): (THIRD + Decimal("0.4"), middle + Decimal("2.8")),  # dan's first
        ("web", "sale", "EUR"): (THIRD, middle),
        ("web", "edge", "EUR"): (Decimal("0.4"), Decimal("1.2")),
        ("mobile", "a", "EUR"): (Decimal("0.2"), Decimal("0.6")),
        ("web", "b", "EUR"): (Decimal("0.4"), Decimal("1.2")),
        GUS: (Decimal("0.5"), 1),
    }
    check(found, expected)
    direct = credit(ask, "position_based", "channel = 'web' AND campaign IS NULL AND currency = 'EUR'")
    expected = {  # ann in the middle and at the end, dan in the middle and at the end, and gus
        ("web", None, "EUR"): (
            THIRD + (Decimal("0.6") - 3 * THIRD) + Decimal("0.6") + Decimal("0.5"),
            middle + rest + Decimal("4.2") + 1,
        )
    }
    check(direct, expected)


def test_what_a_device_did_before_a_login_is_of_the_next_user(ask):
    signups = "day = '2026-03-20' AND event_type = 'signup'"
    first = {("email", "one", None): (1, 0), ("email", "two", None): (1, 0)}
    assert credit(ask, "first_touch", signups) == first
    assert credit(ask, "last_non_direct", signups) == {("email", "one", None): (1, 0), ("email", "three", None): (1, 0)}


def test_each_model_adds_up_to_the_orders_and_the_revenue_of_the_day(ask):
    columns = "day, currency, SUM(orders) AS orders, SUM(revenue) AS revenue"
    orders = ask(f"SELECT {columns} FROM revenue_by_day WHERE orders > 0 GROUP BY day, currency ORDER BY day, currency")
    assert [(row[0], row[1]) for row in orders] == [(march(3), "EUR"), (march(20), "EUR"), (march(20), "USD")]
    for model in ("first_touch", "last_touch", "last_non_direct", "position_based"):
        summed = ask(
            "SELECT day, currency, SUM(conversions) AS orders, SUM(revenue) AS revenue FROM attribution_by_day "
            f"WHERE model = '{model}' AND event_type = 'purchase' GROUP BY day, currency ORDER BY day, currency"
        )
        assert summed == orders, model


def test_people_are_counted_once_in_a_row_and_nobody_is_none(ask):
    rows = ask(
        "SELECT channel, converters FROM attribution_by_day WHERE day = '2026-03-20' AND model = 'last_touch' "
        "AND event_type = 'purchase' AND campaign IS NULL AND currency = 'EUR' ORDER BY channel"
    )
    assert rows == [(None, 1), ("mobile", 1), ("web", 2)]


def journeys(seed: int) -> tuple[list[dict], list[dict]]:
    """Events and visits of few people and devices, many of them at one time."""
    draw = random.Random(seed)
    hours = [at(day, hour) for day in range(1, 6) for hour in (9, 12)]
    people = [(None, "a1"), ("u1", "a1"), ("u1", None), ("u2", "a1"), (None, "a2"), ("u2", "a2")]
    visits = []
    for number in range(60):
        user, device = draw.choice(people)
        channel, campaign = draw.choice(("web", "email")), draw.choice((None, "x", "y"))
        visits.append(touch(f"{number}", draw.choice(hours), channel, campaign, user, device))
    bought = [
        event(user, BUY, draw.choice(hours), f"{number}", anonymous_id=device, value=Decimal(number), **EUR)
        for number, (user, device) in enumerate(draw.choices(people, k=20))
    ]
    return bought, visits


@pytest.mark.parametrize("seed", [1, 2])
def test_neither_the_order_of_rows_nor_their_files_matter(seed, tmp_path):
    bought, visits = journeys(seed)
    found = []
    for order in (0, 1):
        draw = random.Random(order)
        (tmp_path / f"{order}").mkdir()
        with new_warehouse("local", tmp_path / f"{order}") as warehouse:
            for rows in (draw.sample(bought, len(bought)), draw.sample(visits, len(visits))):
                cut = draw.randrange(1, len(rows))
                for part in (rows[:cut], rows[cut:]):
                    write(warehouse, (EVENTS if rows[0].get("event_id") else SESSIONS, part))
            found.append(sorted(map(repr, rows_of(warehouse, "SELECT * FROM attribution_by_day"))))
            days = [
                rows_of(warehouse, f"SELECT * FROM attribution_by_day WHERE day = '{march(n)}'") for n in range(1, 6)
            ]
            assert sorted(repr(row) for day in days for row in day) == found[-1]
    assert found[0] == found[1] and len(found[0]) > 20


LINE = '{{"event_id": "{0}", "event_type": "{1}", "event_time": "2026-03-{2:02}T10:00:00Z", "user_id": "{3}", {4}}}'
RAW = [
    LINE.format("1", "page_view", 1, "u1", '"channel": "email", "campaign": "early"'),
    LINE.format("2", "page_view", 9, "u1", '"channel": "email", "campaign": "recent"'),
    LINE.format("3", "purchase", 12, "u1", '"channel": "web", "value": 5, "currency": "EUR"'),
    LINE.format("4", "purchase", 12, "u2", '"channel": "pos", "value": 6, "currency": "EUR"'),
]
FIRST = "SELECT campaign, SUM(revenue) AS revenue FROM attribution_by_day WHERE model = 'first_touch' GROUP BY campaign"


def test_the_look_back_is_that_of_the_last_run_or_of_the_file_that_is_asked_with(tmp_path, capsys):
    events, config, place = tmp_path / "e.jsonl", tmp_path / "audience.yaml", ["--warehouse", str(tmp_path / "w")]
    events.write_text("\n".join(RAW) + "\n")
    config.write_text("attribution: {look_back_days: 7}")
    assert main(["backfill", *place, "--input", str(events), "--workers", "1"]) == 0

    def asked() -> list[tuple]:
        with open_warehouse(None, str(tmp_path / "w")) as warehouse:
            return rows_of(warehouse, f"{FIRST} ORDER BY campaign")

    assert asked() == [(None, 6), ("early", 5)]
    capsys.readouterr()
    assert main(["query", f"{FIRST} ORDER BY campaign NULLS FIRST", "--csv", *place, "--config", str(config)]) == 0
    assert capsys.readouterr().out.split() == ["campaign,revenue", ",6", "recent,5"]
    days = ["--start", "2026-03-01", "--end", "2026-03-02", "--workers", "1"]
    assert main(["recompute", *place, "--config", str(config), *days]) == 0
    assert asked() == [(None, 6), ("recent", 5)]
    assert main(["person", "--delete", "u1", *place, "--workers", "1"]) == 0
    assert asked() == [(None, 6)]


def test_a_look_back_out_of_range_is_refused_in_one_line(tmp_path, capsys):
    config = tmp_path / "audience.yaml"
    config.write_text("attribution: {look_back_days: 91}")
    assert main(["config", "--show", "--config", str(config)]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "look_back_days" in line and "90" in line
