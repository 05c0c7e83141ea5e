"""The views of a real run, on real and simulated data, against SQL over the raw files that shares no code with them."""

import glob
import importlib.util
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from pipelines.apps.simulator.simulate import faults, simulate
from pipelines.batch.backfill import backfill
from pipelines.settings.config import TEMPLATES
from pipelines.settings.resolve import resolve
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.integration.real_sets import read_set
from tests.support.real_data import real_set

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).parents[1] / "oracle" / "oracle.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

SETS = {
    "native": None,
    "github": ("github-events", "*.gz", "github-events"),
    "wikipedia": ("wikipedia-edits", "*.gz", "wikipedia-edits"),
    "otto": ("otto-sessions", "*.jsonl", "otto-sessions"),
    "retail": ("retail-orders", "*.parquet", "retail-orders"),
}
# What is asked of each set, in the order of their days: otto has no page_view.
FUNNELS = {"otto": (["click", "add_to_cart", "purchase"], "7d", 7 * 86400)}
SHIPPED = (["page_view", "add_to_cart", "purchase"], "1d", 86400)


@pytest.fixture(scope="module", params=SETS)
def both(request, tmp_path_factory):
    """(kind, a connection to the warehouse, a connection to the oracle)."""
    kind, folder = request.param, tmp_path_factory.mktemp(f"views_{request.param}")
    given, warehouse = {"warehouse": str(folder / "warehouse")}, folder / "warehouse"
    if kind == "native":
        simulate(events=30_000, seed=11, output=folder / "events.jsonl", days=40, start=date(2026, 3, 1))
        pattern = str(folder / "*.jsonl")
    else:
        name, files, mapping = SETS[kind]
        pattern = str(real_set(name) / files)
        given["mapping"] = str(TEMPLATES / "mappings" / f"{mapping}.yaml")
    if kind == "native" or kind in FUNNELS:
        steps, window, _ = FUNNELS.get(kind, SHIPPED)
        config = folder / "audience.yaml"
        config.write_text(f"funnel: {{steps: [{', '.join(steps)}], window: {window}}}\n")
        backfill(resolve({"input": [pattern], "config": str(config), **given}))
    else:
        warehouse = read_set(tmp_path_factory, kind, pattern, mapping)
    oracle = _module.oracle(sorted(glob.glob(pattern)), kind, views=True)
    oracle.execute("SET TimeZone = 'UTC'")
    return kind, LocalWarehouse.open(warehouse).connect(), oracle


def same(both, mine: str, truth: str) -> pl.DataFrame:
    """The rows of a query of the warehouse, which have to be those of a query of the oracle."""
    _, product, oracle = both
    rows, expected = (each.sql(sql).pl().sort(pl.all()) for each, sql in ((product, mine), (oracle, truth)))
    assert rows.equals(expected), f"{mine}: {rows.height} rows, {expected.height} expected\n{rows}\n{expected}"
    return rows


def test_who_was_there(both):
    columns = "day, dau, wau, mau"
    rows = same(both, f"SELECT {columns} FROM activity_by_day", f"SELECT {columns} FROM o_activity_by_day")
    assert rows["dau"].max() > 0 and rows["mau"].max() >= rows["dau"].max()


@pytest.mark.parametrize("both", ["github", "wikipedia"], indirect=True)
def test_the_figures_that_are_known_of_the_data(both):
    kind, product, _ = both
    total = "SELECT sum(new_persons) FROM lifecycle_by_day"
    # All users of GitHub; of Wikipedia's 10,531 those that are no robots.
    known = {"github": 45_170, "wikipedia": 10_367}[kind]
    [(found,)] = product.execute(total).fetchall()
    assert found == known


def test_who_is_new_returns_or_is_gone(both):
    parts = "new_persons, returning_persons, resurrecting_persons"
    columns = f"day, active_persons, {parts}, dormant_persons"
    rows = same(both, f"SELECT {columns} FROM lifecycle_by_day", f"SELECT {columns} FROM o_lifecycle_by_day")
    assert rows.select(pl.sum_horizontal(*parts.split(", "))).to_series().to_list() == rows["active_persons"].to_list()


@pytest.mark.parametrize(("unit", "period", "cells"), [("day", 1, 31), ("week", 7, 13)])
def test_who_came_back(unit, period, cells, both):
    counts = "cohort_size, retained_on, retained_on_or_after"
    mine = f"SELECT cohort_{unit} AS cohort, {unit}_n AS n, {counts} FROM retention_by_{unit}"
    rows = same(both, mine, f"SELECT cohort, n, {counts} FROM retention({period}, {cells})")
    assert rows.filter(pl.col("n") == 0)["cohort_size"].sum() > 0


