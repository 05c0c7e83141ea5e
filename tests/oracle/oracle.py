"""What every table must finally hold, computed by DuckDB from the raw files and the definitions alone.

    connection = oracle(["events.jsonl.gz"], "native")
    connection.sql("SELECT * FROM o_activity_1m")

Nothing of the product is imported here: computations that share code share its mistakes. Distinct counts
are exact.

o_events        an accepted event a row; `event_id` NULL where the product derives one; `value` DECIMAL(38, 9)
o_quarantine    a refused record a row: stage, code, source, received_time (NULL if unknown), file, line
o_duplicates    a copy that was not kept a row; `conflict`: it states other things than the kept one
o_conflicted    an id with conflicts a row: source, event_id, dedup_day, copies, conflicts, tied. Of copies
                received together a hash of the product decides: where `tied`, its choice may differ
o_activity_1m, o_content_1h, o_campaign_1h, o_user_days     the catalogue
o_sessions      a session a row; o_session_revenue, by currency: is_anonymous, visitor, session_start, currency, value
o_quality       per source and minute of received_time: received, exploded, events, duplicates, conflicts,
                quarantined, out_of_range

With `views`, what the views over them must say:
o_activity_by_day, o_lifecycle_by_day, o_rfm, o_leaderboard, and retention(period in days, cells),
funnel(three kinds, window in seconds) and attribution(days) as table macros

`part` numbers what one record becomes from 0: the parts behind the first are `exploded`.
Times are TIMESTAMP without zone, UTC. `line` is a place to look at, negative for a line that is no UTF-8;
it counts neither those nor empty lines.
"""

from pathlib import Path
from typing import Literal

import duckdb

Kind = Literal["native", "github", "wikipedia", "ads", "otto", "retail"]

SOURCES: dict[Kind, str] = {
    "native": "events",
    "github": "github-events",
    "wikipedia": "wikipedia-edits",
    "ads": "ad-impressions",
    "otto": "otto-sessions",
    "retail": "retail-orders",
}
TABLES = ("ads", "retail")  # read as tables, not as lines

# The keys of the native form: every other one is `extra`.
KNOWN = [
    *(
        "event_id",
        "event_type",
        "event_time",
        "sent_time",
        "received_time",
        "source",
        "user_id",
        "anonymous_id",
    ),
    *("session_id", "content_id", "content_type", "category", "channel", "campaign", "referrer", "country"),
    *("device", "value", "currency", "quantity", "is_bot", "text", "rating", "properties", "sequence"),
]


def oracle(
    files: list[str],
    kind: Kind,
    max_lateness_s: int = 86400,
    start: str | None = None,
    end: str | None = None,
    *,
    source: str | None = None,
    clock: Literal["client", "trusted"] = "client",
    views: bool = False,
) -> duckdb.DuckDBPyConnection:
    """Compute the tables above over `files` (JSON lines; ads CSV, retail Parquet; plain or gz) in a new connection.

    start, end  days as YYYY-MM-DD; events of [start, end) count, UTC
    source      name of records that state none; default: one for each kind
    views       whether to compute what the views must say, too
    clock       what the mapping of a kind other than native says of the source's clock
    """
    connection = duckdb.connect(config={"threads": 2})
    values = {
        "$files": _literal(files),
        "$known": _literal(KNOWN),
        "$source": _literal(source or SOURCES[kind]),
        "$max_lateness_us": str(max_lateness_s * 1_000_000),
        "$range_start": f"TIMESTAMP {_literal(start or '-infinity')}",
        "$range_end": f"TIMESTAMP {_literal(end or 'infinity')}",
    }
    for step in ("macros", kind) if kind in TABLES else ("macros", "lines", kind):
        _run(connection, step, values)
    connection.execute("ALTER TABLE o_parsed ADD COLUMN IF NOT EXISTS part BIGINT DEFAULT 0")
    connection.execute("ALTER TABLE o_parsed ADD COLUMN IF NOT EXISTS sequence BIGINT")
    if kind != "native":
        connection.execute("UPDATE o_parsed SET clock = ?", [clock])
    _run(connection, "rules", values)
    _run(connection, "tables", values)
    _run(connection, "sessions", values)
    if views:
        _run(connection, "views", values)
    return connection


def _run(connection: duckdb.DuckDBPyConnection, step: str, values: dict[str, str]) -> None:
    script = (Path(__file__).parent / f"{step}.sql").read_text()
    for name, value in values.items():
        script = script.replace(name, value)
    connection.execute(script)


def _literal(value: str | list[str]) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "[" + ", ".join(map(_literal, value)) + "]"
