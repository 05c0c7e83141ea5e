"""The views: BigQuery SQL in `templates/sql`, the single source, transpiled to DuckDB for a local warehouse.

Every table of rows with generations has `<table>_current`, every one of answers `<table>_latest`; the others are
listed in VIEWS. A view whose tables or columns are absent, as where a configuration leaves a metric out, is skipped; so
are those of the funnel and of attribution, where no run has declared these.

The views of the shipped configuration are shipped in DuckDB's SQL as well (duckdb.json, generated): a query of them
needs no SQL parser.

Placeholders `{{table}}`, `{{key}}`, `{{day}}`, `{{time_zone}}`, `{{event_columns}}`, `{{copied_columns}}` are replaced
as text, those of the funnel by funnel_view.py, those of attribution by attribution_view.py.

A condition on the day of a view reaches the scan of its tables: windows have the day in their keys. In BigQuery it is
the day of the partition column; a local warehouse knows the day of each file, so it opens those of the day only.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipelines.settings.attribution import Attribution
from pipelines.warehouse.answers import REFRESHES, is_answer, latest_view
from pipelines.warehouse.attribution_view import filled_with_attribution
from pipelines.warehouse.funnel_view import AROUND, MOST_DAYS_AHEAD, days_ahead, filled_with_funnel
from pipelines.warehouse.tables import DAYS_LATER, FILE_DAY, MACRO, Table
from transforms.sessions.funnel import Funnel

TRANSLATIONS = "duckdb.json"
CURRENT = "_current"
_DAYS_LATER = re.compile(f'"({DAYS_LATER}(minus)?([0-9]+))"')
TIME_ZONE = "{{time_zone}}"
EVERY_ROW = "WHERE TRUE"  # in the SQL of a `_current` view: where held generations are left out
ENGAGEMENT = ("views", "clicks", "impressions", "likes", "shares", "comments")
CONTENTS = {"content_1h": ("content_id", "category", *ENGAGEMENT)}
PERSON_DAYS = {"user_days": ("person", "events", "bot_events")}
SESSIONS: Mapping[str, tuple[str, ...]] = {"sessions": ()}
EVENTS: Mapping[str, tuple[str, ...]] = {"events": ()}
# What a local warehouse shows beside the columns of a table, in DuckDB's SQL. In BigQuery, `events_unique` has them.
_COMPUTED = {"events": f", {FILE_DAY} AS day, COALESCE(user_id, anonymous_id) AS person"}
_COPIED = ("source", "event_id", "received_time", "event_time", "input")  # what decides which copy of an event counts


class Reach(NamedTuple):
    """How many days before and after a day that is asked the rows lie that are read; `from_now`: none before today."""

    before: int = 0
    after: int = 0
    from_now: bool = False


@dataclass(frozen=True)
class View:
    """A view in `<name>.sql`.

    reads   columns of each table that it reads, itself or through a view before it
    around  what it reads of them for a day that is asked; None: all, or what funnel and attribution say
    """

    name: str
    reads: Mapping[str, tuple[str, ...]]
    of_funnel: bool = False
    of_attribution: bool = False
    around: Reach | None = None


# In the order of creation: a view stands after the views it reads; all stand after the `_current` ones.
VIEWS = (
    View("events_unique", EVENTS, around=Reach(1, 1)),
    View("quality_summary", {"quality_1m": ()}),
    View("quarantine_open", {"quarantine": ()}),
    View("quarantine_by_code", {"quarantine": ()}),
    View("engagement_by_content", CONTENTS, around=Reach()),
    View("engagement_by_channel", {"activity_1m": ("channel", "event_type", "events")}, around=Reach()),
    View("content_leaderboard", CONTENTS),
    View("active_days", PERSON_DAYS, around=Reach()),
    View("activity_by_day", PERSON_DAYS),
    View("lifecycle_by_day", PERSON_DAYS),
    View("retention_by_day", PERSON_DAYS),
    View("retention_by_week", PERSON_DAYS),
    View("first_touches", EVENTS),
    View("retention_by_channel", {**PERSON_DAYS, **EVENTS}),
    View("visits", SESSIONS, around=Reach()),
    View("visit_events", {**SESSIONS, **EVENTS}),
    View("engagement_by_day", SESSIONS, around=Reach()),
    View("engagement_by_device", SESSIONS, around=Reach()),
    View("conversion_by_campaign", SESSIONS, around=Reach()),
    View("conversion_by_channel", SESSIONS, around=Reach()),
    View("conversion_by_country", SESSIONS, around=Reach()),
    View("identities", SESSIONS),
    View("funnel_by_day", EVENTS, of_funnel=True),
    View("revenue_by_day", EVENTS, around=Reach(1, 1)),
    View("attribution_by_day", {**SESSIONS, **EVENTS}, of_attribution=True),
    View("rfm_segments", EVENTS),
    View("live_now", EVENTS, around=Reach(from_now=True)),
)


def quote(name: str) -> str:
    """A DuckDB identifier."""
    return '"' + name.replace('"', '""') + '"'


def bigquery_views(
    tables: Iterable[Table],
    time_zone: str,
    funnel: Funnel | None = None,
    held: Collection[int] = (),
    attribution: Attribution | None = None,
) -> list[tuple[str, str]]:
    """(name, BigQuery SQL) of every view over these tables, in the order of creation.

    held    generations whose rows the `_current` views leave out, see bigquery/held.py
    """
    return [*_every_view(tuple(tables), time_zone, funnel, frozenset(held), attribution)]


@lru_cache(maxsize=16)
def _every_view(
    tables: tuple[Table, ...],
    time_zone: str,
    funnel: Funnel | None,
    held: frozenset[int],
    attribution: Attribution | None,
) -> tuple[tuple[str, str], ...]:
    known = {table.name: table for table in tables}
    columns = {table.name: [column.name for column in table.columns] for table in known.values()}
    answers = [table for table in known.values() if REFRESHES.name in known and is_answer(table)]
    latest = (latest_view(table) for table in answers if table.name != REFRESHES.name)
    return (*_current(known.values(), time_zone, held), *_views(columns, time_zone, funnel, attribution), *latest)


def is_held(table: Table) -> bool:
    """Whether rows of held generations are left out of the table's `_current` view: each run has rows of its own of a
    table whose key has the input."""
    return _has_current(table) and "input" not in table.key


def duckdb_relation(name: str, rows: str) -> list[str]:
    """DuckDB statements that make a table, or a view of current rows, of the SQL of its rows with FILE_DAY: the macro
    that views read, and what a person sees."""
    macro = quote(MACRO + name)
    shown = f"SELECT * EXCLUDE ({FILE_DAY}){_COMPUTED.get(name, '')} FROM {macro}()"
    return [f"CREATE MACRO {macro}() AS TABLE {rows}", f"CREATE VIEW {quote(name)} AS {shown}"]


def days_later_macros(days: Iterable[date], statements: Iterable[str]) -> list[str]:
    """The DuckDB statements of the macros DAYS_LATER that some statements call, for these days.

    Each looks the day up in a map: DuckDB chooses files by no condition that could fail, as a sum of days could.
    """
    found = {match for statement in statements for match in _DAYS_LATER.findall(statement)}
    listed = sorted(days)
    made = []
    for name, sign, distance in sorted(found):
        later = timedelta(days=int(distance) * (-1 if sign else 1))
        pairs = ", ".join(f"DATE '{day}': DATE '{day + later}'" for day in listed)
        value = f"map_extract_value(MAP {{{pairs}}}, day)" if pairs else "CAST(NULL AS DATE)"
        made.append(f"CREATE MACRO {quote(name)}(day) AS {value}")
    return made


def duckdb_statements(
    name: str, sql: str, time_zone: str, kept: Collection[Path] = (), others: str | None = None
) -> list[str]:
    """DuckDB statements that make a view of its BigQuery SQL, or of the files with its rows; `others` is a condition on
    `day` for the rows that these lack."""
    parts = []
    if kept:
        places = ", ".join("'" + str(path).replace("'", "''") + "'" for path in kept)
        parts = [f"SELECT * FROM read_parquet([{places}], hive_partitioning = false)"]
    if others or not kept:
        translated = in_duckdb(name, sql, time_zone)
        if name.endswith(CURRENT):
            return duckdb_relation(name, translated)
        parts.append(f"SELECT * FROM ({translated}) WHERE {others}" if kept else translated)
    return [f"CREATE VIEW {quote(name)} AS {' UNION ALL BY NAME '.join(parts)}"]


class _Translation(msgspec.Struct):
    """A view in DuckDB's SQL, and the relations that it names."""

    view: str
    reads: list[str]
    duckdb: str


