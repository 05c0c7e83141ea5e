"""Forms: what an option is, and how the texts of its values are read. Nothing here imports Beam."""

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
DURATION = r"\d{1,6}[smhd]"
DURATION_IN_WORDS = "a number above 0 and one of s, m, h, d, such as 36h"
DURATION_UNIT = "a number with a suffix: s, m, h or d"
DATE = r"\d{4}-\d{2}-\d{2}"
DATE_IN_WORDS = "a calendar date, such as 2026-03-01"
DATASET = r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]*[a-z0-9]\.[A-Za-z0-9_]{1,1024}"
DATASET_IN_WORDS = "project.dataset, e.g. my-project.audience"
STARTS = ("earliest", "latest")  # where a queue that keeps its records is read from
START_IN_WORDS = "earliest, latest, or a time with its zone, such as 2026-03-01T10:00:00Z"
STOP_IN_WORDS = "latest, or a time with its zone, such as 2026-03-02T00:00:00Z"
ZONE_IN_WORDS = "an IANA time zone name, e.g. Europe/London"


def read_duration(text: str) -> timedelta:
    """A duration. Raises ValueError, as all of these, with what is allowed."""
    if not re.fullmatch(DURATION, text) or not int(text[:-1]):
        raise ValueError(DURATION_IN_WORDS)
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def write_duration(duration: timedelta) -> str:
    """A duration above 0 as an option states it, in its largest whole unit."""
    units = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}
    for name, unit in units.items():
        if not duration % unit:
            return f"{duration // unit}{name}"
    return f"{duration // timedelta(milliseconds=1)}ms"


def read_refreshes(text: str) -> timedelta | None:
    return None if text == "off" else read_duration(text)


def read_short_duration(text: str) -> timedelta:
    number, unit = (text[:-2], "milliseconds") if text.endswith("ms") else (text[:-1], "seconds")
    return timedelta(**{unit: int(number)})


def read_part_of_a_day(text: str) -> timedelta:
    width = read_duration(text)
    if timedelta(days=1) % width:
        raise ValueError("a width that divides a day, such as 1d, 6h or 15m")
    return width


def read_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(DATE_IN_WORDS) from None


def read_start(text: str) -> str | float:
    if text in STARTS:
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(START_IN_WORDS) from None
    if moment.tzinfo is None or moment.timestamp() < 0:
        raise ValueError(START_IN_WORDS)
    return moment.timestamp()


def read_stop(text: str) -> str | float:
    if text == "earliest":
        raise ValueError(STOP_IN_WORDS)
    try:
        return read_start(text)
    except ValueError:
        raise ValueError(STOP_IN_WORDS) from None


def read_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(ZONE_IN_WORDS) from None
    return name


class Option(NamedTuple):
    """One option.

    regex    pattern that a value must match; `allowed` describes it in words; `limits` bound a whole number
    read     parses a text that matches; its ValueError states what is allowed
    repeat   the option may be given several times; `flag` takes no value
    group    heading under which --help lists it
    in_file  whether the configuration file may set it
    unit     unit of the value; `unless` describes the behavior when there is neither a value nor a default
    names_queue  whether its value is a queue to read (sources/queues.py)
    """

    name: str
    help: str
    default: str | None = None
    regex: str = ".+"
    allowed: str = "a text"
    example: str = ""
    choices: tuple[str, ...] = ()
    repeat: bool = False
    flag: bool = False
    read: Callable[[str], Any] = str
    limits: tuple[int, int] | None = None
    group: str = "input"
    in_file: bool = False
    unit: str = ""
    unless: str = ""
    names_queue: bool = False


def whole(least: int, digits: int) -> dict[str, Any]:
    """The rules of a whole number from `least` (0 or 1) up to that many nines."""
    most = 10**digits - 1
    regex = rf"[1-9]\d{{0,{digits - 1}}}" if least else rf"\d{{1,{digits}}}"
    return {"regex": regex, "allowed": f"a whole number from {least} to {most}", "limits": (least, most), "read": int}
