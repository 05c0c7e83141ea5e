"""The day that a report shows: the last whole one, decided by the audit counts and never by the clock.

    choose_day(happened, received, ...) -> Shown

A day is whole if
- the watermark has passed it: every minute in which records were received on it is closed;
- it was received to its end: a record was received after it; or within its last hour, if the counts were written after
  it, so that a bounded input that ends at 23:58 has a whole last day and a stream at 23:58 has not;
- it is more than stragglers: at least half as many events happened on it as were received on it. After the end of an
  input late records of earlier days may still arrive for days, and make no day of their own;
- the daily views hold it: a stream publishes the people of a day when the day is over.

A backfill of history that was received long after it happened makes its days whole: nothing was received on them, and
they are over. A day without any event is never shown: the one before it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from zoneinfo import ZoneInfo

SLACK = timedelta(hours=1)  # how much of its end a day may lack where the input is bounded: quiet hours, a cut at 23:59
OWN_SHARE = 0.5  # events of a day, for each event received on it, below which the day is stragglers only


class State(Enum):
    """How much of the shown day the warehouse holds."""

    WHOLE = "whole"
    IN_PROGRESS = "in progress"  # no day is whole
    UNKNOWN = "unknown"  # no audit counts with a received time


@dataclass(frozen=True)
class Received:
    """What was received on a day: accepted events, minutes that are not closed, when its last minute ends, and when
    the newest of these counts was written."""

    events: float
    open_minutes: int
    until: datetime
    written: datetime | None = None


@dataclass(frozen=True)
class Shown:
    """The day of a report.

    later   days after it that are in progress: charts draw and mark them
    until   the end of the last minute in which a record was received, in the warehouse's time zone
    strays  events of days that are not drawn because hardly anything was received for them
    """

    day: date
    state: State
    later: tuple[date, ...] = ()
    until: datetime | None = None
    strays: int = 0

    @property
    def in_progress(self) -> tuple[date, ...]:
        """The days that charts mark."""
        return (self.day, *self.later) if self.state is State.IN_PROGRESS else self.later

    @property
    def last_drawn(self) -> date:
        return max((self.day, *self.later))


def choose_day(
    happened: Mapping[date, float | None],
    received: Mapping[date, Received],
    time_zone: str,
    published: date | None = None,
) -> Shown | None:
    """The day to show; None if there is no event.

    happened   events by the day of event time; None for a day whose events are not counted
    received   what was received, by the day of received time
    published  the last day of the daily views; None if the warehouse has none of them
    """
    days = sorted(day for day, events in happened.items() if events != 0)
    if not days:
        return None
    if not received:
        return Shown(days[-1], State.UNKNOWN)
    zone = ZoneInfo(time_zone)
    until = max(each.until for each in received.values()).astimezone(zone)
    written = max((each.written for each in received.values() if each.written), default=None)

    def is_more_than_stragglers(day: date) -> bool:
        events = happened[day]
        return day not in received or events is None or events >= OWN_SHARE * received[day].events

    def is_whole(day: date) -> bool:
        end = datetime.combine(day + timedelta(days=1), time.min, zone).astimezone(UTC)
        slack = SLACK if written is None or written >= end else timedelta(0)
        is_closed = day not in received or received[day].open_minutes == 0
        return is_closed and until >= end - slack and (published is None or day <= published)

    own = [day for day in days if day <= max(received) and is_more_than_stragglers(day)]
    whole = [day for day in own if is_whole(day)]
    day = [*days[-1:], *own[-1:], *whole[-1:]][-1]
    later = tuple(each for each in own if each > day)
    strays = sum(int(happened[each] or 0) for each in days if each > day and each not in later)
    return Shown(day, State.WHOLE if whole else State.IN_PROGRESS, later, until, strays)
