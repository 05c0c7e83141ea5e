"""The limit of days: a run writes a file of each table and day, so a sender who spreads events over days costs it time.

`NoteDays` counts distinct days while the input is read, before anything is made of them: a stray event of 1971 is one
day. The way out is the user's: --start and --end name the days to write, --max_days allows more.
"""

from collections.abc import Collection
from datetime import date
from pathlib import Path

import polars as pl

from transforms.block import day_of
from transforms.days import Days
from transforms.errors import SourceError

_noted: dict[str, set[date]] = {}  # by folder: what this process has noted; a process may run several pipelines


class NoteDays:
    """Notes the days of events as names in a folder, which all processes of a run share; events pass through.

    days  those that count; None: every day
    most  above it, of all processes together, SourceError is raised; None: no limit
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
        """The days that all processes have noted."""
        return {date.fromisoformat(noted.name) for noted in Path(self.folder).iterdir()}


def refuse_spread(days: Collection[date], most: int) -> None:
    """Errors: SourceError for more than `most` days."""
    if len(days) > most:
        raise SourceError(
            f"the events spread over {len(days):,} days or more, from {min(days)} to {max(days)}; allowed: {most:,}; "
            "nothing was written; name the days to write with --start and --end, or allow more with --max_days"
        )
