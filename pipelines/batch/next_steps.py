"""What a run may be followed by: queries that its data can answer, and what the run wrote, as lines of its summary."""

from collections.abc import Collection, Sequence
from datetime import date

import polars as pl

from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.interface import Warehouse

BY_CHANNEL = "SELECT * FROM engagement_by_channel ORDER BY day, channel"
BY_TYPE = "SELECT event_type, SUM(events) AS events FROM activity_1m_current GROUP BY event_type ORDER BY events DESC"
OF_EVENTS = "SELECT event_type, COUNT(*) AS events FROM events GROUP BY event_type ORDER BY events DESC"
FUNNEL = "SELECT * FROM funnel_by_day ORDER BY day, step"
REVENUE = "SELECT * FROM revenue_by_day ORDER BY day, channel"
WHY = "SELECT stage, code, errors, count(*) AS records FROM quarantine_open GROUP BY ALL ORDER BY records DESC"
ACTIVITY = "activity_1m"  # the metric that knows channels and types without a look at each event


def questions(warehouse: Warehouse, days: Collection[date], steps: Collection[str]) -> list[str]:
    """Return the queries that the events of these days can answer; `steps` are those of the funnel."""
    names = warehouse.names()
    found = _types_and_channels(warehouse, days)
    if found is None:
        return [BY_CHANNEL if "engagement_by_channel" in names else OF_EVENTS]
    types = set(found["event_type"])
    asked = [BY_CHANNEL if found["channel"].is_not_null().any() else BY_TYPE]
    if len(types & set(steps)) > 1 and "funnel_by_day" in names:
        asked.append(FUNNEL)
    if "purchase" in types and "revenue_by_day" in names:
        asked.append(REVENUE)
    return asked


def _types_and_channels(warehouse: Warehouse, days: Collection[date]) -> pl.DataFrame | None:
    """Each event type and channel of these days; None where it would cost a download, or no metric counts them."""
    table = warehouse.tables().get(ACTIVITY)
    columns = ["event_type", "channel"]
    if warehouse.local_path is None or table is None or not set(columns) <= {each.name for each in table.columns}:
        return None
    return warehouse.scan(ACTIVITY, days, columns).unique().collect()


def written_lines(entries: Sequence[FileEntry]) -> list[str]:
    """Return how many rows of how many days a run wrote, for each table."""
    rows: dict[str, int] = {}
    days: dict[str, set[date | None]] = {}
    for entry in entries:
        if entry.rows:
            rows[entry.table] = rows.get(entry.table, 0) + entry.rows
            days.setdefault(entry.table, set()).add(entry.day)
    lines = [
        f"{table:<20} {count:>12,} {_plural(count, 'row')} of {_plural(len(days[table]), 'day', count=True)}"
        for table, count in sorted(rows.items())
    ]
    return [f"  {'' if n else 'wrote':<13} {line}" for n, line in enumerate(lines or ["nothing"])]


def _plural(number: int, noun: str, count: bool = False) -> str:
    word = noun if number == 1 else f"{noun}s"
    return f"{number:,} {word}" if count else word
