"""The options, declared once: the parser, the help and (for Dataflow) the template's metadata come from this table.

Nothing here imports Beam: a mistake in an option is told at once.
"""

import re
from datetime import date, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from transforms.errors import OptionError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Option(NamedTuple):
    """One option. `regex` is what a value must match, and `allowed` says so in words; `repeat` collects several,
    `flag` takes no value."""

    name: str
    help: str
    default: str | None = None
    regex: str = ".+"
    allowed: str = "a text"
    example: str = ""
    choices: tuple[str, ...] = ()
    repeat: bool = False
    flag: bool = False


DURATION = r"\d{1,6}[smhd]"
DURATION_IN_WORDS = "a number above 0 and one of s, m, h, d, such as 36h"
DATE = r"\d{4}-\d{2}-\d{2}"
DATE_IN_WORDS = "a day of the calendar, such as 2026-03-01"
OPTIONS = (
    Option(
        "input",
        "Files to read: a path or a glob, local or gs://; may be repeated",
        repeat=True,
        example="'events/*.jsonl.gz'",
    ),
    Option(
        "format",
        "Form of the files; auto decides by the name",
        "auto",
        choices=("auto", "jsonl", "csv", "parquet"),
    ),
    Option(
        "mapping",
        "Mapping (YAML) from the records to events; without one they are of the native form",
        repeat=True,
        example="mapping.yaml",
    ),
    Option(
        "config",
        "Configuration (YAML): metrics and quality rules beside the shipped ones",
        example="audience.yaml",
    ),
    Option(
        "warehouse",
        "Folder of the local warehouse; made if it is not there",
        "warehouse",
        allowed="the name of a folder",
        example="warehouse",
    ),
    Option(
        "time_zone",
        "Time zone that decides days; fixed when the warehouse is made, UTC if left out",
        example="Europe/London",
    ),
    Option("start", "First day to write", None, DATE, DATE_IN_WORDS, example="2026-03-01"),
    Option("end", "Day after the last to write", None, DATE, DATE_IN_WORDS, example="2026-03-08"),
    Option(
        "replace",
        "The input is complete for the days from --start to --end: what they held goes",
        flag=True,
    ),
    Option(
        "add",
        "The stored events of the days that the input touches join it, and the days are written anew",
        flag=True,
    ),
    Option(
        "max_lateness",
        "An event received later than this after it happened goes to quarantine",
        "1d",
        DURATION,
        DURATION_IN_WORDS,
        example="36h",
    ),
    Option(
        "take_late",
        "Take in what is later than --max_lateness, too",
        flag=True,
    ),
    Option(
        "dedup_window",
        "Width of the windows in which an event id may occur once; divides a day",
        "1d",
        DURATION,
        DURATION_IN_WORDS,
        example="6h",
    ),
    Option("shards", "Shards of the deduplication", "4", r"[1-9]\d{0,3}", "a whole number from 1 to 9999", "8"),
    Option(
        "workers",
        "Worker processes; 0 is one for each core, up to four",
        "0",
        r"\d{1,2}",
        "a whole number from 0 to 99",
        example="2",
    ),
    Option(
        "generation",
        "Of two runs that publish one metric row the higher generation is current (default: now)",
        None,
        r"\d{1,18}",
        "a whole number of at most 18 digits",
        example="7",
    ),
)


# What the other runs over a warehouse leave out of OPTIONS.
_NO_FILES = {"input", "format", "replace", "add"}
WITHOUT = {
    "backfill": frozenset[str](),
    "recompute": frozenset(_NO_FILES | {"max_lateness", "take_late"}),
    "replay": frozenset(_NO_FILES | {"start", "end"}),
}


def options_of(command: str) -> list[Option]:
    """The options of a command that runs the graph."""
    return [option for option in OPTIONS if option.name not in WITHOUT[command]]


