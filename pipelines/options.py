"""The options, declared once: the parser, the help and (for Dataflow) the template's metadata come from this table."""

import re
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apache_beam.options.pipeline_options import PipelineOptions

from transforms.errors import OptionError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Option(NamedTuple):
    """One option. `regex` is what a value must match; `repeat` collects several, `flag` takes no value."""

    name: str
    help: str
    default: str | None = None
    regex: str = ".+"
    example: str = ""
    choices: tuple[str, ...] = ()
    repeat: bool = False
    flag: bool = False


DURATION = r"\d+[smhd]"
DATE = r"\d{4}-\d{2}-\d{2}"
OPTIONS = (
    Option("input", "Files to read: a path or a glob, local or gs://; may be repeated", repeat=True, example="events/*.jsonl.gz"),
    Option("format", "Form of the files; auto decides by the name", "auto", choices=("auto", "jsonl", "csv", "parquet")),
    Option("mapping", "Mapping (YAML) from the records to events; without one they are of the native form", example="mapping.yaml"),
    Option("config", "Configuration (YAML): metrics and quality rules beside the shipped ones", example="audience.yaml"),
    Option("warehouse", "Folder of the local warehouse; made if it is not there", "warehouse"),
    Option("time_zone", "Time zone that decides days; fixed when the warehouse is made", None, example="Europe/London"),
    Option("start", "First day to write (YYYY-MM-DD)", regex=DATE, example="2026-03-01"),
    Option("end", "Day after the last to write (YYYY-MM-DD)", regex=DATE, example="2026-03-08"),
    Option("replace", "The input is complete for the days from --start to --end: what they held goes", flag=True),
    Option("add", "The stored events of the days that the input touches join it, and the days are written anew", flag=True),
    Option("max_lateness", "An event received later than this after it happened goes to quarantine", "1d", DURATION),
    Option("dedup_window", "Width of the windows in which an event id may occur once", "1d", DURATION),
    Option("shards", "Shards of the deduplication", "4", r"[1-9]\d{0,3}"),
    Option("workers", "Worker processes of a local run; 0 is one for each core, up to four", "0", r"\d{1,3}"),
    Option("generation", "Of two runs that publish one metric row the higher generation is current; default: now", None, r"\d+"),
)


class AudienceOptions(PipelineOptions):
    """OPTIONS as Beam pipeline options."""

    @classmethod
    def _add_argparse_args(cls, parser):
        for option in OPTIONS:
            add_to(parser, option)


def add_to(parser, option: Option) -> None:
    """Add an option to an argparse parser, as text: what a value may be is checked by `resolve`."""
    shown = option.help + (f" (default: {option.default})" if option.default is not None else "")
    how: dict[str, Any] = {"help": shown, "default": option.default}
    if option.flag:
        how |= {"action": "store_true", "default": False}
    elif option.repeat:
        how |= {"action": "append", "default": None, "metavar": "GLOB"}
    else:
        how |= {"metavar": option.example or option.default or option.name.upper()}
    parser.add_argument(f"--{option.name}", **how)


class Settings(NamedTuple):
    """The options, checked and of their types. Days are dates in the warehouse's time zone; `end` is not included."""

    input: tuple[str, ...]
    format: str
    mapping: str | None
    config: str | None
    warehouse: str
    time_zone: str | None
    start: date | None
    end: date | None
    replace: bool
    add: bool
    max_lateness: timedelta
    dedup_window: timedelta
    shards: int
    workers: int
    generation: int | None


def resolve(values: dict[str, Any]) -> Settings:
    """Check the options, each by itself and together; OptionError says what was got and what is allowed."""
    values = {option.name: _checked(option, values.get(option.name, option.default)) for option in OPTIONS}
    for name in ("start", "end"):
        values[name] = _date(name, values[name])
    for name in ("max_lateness", "dedup_window"):
        values[name] = duration(values[name])
    for name in ("shards", "workers", "generation"):
        values[name] = int(values[name]) if values[name] is not None else None
    values["input"] = tuple(values["input"] or ())
    settings = Settings(**values)
    _check_together(settings)
    return settings


def _checked(option: Option, value: Any) -> Any:
    if value is None or option.flag or option.repeat:
        return value
    if option.choices and value not in option.choices:
        raise OptionError(f"--{option.name}: got {value!r}; allowed: {', '.join(option.choices)}")
    if not re.fullmatch(option.regex, str(value)):
        shown = option.example or option.default or option.regex
        raise OptionError(f"--{option.name}: got {value!r}; give it like {shown}")
    return value


def _check_together(settings: Settings) -> None:
    if not settings.input:
        raise OptionError("no source given: name the files to read with --input, e.g. --input 'events/*.jsonl.gz'")
    if settings.replace and settings.add:
        raise OptionError("--replace and --add exclude each other: replace what the days hold, or add to it")
    if (settings.start is None) != (settings.end is None):
        missing = "--start" if settings.start is None else "--end"
        raise OptionError(f"{missing} is missing: a range of days needs both --start and --end (the end not included)")
    if settings.start and settings.end and settings.start >= settings.end:
        raise OptionError(
            f"--start {settings.start} is not before --end {settings.end}: the end is the day after the last to write"
        )
    if settings.replace and settings.start is None:
        raise OptionError("--replace needs --start and --end: name the days for which the input is complete")
    if settings.dedup_window > timedelta(days=1) or timedelta(days=1) % settings.dedup_window:
        raise OptionError(f"--dedup_window: got {settings.dedup_window}; allowed: a width that divides a day, up to 1d")
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


def duration(text: str) -> timedelta:
    """`90s`, `15m`, `36h`, `1d` as a timedelta."""
    if not re.fullmatch(DURATION, text) or not int(text[:-1]):
        raise OptionError(f"got {text!r} for a duration; allowed: a number above 0 and one of s, m, h, d, e.g. 36h")
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def _date(name: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise OptionError(f"--{name}: got {text!r}, which is no day of the calendar; give it like 2026-03-01") from None


def unknown_options(rest: Sequence[str]) -> None:
    """OptionError if the parser left anything over that Beam does not know either."""
    from apache_beam.options.pipeline_options import _BeamArgumentParser  # noqa: PLC0415

    parser = _BeamArgumentParser(allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        if options is not AudienceOptions:
            options._add_argparse_args(parser)
    unknown = parser.parse_known_args(list(rest))[1]
    if unknown:
        names = ", ".join(f"--{option.name}" for option in OPTIONS)
        raise OptionError(f"unknown option {unknown[0]!r}; allowed: {names}, and Beam's own")
