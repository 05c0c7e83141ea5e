"""The questions of the live page, in BigQuery's SQL: what each shows, what it reads, and since when.

A parameter `@name` is a time or a day of the tick (times.py); bounded.py puts the tables and views in, bounded as
`since` states. The results of a question become keys of the page by its name, its row and its columns; `written` is the
time of the newest row behind it, and `is_open` says that it may still change.
"""

from pipelines.apps.live.insight import INSIGHT
from pipelines.apps.live.question import ROWS, Question

CALM = 5.0  # seconds between two askings of what moves by the day


DAY_FINAL = "Open until the day ends at {day_end}; late events may change it after that."
NO_BOTS = "Events flagged as a bot's are left out."
VISITS = {"sessions": "sessions_since"}

NOW = Question(
    "now",
    "Active now",
    "live-now",
    f"Distinct people and contents with an event in the last 5 minutes, by the time of the event. {NO_BOTS}",
    "Moves with the clock.",
    ("events",),
    {"events": "recent"},
    "SELECT COUNT(DISTINCT COALESCE(user_id, anonymous_id)) AS people, COUNT(DISTINCT content_id) AS contents, "
    "MAX(event_time) AS newest, MAX(received_time) AS written FROM events "
    "WHERE is_bot IS NOT TRUE",
    many=False,
    calm=False,
)
MINUTES = Question(
    "minutes",
    "Events a minute",
    "volume",
    "Accepted events of each of the last 60 minutes, each event once, by the time of the event; bots included.",
    "A minute is open until all that was received for it is counted; a later event adds to it again.",
    ("activity_1m_current",),
    {"activity_1m": "hour"},
    "SELECT UNIX_SECONDS(bucket_start) AS minute, SUM(events) AS events, "
    "MAX(CASE WHEN firing = 'early' THEN 1 ELSE 0 END) AS is_open, MAX(emitted_time) AS written "
    "FROM activity_1m_current "
    "GROUP BY bucket_start ORDER BY bucket_start",
    calm=False,
)
STARTS = Question(
    "starts",
    "Sessions started a minute",
    "session-engagement",
    "Sessions by the minute in which they began, of the last 60 minutes; without bots, and without sessions of more "
    "than 24 hours.",
    "A late event may move the start of a session, or join two sessions.",
    ("visits",),
    VISITS,
    "SELECT UNIX_SECONDS(TIMESTAMP_TRUNC(session_start, MINUTE)) AS minute, COUNT(*) AS sessions, "
    "MAX(emitted_time) AS written FROM visits WHERE session_start >= @hour "
    "GROUP BY minute ORDER BY minute",
)
ENGAGEMENT = Question(
    "engagement",
    "Engagement today",
    "session-engagement",
    "Sessions that began today. Engaged: longer than 10 seconds, 2 views, or converted. The others bounced. "
    "Converted: a signup or a purchase.",
    "A session is open until 30 minutes after its last event. " + DAY_FINAL,
    ("visits",),
    VISITS,
    "SELECT COUNT(*) AS sessions, COUNTIF(is_engaged) AS engaged, COUNTIF(is_bounce) AS bounces, "
    "COUNTIF(is_converted) AS converted, COUNT(DISTINCT visitor) AS visitors, MAX(emitted_time) AS written "
    "FROM visits WHERE day = @day",
    many=False,
)
REVENUE = Question(
    "revenue",
    "Revenue today",
    "revenue",
    f"Purchases and refunds of today in each currency; currencies are never added up. {NO_BOTS}",
    DAY_FINAL,
    ("revenue_by_day",),
    {"events": "day_start"},
    "SELECT COALESCE(currency, 'no currency') AS currency, SUM(orders) AS orders, SUM(revenue) AS revenue, "
    "SUM(refunds) AS refunds, SUM(net_revenue) AS net FROM revenue_by_day WHERE day = @day "
    f"GROUP BY currency ORDER BY orders DESC, currency LIMIT {ROWS}",
)
FUNNEL = Question(
    "funnel",
    "Funnel today",
    "funnel",
    "People who took the first step today, and of them those who took the next ones, in order and within the window.",
    DAY_FINAL,
    ("funnel_by_day",),
    {"events": "day_start"},
    "SELECT step, event_type, persons AS people, first_persons AS first FROM funnel_by_day WHERE day = @day "
    "ORDER BY step",
)
CONTENTS = Question(
    "contents",
    "Top contents",
    "content-engagement",
    "Contents by what happened with them in this hour and the one before. Pace: this hour's number a minute, over that "
    "of the hour before; it is shown from 20 on. Bots are included.",
    "The hour is open until it ends; a later event adds to it again.",
    ("content_1h_current",),
    {"content_1h": "last_hour"},
    "SELECT content_id, SUM(CASE WHEN bucket_start >= @this_hour THEN views ELSE 0 END) AS views, "
    "SUM(CASE WHEN bucket_start < @this_hour THEN views ELSE 0 END) AS views_before, "
    "SUM(CASE WHEN bucket_start >= @this_hour THEN clicks + impressions + likes + shares + comments ELSE 0 END) "
    "AS others, MAX(emitted_time) AS written FROM content_1h_current "
    "GROUP BY content_id "
    f"ORDER BY SUM(views) DESC, others DESC, content_id LIMIT {ROWS}",
)
CAMPAIGNS = Question(
    "campaigns",
    "Campaigns",
    "conversion",
    "Sessions of today by the campaign that led to them, and how many converted. Pace: sessions begun in the last 60 "
    "minutes, over those of the 60 minutes before; it is shown from 20 on.",
    DAY_FINAL,
    ("visits",),
    VISITS,
    "SELECT campaign, COUNTIF(day = @day) AS sessions, COUNTIF(day = @day AND is_converted) AS converted, "
    "COUNTIF(session_start >= @hour) AS last_hour, COUNTIF(session_start < @hour AND session_start >= @hour_before) "
    "AS hour_before, MAX(emitted_time) AS written FROM visits WHERE campaign IS NOT NULL AND "
    "(day = @day OR session_start >= @hour_before) GROUP BY campaign "
    f"ORDER BY sessions DESC, last_hour DESC, campaign LIMIT {ROWS}",
)


