"""The days that a report draws: one window for all of its charts, and in it the days without any event.

    choose_window(shown, happened, start, end) -> Window

Unless it is stated, the window is the year up to the last day that is drawn, from the first day with events on. A few
events long before all others, as of a client whose clock was wrong, do not widen it.
"""

from collections.abc import Mapping
from datetime import date, timedelta
from itertools import pairwise
from typing import NamedTuple

from pipelines.apps.report.days import Shown

YEAR_DAYS = 365
EMPTY_DAYS = 28  # a hole behind which a handful of events is not drawn
FEW = 0.01  # of the events of the window


class Window(NamedTuple):
    """The days `first` to `last`, both drawn; `gaps` are days between the first and the last event that have none;
    `before` counts the events of earlier days."""

    first: date
    last: date
    gaps: frozenset[date] = frozenset()
    before: int = 0

    @property
    def days(self) -> int:
        """How many days it has."""
        return (self.last - self.first).days + 1

    def day(self, number: int) -> date:
        """The day of this number, from 0."""
        return self.first + timedelta(days=number)

    def holes(self) -> list[tuple[date, int]]:
        """The gaps as (first day, number of days) of each run."""
        runs: list[tuple[date, int]] = []
        for day in sorted(self.gaps):
            if runs and runs[-1][0] + timedelta(days=runs[-1][1]) == day:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((day, 1))
        return runs

    def unknown(self, days: int) -> frozenset[date]:
        """The gaps of at least this many days in a row: behind them a number of the last `days` days is of nothing."""
        return frozenset(
            first + timedelta(days=n) for first, length in self.holes() for n in range(length) if length >= days
        )


def choose_window(
    shown: Shown, happened: Mapping[date, float | None], start: date | None = None, end: date | None = None
) -> Window:
    """The window of a report about `shown`; `start` and `end` (exclusive) state it."""
    last = min(shown.last_drawn, end - timedelta(days=1)) if end else shown.last_drawn
    days = sorted(day for day, events in happened.items() if events != 0 and day <= last)
    first = start or _first(days, happened, last)
    inside = [day for day in days if day >= first]
    all_days = {inside[0] + timedelta(days=n) for n in range((inside[-1] - inside[0]).days)} if inside else set()
    before = sum(int(happened[day] or 0) for day in days if day < first)
    return Window(first, last, frozenset(all_days - set(inside)), before)


def _first(days: list[date], happened: Mapping[date, float | None], last: date) -> date:
    days = [day for day in days if (last - day).days < YEAR_DAYS] or [last]
    events = {day: happened.get(day) or 0 for day in days}
    total, seen = sum(events.values()), 0.0
    for earlier, later in pairwise(days):
        seen += events[earlier]
        if seen >= FEW * total:
            break
        if (later - earlier).days > EMPTY_DAYS:
            return later
    return days[0]
