"""What a report asks of a warehouse, in BigQuery's SQL, as a local warehouse understands it too."""

from dataclasses import dataclass
from datetime import date

import polars as pl

from pipelines.system.terminal import shown
from pipelines.warehouse.interface import Warehouse

DAYS, RECENT_DAYS = 60, 28  # drawn by day; added up

# view that is asked -> question. A view that a warehouse does not have is not asked.
QUESTIONS = {
    "activity": ("activity_by_day", f"SELECT day, dau, wau, mau FROM activity_by_day ORDER BY day DESC LIMIT {DAYS}"),
    "lifecycle": ("lifecycle_by_day", f"SELECT * FROM lifecycle_by_day ORDER BY day DESC LIMIT {DAYS}"),
    "volume": (
        "engagement_by_channel",
        "SELECT day, channel, SUM(events) AS events FROM engagement_by_channel "
        f"WHERE DATE_DIFF((SELECT MAX(day) FROM engagement_by_channel), day, DAY) < {DAYS} "
        "GROUP BY day, channel ORDER BY day DESC, channel",
    ),
    "engagement": (
        "engagement_by_day",
        "SELECT day, SUM(sessions) AS sessions, SUM(engaged_sessions) AS engaged_sessions, SUM(bounces) AS bounces "
        f"FROM engagement_by_day GROUP BY day ORDER BY day DESC LIMIT {DAYS}",
    ),
    "converted": (
        "conversion_by_channel",
        "SELECT day, SUM(sessions) AS sessions, SUM(converted_sessions) AS converted_sessions "
        "FROM conversion_by_channel GROUP BY day ORDER BY day DESC LIMIT 2",
    ),
    "campaigns": (
        "conversion_by_campaign",
        "SELECT campaign, SUM(sessions) AS sessions, SUM(converted_sessions) AS converted_sessions "
        "FROM conversion_by_campaign "
        f"WHERE DATE_DIFF((SELECT MAX(day) FROM conversion_by_campaign), day, DAY) < {RECENT_DAYS} "
        "GROUP BY campaign ORDER BY sessions DESC, campaign LIMIT 8",
    ),
    "funnel": (
        "funnel_by_day",
        "SELECT step, event_type, SUM(persons) AS persons, SUM(first_persons) AS first_persons, "
        "SUM(previous_persons) AS previous_persons FROM funnel_by_day "
        f"WHERE DATE_DIFF((SELECT MAX(day) FROM funnel_by_day), day, DAY) < {RECENT_DAYS} "
        "GROUP BY step, event_type ORDER BY step",
    ),
    "weeks": (
        "retention_by_week",
        "SELECT cohort_week AS cohort, week_n AS n, cohort_size, retained_on FROM retention_by_week "
        "WHERE DATE_DIFF((SELECT MAX(cohort_week) FROM retention_by_week), cohort_week, DAY) < 7 * 12 "
        "AND retained_on IS NOT NULL ORDER BY cohort, n",
    ),
    "days": (
        "retention_by_day",
        "SELECT cohort_day AS cohort, day_n AS n, cohort_size, retained_on FROM retention_by_day "
        "WHERE DATE_DIFF((SELECT MAX(cohort_day) FROM retention_by_day), cohort_day, DAY) < 12 AND day_n < 12 "
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
    """The answers of a warehouse by the name of the question; a view that is not there has no rows."""

    warehouse: str
    time_zone: str
    answers: dict[str, pl.DataFrame]

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self.answers[name]

    @property
    def last_day(self) -> date | None:
        """The last day that the warehouse holds."""
        days = [self[name]["day"].max() for name in ("activity", "volume") if not self[name].is_empty()]
        return days[0] if days else None  # type: ignore[return-value]


def numbers_of(warehouse: Warehouse) -> Numbers:
    """Ask QUESTIONS of the views that the warehouse has."""
    there = warehouse.names()
    answers = {
        name: _asked(warehouse, sql) if view in there else pl.DataFrame() for name, (view, sql) in QUESTIONS.items()
    }
    return Numbers(shown(warehouse.name), warehouse.time_zone, answers)


def _asked(warehouse: Warehouse, sql: str) -> pl.DataFrame:
    """The answer, whole numbers and money as numbers that a chart can draw, texts as a reader can see them."""
    found = pl.concat(list(warehouse.ask(sql)))
    if found.is_empty():
        return pl.DataFrame()
    texts = [_shown(column) for column in found.select(pl.col(pl.String))]
    return found.with_columns(pl.col(pl.Decimal, pl.Int128).cast(pl.Float64), *texts)


def _shown(texts: pl.Series) -> pl.Series:
    return pl.Series(texts.name, [None if text is None else shown(text) for text in texts], pl.String)