def _sessions_by(name: str, title: str, column: str) -> Question:
    return Question(
        name,
        title,
        "conversion",
        f"Sessions of today by the {column} of their first event that has one, and how many converted.",
        DAY_FINAL,
        ("visits",),
        VISITS,
        f"SELECT {column}, COUNT(*) AS sessions, COUNTIF(is_converted) AS converted, MAX(emitted_time) AS written "
        f"FROM visits WHERE day = @day GROUP BY {column} ORDER BY sessions DESC, {column} LIMIT {ROWS}",
    )


BOOKS = Question(
    "books",
    "Audit counts today",
    "books",
    "What became of every record received today. The counts reconcile if the balance of all closed minutes is 0: no "
    "record was lost, and none counted twice.",
    "A minute is open until every record received in it is in its final place.",
    ("quality_1m_current",),
    {"quality_1m": "day_start"},
    "SELECT SUM(received + exploded) AS received, SUM(events) AS events, SUM(duplicates) AS duplicates, "
    "SUM(quarantined) AS quarantined, SUM(out_of_range + replaced + erased) AS others, "
    "SUM(CASE WHEN in_flight THEN 0 ELSE balance END) AS balance, COUNTIF(in_flight) AS open_minutes, "
    "SUM(CASE WHEN in_flight THEN balance ELSE 0 END) AS under_way, MAX(emitted_time) AS written "
    "FROM quality_1m_current",
    many=False,
    calm=False,
)
QUARANTINE = Question(
    "quarantine",
    "Quarantine and late today",
    "books",
    "Records received today that no attempt could accept, by stage, rule, and path of the field that broke it. Stage "
    "late: received too long after it happened. Never a value.",
    "Until a replay accepts them.",
    ("quarantine_open",),
    {"quarantine": "day_start"},
    "SELECT stage, code, JSON_VALUE(errors, '$[0].path') AS path, COUNT(*) AS records, MAX(received_time) AS newest, "
    "SUM(COUNT(*)) OVER () AS all_records, SUM(COUNTIF(stage = 'late')) OVER () AS late, MAX(failed_time) AS written "
    "FROM quarantine_open "
    f"GROUP BY stage, code, path ORDER BY records DESC, stage, code, path LIMIT {ROWS}",
)
FEEDBACK = Question(
    "feedback",
    "Feedback today",
    "volume",
    "Events of today that carry a rating or a text, by event type and channel. The texts themselves are not shown: "
    "they may name a person.",
    DAY_FINAL,
    ("events_unique",),
    {"events": "day_start"},
    "SELECT event_type, channel, COUNT(*) AS answers, COUNT(rating) AS ratings, AVG(rating) AS mean, "
    "MAX(event_time) AS newest FROM events_unique WHERE is_bot IS NOT TRUE "
    f"GROUP BY event_type, channel ORDER BY newest DESC, event_type, channel LIMIT {ROWS}",
    only={"events": "(rating IS NOT NULL OR text IS NOT NULL)"},
)
QUESTIONS = (
    NOW,
    MINUTES,
    STARTS,
    ENGAGEMENT,
    REVENUE,
    FUNNEL,
    CONTENTS,
    CAMPAIGNS,
    _sessions_by("countries", "Countries", "country"),
    _sessions_by("channels", "Channels", "channel"),
    BOOKS,
    QUARANTINE,
    FEEDBACK,
    *INSIGHT,
)
