"""The options of `audience`, each declared once; `options.py` reads them. Nothing here imports Beam."""

import re
from collections.abc import Callable
from datetime import date, timedelta
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
METHODS = STORAGE_WRITE, EXACTLY_ONCE, INSERTS = (  # how a stream writes to BigQuery
    "STORAGE_WRITE_API",
    "STORAGE_WRITE_API_EXACTLY_ONCE",
    "STREAMING_INSERTS",
)
ZONE_IN_WORDS = "an IANA time zone name, e.g. Europe/London"


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


def _whole(least: int, digits: int) -> dict[str, Any]:
    """The rules of a whole number from `least` (0 or 1) up to that many nines."""
    most = 10**digits - 1
    regex = rf"[1-9]\d{{0,{digits - 1}}}" if least else rf"\d{{1,{digits}}}"
    return {"regex": regex, "allowed": f"a whole number from {least} to {most}", "limits": (least, most), "read": int}


SHARDS = 4  # of the deduplication and the sessions where --shards is 0

OPTIONS = (
    Option(
        "input",
        "Files to read: a path or glob, local or gs://, or - for standard input; repeatable",
        repeat=True,
        example="'events/*.jsonl.gz'",
    ),
    Option(
        "format",
        "File format; auto infers it from the file name, and for standard input from the first bytes",
        "auto",
        choices=("auto", "jsonl", "csv", "parquet"),
    ),
    Option(
        "input_subscription",
        "Pub/Sub subscription to read",
        None,
        r"projects/[^/\s]{6,}/subscriptions/[^/\s]{3,255}",
        "projects/PROJECT/subscriptions/NAME (a project of at least 6 characters, a name of at least 3)",
        example="projects/my-project/subscriptions/events",
        names_queue=True,
    ),
    Option(
        "input_topic",
        "Pub/Sub topic to read through a temporary subscription, which is deleted when the run ends",
        None,
        r"projects/[^/\s]{6,}/topics/[^/\s]{3,255}",
        "projects/PROJECT/topics/NAME (a project of at least 6 characters, a name of at least 3)",
        example="projects/my-project/topics/events",
        names_queue=True,
    ),
    Option(
        "input_log",
        "Folder of a write-ahead log to read, as `audience collect` writes it",
        None,
        r"[^@]+",
        "the path of a folder, without @",
        example="/var/lib/audience/log",
        names_queue=True,
    ),
    Option(
        "timestamp_attribute",
        "Message attribute that holds the time of receipt, for trusted publishers (default: the publish time)",
        None,
        r"[^\s]{1,256}",
        "the name of an attribute, without spaces",
        example="received_time",
    ),
    Option(
        "id_label",
        "Message attribute that Dataflow uses to deduplicate messages; deduplication by event_id applies regardless",
        None,
        r"[^\s]{1,256}",
        "the name of an attribute, without spaces",
        example="message_key",
    ),
    Option(
        "mapping",
        "Mapping file (YAML) from records to events; without one, records must be in the native format",
        repeat=True,
        example="mapping.yaml",
    ),
    Option(
        "start",
        "First day to write (inclusive)",
        None,
        DATE,
        DATE_IN_WORDS,
        example="2026-03-01",
        read=_day,
        group="days",
    ),
    Option(
        "end",
        "Day after the last day to write (exclusive)",
        None,
        DATE,
        DATE_IN_WORDS,
        example="2026-03-08",
        read=_day,
        group="days",
    ),
    Option(
        "replace",
        "Overwrite the days from --start to --end; the input must be complete for them",
        flag=True,
        group="days",
    ),
    Option(
        "add",
        "Merge into existing days, deduplicating against their stored events; the days are rewritten",
        flag=True,
        group="days",
    ),
    Option(
        "max_days",
        "Maximum number of days that the events of one run may span; the run fails before it writes if there are more",
        "400",
        example="1200",
        group="days",
        in_file=True,
        unit="days, 1 to 9999",
        **_whole(1, 4),
    ),
    Option(
        "config",
        "Configuration file (YAML): settings shared by all runs on a warehouse; audience config --show lists the keys",
        example="audience.yaml",
        group="warehouse",
    ),
    Option(
        "warehouse",
        "Folder of the local warehouse; created if it does not exist",
        "warehouse",
        allowed="the name of a folder",
        example="warehouse",
        group="warehouse",
        in_file=True,
        unit="a path, relative to the working directory",
    ),
    Option(
        "dataset",
        "BigQuery dataset that holds the warehouse, instead of a local folder; created if it does not exist",
        None,
        DATASET,
        DATASET_IN_WORDS,
        example="project.dataset",
        group="warehouse",
        in_file=True,
        unit="project.dataset",
        unless="none: the warehouse is a local folder",
    ),
    Option(
        "partition_expiration",
        "BigQuery partition expiration: rows of days older than this are deleted automatically",
        None,
        DURATION,
        DURATION_IN_WORDS,
        example="400d",
        read=_duration,
        group="warehouse",
        in_file=True,
        unit=DURATION_UNIT,
        unless="none: each table keeps its current setting",
    ),
    Option(
        "no_active_stream",
        "Allow overwriting recent days in BigQuery; asserts that no stream is writing to the dataset",
        flag=True,
        group="warehouse",
    ),
    Option(
        "time_zone",
        "Time zone that defines days; fixed when the warehouse is created (UTC if omitted)",
        allowed=ZONE_IN_WORDS,
        example="Europe/London",
        read=_zone,
        group="warehouse",
        in_file=True,
        unit="an IANA time zone name",
        unless="the warehouse's own, UTC for a new one",
    ),
    Option(
        "group",
        "Unix group that may read the local warehouse; fixed when it is created (only you if omitted)",
        None,
        r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}",
        "the name of a Unix group, e.g. analysts",
        example="analysts",
        group="warehouse",
    ),
    Option(
        "max_lateness",
        "Maximum lateness (time of receipt minus event time); later events are quarantined",
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
        "accept_late",
        "Also accept events later than --max_lateness",
        flag=True,
        group="rules",
    ),
    Option(
        "allow_quarantine",
        "Succeed even if more than half of the records of a file are refused; else the exit status is 3",
        flag=True,
        group="rules",
    ),
    Option(
        "dedup_window",
        "Width of the deduplication windows: an event id is kept once per window; must divide a day evenly",
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
        "If two runs publish the same metric row, the higher generation wins (default: the current time)",
        None,
        r"\d{1,18}",
        "a whole number of at most 18 digits",
        example="7",
        read=int,
        group="rules",
    ),
    Option(
        "expected_delay",
        "Expected delay of messages; the watermark trails the clock by this much",
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
        "Early firings: how often a stream publishes open buckets of all metrics (default: as each metric states) and "
        "open sessions (default: never)",
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
        "How long messages are buffered into a block; longer gives fewer, larger blocks and later rows",
        "500ms",
        r"[1-9]\d{0,5}(ms|s)",
        "a number above 0 and ms or s, such as 500ms",
        example="500ms",
        read=_short_duration,
        group="streaming",
        unit="a number with a suffix: ms or s",
    ),
    Option(
        "readers",
        "Number of readers that share the subscription",
        "2",
        example="4",
        group="streaming",
        unit="readers, 1 to 99",
        **_whole(1, 2),
    ),
    Option(
        "write_method",
        "How a stream writes to BigQuery: Storage Write API at least once, exactly once, or legacy insertAll",
        STORAGE_WRITE,
        choices=METHODS,
        group="streaming",
    ),
    Option(
        "landing",
        "Local folder in which a stream to BigQuery keeps records that are read but not yet written; needed to restart",
        "landing",
        allowed="the name of a folder",
        example="landing",
        group="streaming",
    ),
    Option(
        "shards",
        "Number of shards for deduplication and sessions; 0 means 4; in a stream on this machine 1, also for metrics",
        "0",
        example="8",
        group="machine",
        in_file=True,
        unit="shards, 0 to 9999",
        **_whole(0, 4),
    ),
    Option(
        "workers",
        "Number of worker processes; 0 means one per core, at most four",
        "0",
        example="2",
        group="machine",
        in_file=True,
        unit="processes, 0 to 99",
        **_whole(0, 2),
    ),
)
