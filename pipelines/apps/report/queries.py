"""The queries of a report, in BigQuery's SQL, which a local warehouse answers too, and the day that they are about."""

from dataclasses import dataclass
from datetime import date

import polars as pl
import polars.selectors as cs

from pipelines.apps.report.days import Received, Shown, choose_day
from pipelines.system import terminal
from pipelines.warehouse.conditions import literal
from pipelines.warehouse.interface import Warehouse

DAYS, RECENT_DAYS, LEADERBOARD_DAYS = 60, 28, 7  # drawn by day; added up; of the view content_leaderboard
KNOWN_DAYS = 400  # newest days among which the shown day is looked for

# name -> (view, query). A view that a warehouse does not have is not queried.
# These two decide which day is shown; {time_zone} is a literal.
DAY_QUESTIONS = {
    "happened": (
        "engagement_by_channel",
        "SELECT day, SUM(events) AS events FROM engagement_by_channel GROUP BY day "
        f"ORDER BY day DESC LIMIT {KNOWN_DAYS}",
    ),
    "received": (
        "quality_1m_current",
        "SELECT DATE(bucket_start, {time_zone}) AS day, SUM(events) AS events, COUNTIF(in_flight) AS open_minutes, "
        "MAX(bucket_end) AS until, MAX(emitted_time) AS written FROM quality_1m_current "
        "WHERE bucket_start IS NOT NULL GROUP BY day "
        f"ORDER BY day DESC LIMIT {KNOWN_DAYS}",
    ),
    "published": ("activity_by_day", "SELECT MAX(day) AS day FROM activity_by_day"),
    "begun": ("engagement_by_day", "SELECT MAX(day) AS day FROM engagement_by_day"),
}
_DRAWN = f"day <= {{last}} AND DATE_DIFF({{last}}, day, DAY) < {DAYS}"
_RECENT = f"day <= {{day}} AND DATE_DIFF({{day}}, day, DAY) < {RECENT_DAYS}"
# {day} is the shown day, {last} the last day that is drawn. A cohort's cell is whole by the shown day.
QUESTIONS = {
    "activity": (
        "activity_by_day",
        f"SELECT day, dau, wau, mau FROM activity_by_day WHERE {_DRAWN} ORDER BY day DESC",
    ),
    "lifecycle": ("lifecycle_by_day", f"SELECT * FROM lifecycle_by_day WHERE {_DRAWN} ORDER BY day DESC"),
    "volume": (
        "engagement_by_channel",
        f"SELECT day, channel, SUM(events) AS events FROM engagement_by_channel WHERE {_DRAWN} "
        "GROUP BY day, channel ORDER BY day DESC, channel",
    ),
    "engagement": (
        "engagement_by_day",
        "SELECT day, SUM(sessions) AS sessions, SUM(engaged_sessions) AS engaged_sessions, SUM(bounces) AS bounces "
        f"FROM engagement_by_day WHERE {_DRAWN} GROUP BY day ORDER BY day DESC",
    ),
    "converted": (
        "conversion_by_channel",
        "SELECT day, SUM(sessions) AS sessions, SUM(converted_sessions) AS converted_sessions "
        f"FROM conversion_by_channel WHERE {_DRAWN} GROUP BY day ORDER BY day DESC",
    ),
    "campaigns": (
        "conversion_by_campaign",
        "SELECT campaign, SUM(sessions) AS sessions, SUM(converted_sessions) AS converted_sessions "
        f"FROM conversion_by_campaign WHERE {_RECENT} "
        "GROUP BY campaign ORDER BY sessions DESC, campaign LIMIT 8",
    ),
    "funnel": (
        "funnel_by_day",
        "SELECT step, event_type, SUM(persons) AS persons, SUM(first_persons) AS first_persons, "
        f"SUM(previous_persons) AS previous_persons FROM funnel_by_day WHERE {_RECENT} "
        "GROUP BY step, event_type ORDER BY step",
    ),
    "weeks": (
        "retention_by_week",
        "SELECT cohort_week AS cohort, week_n AS n, cohort_size, retained_on FROM retention_by_week "
        "WHERE DATE_DIFF({day}, cohort_week, DAY) < 7 * 12 AND DATE_DIFF({day}, cohort_week, DAY) >= 7 * week_n + 6 "
        "AND retained_on IS NOT NULL ORDER BY cohort, n",
    ),
    "days": (
        "retention_by_day",
        "SELECT cohort_day AS cohort, day_n AS n, cohort_size, retained_on FROM retention_by_day "
        "WHERE DATE_DIFF({day}, cohort_day, DAY) < 12 AND DATE_DIFF({day}, cohort_day, DAY) >= day_n AND day_n < 12 "
        "AND retained_on IS NOT NULL ORDER BY cohort, n",
    ),
    "contents": (
        "content_leaderboard",
        "SELECT content_id, category, views, impressions, clicks, reactions, click_through_rate, engagement_rate, "
        "smoothed_click_through_rate, smoothed_engagement_rate, overall_click_through_rate, overall_engagement_rate "
        "FROM content_leaderboard ORDER BY COALESCE(engagement_place, click_through_place), content_id LIMIT 10",
    ),
    "segments": (
        "rfm_segments",
        "SELECT segment, COALESCE(currency, 'no currency') AS currency, COUNT(*) AS buyers, SUM(revenue) AS revenue "
        "FROM rfm_segments GROUP BY segment, currency ORDER BY segment, currency",
    ),
    "books": (
        "quality_summary",
        "SELECT source, SUM(received + exploded) AS records, SUM(events) AS events, SUM(duplicates) AS duplicates, "
        "SUM(quarantined) AS quarantined, SUM(out_of_range + replaced + erased) AS others, SUM(balance) AS balance, "
        "SUM(minutes_in_flight) AS minutes_in_flight FROM quality_summary GROUP BY source "
        "ORDER BY records DESC, source",
    ),
}