def add_to(parser, option: Option) -> None:
    """Add an option to an argparse parser, as text: what a value may be is checked by `resolve`."""
    shown = option.help + (f" (default: {option.default})" if option.default is not None else "")
    how: dict[str, Any] = {"help": shown, "default": option.default}
    if option.flag:
        how |= {"action": "store_true", "default": False}
    elif option.repeat:
        how |= {"action": "append", "metavar": _metavar(option)}
    else:
        how |= {"metavar": _metavar(option)}
    parser.add_argument(f"--{option.name}", **how)


def _metavar(option: Option) -> str:
    return "|".join(option.choices) or option.example or option.name.upper()


class Settings(NamedTuple):
    """The options, checked and of their types. Days are dates in the warehouse's time zone; `end` is not included."""

    input: tuple[str, ...]
    format: str
    mappings: tuple[str, ...]
    config: str | None
    warehouse: str
    time_zone: str | None
    start: date | None
    end: date | None
    replace: bool
    add: bool
    max_lateness: timedelta
    take_late: bool
    dedup_window: timedelta
    shards: int
    workers: int
    generation: int | None


def resolve(values: dict[str, Any], command: str = "backfill") -> Settings:
    """Check the options of a command, each by itself and together; OptionError says what was got, what is allowed."""
    values = {option.name: _checked(option, values.get(option.name, option.default)) for option in OPTIONS}
    for name in ("start", "end"):
        values[name] = _date(name, values[name])
    given = values["dedup_window"]
    for name in ("max_lateness", "dedup_window"):
        values[name] = duration(name, values[name])
    for name in ("shards", "workers", "generation"):
        values[name] = int(values[name]) if values[name] is not None else None
    values["input"] = _several(values["input"])
    values["mappings"] = _several(values.pop("mapping"))
    if timedelta(days=1) % values["dedup_window"]:
        raise OptionError(f"--dedup_window: got {given!r}; allowed: a width that divides a day, such as 1d, 6h or 15m")
    settings = Settings(**values)
    _check_together(settings)
    if command == "backfill":
        _check_files(settings)
    return settings


def _several(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _checked(option: Option, value: Any) -> Any:
    if option.flag:
        return bool(value)
    if value is None or option.repeat:
        return value
    if option.choices and value not in option.choices:
        raise OptionError(f"--{option.name}: got {value!r}; allowed: {', '.join(option.choices)}")
    if not re.fullmatch(option.regex, str(value)):
        raise OptionError(f"--{option.name}: got {value!r}; allowed: {option.allowed}")
    return value


def _check_files(settings: Settings) -> None:
    if not settings.input:
        raise OptionError("no source given: name the files to read with --input, e.g. --input 'events/*.jsonl.gz'")
    if len(settings.mappings) > 1:
        raise OptionError(f"--mapping: got {len(settings.mappings)}; a backfill has one: run one for each source")
    if settings.replace and settings.add:
        raise OptionError("--replace and --add exclude each other: replace what the days hold, or add to it")
    if settings.replace and settings.start is None:
        raise OptionError("--replace needs --start and --end: name the days for which the input is complete")


def _check_together(settings: Settings) -> None:
    if (settings.start is None) != (settings.end is None):
        missing = "--start" if settings.start is None else "--end"
        raise OptionError(f"{missing} is missing: a range of days needs both --start and --end (the end not included)")
    if settings.start and settings.end and settings.start >= settings.end:
        raise OptionError(
            f"--start {settings.start} is not before --end {settings.end}: the end is the day after the last to write"
        )
    if settings.time_zone is not None:
        check_zone(settings.time_zone)


def check_zone(name: str) -> None:
    """OptionError unless `name` is an IANA time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise OptionError(
            f"--time_zone: got {name!r}; allowed: a name of the IANA time zone database, e.g. Europe/London"
        ) from None


def duration(name: str, text: str) -> timedelta:
    """`90s`, `15m`, `36h`, `1d` as a timedelta; `name` is the option that it is given for."""
    if not re.fullmatch(DURATION, text) or not int(text[:-1]):
        raise OptionError(f"--{name}: got {text!r}; allowed: {DURATION_IN_WORDS}")
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def _date(name: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise OptionError(f"--{name}: got {text!r}; allowed: {DATE_IN_WORDS}") from None
