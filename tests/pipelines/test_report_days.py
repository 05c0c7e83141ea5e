"""The day that a report shows, of which the audit counts and the daily views decide."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from pipelines.apps.report.days import Received, State, choose_day

NEXT_MONTH = datetime(2026, 4, 1, tzinfo=UTC)


def march(day: int) -> date:
    return date(2026, 3, day)


def at(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


def received(*rows: tuple[int, int, datetime], open_on: tuple[int, ...] = (), written: datetime | None = NEXT_MONTH):
    """(day, events, end of its last minute) of each day, with an open minute on some."""
    return {march(day): Received(events, int(day in open_on), until, written) for day, events, until in rows}


WHOLE, IN_PROGRESS, UNKNOWN = State
FULL = {march(day): 100.0 for day in (1, 2, 3)}
THREE = [(day, 100, at(day + 1)) for day in (1, 2, 3)]  # received as they happened, to their end
CUT = [*THREE[:2], (3, 60, at(3, 14, 37))]
CASES = {
    # name: (events by day, received, options, (day, state, later, strays))
    "a backfill of whole days": (FULL, received(*THREE), {}, (3, WHOLE, (), 0)),
    "a last record in the last hour": (
        FULL, received(*THREE[:2], (3, 100, at(3, 23, 1))), {}, (3, WHOLE, (), 0)
    ),
    "a backfill cut in the afternoon": (FULL, received(*CUT), {}, (2, WHOLE, (3,), 0)),
    "a stream in the last hour": (
        FULL, received(*THREE[:2], (3, 98, at(3, 23, 40)), written=at(3, 23, 41)), {}, (2, WHOLE, (3,), 0)
    ),
    "a stream after midnight, of whose day a minute is open": (
        FULL | {march(4): 5.0}, received(*THREE, (4, 5, at(4, 0, 3)), open_on=(3, 4)), {}, (2, WHOLE, (3, 4), 0)
    ),
    "a stream whose day is closed": (
        FULL | {march(4): 5.0}, received(*THREE, (4, 5, at(4, 0, 9)), open_on=(4,)), {}, (3, WHOLE, (4,), 0)
    ),
    "a stream that has not published the people of the day": (
        FULL | {march(4): 5.0}, received(*THREE, (4, 5, at(4, 0, 9))), {"published": march(2)}, (2, WHOLE, (3, 4), 0)
    ),
    "minutes that an earlier stream left open": (FULL, received(*THREE, open_on=(1,)), {}, (3, WHOLE, (), 0)),
    "late records after the end": (
        FULL | {march(4): 6.0}, received(*THREE, (4, 98, at(4, 23, 58)), (5, 0, at(5, 21))), {}, (3, WHOLE, (), 6)
    ),
    "a day half of whose records were late": (
        {march(1): 100.0, march(2): 50.0}, received((1, 100, at(2)), (2, 100, at(3))), {}, (2, WHOLE, (), 0)
    ),
    "clocks that run ahead": (FULL | {march(4): 6.0}, received(*THREE), {}, (3, WHOLE, (), 6)),
    "a hole before the last day": (
        {march(1): 100.0, march(9): 100.0}, received((1, 100, at(2)), (9, 100, at(10))), {}, (9, WHOLE, (), 0)
    ),
    "a hole before the day in progress": (
        {march(1): 100.0, march(9): 40.0}, received((1, 100, at(2)), (9, 40, at(9, 12))), {}, (1, WHOLE, (9,), 0)
    ),
    "a whole day without an event": (
        {march(1): 100.0, march(2): 0.0}, received((1, 100, at(2)), (2, 0, at(3))), {}, (1, WHOLE, (), 0)
    ),
    "one whole day": ({march(1): 100.0}, received((1, 100, at(2))), {}, (1, WHOLE, (), 0)),
    "one day in progress": ({march(1): 40.0}, received((1, 40, at(1, 12))), {}, (1, IN_PROGRESS, (), 0)),
    "history received long after": (FULL, received((20, 300, at(20, 12))), {}, (3, WHOLE, (), 0)),
    "no audit counts": (FULL, {}, {}, (3, UNKNOWN, (), 0)),
    "days whose events no view counts": (dict.fromkeys(FULL), received(*CUT), {}, (2, WHOLE, (3,), 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_last_whole_day_is_shown(name):
    happened, counts, options, (day, state, later, strays) = CASES[name]
    shown = choose_day(happened, counts, "UTC", **options)
    assert (shown.day, shown.state) == (march(day), state)
    assert (shown.later, shown.strays) == (tuple(map(march, later)), strays)


@pytest.mark.parametrize(("zone", "day"), [("UTC", 3), ("America/New_York", 2), ("Asia/Tokyo", 3)])
def test_a_day_ends_at_midnight_of_the_time_zone(zone, day):
    """In New York four or five hours of the day are still to come, so that it is in progress."""
    shown = choose_day(FULL, received(*THREE), zone)
    assert shown.day == march(day)
    assert shown.until == at(4) and shown.until.tzinfo == ZoneInfo(zone)


def test_a_day_of_a_change_of_clocks_is_whole_when_its_own_hours_are_over():
    """29 March 2026 has 23 hours in Berlin: it ends at 22:00 UTC."""
    counts = {day: Received(9, 0, until) for day, until in ((march(28), at(28, 23)), (march(29), at(29, 21)))}
    assert choose_day(dict.fromkeys(counts, 9.0), counts, "Europe/Berlin").day == march(29)
    counts[march(29)] = Received(9, 0, at(29, 20, 59))
    assert choose_day(dict.fromkeys(counts, 9.0), counts, "Europe/Berlin").day == march(28)


def test_without_an_event_there_is_no_day():
    assert choose_day({}, received(*THREE), "UTC") is None
    assert choose_day({march(1): 0.0}, {}, "UTC") is None


def test_charts_mark_the_days_in_progress():
    cut = choose_day(FULL, received(*CUT), "UTC")
    assert (cut.in_progress, cut.last_drawn) == ((march(3),), march(3))
    only = choose_day({march(1): 40.0}, received((1, 40, at(1, 12))), "UTC")
    assert (only.in_progress, only.last_drawn) == ((march(1),), march(1))
    assert choose_day(FULL, {}, "UTC").in_progress == ()
