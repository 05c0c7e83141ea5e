"""The queries of a report, in SQL that BigQuery and DuckDB share; they decide its day, and the days that it draws."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from types import MappingProxyType
from typing import NamedTuple

import polars as pl

from pipelines.apps.report.days import Received, Shown, choose_day
from pipelines.apps.report.window import Window, choose_window
from pipelines.system import terminal
from pipelines.warehouse.interface import Warehouse
from transforms.errors import OptionError

CONTENTS = 10
MEASURES = ("views", "impressions", "reactions", "clicks")  # by the first that any content has, contents are ranked


class Question(NamedTuple):
    """A query of a view or table, which a warehouse may lack.

    {window}       whether `day` is drawn; {first} and {last} are its ends
    {month}        the day 28 days before the last one
    {bucket_day}   the day of bucket_start
    """

    view: str
    sql: str


# Asked of all days: they decide which day is shown and which are drawn.
DAY_QUESTIONS = {
    "channels": Question(
        "engagement_by_channel",
        "SELECT day, channel AS kind, SUM(events) AS events FROM engagement_by_channel GROUP BY day, channel "
        "ORDER BY day, channel",
    ),
    "received": Question(
        "quality_1m_current",
        "SELECT day, SUM(events) AS events, SUM(CASE WHEN in_flight THEN 1 ELSE 0 END) AS open_minutes, "
        "MAX(bucket_end) AS until, MAX(emitted_time) AS written FROM (SELECT *, {bucket_day} AS day "
        "FROM quality_1m_current WHERE bucket_start IS NOT NULL) AS minutes GROUP BY day ORDER BY day",
    ),
    "activity": Question("activity_by_day", "SELECT day, dau, wau, mau FROM activity_by_day ORDER BY day"),
    "engagement": Question(
        "engagement_by_day",
        "SELECT day, SUM(sessions) AS sessions, SUM(engaged_sessions) AS engaged_sessions, SUM(bounces) AS bounces "
        "FROM engagement_by_day GROUP BY day ORDER BY day",
    ),
}
QUESTIONS = {
    "lifecycle": Question("lifecycle_by_day", "SELECT * FROM lifecycle_by_day WHERE {window} ORDER BY day"),
    "types": Question(
        "activity_1m_current",
        "SELECT day, event_type AS kind, SUM(events) AS events FROM (SELECT {bucket_day} AS day, event_type, events "
        "FROM activity_1m_current) AS minutes WHERE {window} GROUP BY day, event_type ORDER BY day, event_type",
    ),
    "campaigns": Question(
        "conversion_by_campaign",
        "SELECT day, campaign, SUM(sessions) AS sessions, SUM(converted_sessions) AS converted_sessions "
        "FROM conversion_by_campaign WHERE {window} GROUP BY day, campaign ORDER BY day, campaign",
    ),
    "funnel": Question(
        "funnel_by_day",
        "SELECT step, event_type, SUM(persons) AS persons, SUM(first_persons) AS first_persons, "
        "SUM(previous_persons) AS previous_persons FROM funnel_by_day WHERE {window} "
        "GROUP BY step, event_type ORDER BY step",
    ),
    "weeks": Question(
        "retention_by_week",
        "SELECT cohort_week AS cohort, week_n AS n, cohort_size, retained_on FROM retention_by_week "
        "WHERE cohort_week >= DATE '{monday}' AND cohort_week <= DATE '{last}' AND retained_on IS NOT NULL "
        "ORDER BY cohort, n",
    ),
    "days": Question(
        "retention_by_day",
        "SELECT cohort_day AS cohort, day_n AS n, cohort_size, retained_on FROM retention_by_day "
        "WHERE cohort_day >= DATE '{first}' AND cohort_day <= DATE '{last}' AND day_n < 14 AND retained_on IS NOT NULL "
        "ORDER BY cohort, n",
    ),
    "revenue": Question(
        "revenue_by_day",
        "SELECT day, COALESCE(currency, 'no currency') AS currency, SUM(revenue) AS revenue, SUM(orders) AS orders "
        "FROM revenue_by_day WHERE {window} GROUP BY day, currency ORDER BY day, currency",
    ),
    "attribution": Question(
        "attribution_by_day",
        "SELECT campaign, model, SUM(conversions) AS purchases FROM attribution_by_day "
        "WHERE day > DATE '{month}' AND day <= DATE '{last}' AND day >= DATE '{first}' AND event_type = 'purchase' "
        "GROUP BY campaign, model ORDER BY campaign, model",
    ),
    "contents": Question(
        "engagement_by_content",
        "SELECT content_id, SUM(views) AS views, SUM(impressions) AS impressions, "
        "SUM(likes + shares + comments) AS reactions, SUM(clicks) AS clicks FROM engagement_by_content WHERE {window} "
        "GROUP BY content_id ORDER BY views DESC, impressions DESC, reactions DESC, clicks DESC, content_id "
        f"LIMIT {CONTENTS}",
    ),
    "segments": Question(
        "rfm_segments",
        "SELECT segment, COALESCE(currency, 'no currency') AS currency, COUNT(*) AS buyers, SUM(revenue) AS revenue "
        "FROM rfm_segments GROUP BY segment, currency ORDER BY segment, currency",
    ),
    "books": Question(
        "quality_summary",
        "SELECT source, SUM(received + exploded) AS records, SUM(events) AS events, SUM(duplicates) AS duplicates, "
        "SUM(quarantined) AS quarantined, SUM(out_of_range + replaced + erased) AS others, SUM(balance) AS balance, "
        "SUM(minutes_in_flight) AS minutes_in_flight FROM quality_summary GROUP BY source "
        "ORDER BY records DESC, source",
    ),
}
ASIDE = ("types", "days")  # asked where channels or weeks say nothing
# Asked where the view that would answer is absent, or has nothing to say.
INSTEAD = {
    "revenue": Question(
        "events_unique",
        "SELECT day, COALESCE(currency, 'no currency') AS currency, SUM(value) AS revenue, COUNT(*) AS orders "
        "FROM events_unique WHERE event_type = 'purchase' AND is_bot IS NOT TRUE AND {window} "
        "GROUP BY day, currency ORDER BY day, currency",
    ),
    "contents": Question(
        "events_unique",
        "SELECT content_id, COUNT(*) AS events FROM events_unique WHERE content_id IS NOT NULL AND "
        "{window} GROUP BY content_id ORDER BY events DESC, content_id "
        f"LIMIT {CONTENTS}",
    ),
}


@dataclass(frozen=True)
class Numbers:
    """The answers of a warehouse by the name of the question, the day that they are about, and the days drawn; a view
    that the warehouse does not have has no rows."""

    warehouse: str
    time_zone: str
    answers: Mapping[str, pl.DataFrame]
    shown: Shown | None = None
    window: Window = field(default=Window(date.min, date.min))

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self.answers.get(name, pl.DataFrame())

    @property
    def last_day(self) -> date | None:
        """The day that the report shows."""
        return None if self.shown is None else self.shown.day


def numbers_of(
    warehouse: Warehouse,
    start: date | None = None,
    end: date | None = None,
    newest: Mapping[str, Question] = MappingProxyType({}),
) -> Numbers:
    """Choose the day and the window, and ask QUESTIONS of the views that the warehouse has; `newest` are others about
    now, which are not asked with an `end`.

    Errors: OptionError where `start` and `end` leave no day with events.
    """
    views = warehouse.names()
    zone = warehouse.time_zone
    parts = {"bucket_day": _day_in(zone, "bucket_start", warehouse)}
    with warehouse.asking() as ask:

        def answer(question: Question, filled: dict[str, str]) -> pl.DataFrame:
            return _plain(ask(question.sql.format(**filled))) if question.view in views else pl.DataFrame()

        days = {name: answer(question, parts) for name, question in DAY_QUESTIONS.items()}
        shown, happened = _choose(days, zone, start, end)
        if shown is None:  # nothing is drawn, but something may have been received
            return Numbers(terminal.shown(warehouse.name), zone, {"books": answer(QUESTIONS["books"], parts)})
        window = choose_window(shown, happened, start, end)
        parts |= _window_parts(window)
        answers = {name: _inside(rows, window) for name, rows in days.items()}
        answers |= {name: answer(question, parts) for name, question in QUESTIONS.items() if name not in ASIDE}
        answers |= {name: answer(question, parts) for name, question in newest.items() if end is None}
        if not _any(answers["channels"], "kind"):
            answers["types"] = answer(QUESTIONS["types"], parts)
        if "retention_by_week" in views and not _any(answers["weeks"], "n"):
            answers["days"] = answer(QUESTIONS["days"], parts)
        if "revenue_by_day" not in views:
            answers["revenue"] = answer(INSTEAD["revenue"], parts)
        if not any(_any(answers["contents"], measure) for measure in MEASURES):
            answers["contents"] = answer(INSTEAD["contents"], parts)
    return Numbers(terminal.shown(warehouse.name), zone, answers, shown, window)


def _day_in(zone: str, column: str, warehouse: Warehouse) -> str:
    """The day of a time: the one thing that the two dialects write differently."""
    if warehouse.local_path is None:
        return f"DATE({column}, '{zone}')"
    return f"CAST({column} AT TIME ZONE '{zone}' AS DATE)"


def _window_parts(window: Window) -> dict[str, str]:
    return {
        "window": f"day >= DATE '{window.first}' AND day <= DATE '{window.last}'",
        "first": f"{window.first}",
        "monday": f"{window.first - timedelta(days=window.first.weekday())}",
        "last": f"{window.last}",
        "month": f"{window.last - timedelta(days=28)}",
    }


def _inside(rows: pl.DataFrame, window: Window) -> pl.DataFrame:
    return rows if rows.is_empty() else rows.filter(pl.col("day").is_between(window.first, window.last))


def _any(rows: pl.DataFrame, column: str) -> bool:
    """Whether a column says anything: a text, or a number that is not 0."""
    if rows.is_empty() or column not in rows.columns:
        return False
    values = rows[column]
    return bool((values.fill_null(0) != 0).any()) if values.dtype.is_numeric() else values.is_not_null().any()


def _choose(
    days: dict[str, pl.DataFrame], zone: str, start: date | None, end: date | None
) -> tuple[Shown | None, dict[date, float | None]]:
    happened: dict[date, float | None] = {}
    for day, _, events in days["channels"].iter_rows():
        happened[day] = (happened.get(day) or 0) + events
    last = {name: None if days[name].is_empty() else days[name]["day"][-1] for name in ("activity", "engagement")}
    if not happened:  # no view counts events by day: the days of people and of sessions are known
        known = {day for name in last if not days[name].is_empty() for day in days[name]["day"]}
        happened = dict.fromkeys(known)
    received = {row[0]: Received(*row[1:]) for row in days["received"].iter_rows()}
    inside = {day: events for day, events in happened.items() if (not start or day >= start) and (not end or day < end)}
    if happened and not any(events != 0 for events in inside.values()):
        first, newest = min(happened), max(happened)
        stated = " ".join(f"--{name} {day}" for name, day in (("start", start), ("end", end)) if day)
        raise OptionError(f"{stated}: no events on these days; allowed: days from {first} to {newest}")
    shown = choose_day(inside, received, zone, last["activity"])
    if shown and end and shown.last_drawn < max(happened):
        shown = Shown(shown.day, shown.state, shown.later, shown.until)  # later days are left out, not stray
    return shown, happened


def _plain(answer: pl.DataFrame) -> pl.DataFrame:
    """The answer, whole numbers and money as numbers that a chart can draw, texts as a reader can see them."""
    if answer.is_empty():
        return pl.DataFrame()
    texts = [_escape(column) for column in answer.select(pl.col(pl.String))]
    return answer.with_columns(pl.col(pl.Decimal, pl.Int128).cast(pl.Float64), *texts)


def _escape(texts: pl.Series) -> pl.Series:
    return pl.Series(texts.name, [None if text is None else terminal.shown(text) for text in texts], pl.String)