@cache
def _translations() -> dict[str, _Translation]:
    text = (files("templates") / "sql" / TRANSLATIONS).read_bytes()
    return msgspec.json.decode(text, type=dict[str, _Translation])


def fingerprint(sql: str) -> str:
    """The name of a view's BigQuery SQL among the translations."""
    return hashlib.sha256(sql.encode()).hexdigest()[:16]


def _shipped(sql: str, time_zone: str) -> _Translation | None:
    """The translation of a view's BigQuery SQL, if it is one that is shipped, its time zone left open."""
    return _translations().get(fingerprint(sql.replace(f"'{time_zone}'", f"'{TIME_ZONE}'")))


def in_duckdb(name: str, sql: str, time_zone: str) -> str:
    """A view's BigQuery SQL as DuckDB's."""
    if shipped := _shipped(sql, time_zone):
        return shipped.duckdb.replace(TIME_ZONE, time_zone)
    from pipelines.warehouse.dialect import view_to_duckdb  # which imports the SQL parser

    return view_to_duckdb(sql, frozenset(view.name for view in VIEWS), name.endswith(CURRENT))


def _relations_of(sql: str, time_zone: str) -> Collection[str]:
    if shipped := _shipped(sql, time_zone):
        return shipped.reads
    from pipelines.warehouse.dialect import relations_of

    return relations_of(sql)


