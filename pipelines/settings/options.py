"""The list of the options, each declared once; `options.py` reads it. Nothing here imports Beam."""

import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
DURATION = r"\d{1,6}[smhd]"
DURATION_IN_WORDS = "a number above 0 and one of s, m, h, d, such as 36h"
DURATION_UNIT = "s, m, h or d behind the number"
DATE = r"\d{4}-\d{2}-\d{2}"
DATE_IN_WORDS = "a day of the calendar, such as 2026-03-01"
DATASET = r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]*[a-z0-9]\.[A-Za-z0-9_]{1,1024}"
DATASET_IN_WORDS = "project.dataset, e.g. my-project.audience"
METHODS = STORAGE_WRITE, EXACTLY_ONCE, INSERTS = (  # of writing a stream to BigQuery
    "STORAGE_WRITE_API",
    "STORAGE_WRITE_API_EXACTLY_ONCE",
    "STREAMING_INSERTS",
)
ZONE_IN_WORDS = "a name of the IANA time zone database, e.g. Europe/London"


def _duration(text: str) -> timedelta:
    if not re.fullmatch(DURATION, text) or not int(text[:-1]):
        raise ValueError(DURATION_IN_WORDS)
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def _short_duration(text: str) -> timedelta:
    number, unit = (text[:-2], "milliseconds") if text.endswith("ms") else (text[:-1], "seconds")
    return timedelta(**{unit: int(number)})


def _part_of_a_day(text: str) -> timedelta:
    width = _duration(text)
    if timedelta(days=1) % width:
        raise ValueError("a width that divides a day, such as 1d, 6h or 15m")
    return width


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(DATE_IN_WORDS) from None


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(ZONE_IN_WORDS) from None
    return name