@dataclass(frozen=True)
class Numbers:
    """The answers of a warehouse by the name of the question, and the day that they are about; a view that the
    warehouse does not have has no rows."""

    warehouse: str
    time_zone: str
    answers: dict[str, pl.DataFrame]
    shown: Shown | None = None

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self.answers[name]

    @property
    def last_day(self) -> date | None:
        """The day that the report shows."""
        return None if self.shown is None else self.shown.day


def numbers_of(warehouse: Warehouse) -> Numbers:
    """Choose the day, and ask QUESTIONS of the views that the warehouse has."""
    views = warehouse.names()

    def ask(view: str, sql: str) -> pl.DataFrame:
        return _ask(warehouse, sql) if view in views else pl.DataFrame()

    zone = literal(warehouse.time_zone)
    days = {name: ask(view, sql.format(time_zone=zone)) for name, (view, sql) in DAY_QUESTIONS.items()}
    shown = _choose(days, warehouse)
    # Where no day is shown there is nothing to draw, but something may have been received.
    day, last = (shown.day, shown.last_drawn) if shown else (date.min, date.min)
    parts = {"day": f"DATE '{day}'", "last": f"DATE '{last}'"}
    answers = {name: trim(ask(view, sql.format(**parts)), day) for name, (view, sql) in QUESTIONS.items()}
    return Numbers(terminal.shown(warehouse.name), warehouse.time_zone, answers, shown)


def _choose(days: dict[str, pl.DataFrame], warehouse: Warehouse) -> Shown | None:
    happened: dict[date, float | None] = dict(days["happened"].iter_rows())
    last = {name: None if days[name].is_empty() else days[name]["day"][0] for name in ("published", "begun")}
    if not happened:  # no view counts events by day: the last days of people and of sessions are known
        happened = {day: None for day in last.values() if day is not None}
    received = {row[0]: Received(*row[1:]) for row in days["received"].iter_rows()}
    return choose_day(happened, received, warehouse.time_zone, last["published"])


def trim(rows: pl.DataFrame, shown: date) -> pl.DataFrame:
    """Rows by day without the empty days before the first with data, and those after the last and the shown one."""
    if rows.is_empty() or "day" not in rows.columns:
        return rows
    days = rows.filter(pl.sum_horizontal(cs.numeric()) != 0)["day"].to_list()
    first, last = min([*days, shown]), max([*days, shown])
    return rows.filter(pl.col("day").is_between(first, last))


def _ask(warehouse: Warehouse, sql: str) -> pl.DataFrame:
    """The answer, whole numbers and money as numbers that a chart can draw, texts as a reader can see them."""
    answer = pl.concat(list(warehouse.ask(sql)))
    if answer.is_empty():
        return pl.DataFrame()
    texts = [_escape(column) for column in answer.select(pl.col(pl.String))]
    return answer.with_columns(pl.col(pl.Decimal, pl.Int128).cast(pl.Float64), *texts)


def _escape(texts: pl.Series) -> pl.Series:
    return pl.Series(texts.name, [None if text is None else terminal.shown(text) for text in texts], pl.String)
