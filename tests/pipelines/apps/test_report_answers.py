"""The charts of a report over the answers of refreshes: their numbers are those of SQL over the tables."""

import re
from datetime import date, datetime
from html import unescape
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from pipelines.apps.report.insight import INSIGHT
from pipelines.apps.report.page import FIGURES, report
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.pipelines.apps.live.answers import fill_answers
from tests.pipelines.apps.live.rows import AT, HOSTILE, ZONE
from tests.pipelines.apps.test_report import figures_of, minutes
from tests.pipelines.warehouse.test_metric_views import METRICS, USER_DAYS, write

ANSWERS = ("alerts", "forecast", "trends", "anomalies", "sentiment", "scores")


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    warehouse = LocalWarehouse.open(tmp_path_factory.mktemp("answers") / "w", ZONE, create=True)
    write(
        warehouse,
        (METRICS["user_days"], USER_DAYS),
        (METRICS["activity_1m"], minutes((1, 2, 10, 11), ("web", "click"))),
    )
    fill_answers(warehouse, AT)
    return warehouse


@pytest.fixture(scope="module")
def drawn(answered):
    return figures_of(report(answered))


def bars(html: str) -> list[tuple[str, str]]:
    """(name, label) of each bar."""
    found = re.findall(r'class="name">(.*?)</span>.*?class="label">(.*?)</span>', html)
    return [(unescape(name), unescape(label)) for name, label in found]


def ask(warehouse, sql: str) -> list[tuple]:
    return pl.concat(warehouse.ask(sql)).rows()


def newest(table: str) -> str:
    return f"(SELECT * FROM {table} WHERE as_of = (SELECT MAX(as_of) FROM {table})) AS newest"


def test_each_is_drawn_once_there_are_answers_and_none_in_a_report_of_other_days(answered, drawn):
    assert set(ANSWERS) == set(INSIGHT) <= {figure.name for figure in FIGURES}
    assert set(ANSWERS) <= drawn.keys()
    assert not set(ANSWERS) & figures_of(report(answered, end=date(2026, 3, 11))).keys()
    assert all("As of 12 March 2026, 15:26." in drawn[name] for name in ANSWERS if name != "alerts")


def test_the_forecast_of_a_day_stands_beside_the_days_before(answered, drawn):
    sql = "SELECT expected, lower_95, upper_95 FROM " + newest("forecasts_1d")
    rows = ask(answered, f"{sql} WHERE metric = 'events' AND channel IS NULL ORDER BY bucket_start")
    titles = [unescape(each) for each in re.findall("<title>(.*?)</title>", drawn["forecast"])]
    told = "Thu 12 Mar 2026: expected {:,.0f}; from {:,.0f}; to {:,.0f}".format(*rows[0])
    assert told in titles and "Wed 11 Mar 2026: events 77" in titles
    assert len(rows) == 28 and titles[-1].startswith("Wed 8 Apr 2026: expected ")
    week = sum(expected for expected, _, _ in rows[:7])
    assert f"{week:,.0f} in the first 7 days" in unescape(drawn["forecast"])
    assert 'class="band"' in drawn["forecast"]


def test_what_rose_and_fell_is_the_newest_hour_of_each_key(answered, drawn):
    rows = ask(
        answered,
        "SELECT dimension, key, MAX_BY(trend, bucket_start), MAX_BY(count, bucket_start), MAX_BY(expected, "
        f"bucket_start), MAX_BY(growth, bucket_start), MAX(bucket_start) AS at, MAX_BY(z, bucket_start) AS z "
        f"FROM {newest('trends_1h')} WHERE trend IS NOT NULL GROUP BY dimension, key ORDER BY at DESC, z DESC",
    )
    signs = {"rising": "\N{BLACK UP-POINTING TRIANGLE}", "falling": "\N{BLACK DOWN-POINTING TRIANGLE}"}
    expected = [
        (
            f"{signs[trend]} {dimension}" + (f" {key}" if key else ""),
            f"{count:,} events, {usual:,.0f} expected · \N{MULTIPLICATION SIGN}{growth:.1f} · hour of {berlin(at)}",
        )
        for dimension, key, trend, count, usual, growth, at, _ in rows
    ]
    assert bars(drawn["trends"]) == expected and len(rows) == 6
    assert HOSTILE not in drawn["trends"] and any(HOSTILE in name for name, _ in expected)


def berlin(at: datetime) -> str:
    return f"{at.astimezone(ZoneInfo(ZONE)):%-d %b %H:%M}"


def test_scores_have_their_interval_and_number(answered, drawn):
    sql = f"SELECT score, value, low, high, n FROM {newest('satisfaction')} WHERE scope = 'all' AND span_days = 28"
    rows = {score.upper(): row for score, *row in ask(answered, sql)}
    found = dict(bars(drawn["scores"]))
    assert found.keys() == rows.keys()
    value, low, high, n = rows["CSAT"]
    assert found["CSAT"] == f"{value:.1%} (95 %: {low:.1%} to {high:.1%}) · {n:,} ratings"
    value, low, high, n = rows["NPS"]
    assert found["NPS"] == f"{value:,.1f} (95 %: {low:,.1f} to {high:,.1f}) · {n:,} ratings"


def test_texts_of_a_day_are_counted_by_their_sentiment(answered, drawn):
    [sums] = ask(answered, f"SELECT SUM(positive), SUM(negative), SUM(unscored) FROM {newest('feedback_1h')}")
    told = unescape(drawn["sentiment"])
    assert f"0 neutral, {sums[1]:,} negative, {sums[0]:,} positive, {sums[2]:,} unscored." in told


def test_anomalies_and_open_alerts_are_listed(answered, drawn):
    series = ask(answered, f"SELECT DISTINCT metric, channel, kind FROM {newest('anomalies_1h')}")
    assert len(bars(drawn["anomalies"])) == min(len(series), 12)
    cells = [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", drawn["alerts"].partition("<details")[0])]
    assert cells[::3] == ["rule-0", "rule-2 (muted)", "old-rule"] and cells[1] == "12 Mar 14:30"