class Option(NamedTuple):
    """One option.

    regex    what a value must match, and `allowed` says so in words; `limits` are those of a whole number
    read     the value of a text that matches; a ValueError of it says what is allowed
    repeat   collects several; `flag` takes no value
    group    under which heading --help shows it
    in_file  whether it may be a key of the configuration file: what a team fixes once for a warehouse
    unit     of the value; `unless` says in words what holds where neither a value nor a default is stated
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


def _whole(least: int, digits: int) -> dict[str, Any]:
    """The rules of a whole number from `least` (0 or 1) up to that many nines."""
    most = 10**digits - 1
    regex = rf"[1-9]\d{{0,{digits - 1}}}" if least else rf"\d{{1,{digits}}}"
    return {"regex": regex, "allowed": f"a whole number from {least} to {most}", "limits": (least, most), "read": int}


OPTIONS = (
    Option(
        "input",
        "Files to read: a path or a glob, local or gs://, or - for standard input; may be repeated",
        repeat=True,
        example="'events/*.jsonl.gz'",
    ),
    Option(
        "format",
        "Form of the files; auto decides by the name, of standard input by the first bytes",
        "auto",
        choices=("auto", "jsonl", "csv", "parquet"),
    ),
    Option(
        "input_subscription",
        "Pub/Sub subscription to read as long as the run lasts",
        None,
        r"projects/[^/\s]{6,}/subscriptions/[^/\s]{3,255}",
        "projects/PROJECT/subscriptions/NAME (a project of at least 6 characters, a name of at least 3)",
        example="projects/my-project/subscriptions/events",
        names_queue=True,
    ),
    Option(
        "input_topic",
        "Pub/Sub topic to read, by a subscription that is made for the run and deleted at its end",
        None,
        r"projects/[^/\s]{6,}/topics/[^/\s]{3,255}",
        "projects/PROJECT/topics/NAME (a project of at least 6 characters, a name of at least 3)",
        example="projects/my-project/topics/events",
        names_queue=True,
    ),
    Option(
        "timestamp_attribute",
        "Attribute that tells when a message was received, of trusted publishers; else when it was published",
        None,
        r"[^\s]{1,256}",
        "the name of an attribute, without spaces",
        example="received_time",
    ),
    Option(
        "id_label",
        "Attribute whose value makes two messages one while Dataflow reads; events are one by their own id anyway",
        None,
        r"[^\s]{1,256}",
        "the name of an attribute, without spaces",
        example="message_key",
    ),
    Option(
        "mapping",
        "Mapping (YAML) from the records to events; without one they are of the native form",
        repeat=True,
        example="mapping.yaml",
    ),
    Option("start", "First day to write", None, DATE, DATE_IN_WORDS, example="2026-03-01", read=_day, group="days"),
    Option(
        "end", "Day after the last to write", None, DATE, DATE_IN_WORDS, example="2026-03-08", read=_day, group="days"
    ),
    Option(
        "replace",
        "The input is complete for the days from --start to --end: what they held goes",
        flag=True,
        group="days",
    ),
    Option(
        "add",
        "The stored events of the days that the input touches join it, and the days are written anew",
        flag=True,
        group="days",
    ),
    Option(
        "max_days",
        "Most days that the events of a run may spread over; more is refused before anything is written",
        "400",
        example="1200",
        group="days",
        in_file=True,
        unit="days, 1 to 9999",
        **_whole(1, 4),
    ),
    Option(
        "config",
        "Configuration (YAML): what is fixed once for a warehouse; audience config --show lists its keys",
        example="audience.yaml",
        group="warehouse",
    ),
    Option(
        "warehouse",
        "Folder of the local warehouse; made if it is not there",
        "warehouse",
        allowed="the name of a folder",
        example="warehouse",
        group="warehouse",
        in_file=True,
        unit="a path, from the folder in which the command is typed",
    ),
    Option(
        "dataset",
        "Data set of BigQuery that holds the warehouse, instead of a folder; made if it is not there",
        None,
        DATASET,
        DATASET_IN_WORDS,
        example="project.dataset",
        group="warehouse",
        in_file=True,
        unit="project.dataset",
        unless="none: the warehouse is a folder",
    ),
    Option(
        "partition_expiry",
        "In BigQuery: rows of days older than this go by themselves",
        None,
        DURATION,
        DURATION_IN_WORDS,
        example="400d",
        read=_duration,
        group="warehouse",
        in_file=True,
        unit=DURATION_UNIT,
        unless="none: rows stay, or the table's own",
    ),
    Option(
        "drained",
        "In BigQuery: no stream writes this data set, so that its youngest days may be written as well",
        flag=True,
        group="warehouse",
    ),
    Option(
        "time_zone",
        "Time zone that decides days; fixed when the warehouse is made, UTC if left out",
        allowed=ZONE_IN_WORDS,
        example="Europe/London",
        read=_zone,
        group="warehouse",
        in_file=True,
        unit="a name of the IANA time zone database",
        unless="the warehouse's own, UTC for a new one",
    ),
    Option(
        "group",
        "Group of this machine that may read the warehouse; fixed when it is made, you alone if left out",
        None,
        r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}",
        "the name of a group, e.g. analysts",
        example="analysts",
        group="warehouse",
    ),
    Option(
        "max_lateness",
        "An event received later than this after it happened goes to quarantine",
        "1d",
        DURATION,
        DURATION_IN_WORDS,
        example="36h",
        read=_duration,
        group="rules",
        in_file=True,
        unit=DURATION_UNIT,
    ),
    Option(
        "take_late",
        "Take in what is later than --max_lateness, too",
        flag=True,
        group="rules",
    ),
    Option(
        "dedup_window",
        "Width of the windows in which an event id may occur once; divides a day",
        "1d",
        DURATION,
        DURATION_IN_WORDS,
        example="6h",
        read=_part_of_a_day,
        group="rules",
        in_file=True,
        unit=DURATION_UNIT,
    ),
    Option(
        "generation",
        "Of two runs that publish one metric row the higher generation is current (default: now)",
        None,
        r"\d{1,18}",
        "a whole number of at most 18 digits",
        example="7",
        read=int,
        group="rules",
    ),
    Option(
        "expected_delay",
        "How late a message may come and still be in time: the watermark stays so far behind",
        "10s",
        DURATION,
        DURATION_IN_WORDS,
        example="30s",
        read=_duration,
        group="streaming",
        unit=DURATION_UNIT,
    ),
    Option(
        "early_firing",
        "How often a stream shows the buckets that are open, of all metrics (default: as each metric says), and "
        "sessions that are not over (default: never)",
        None,
        DURATION,
        DURATION_IN_WORDS,
        example="10s",
        read=_duration,
        group="streaming",
        unit=DURATION_UNIT,
    ),
    Option(
        "batch_delay",
        "How long messages are gathered before they are worked on: fewer, larger blocks for later rows",
        "500ms",
        r"[1-9]\d{0,5}(ms|s)",
        "a number above 0 and ms or s, such as 500ms",
        example="500ms",
        read=_short_duration,
        group="streaming",
        unit="ms or s behind the number",
    ),
    Option(
        "readers",
        "Readers that share the subscription",
        "2",
        example="4",
        group="streaming",
        unit="readers, 1 to 99",
        **_whole(1, 2),
    ),
    Option(
        "write_method",
        "How a stream writes to BigQuery: fast and at least once, exactly once, or by the older insertAll",
        STORAGE_WRITE,
        choices=METHODS,
        group="streaming",
    ),
    Option(
        "landing",
        "Local folder of a stream to BigQuery, for what was read and is not written yet; a restart needs it",
        "landing",
        allowed="the name of a folder",
        example="landing",
        group="streaming",
    ),
    Option(
        "shards",
        "Shards of the deduplication",
        "4",
        example="8",
        group="machine",
        in_file=True,
        unit="shards, 1 to 9999",
        **_whole(1, 4),
    ),
    Option(
        "workers",
        "Worker processes; 0 is one for each core, up to four",
        "0",
        example="2",
        group="machine",
        in_file=True,
        unit="processes, 0 to 99",
        **_whole(0, 2),
    ),
)
