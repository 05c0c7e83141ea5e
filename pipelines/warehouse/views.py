"""The views: BigQuery SQL in `templates/sql`, the single source, transpiled to DuckDB for a local warehouse.

Every table of rows with generations has `<table>_current`; the others are listed in VIEWS. A view whose
tables or columns are absent, as where a configuration leaves a metric out, is skipped.

Placeholders `{{table}}`, `{{key}}`, `{{time_zone}}` are replaced as text.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from pipelines.warehouse.tables import Table

ENGAGEMENT = ("views", "clicks", "impressions", "likes", "shares", "comments")


@dataclass(frozen=True)
class View:
    """A view in `<name>.sql`; it reads `columns` of `table`, itself or through a view before it."""

    name: str
    table: str
    columns: tuple[str, ...] = ()


# In the order of creation: a view stands after the views it reads; all stand after the `_current` ones.
VIEWS = (
    View("events_unique", "events"),
    View("quality_summary", "quality_1m"),
    View("quarantine_open", "quarantine"),
    View("quarantine_by_code", "quarantine"),
    View("engagement_by_content", "content_1h", ("content_id", "category", *ENGAGEMENT)),
    View("engagement_by_channel", "activity_1m", ("channel", "event_type", "events")),
)


def quoted(name: str) -> str:
    """A DuckDB identifier."""
    return '"' + name.replace('"', '""') + '"'


def bigquery_views(tables: Iterable[Table], time_zone: str) -> list[tuple[str, str]]:
    """(name, BigQuery SQL) of every view over these tables, in the order of creation."""
    known = {table.name: table for table in tables}
    made = []
    for table in known.values():
        columns = {column.name for column in table.columns}
        if {"generation", "revision"} <= columns and table.key:
            own = files("templates") / "sql" / f"{table.name}_current.sql"
            template = own if own.is_file() else files("templates") / "sql" / "current.sql"
            made.append((f"{table.name}_current", _filled(template.read_text(), table, time_zone)))
    for view in VIEWS:
        read = known.get(view.table)
        if read and set(view.columns) <= {column.name for column in read.columns}:
            template = files("templates") / "sql" / f"{view.name}.sql"
            made.append((view.name, _filled(template.read_text(), read, time_zone)))
    return made


def duckdb_views(tables: Iterable[Table], time_zone: str) -> list[tuple[str, str]]:
    """(name, DuckDB SQL) of every view over these tables, in the order of creation."""
    from pipelines.warehouse.dialect import to_duckdb  # a run that only writes needs no SQL parser

    return [(name, to_duckdb(sql)) for name, sql in bigquery_views(tables, time_zone)]


def _filled(template: str, table: Table, time_zone: str) -> str:
    key = ", ".join(f"`{name}`" for name in table.key)
    filled = template.replace("{{table}}", f"`{table.name}`").replace("{{key}}", key)
    return filled.replace("{{time_zone}}", time_zone)
