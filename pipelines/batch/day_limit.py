"""Limit the days of a run: it writes a file per table and day, so events spread over many days make it slow.

`NoteDays` counts distinct days while the input is read, before further processing: a stray event of 1971 counts as one
day. A user can name the days to write with --start and --end, or raise the limit with --max_days.
"""

from collections.abc import Collection
from datetime import date
from pathlib import Path

import polars as pl

from transforms.block import day_of
from transforms.days import Days
from transforms.errors import SourceError

_noted: dict[str, set[date]] = {}  # folder -> days that this process has recorded; a process may run several pipelines


class NoteDays:
    """Record the days of events as file names in a folder that all processes of a run share; events pass through.

    days  the days that count; None means every day
    most  the maximum for all processes together, above which SourceError is raised; None means no limit
    """

    def __init__(self, folder: Path, zone: str, days: Days | None = None, most: int | None = None):
        self.folder, self.zone, self.days, self.most = str(folder), zone, days, most

    def __call__(self, events: pl.DataFrame) -> pl.DataFrame:
        known = _noted.setdefault(self.folder, set())
        found = set(events.select(day_of(pl.col("event_time"), self.zone).unique()).to_series())
        new = {day for day in found - known if self.days is None or self.days.start <= day < self.days.end}
        for day in new:
            (Path(self.folder) / day.isoformat()).touch()
        known |= found
        if new and self.most is not None:
            refuse_spread(self.noted(), self.most)
        return events

    def noted(self) -> set[date]:
        """Return the days that all processes have recorded."""
        return {date.fromisoformat(noted.name) for noted in Path(self.folder).iterdir()}


def refuse_spread(days: Collection[date], most: int) -> None:
    """Raise SourceError for more than `most` days."""
    if len(days) > most:
        raise SourceError(
            f"the events span at least {len(days):,} days, from {min(days)} to {max(days)}; allowed: {most:,}; "
            "nothing was written; name the days to write with --start and --end, or raise the limit with --max_days"
        )