@pytest.mark.parametrize("both", ["native", "otto"], indirect=True)
def test_how_far_people_came_through_the_funnel(both):
    steps, _, seconds = FUNNELS.get(both[0], SHIPPED)
    columns = ", ".join(f"max(persons) FILTER (step = {n}) AS persons_{n}" for n in (1, 2, 3))
    medians = ", ".join(
        f"round(max(median_seconds_from_previous) FILTER (step = {n}), 6) AS median_{n}" for n in (2, 3)
    )
    rounded = ", ".join(f"round(median_{n}, 6) AS median_{n}" for n in (2, 3))
    rows = same(
        both,
        f"SELECT day, {columns}, {medians} FROM funnel_by_day GROUP BY day",
        f"SELECT * REPLACE ({rounded}) FROM funnel({steps}, {seconds})",
    )
    assert rows["persons_3"].sum() > 0


VISITS = "(SELECT *, session_start::DATE AS day FROM o_sessions WHERE NOT is_bot AND NOT is_long)"


def test_how_engaged_sessions_were(both):
    rows = same(
        both,
        "SELECT * REPLACE (round(engaged_seconds, 3) AS engaged_seconds) FROM "
        "(SELECT day, channel, sessions, engaged_sessions, bounces, engaged_seconds FROM engagement_by_day)",
        "SELECT day, channel, count(*) AS sessions, count(*) FILTER (is_engaged) AS engaged_sessions, "
        "count(*) FILTER (is_bounce) AS bounces, "
        "round(coalesce(sum(duration_seconds) FILTER (is_engaged), 0), 3) AS engaged_seconds "
        f"FROM {VISITS} GROUP BY ALL",
    )
    assert rows["sessions"].sum() > rows["engaged_sessions"].sum() > 0


@pytest.mark.parametrize("by", ["campaign, channel", "channel"])
def test_how_many_sessions_and_visitors_converted(both, by):
    view = f"conversion_by_{by.partition(',')[0]}"
    counts = "sessions, converted_sessions, visitors, converters"
    who = "coalesce(anonymous_id, user_id)"
    rows = same(
        both,
        f"SELECT day, {by}, {counts} FROM {view}",
        f"SELECT day, {by}, count(*) AS sessions, count(*) FILTER (is_converted) AS converted_sessions, "
        f"count(DISTINCT {who}) AS visitors, count(DISTINCT {who}) FILTER (is_converted) AS converters "
        f"FROM {VISITS} GROUP BY ALL",
    )
    assert rows["sessions"].sum() > 0


@pytest.mark.parametrize("both", ["native", "otto"], indirect=True)
def test_the_furthest_step_of_a_session_is_of_the_funnel_that_is_configured(both):
    steps, _, _ = FUNNELS.get(both[0], SHIPPED)
    rows = same(
        both,
        "SELECT furthest_step, count(*) AS n FROM sessions_current GROUP BY ALL",
        "SELECT furthest_step, count(*) AS n FROM ("
        f"SELECT max(coalesce(list_position({steps}, event_type), 0))::BIGINT AS furthest_step "
        "FROM o_visits GROUP BY is_anonymous, visitor, visit) GROUP BY ALL",
    )
    assert rows["furthest_step"].max() == 3


@pytest.mark.parametrize("both", ["native", "retail"], indirect=True)
def test_who_buys_how_lately_and_how_often(both):
    columns = "person, currency, recency_days, purchases, recency_score, frequency_score"
    rows = same(both, f"SELECT {columns} FROM rfm_segments", f"SELECT {columns} FROM o_rfm")
    assert set(rows["frequency_score"]) >= {1, 5}


