"""The times of a tick: what the parameters of the questions stand for, by the clock and the zone of the warehouse."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from pipelines.warehouse.conditions import midnight

RECENT = timedelta(minutes=5)
HOUR = timedelta(hours=1)
REFRESHED = timedelta(days=2)  # answers of an older refresh are not shown
ALERTED = timedelta(days=90)  # an alert that opened before is not shown
LONGEST_SESSION = timedelta(days=1)  # of those that views count; the rows of one may be on the day before


def times_of(at: datetime, zone: str) -> dict[str, datetime | date]:
    """The parameters of a tick at this time, in UTC; `day` is that of the time zone."""
    at = at.astimezone(UTC)
    day = at.astimezone(ZoneInfo(zone)).date()
    minute, hour = at.replace(second=0, microsecond=0), at.replace(minute=0, second=0, microsecond=0)
    since_hour, day_start = minute - timedelta(minutes=59), midnight(day, zone)
    return {
        "now": at.replace(microsecond=0),
        "recent": at.replace(microsecond=0) - RECENT,
        "hour": since_hour,
        "hour_before": since_hour - HOUR,
        "this_hour": hour,
        "last_hour": hour - HOUR,
        "day_ago": hour - 24 * HOUR,
        "day": day,
        "day_start": day_start,
        "day_end": midnight(day + timedelta(days=1), zone),
        "refreshed_since": hour - REFRESHED,
        "alerts_since": day_start - ALERTED,
        "day_after": at.replace(microsecond=0) + timedelta(days=1),
        "sessions_since": min(day_start, since_hour - HOUR) - LONGEST_SESSION,
    }


def literals(times: Mapping[str, datetime | date], is_duckdb: bool) -> dict[str, str]:
    """The parameters as SQL of one dialect."""
    word = "TIMESTAMPTZ" if is_duckdb else "TIMESTAMP"
    return {
        name: f"{word} '{time:%Y-%m-%d %H:%M:%S}+00:00'" if isinstance(time, datetime) else f"DATE '{time}'"
        for name, time in times.items()
    }
