"""Suppress small groups: readers' views omit counts of fewer people than a threshold.

    suppress(name, sql, alone) -> the SQL of the view for readers, with {{minimum_group}} as the threshold

GROUPS declares for each view which columns count people, and what is computed from them. A row about fewer people is
omitted; within a row, a count of fewer people is NULL, and so is what is computed from it. If a view has none,
`people` is SQL that counts people by `keys`. Sketches are omitted, since one reveals whether it contains a given id. A
threshold of 0 omits nothing.

Views that are not in GROUPS (PERSONS, RECORDS) do not count people: a row is a person, or counts records.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

THRESHOLD = "{{minimum_group}}"


class Group(NamedTuple):
    """A view that counts people.

    row     the column with the number of people that a row is about; None: each count is checked by itself
    parts   further counts of people, each with the columns computed from it
    hidden  columns that readers do not get
    people  SQL for (keys, people), grouped by `keys`, if no column holds the number of people of a row
    """

    row: str | None = None
    parts: Mapping[str, tuple[str, ...]] = {}
    hidden: tuple[str, ...] = ()
    people: str = ""
    keys: tuple[str, ...] = ()


_ZONE = "'{{time_zone}}'"
_PERSONS = "COUNT(DISTINCT COALESCE(user_id, anonymous_id)) AS people"
_CONVERTERS = {"converters": ("converted_sessions", "session_conversion_rate", "visitor_conversion_rate")}
_RETAINED = {"retained_on": ("retention_on",), "retained_on_or_after": ("retention_on_or_after",)}

GROUPS = {
    "activity_1m_current": Group("users", hidden=("users_sketch",)),
    "content_1h_current": Group("users", hidden=("users_sketch",)),
    "campaign_1h_current": Group(
        "users", {"purchasers": ("purchases", "revenue")}, hidden=("users_sketch", "purchasers_sketch")
    ),
    "activity_by_day": Group(parts={"dau": ("stickiness",), "wau": (), "mau": ("stickiness",)}),
    "lifecycle_by_day": Group(
        parts={f"{name}_persons": () for name in ("active", "new", "returning", "resurrecting", "dormant")}
    ),
    "retention_by_day": Group("cohort_size", _RETAINED),
    "retention_by_week": Group("cohort_size", _RETAINED),
    "retention_by_channel": Group("cohort_size", _RETAINED),
    "conversion_by_campaign": Group("visitors", _CONVERTERS),
    "conversion_by_channel": Group("visitors", _CONVERTERS),
    "conversion_by_country": Group("visitors", _CONVERTERS),
    "revenue_by_day": Group("buyers", {"refunded_buyers": ("refunds", "net_revenue")}),
    "attribution_by_day": Group("converters"),
    "funnel_by_day": Group(
        "first_persons",
        {
            "persons": ("conversion_from_first", "conversion_from_previous", "median_seconds_from_previous"),
            "previous_persons": ("conversion_from_previous",),
        },
    ),
    "live_now": Group("persons"),
    "engagement_by_day": Group(
        people="SELECT day, channel, COUNT(DISTINCT visitor) AS people FROM visits GROUP BY day, channel",
        keys=("day", "channel"),
    ),
    "engagement_by_device": Group(
        people="SELECT day, device, COUNT(DISTINCT visitor) AS people FROM visits GROUP BY day, device",
        keys=("day", "device"),
    ),
    "engagement_by_channel": Group(
        people=f"SELECT DATE(event_time, {_ZONE}) AS day, channel, {_PERSONS} FROM events GROUP BY day, channel",
        keys=("day", "channel"),
    ),
    "engagement_by_content": Group(
        people=f"SELECT DATE(event_time, {_ZONE}) AS day, content_id, category, {_PERSONS} FROM events "
        "GROUP BY day, content_id, category",
        keys=("day", "content_id", "category"),
    ),
    "content_leaderboard": Group(
        people=f"SELECT content_id, category, {_PERSONS} FROM events CROSS JOIN "
        f"(SELECT MAX(DATE(bucket_start, {_ZONE})) AS last_day FROM content_1h_current) AS known "
        f"WHERE DATE_DIFF(last_day, DATE(event_time, {_ZONE}), DAY) "
        "BETWEEN 0 AND 6 GROUP BY content_id, category",
        keys=("content_id", "category"),
    ),
}
PERSONS = (
    "events_unique",
    "quarantine_open",
    "user_days_current",
    "sessions_current",
    "active_days",
    "first_touches",
    "visits",
    "visit_events",
    "identities",
    "rfm_segments",
)
RECORDS = ("quality_1m_current", "quality_summary", "quarantine_by_code")


def suppress(name: str, sql: str, alone: Callable[[str], str], groups: Mapping[str, Group] = GROUPS) -> str:
    """Return the SQL of the view for readers; `alone` expands SQL down to the tables."""
    if name not in groups:
        return sql
    group = groups[name]
    shown = f"SELECT shown.*{_without(group.hidden)}{_replaced(group.parts)}\nFROM (\n{sql}\n) AS shown"
    if group.people:
        return (
            f"{shown}\nJOIN (\n{alone(group.people)}\n) AS counted\n  ON {_same(group.keys)}\nWHERE {_fits('people')}"
        )
    return f"{shown}\nWHERE {_fits(f'shown.{group.row}')}" if group.row else shown


def _fits(number: str) -> str:
    return f"{number} >= {THRESHOLD}"


def _without(hidden: tuple[str, ...]) -> str:
    return f" EXCEPT ({', '.join(hidden)})" if hidden else ""


def _replaced(parts: Mapping[str, tuple[str, ...]]) -> str:
    """Return SQL that makes each count, and what is computed from it, NULL unless all its counts are large enough."""
    rests: dict[str, list[str]] = {name: [name] for name in parts}
    for name, computed in parts.items():
        for column in computed:
            rests.setdefault(column, []).append(name)
    shown = [
        f"IF({' AND '.join(_fits(f'shown.{each}') for each in rest)}, shown.{column}, NULL) AS {column}"
        for column, rest in rests.items()
    ]
    listed = ",\n  ".join(shown)
    return f" REPLACE (\n  {listed}\n)" if shown else ""


def _same(keys: tuple[str, ...]) -> str:
    """Return SQL that compares the keys, with NULL equal to NULL, only by equality, as a BigQuery outer join needs."""
    text = "IFNULL(CONCAT('=', CAST({} AS STRING)), '')"
    return " AND ".join(f"{text.format(f'shown.{key}')} = {text.format(f'counted.{key}')}" for key in keys)
