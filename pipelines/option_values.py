"""Forms of values that options have: a regex, what it allows in words, and what reads a text that matches.

A reader raises ValueError with what is allowed.
"""

import re
from datetime import date, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
DURATION = r"\d{1,6}[smhd]"
DURATION_IN_WORDS = "a number above 0 and one of s, m, h, d, such as 36h"
DURATION_UNIT = "s, m, h or d behind the number"
DATE = r"\d{4}-\d{2}-\d{2}"
DATE_IN_WORDS = "a day of the calendar, such as 2026-03-01"
DATASET = r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]*[a-z0-9]\.[A-Za-z0-9_]{1,1024}"
DATASET_IN_WORDS = "project.dataset, e.g. my-project.audience"
ZONE_IN_WORDS = "a name of the IANA time zone database, e.g. Europe/London"


def duration(text: str) -> timedelta:
    """A length of time."""
    if not re.fullmatch(DURATION, text) or not int(text[:-1]):
        raise ValueError(DURATION_IN_WORDS)
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def part_of_a_day(text: str) -> timedelta:
    """A length of time of which a day is a multiple."""
    width = duration(text)
    if timedelta(days=1) % width:
        raise ValueError("a width that divides a day, such as 1d, 6h or 15m")
    return width


def day(text: str) -> date:
    """A day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(DATE_IN_WORDS) from None


def zone(name: str) -> str:
    """The name of a time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(ZONE_IN_WORDS) from None
    return name
