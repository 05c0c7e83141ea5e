"""The views: BigQuery SQL in `templates/sql`, the single source, transpiled to DuckDB for a local warehouse.

Every table of rows with generations has `<table>_current`; the others are listed in VIEWS. A view whose
tables or columns are absent, as where a configuration leaves a metric out, is skipped; so is the one of the
funnel, where no run has declared one.

The views of the shipped configuration are shipped in DuckDB's SQL as well (duckdb.json, generated): a query of them
needs no SQL parser.

Placeholders `{{table}}`, `{{key}}`, `{{time_zone}}`, `{{event_columns}}` are replaced as text, those of the funnel by
funnel_view.py.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import msgspec

from pipelines.warehouse.funnel_view import filled_with_funnel
from pipelines.warehouse.tables import Table
from transforms.sessions.funnel import Funnel

TRANSLATIONS = "duckdb.json"
TIME_ZONE = "{{time_zone}}"
ENGAGEMENT = ("views", "clicks", "impressions", "likes", "shares", "comments")
CONTENTS = {"content_1h": ("content_id", "category", *ENGAGEMENT)}
PERSON_DAYS = {"user_days": ("person", "events", "bot_events")}
SESSIONS: Mapping[str, tuple[str, ...]] = {"sessions": ()}
EVENTS: Mapping[str, tuple[str, ...]] = {"events": ()}
# What a local warehouse shows beside the columns of a table, in DuckDB's SQL. In BigQuery, `events_unique` has them.
_COMPUTED = {
    "events": "CAST(event_time AT TIME ZONE '{{time_zone}}' AS DATE) AS day, COALESCE(user_id, anonymous_id) AS person"
}


@dataclass(frozen=True)
class View:
    """A view in `<name>.sql`; `reads` are columns of each table that it reads, itself or through a view before it."""

    name: str
    reads: Mapping[str, tuple[str, ...]]
    of_funnel: bool = False


# In the order of creation: a view stands after the views it reads; all stand after the `_current` ones.
VIEWS = (
    View("events_unique", EVENTS),
    View("quality_summary", {"quality_1m": ()}),
    View("quarantine_open", {"quarantine": ()}),
    View("quarantine_by_code", {"quarantine": ()}),
    View("engagement_by_content", CONTENTS),
    View("engagement_by_channel", {"activity_1m": ("channel", "event_type", "events")}),
    View("content_leaderboard", CONTENTS),
    View("active_days", PERSON_DAYS),
    View("activity_by_day", PERSON_DAYS),
    View("lifecycle_by_day", PERSON_DAYS),
    View("retention_by_day", PERSON_DAYS),
    View("retention_by_week", PERSON_DAYS),
    View("first_touches", EVENTS),
    View("retention_by_channel", {**PERSON_DAYS, **EVENTS}),
    View("visits", SESSIONS),
    View("visit_events", {**SESSIONS, **EVENTS}),
    View("engagement_by_day", SESSIONS),
    View("engagement_by_device", SESSIONS),
    View("conversion_by_campaign", SESSIONS),
    View("conversion_by_channel", SESSIONS),
    View("conversion_by_country", SESSIONS),
    View("identities", SESSIONS),
    View("funnel_by_day", EVENTS, of_funnel=True),
    View("revenue_by_day", EVENTS),
    View("rfm_segments", EVENTS),
    View("live_now", EVENTS),
)


def quote(name: str) -> str:
    """A DuckDB identifier."""
    return '"' + name.replace('"', '""') + '"'


def bigquery_views(tables: Iterable[Table], time_zone: str, funnel: Funnel | None = None) -> list[tuple[str, str]]:
    """(name, BigQuery SQL) of every view over these tables, in the order of creation."""
    known = {table.name: table for table in tables}
    columns = {table.name: [column.name for column in table.columns] for table in known.values()}
    return [*_current(known.values(), time_zone), *_views(columns, time_zone, funnel)]


def duckdb_views(tables: Iterable[Table], time_zone: str, funnel: Funnel | None = None) -> list[tuple[str, str]]:
    """(name, DuckDB SQL) of every view over these tables, in the order of creation."""
    return [(name, in_duckdb(sql, time_zone)) for name, sql in bigquery_views(tables, time_zone, funnel)]


def with_computed(table: str, relation: str, time_zone: str) -> str:
    """The DuckDB SQL of a table's rows, with the columns that a local warehouse computes when it is asked."""
    if table not in _COMPUTED:
        return relation
    return f"SELECT *, {_COMPUTED[table].replace(TIME_ZONE, time_zone)} FROM ({relation})"


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


def in_duckdb(sql: str, time_zone: str) -> str:
    """A view's BigQuery SQL as DuckDB's."""
    if shipped := _shipped(sql, time_zone):
        return shipped.duckdb.replace(TIME_ZONE, time_zone)
    from pipelines.warehouse.dialect import to_duckdb  # which imports the SQL parser

    return to_duckdb(sql)


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


def _current(tables: Iterable[Table], time_zone: str) -> Iterator[tuple[str, str]]:
    for table in tables:
        if {"generation", "revision"} <= {column.name for column in table.columns} and table.key:
            own = files("templates") / "sql" / f"{table.name}_current.sql"
            template = own if own.is_file() else files("templates") / "sql" / "current.sql"
            key = ", ".join(f"`{name}`" for name in table.key)
            filled = template.read_text().replace("{{table}}", f"`{table.name}`").replace("{{key}}", key)
            yield f"{table.name}_current", filled.replace(TIME_ZONE, time_zone)


def _views(columns: Mapping[str, Sequence[str]], time_zone: str, funnel: Funnel | None) -> Iterator[tuple[str, str]]:
    for view in VIEWS:
        there = all(name in columns and set(read) <= {*columns[name]} for name, read in view.reads.items())
        if there and not (view.of_funnel and funnel is None):
            text = (files("templates") / "sql" / f"{view.name}.sql").read_text()
            text = filled_with_funnel(text, funnel) if view.of_funnel and funnel else text
            text = text.replace("{{event_columns}}", ",\n  ".join(columns.get("events", ())))
            yield view.name, text.replace(TIME_ZONE, time_zone)