def read_by(names: Collection[str], made: Mapping[str, str], tables: Collection[str], time_zone: str) -> set[str]:
    """The tables and views that these views read, themselves or through another; `made`: name -> BigQuery SQL."""
    found, waiting = set[str](), list(names)
    while waiting:
        name = waiting.pop()
        if name in made:
            read = {each for each in _relations_of(made[name], time_zone) if each in made or each in tables} - found
            found |= read
            waiting.extend(read)
    return found


def reaches(
    name: str,
    made: Mapping[str, str],
    tables: Mapping[str, Table],
    time_zone: str,
    funnel: Funnel | None,
    attribution: Attribution | None,
) -> dict[str, Reach | None]:
    """How far from a day that is asked of a table or view the rows lie that it reads of each table; None: anywhere."""
    read = read_by([name], made, tables, time_zone) & tables.keys()
    view = next((each for each in VIEWS if each.name == name), None)
    own = Reach() if name in tables or name.removesuffix(CURRENT) in tables else None
    around: dict[str, Reach | None] = {}
    for table in read | ({name} & tables.keys()):
        around[table] = view.around if view else own
    if view and view.of_funnel and funnel:
        ahead = days_ahead(funnel)
        around["events"] = Reach(AROUND, ahead + AROUND) if ahead <= MOST_DAYS_AHEAD else None
    if view and view.of_attribution and attribution:
        around |= {"sessions": Reach(attribution.look_back_days), "events": Reach(1, 1)}
    return around


@cache
def _template(name: str) -> str:
    """A template of a view; empty if there is none of this name."""
    file = files("templates") / "sql" / f"{name}.sql"
    return file.read_text() if file.is_file() else ""


def _has_current(table: Table) -> bool:
    return {"generation", "revision"} <= {column.name for column in table.columns} and bool(table.key)


def _current(tables: Iterable[Table], time_zone: str, held: Collection[int]) -> Iterator[tuple[str, str]]:
    for table in tables:
        if _has_current(table):
            parts = {
                "table": f"`{table.name}`",
                "key": ", ".join(f"`{name}`" for name in table.key),
                "day": f"DATE(`{table.partition}`, '{time_zone}')",
            }
            filled = _template(table.name + CURRENT) or _template("current")
            for name, value in parts.items():
                filled = filled.replace(f"{{{{{name}}}}}", value)
            if held and is_held(table):
                filled = filled.replace(EVERY_ROW, f"WHERE generation NOT IN ({', '.join(map(str, sorted(held)))})")
            yield table.name + CURRENT, filled


def _views(
    columns: Mapping[str, Sequence[str]], time_zone: str, funnel: Funnel | None, attribution: Attribution | None
) -> Iterator[tuple[str, str]]:
    for view in VIEWS:
        there = all(name in columns and set(read) <= {*columns[name]} for name, read in view.reads.items())
        there &= not (view.of_funnel and funnel is None) and not (view.of_attribution and attribution is None)
        if there:
            text = _template(view.name)
            text = filled_with_funnel(text, funnel) if view.of_funnel and funnel else text
            text = filled_with_attribution(text, attribution) if view.of_attribution and attribution else text
            listed = columns.get("events", ())
            text = text.replace("{{event_columns}}", ",\n  ".join(listed))
            copied = (name if name in _COPIED else f"NULL AS {name}" for name in listed)
            text = text.replace("{{copied_columns}}", ",\n    ".join(copied))
            yield view.name, text.replace(TIME_ZONE, time_zone)
