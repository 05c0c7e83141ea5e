"""Profiles: rows by hand, counts equal to SQL over raw events, and nothing in them of what happened after the time."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest

from pipelines.batch.backfill import backfill
from pipelines.cli import main
from pipelines.insight.clock import offsets
from pipelines.insight.profiles import PASS, compute
from pipelines.insight.recommendations import PASS as RECOMMENDATIONS
from pipelines.insight.refresh import refresh
from pipelines.insight.shape import Inputs
from pipelines.settings.config import read_config
from pipelines.settings.resolve import Place, resolve
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.sink import by_day
from pipelines.warehouse.tables import TABLES
from transforms.insight.settings import Attribute, Insight, Profiles

T = datetime(2026, 4, 1, 10, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ATTRIBUTES = {
    "clicks": Attribute("count", event_types=("click",)),
    "spent": Attribute("sum", "value", ("purchase",), 365),
    "kinds": Attribute("distinct", "category"),
    "country": Attribute("last", "country"),
}


def computed(warehouse, as_of: datetime = T, zone: str = "Europe/Berlin", **keys) -> dict[str, pl.DataFrame]:
    configuration = read_config(None)._replace(insight=Insight(profiles=Profiles(**keys)))
    with warehouse.asking() as ask:
        found = compute(Inputs(ask, as_of, zone, warehouse.names(), configuration))
    tables = {table.name: table for table in PASS.tables}
    assert set(found) == set(tables)
    keyed = {name: rows.sort(tables[name].key[1:]) for name, rows in found.items() if not rows.is_empty()}
    for name, rows in keyed.items():
        assert not rows.select(tables[name].key[1:]).is_duplicated().any(), name
    return {name: keyed.get(name, found[name]) for name in found}


def filled(folder, lines: list[dict]) -> LocalWarehouse:
    folder.mkdir()
    (folder / "e.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = {"input": [str(folder / "e.jsonl")], "warehouse": str(folder / "w"), "workers": "1"}
    backfill(resolve(options | {"time_zone": "Europe/Berlin"}))
    return LocalWarehouse.open(folder / "w")


def event(number: int, before: timedelta, kind: str = "click", **columns) -> dict:
    time = (T - before).isoformat()
    return {"event_id": f"e{number}", "event_type": kind, "event_time": time, "source": "web"} | columns


BY_HAND = [
    event(1, 40 * DAY, "page_view", anonymous_id="a1", category="old", content_id="c1", channel="web"),
    event(2, 20 * DAY, "signup", anonymous_id="a1", user_id="u1", channel="email", country="DE"),
    event(3, 7 * DAY, anonymous_id="a1", category="shoes", content_id="c2", channel="web", country="FR"),
    event(4, 7 * DAY - HOUR / 4, anonymous_id="a1", category="bags", content_id="c2", channel="web"),
    event(5, 2 * HOUR, anonymous_id="a1", category="bags", content_id="c3", channel="email"),
    event(6, 10 * DAY, "purchase", user_id="u1", value=12.5, currency="EUR"),
    event(7, 9 * DAY, "impression", user_id="u1", category="films", content_id="c9"),
    event(10, 5 * DAY, anonymous_id="shared", user_id="u2"),
    event(11, 4 * DAY, anonymous_id="shared", user_id="u3"),
    event(12, 3 * DAY, anonymous_id="shared"),
    event(13, 3 * HOUR, anonymous_id="a9"),
    event(14, 3 * HOUR, user_id="robot", is_bot=True),
    event(15, 3 * HOUR),
    event(16, HOUR / 4, anonymous_id="late"),  # its session may go on
]
AFTER = [
    event(20, -HOUR, "purchase", user_id="u1", value=99, currency="EUR"),
    event(21, -HOUR, "signup", anonymous_id="a9", user_id="u9"),
    event(22, -HOUR, anonymous_id="a1", user_id="u4"),
    event(23, timedelta(0), user_id="at-the-time"),
    event(24, -HOUR / 4, anonymous_id="a9", user_id="u9"),
]


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory) -> LocalWarehouse:
    return filled(tmp_path_factory.mktemp("profiles") / "hand", BY_HAND + AFTER)


def test_rows_by_hand(by_hand):
    found = computed(by_hand, half_life=7, attributes=ATTRIBUTES)
    profiles = {row["person"]: row for row in found["user_profiles"].to_dicts()}
    assert set(profiles) == {"u1", "u2", "u3", "a9", "late"}, (
        "of a shared device and of nobody is nobody's, and no program is one"
    )
    one = profiles["u1"]
    assert one.pop("first_seen") == T - 40 * DAY and one.pop("last_seen") == T - 2 * HOUR
    assert one.pop("recency_days") == pytest.approx(2 / 24)
    assert one == {
        "person": "u1",
        "is_user": True,
        "events": 7,
        "events_1d": 1,
        "events_7d": 3,  # at 7 days too
        "events_28d": 6,
        "active_days_28d": 5,
        "sessions_28d": 5,  # e6 and e7 have no anonymous id: sessions of their own
        "engaged_sessions_28d": 3,  # the signup, the purchase, and 15 minutes
        "session_seconds_28d": pytest.approx(900 / 5),
        "channel": "email",  # 1 + 0.5 ** 2.75 against 0.5 + 0.5 ** 0.75
        "hour": 11,  # 10:00 UTC until 29 March
        "category": "bags",
        "content_id": "c2",
        "segment": "regular",
    }
    assert profiles["a9"]["hour"] == 9, "07:00 UTC since then"
    assert [profiles[person]["events"] for person in ("u2", "u3")] == [1, 1], (
        "what a shared device did alone is nobody's"
    )
    assert [profiles[person]["sessions_28d"] for person in ("a9", "late")] == [1, 0], "only sessions that are over"
    assert (profiles["a9"]["is_user"], profiles["a9"]["segment"], profiles["u2"]["segment"]) == (False, "new", "new")
    liked = found["user_interests"].filter(pl.col("person") == "u1").select("dimension", "place", "key", "weight")
    first = 0.5**0.75  # 7 days less 15 minutes: three quarters of the half-life are over
    assert liked.rows() == [
        ("category", 1, "bags", pytest.approx(1 + first, abs=1e-6)),
        ("category", 2, "shoes", 0.5),
        ("category", 3, "old", pytest.approx(0.5**5.5, abs=1e-6)),
        ("content", 1, "c2", pytest.approx(0.5 + first, abs=1e-6)),
        ("content", 2, "c3", 1.0),
        ("content", 3, "c1", pytest.approx(0.5**5.5, abs=1e-6)),
    ]
    values = found["user_values"].select("person", "currency", "purchases", "revenue", "purchase_days")
    assert values.rows() == [("u1", "EUR", 1, Decimal("12.5"), 1)]
    attributes = found["user_attributes"].filter(pl.col("person") == "u1").select("attribute", "number", "text")
    assert attributes.rows() == [
        ("clicks", Decimal(3), None),
        ("country", None, "FR"),
        ("kinds", Decimal(3), None),
        ("spent", Decimal("12.5"), None),
    ]


def test_a_login_after_the_time_changes_who_an_event_is_of(by_hand):
    people = computed(by_hand, T + DAY)["user_profiles"].select("person", "is_user", "events").sort("person").rows()
    told = {person: (is_user, events) for person, is_user, events in people}
    assert told["u9"] == (True, 3) and "a9" not in told
    assert told["u1"] == (True, 4) and told["u4"] == (True, 1), "a1 is shared now: what it did alone is nobody's"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> tuple[LocalWarehouse, str]:
    folder = tmp_path_factory.mktemp("simulated")
    options = ["--events", "5000", "--seed", "4", "--days", "30", "--start", "2026-03-01", "--faults", "none"]
    assert main(["simulate", *options, "--output", str(folder / "e.jsonl")]) == 0
    backfill(resolve({"input": [str(folder / "e.jsonl")], "warehouse": str(folder / "w"), "workers": "1"}))
    return LocalWarehouse.open(folder / "w"), str(folder / "e.jsonl")


def test_nothing_of_what_happened_after_the_time_is_in_an_answer(simulated, tmp_path):
    warehouse, raw = simulated
    as_of = datetime(2026, 3, 17, 11, 30, tzinfo=UTC)
    lines = [json.loads(line) for line in Path(raw).read_text().splitlines()]
    known = [line for line in lines if datetime.fromisoformat(line["event_time"]) < as_of]
    early, late = computed(filled(tmp_path / "known", known), as_of), computed(warehouse, as_of)
    for name, rows in late.items():
        assert rows.equals(early[name]), name
    assert 1000 < len(known) < len(lines) - 1000 and late["user_values"].height > 20
    assert 50 < late["user_profiles"]["is_user"].sum() < late["user_profiles"].height - 50


def test_counts_are_those_of_sql_over_the_raw_events(simulated):
    warehouse, raw = simulated
    found = computed(warehouse, T, "UTC")
    sql = duckdb.connect()
    sql.execute("SET TimeZone = 'UTC'")
    sql.execute(
        "CREATE TABLE raw AS SELECT DISTINCT ON (event_id) event_type, event_time::TIMESTAMPTZ AS moment, user_id, "
        "anonymous_id, category, currency, value "
        f"FROM read_json_auto('{raw}') WHERE event_time::TIMESTAMPTZ < TIMESTAMPTZ '{T}'"
    )
    sql.execute(
        "CREATE TABLE known AS SELECT coalesce(r.user_id, l.u, r.anonymous_id) AS person, r.* FROM raw r LEFT JOIN ("
        "SELECT anonymous_id, min(user_id) AS u, count(DISTINCT user_id) AS n FROM raw "
        "WHERE user_id IS NOT NULL GROUP BY 1) l ON r.user_id IS NULL AND r.anonymous_id = l.anonymous_id "
        "WHERE coalesce(l.n, 1) = 1 AND coalesce(r.user_id, r.anonymous_id) IS NOT NULL"
    )

    def since(days: int) -> str:
        return f"count(*) FILTER (moment >= TIMESTAMPTZ '{T - days * DAY}')"

    oracle = sql.execute(
        f"SELECT person, min(moment), max(moment), count(*), {since(1)}, {since(7)}, {since(28)}, "
        f"count(DISTINCT moment::DATE) FILTER (moment >= TIMESTAMPTZ '{T - 28 * DAY}') FROM known "
        "GROUP BY person ORDER BY person"
    ).fetchall()
    names = ["person", "first_seen", "last_seen", "events", "events_1d", "events_7d", "events_28d", "active_days_28d"]
    assert found["user_profiles"].select(names).rows() == oracle
    values = sql.execute(
        "SELECT person, currency, count(*), sum(value::DECIMAL(38, 9)) FROM known WHERE event_type = 'purchase' "
        "GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    assert found["user_values"].select("person", "currency", "purchases", "revenue").rows() == values
    weights = sql.execute(
        "SELECT person, category, sum(round(1e6 * 0.5 ** (floor(4 * "
        f"epoch(TIMESTAMPTZ '{T}' - moment) / (14 * 86400)) / 4))) / 1e6 FROM known WHERE event_type <> 'impression' "
        "AND category IS NOT NULL GROUP BY 1, 2"
    ).fetchall()
    oracle_weights = {(person, key): weight for person, key, weight in weights}
    liked = found["user_interests"].filter(pl.col("dimension") == "category")
    assert liked.height > 300
    told = {(person, key): weight for person, key, weight in liked.select("person", "key", "weight").iter_rows()}
    assert told == pytest.approx({key: oracle_weights[key] for key in told})
    best = {}
    for (person, _), weight in oracle_weights.items():
        best[person] = max(best.get(person, 0), weight)
    tops = liked.filter(pl.col("place") == 1).select("person", "weight").rows()
    assert dict(tops) == pytest.approx(best)


def recommended(warehouse) -> dict[str, pl.DataFrame]:
    with warehouse.asking() as ask:
        return RECOMMENDATIONS.compute(Inputs(ask, T, "Europe/Berlin", warehouse.names(), read_config(None)))


def test_a_dataset_answers_as_a_local_warehouse_does(by_hand, bigquery):
    place, two = (
        Place(f"demo-project.d{uuid.uuid4().hex}", None),
        {name: ATTRIBUTES[name] for name in ("spent", "country")},
    )
    with open_warehouse(*place, time_zone="Europe/Berlin", create=True) as dataset:
        with dataset.writer() as run:
            run.declare(TABLES)
            run.commit(
                write_file(run.folder, table.name, day, part)
                for table in TABLES
                if table.name in ("events", "sessions")
                for day, part in by_day(by_hand.scan(table.name).collect(), table.partition, "Europe/Berlin")
            )
        found = computed(dataset, attributes=two) | recommended(dataset)
    for name, rows in (computed(by_hand, attributes=two) | recommended(by_hand)).items():
        assert found[name].select(rows.columns).cast(rows.schema).equals(rows), name


def test_a_refresh_keeps_the_newest_profiles_and_an_erasure_removes_them(tmp_path):
    filled(tmp_path / "f", BY_HAND)
    place = Place(None, str(tmp_path / "f/w"))
    for as_of in (T - 5 * DAY, T):
        refresh(place, read_config(None), as_of, [PASS, RECOMMENDATIONS])
    where = ["--warehouse", place.warehouse]

    def asked(sql: str) -> list[tuple]:
        with open_warehouse(*place) as warehouse:
            return pl.concat(warehouse.ask(sql)).rows()

    assert asked("SELECT DISTINCT as_of FROM user_profiles") == [(T,)]
    assert asked("SELECT COUNT(*) FROM user_profiles_latest") == [(5,)]
    refresh(place, read_config(None), T - 5 * DAY, [PASS])
    assert asked("SELECT COUNT(*) FROM user_profiles_latest") == [(5,)], "an earlier time takes no later answer away"
    assert main(["person", "--delete", "u1", "--delete", "a1", *where]) == 0
    names = [table.name for each in (PASS, RECOMMENDATIONS) for table in each.tables]
    with open_warehouse(*place) as warehouse:
        there = warehouse.names()
    assert [asked(f"SELECT * FROM {name}") for name in names if name in there] == [
        [] for name in names if name in there
    ]
    refresh(place, read_config(None), T, [PASS])
    assert asked("SELECT person FROM user_profiles_latest ORDER BY person") == [("a9",), ("late",), ("u2",), ("u3",)]


def test_the_clock_of_a_zone_is_known_to_the_minute_at_which_it_changes():
    spring = datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert offsets("Europe/Berlin", spring - 90 * DAY, spring + DAY) == [(spring - 90 * DAY, 60), (spring, 120)]
    assert offsets("Asia/Kolkata", spring, spring + 400 * DAY) == [(spring, 330)]


@pytest.mark.parametrize(
    ("of", "column", "said"),
    [
        ("count", "value", "column: got 'value' for `count`; allowed: no column"),
        ("sum", "category", "column: got 'category' for `sum`; allowed: value, quantity"),
        ("last", None, "column: got None for `last`; allowed: category, channel"),
    ],
)
def test_an_attribute_of_a_column_that_it_cannot_have_is_refused(of, column, said):
    with pytest.raises(ValueError, match="allowed: ") as refused:
        Attribute(of, column)
    assert said in str(refused.value)