@pytest.mark.parametrize("both", ["native", "retail"], indirect=True)
def test_for_how_much_and_what_that_makes_them(both):
    """Which of two copies of an order line is kept may be up to a hash that only the product has: those are left out
    of the sums, and scores are computed again from the sums that the product has."""
    _, product, oracle = both
    tied = "SELECT person FROM o_events JOIN o_conflicted USING (source, event_id)"
    unsure = {person for (person,) in oracle.execute(tied).fetchall()}
    told = product.sql("SELECT * FROM rfm_segments").pl().sort("person", "currency")
    truth = oracle.sql("SELECT person, currency, revenue FROM o_rfm").pl().sort("person", "currency")
    sure = ~pl.col("person").is_in(unsure)
    money = told.filter(sure).select("person", "currency", "revenue")
    assert money.equals(truth.filter(sure)) and money.height > 100
    worse = (pl.col("revenue").fill_null(0).rank("min").over("currency") - 1).cast(pl.Int64)
    scores = told.select((5 * worse // pl.len().over("currency") + 1).cast(pl.Int64)).to_series()
    assert told["monetary_score"].equals(scores, check_names=False)
    for row in told.iter_rows(named=True):
        assert row["segment"] == segment(*(row[f"{what}_score"] for what in SCORES), row["purchases"]), row


@pytest.mark.parametrize("both", ["native", "retail"], indirect=True)
def test_what_was_bought_and_refunded(both):
    """Days are left out in which a hash of the product chooses among copies, which may differ in their value."""
    columns = "day, channel, country, currency, orders, buyers, revenue, refunds, refunded_buyers"
    _, product, oracle = both
    tied = "SELECT event_time::DATE AS day FROM o_events JOIN o_conflicted USING (source, event_id) WHERE tied"
    unsure = {day for (day,) in oracle.execute(tied).fetchall()}
    rows, truth = (
        each.sql(f"SELECT {columns} FROM {view}").pl().filter(~pl.col("day").is_in(unsure)).sort(pl.all())
        for each, view in ((product, "revenue_by_day"), (oracle, "o_revenue"))
    )
    assert rows.equals(truth) and rows["orders"].sum() > 100, rows


@pytest.mark.parametrize("both", ["native"], indirect=True)
def test_what_conversions_are_attributed_to(both):
    keys = "day, model, event_type, channel, campaign, currency, converters"
    parts = "round(conversions::DOUBLE, 6) AS conversions, round(revenue::DOUBLE, 6) AS revenue"
    rows = same(
        both,
        f"SELECT {keys}, {parts} FROM attribution_by_day",
        f"SELECT {keys}, conversions, revenue FROM attribution(30)",
    )
    assert rows["model"].n_unique() == 4 and rows["campaign"].n_unique() > 3
    assert (rows["conversions"] % 1 != 0).sum() > 100  # shares of the middle


def test_where_people_came_from(both):
    rows = same(both, "SELECT person, channel FROM first_touches", "SELECT person, channel FROM o_first_channel")
    assert rows.height >= 20


def test_every_event_of_a_person_is_in_a_visit(both):
    _, product, _ = both
    events = product.execute(
        "SELECT visit_id, count(*) FROM visit_events WHERE visit_id IS NOT NULL GROUP BY 1"
    ).fetchall()
    assert sorted(events) == product.execute("SELECT visit_id, events FROM sessions_current ORDER BY 1").fetchall()


SCORES = ("recency", "frequency", "monetary")


def segment(recency: int, frequency: int, monetary: int, purchases: int) -> str:
    """The segment as docs/metrics/rfm-segments.md defines it."""
    if recency < 3:
        return "at_risk" if max(frequency, monetary) > 3 else "lost"
    if frequency > 3:
        return "champion" if recency > 3 and monetary > 3 else "loyal"
    return "new" if recency > 3 and purchases == 1 else "promising"


def test_how_contents_did(both):
    counts = "content_id, category, views, clicks, impressions, reactions"
    rates = "round(smoothed_click_through_rate, 12) AS c, round(smoothed_engagement_rate, 12) AS e"
    same(both, f"SELECT {counts}, {rates} FROM content_leaderboard", f"SELECT {counts}, {rates} FROM o_leaderboard")


def test_the_simulator_knows_how_many_people_there_were(tmp_path):
    ledger = simulate(5_000, 3, tmp_path / "e.jsonl", days=20, start=date(2026, 3, 1), faults=faults(bots=0.0))
    backfill(resolve({"input": [str(tmp_path / "e.jsonl")], "warehouse": str(tmp_path / "w"), "workers": "1"}))
    connection = LocalWarehouse.open(tmp_path / "w").connect()
    assert ledger.bots == 0
    for people in (
        "SELECT sum(new_persons) FROM lifecycle_by_day",
        "SELECT sum(cohort_size) FROM retention_by_day WHERE day_n = 0",
        "SELECT sum(cohort_size) FROM retention_by_week WHERE week_n = 0",
        "SELECT max(mau) FROM activity_by_day",
    ):
        assert connection.execute(people).fetchall() == [(ledger.users,)], people
