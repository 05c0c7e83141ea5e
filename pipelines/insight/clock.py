"""The warehouse's clock in SQL that BigQuery and DuckDB share, which know a time in UTC alone."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from pipelines.insight.shape import Inputs
from pipelines.warehouse.conditions import DAY, moment

MINUTE = timedelta(minutes=1)
HOUR, QUARTER = 60, 15  # minutes


def local(inputs: Inputs, column: str, since: datetime) -> str:
    """SQL of a time whose date and hour in UTC are those of the warehouse's clock, from `since` on."""
    parts = offsets(inputs.time_zone, since, inputs.as_of)

    def moved(minutes: int) -> str:  # to add nothing would take as long for each row as to add hours
        return f"{column} + INTERVAL {minutes} MINUTE" if minutes else column

    cases = [f"WHEN {column} >= {moment(start)} THEN {moved(minutes)}" for start, minutes in parts[:0:-1]]
    first = moved(parts[0][1])
    return f"(CASE {' '.join(cases)} ELSE {first} END)" if cases else f"({first})"


def offsets(time_zone: str, since: datetime, end: datetime) -> list[tuple[datetime, int]]:
    """(from when, minutes ahead of UTC) of a zone's clock, the first from `since` on."""
    zone = ZoneInfo(time_zone)

    def ahead(at: datetime) -> int:
        offset = at.astimezone(zone).utcoffset()
        assert offset is not None, "a time with a zone"
        return round(offset / MINUTE)

    found, at = [(since, ahead(since))], since.replace(minute=0, second=0, microsecond=0)
    while at < end:
        later = at + DAY
        if ahead(later) != found[-1][1]:
            low, high = at, later
            while high - low > MINUTE:
                middle = low + (high - low) // MINUTE // 2 * MINUTE
                low, high = (middle, high) if ahead(middle) == found[-1][1] else (low, middle)
            found.append((high, ahead(later)))
        at = later
    return found


def smallest_part(time_zone: str, since: datetime, end: datetime) -> int:
    """Minutes of the parts of an hour that a local day may begin with: 60, or 15 in zones like Asia/Kolkata."""
    return QUARTER if any(minutes % HOUR for _, minutes in offsets(time_zone, since, end)) else HOUR
