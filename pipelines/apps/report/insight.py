"""The charts of a report over the answers of `audience refresh`, and over its alerts: questions, and what draws them.

They are as of the newest refresh, whatever day the report shows; a report that ends with --end has none of them.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from html import escape
from zoneinfo import ZoneInfo

import polars as pl

from pipelines.apps.report import svg
from pipelines.apps.report.charts import Bar, Drawing, bars_html
from pipelines.apps.report.queries import Numbers, Question
from pipelines.apps.report.window import Window
from pipelines.insight.alerts.table import OPEN_ALERTS

LISTED = 12
BEFORE = 28  # days before a forecast that are drawn beside it
RISING, FALLING = 3, 2  # colours
ENDS = {"csat": (0.0, 1.0), "nps": (-100.0, 100.0), "ces": (1.0, 7.0)}

# Of each key or series the newest row, the newest of them first.
_ONE_EACH = (
    "SELECT {columns} FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY {keys} ORDER BY bucket_start DESC) AS place "
    "FROM {view} WHERE {where}) AS rows_of_each WHERE place = 1 ORDER BY bucket_start DESC, {order} LIMIT "
    + f"{LISTED}"
)
INSIGHT = {
    "forecast": Question(
        "forecasts_1d_latest",
        "SELECT as_of, {bucket_day} AS day, expected, lower_95, upper_95, seasonal_naive, method, relative_error "
        "FROM forecasts_1d_latest WHERE metric = 'events' AND channel IS NULL ORDER BY day",
    ),
    "trends": Question(
        "trends_1h_latest",
        _ONE_EACH.format(
            columns="as_of, trend, dimension, key, bucket_start, count AS events, expected, growth",
            keys="dimension, key",
            view="trends_1h_latest",
            where="trend IS NOT NULL",
            order="ABS(z / spread) DESC, dimension, key",
        ),
    ),
    "anomalies": Question(
        "anomalies_1h_latest",
        _ONE_EACH.format(
            columns="as_of, kind, direction, metric, channel, since, value, expected, lower, upper, surprise",
            keys="metric, channel, kind",
            view="anomalies_1h_latest",
            where="TRUE",
            order="surprise DESC, metric, channel, kind",
        ),
    ),
    "sentiment": Question(
        "feedback_1h_latest",
        "SELECT day, MAX(as_of) AS as_of, SUM(texts) AS texts, SUM(positive) AS positive, "
        "SUM(scored - positive - negative) AS neutral, SUM(negative) AS negative, SUM(unscored) AS unscored "
        "FROM (SELECT *, {bucket_day} AS day FROM feedback_1h_latest) AS hours GROUP BY day ORDER BY day",
    ),
    "scores": Question(
        "satisfaction_latest",
        "SELECT as_of, score, span_days, value, low, high, n, is_few FROM satisfaction_latest WHERE scope = 'all' "
        "AND span_days = 28 ORDER BY score",
    ),
    "alerts": Question(
        "alerts",
        "SELECT rule, kind, subject, opened_time, value, threshold, is_muted, text "
        f"FROM ({OPEN_ALERTS}) AS open_alerts ORDER BY opened_time DESC, rule, subject LIMIT {LISTED}",
    ),
}


def forecast(numbers: Numbers) -> Drawing | None:
    """Lines of the events of 28 days and of those expected in the next 28, with the interval of 95 %."""
    rows = numbers["forecast"]
    if rows.is_empty():
        return None
    begin, last = rows["day"][0], rows["day"][-1]
    window = Window(max(numbers.window.first, begin - timedelta(days=BEFORE)), last)
    happened = numbers["channels"].filter(pl.col("day") < begin).group_by("day").agg(pl.col("events").sum())
    values = {"events": dict(zip(happened["day"], happened["events"], strict=True))}
    for column in ("expected", "lower_95", "upper_95"):
        values[column] = dict(zip(rows["day"], rows[column], strict=True))
    days = [window.day(n) for n in range(window.days)]
    names = {"events": "events", "expected": "expected", "lower_95": "from", "upper_95": "to"}
    series = [svg.Series(names[column], [known.get(day) for day in days]) for column, known in values.items()]
    html = svg.legend([each.name for each in series[:2]]) + svg.forecast(window, series, lambda value: f"{value:,.0f}")
    sum_of_week = sum(value or 0 for value in rows["expected"][:7])
    text = f"Events that are expected from {begin} to {last}: {sum_of_week:,.0f} in the first "
    text += f"{min(7, rows.height)} days."
    shaded = "Shaded: the interval that holds 95 %."
    if rows["lower_95"].null_count() == rows.height:
        shaded = "The history is too short for an interval."
    return Drawing(text, html, rows.drop("as_of"), f"{shaded} {_as_of(numbers, rows)}")


def trends(numbers: Numbers) -> Drawing | None:
    """A bar for each key that rose or fell in the last 24 hours: its events in the hour."""
    rows = numbers["trends"]
    if rows.is_empty():
        return None
    longest = max(max(row["events"], row["expected"] or 0) for row in rows.iter_rows(named=True)) or 1
    bars = []
    for row in rows.iter_rows(named=True):
        sign, color = (
            ("\N{BLACK UP-POINTING TRIANGLE}", RISING)
            if row["trend"] == "rising"
            else ("\N{BLACK DOWN-POINTING TRIANGLE}", FALLING)
        )
        growth = "" if row["growth"] is None else f" · \N{MULTIPLICATION SIGN}{row['growth']:.1f}"
        what = row["dimension"] if row["key"] is None else f"{row['dimension']} {row['key']}"
        label = f"{row['events']:,.0f} events, {row['expected']:,.0f} expected{growth} · "
        label += f"hour of {_time(numbers, row['bucket_start'])}"
        bars.append(Bar(f"{sign} {what}", row["events"] / longest, label, color=color))
    counts = {kind: sum(trend == kind for trend in rows["trend"]) for kind in ("rising", "falling")}
    text = f"In the last 24 hours {counts['rising']} rose and {counts['falling']} fell; the newest is {bars[0].name}."
    return Drawing(text, bars_html(bars), _told(numbers, rows), _as_of(numbers, rows))


def anomalies(numbers: Numbers) -> Drawing | None:
    """A bar for each series that was not as expected in the last 24 hours: how far it was from that."""
    rows = numbers["anomalies"]
    if rows.is_empty():
        return None
    longest = rows["surprise"].max() or 1
    bars = []
    for row in rows.iter_rows(named=True):
        name = f"{row['kind']} {row['direction']}: {row['metric']}, {row['channel'] or 'all channels'}"
        held = "" if row["lower"] is None else f" (95 %: {row['lower']:,.0f} to {row['upper']:,.0f})"
        label = f"{row['value']:,.0f}, {row['expected']:,.0f} expected{held} · since {_time(numbers, row['since'])}"
        bars.append(Bar(name, row["surprise"] / longest, label, color=FALLING if row["direction"] == "below" else 1))
    text = f"Series that were not as expected in the last 24 hours: {rows.height}; the newest: {bars[0].name}."
    note = f"The longer a bar, the farther from what was expected. {_as_of(numbers, rows)}"
    return Drawing(text, bars_html(bars), _told(numbers, rows), note)


def sentiment(numbers: Numbers) -> Drawing | None:
    """Bars of the texts of a day by their sentiment, of the last 7 days."""
    rows = numbers["sentiment"]
    if rows.is_empty() or not rows["texts"].sum():
        return None
    window = Window(rows["day"][0], rows["day"][-1])
    series = []
    for name in ("neutral", "negative", "positive", "unscored"):  # the second colour is that of what falls
        known = dict(zip(rows["day"], rows[name], strict=True))
        series.append(svg.Series(name, [known.get(window.day(n), 0.0) for n in range(window.days)]))
    html = svg.legend([each.name for each in series])
    html += svg.stacked(window, series, (), lambda value: f"{value:,.0f}")
    sums = {each.name: sum(value or 0 for value in each.values) for each in series}
    text = (
        f"Texts of {window.first} to {window.last}: " + ", ".join(f"{n:,.0f} {name}" for name, n in sums.items()) + "."
    )
    note = f"Unscored: in another language than English, or too short to tell. {_as_of(numbers, rows)}"
    return Drawing(text, html, rows.drop("as_of").sort("day", descending=True), note)


def scores(numbers: Numbers) -> Drawing | None:
    """A bar for each of CSAT, NPS and CES, with its interval and its number of ratings."""
    rows = numbers["scores"]
    if rows.is_empty():
        return None
    bars = []
    for row in rows.iter_rows(named=True):
        worst, best = ENDS[row["score"]]
        value, low, high = (
            None if v is None else _score(row["score"], v) for v in (row["value"], row["low"], row["high"])
        )
        held = "" if low is None or high is None else f" (95 %: {low} to {high})"
        label = f"{value}{held} · {row['n']:,.0f} ratings"
        bars.append(Bar(row["score"].upper(), (row["value"] - worst) / (best - worst), label, bool(row["is_few"])))
    text = "Satisfaction in 28 days: " + "; ".join(f"{bar.name} {bar.label}" for bar in bars) + "."
    note = "Muted scores have fewer than 30 ratings. " if rows["is_few"].any() else ""
    return Drawing(text, bars_html(bars), rows.drop("as_of"), note + _as_of(numbers, rows))


def alerts(numbers: Numbers) -> Drawing | None:
    """The alerts that are open, with the time since when."""
    rows = numbers["alerts"]
    if rows.is_empty():
        return None
    listed = [
        (f"{row['rule']}{' (muted)' if row['is_muted'] else ''}", _time(numbers, row["opened_time"]), row["text"])
        for row in rows.iter_rows(named=True)
    ]
    names = ", ".join(sorted(set(rows["rule"])))
    text = f"Open alerts: {rows.height}, of {names}."
    return Drawing(text, _table(("rule", "since", "what"), listed), _told(numbers, rows))


def _score(name: str, value: float) -> str:
    return f"{value:.1%}" if name == "csat" else f"{value:,.1f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + "".join(f'<td data-name="{head[n]}">{escape(cell)}</td>' for n, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<table class="listed"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def _time(numbers: Numbers, time: datetime) -> str:
    return f"{time.astimezone(ZoneInfo(numbers.time_zone)):%-d %b %H:%M}"


def _as_of(numbers: Numbers, rows: pl.DataFrame) -> str:
    newest = rows["as_of"].max()
    assert isinstance(newest, datetime)
    return f"As of {newest.astimezone(ZoneInfo(numbers.time_zone)):%-d %B %Y, %H:%M}."


def _told(numbers: Numbers, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with times as text in the warehouse's time zone, without what the note says."""
    times = pl.selectors.datetime()
    zone = pl.selectors.datetime().dt.convert_time_zone(numbers.time_zone).dt.strftime("%Y-%m-%d %H:%M")
    return rows.drop("as_of", strict=False).with_columns(zone) if rows.select(times).width else rows
