"""The questions of the live page over the answers of `audience refresh`, and over its alerts.

`written` is the time as of which they were computed: a card is shown once there is one. Where a refresh found nothing
to say, the one row has nothing but that.
"""

from pipelines.apps.live.question import ROWS, Question
from pipelines.insight.alerts.table import OPEN_ALERTS

REFRESHED = "refreshed_since"
FINAL = "Computed again by each refresh, as of the time that is shown; late events count from the next one on."
_SINCE = "It is shown if the refresh is of the last two days."


def _newest(table: str, columns: str, found: str, order: str, limit: int = ROWS) -> str:
    """SQL: the rows `found` of the newest refresh of a table, or one row with its time alone."""
    return (
        f"SELECT newest.as_of AS written, {columns} FROM (SELECT MAX(as_of) AS as_of FROM refreshes "
        f"WHERE table_name = '{table}') AS newest LEFT JOIN ({found}) AS found ON found.as_of = newest.as_of "
        f"ORDER BY {order} LIMIT {limit}"
    )


def _one_each(table: str, keys: str, where: str = "TRUE") -> str:
    """SQL: of each key the newest row of a table, as of each time."""
    return (
        f"SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY as_of, {keys} ORDER BY bucket_start DESC) AS place "
        f"FROM {table} WHERE {where}) AS of_each WHERE place = 1"
    )


def _question(name: str, title: str, metric: str, text: str, table: str, sql: str, **more) -> Question:
    since = {"refreshes": REFRESHED, table: REFRESHED} | more.pop("since", {})
    return Question(
        name, title, metric, f"{text} {_SINCE}", FINAL, tuple(since), since, sql, until="day_after", **more
    )  # fmt: skip


TRENDS = _question(
    "trends",
    "Rising and falling",
    "trends",
    "Contents, categories, campaigns, channels and the whole: of each the newest 10 minutes of the last 24 hours in "
    "which it rose or fell, the newest first. Expected: by the hours before and the usual hour of the week. Bots are "
    "included.",
    "trends_10m",
    _newest(
        "trends_10m",
        "found.dimension, found.key, found.trend, found.bucket_start AS begun, found.count AS events, found.expected, "
        "found.growth",
        _one_each("trends_10m", "dimension, key", "trend IS NOT NULL"),
        "found.bucket_start DESC, ABS(found.z / found.spread) DESC, found.dimension, found.key",
    ),
)
FORECAST = _question(
    "forecast",
    "Events, forecast by the hour",
    "forecasts",
    "Events that are expected in each of the next 48 hours, with the interval that holds 95 % of them, and those of "
    "the last 24 hours beside what was forecast for them the day before. Bots are included.",
    "forecasts_1h",
    "SELECT UNIX_SECONDS(COALESCE(ahead.bucket_start, past.bucket_start)) AS minute, past.events, ahead.expected, "
    "ahead.lower_95 AS lower, ahead.upper_95 AS upper, (SELECT MAX(as_of) FROM refreshes "
    "WHERE table_name = 'forecasts_1h') AS written "
    "FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY bucket_start ORDER BY as_of DESC) AS place FROM forecasts_1h "
    "WHERE metric = 'events' AND channel IS NULL AND bucket_start >= @day_ago AND as_of < bucket_end)"
    " AS ahead "
    "FULL OUTER JOIN (SELECT bucket_start, SUM(count) AS events FROM trends_1h "
    "WHERE dimension = 'whole' AND as_of = (SELECT MAX(as_of) FROM refreshes WHERE table_name = 'trends_1h') "
    "GROUP BY bucket_start) AS past ON past.bucket_start = ahead.bucket_start "
    "WHERE ahead.place IS NULL OR ahead.place = 1 ORDER BY minute",
    since={"trends_1h": REFRESHED},
)
ANOMALIES = _question(
    "anomalies",
    "Anomalies",
    "anomalies",
    "Hours of the last 24 in which a series was not what was to be expected: of each series and kind the newest. "
    "Point: one hour; shift: the mean of 6 hours; silence: nothing where much was expected. Channel none: all "
    "channels.",
    "anomalies_1h",
    _newest(
        "anomalies_1h",
        "found.metric, found.channel, found.kind, found.direction, found.since AS begun, found.value, found.expected, "
        "found.lower, found.upper",
        _one_each("anomalies_1h", "metric, channel, kind"),
        "found.bucket_start DESC, found.surprise DESC, found.metric, found.channel, found.kind",
    ),
)
SENTIMENT = _question(
    "sentiment",
    "Sentiment, newest answers",
    "feedback",
    "Texts that people wrote and ratings that they gave in the last 7 days, by hour, content and channel, the newest "
    "first. Scored are English texts; from 0.05 on a text is positive, from -0.05 down negative. No text is shown, "
    "and no person. Events of bots are left out.",
    "feedback_1h",
    _newest(
        "feedback_1h",
        "found.bucket_start AS begun, found.content_id, found.channel, found.texts, found.positive, found.negative, "
        "found.csat_ratings + found.nps_ratings + found.ces_ratings AS ratings, found.all_texts, found.all_scored, "
        "found.all_positive, found.all_negative",
        "SELECT *, SUM(texts) OVER (PARTITION BY as_of) AS all_texts, SUM(scored) OVER (PARTITION BY as_of) "
        "AS all_scored, SUM(positive) OVER (PARTITION BY as_of) AS all_positive, SUM(negative) OVER (PARTITION BY "
        "as_of) AS all_negative FROM feedback_1h",
        "found.bucket_start DESC, found.texts DESC, found.content_id, found.channel",
    ),
)
SCORES = _question(
    "scores",
    "Satisfaction",
    "satisfaction",
    "CSAT (share of 4 and 5 of 5), NPS (percent of 9 and 10, less percent of 0 to 6) and CES (mean of 1 to 7) of the "
    "last 7 and 28 days, with the interval that holds the true score with 95 %. Below 30 ratings a score says little.",
    "satisfaction",
    _newest(
        "satisfaction",
        "found.score, found.span_days, found.n, found.value, found.low, found.high",
        "SELECT * FROM satisfaction WHERE scope = 'all'",
        "found.score, found.span_days",
    ),
)
ALERTS = Question(
    "alerts",
    "Alerts",
    "alerts",
    "Alerts that are open, the newest first, with the time since when by the data; of the rules of the configuration, "
    "of the last 90 days. Muted: nobody was sent anything of it.",
    "Open until a refresh does not find it any more.",
    ("alerts",),
    {"alerts": "alerts_since"},
    "SELECT log.written, found.rule, found.kind, found.subject, found.text, found.opened_time AS since, "
    "CASE WHEN found.is_muted THEN 1 ELSE 0 END AS is_muted, SUM(found.one) OVER () AS all_open "
    "FROM (SELECT MAX(evaluated_time) AS written, 1 AS one FROM alerts) AS log LEFT JOIN (SELECT *, 1 AS one "
    f"FROM ({OPEN_ALERTS}) AS open_alerts) AS found ON found.one = log.one "
    f"ORDER BY found.opened_time DESC, found.rule, found.subject LIMIT {ROWS}",
    until="day_after",
)
INSIGHT = (TRENDS, FORECAST, ANOMALIES, SENTIMENT, SCORES, ALERTS)
