"""Tables, declared once: the Parquet, DuckDB and BigQuery schemas and the reference pages follow from them.

Types carry BigQuery's names. JSON is text in Parquet and DuckDB.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

TYPES: dict[str, tuple[pl.DataType | type[pl.DataType], str]] = {
    "STRING": (pl.String, "VARCHAR"),
    "TIMESTAMP": (pl.Datetime("us", "UTC"), "TIMESTAMP WITH TIME ZONE"),
    "DATE": (pl.Date, "DATE"),
    "NUMERIC": (pl.Decimal(38, 9), "DECIMAL(38,9)"),
    "INT64": (pl.Int64, "BIGINT"),
    "FLOAT64": (pl.Float64, "DOUBLE"),
    "BOOL": (pl.Boolean, "BOOLEAN"),
    "BYTES": (pl.Binary, "BLOB"),
    "JSON": (pl.String, "VARCHAR"),
}
KEYWORDS = ("value",)  # DuckDB's, of the names that fields of ours have
FILE_DAY = "_day"  # in the macros of a local warehouse: the day of the file that a row is in
DAYS_LATER = "_days_later_"  # what the name of the macro begins with that takes FILE_DAY to a day so much later
MACRO = "_"  # what the name of a macro begins with: the rows of a table with FILE_DAY, for views
CLUSTER_LIMIT = 4  # BigQuery clusters by at most four columns, and by none that is FLOAT64


@dataclass(frozen=True)
class Column:
    """A column. `type` is a key of TYPES or RECORD (with `fields`); `mode` NULLABLE, REQUIRED or REPEATED."""

    name: str
    type: str
    mode: str = "NULLABLE"
    description: str = ""
    fields: tuple["Column", ...] = ()


@dataclass(frozen=True)
class Table:
    """A table. A row belongs to the day of its TIMESTAMP column `partition`; `key` names what it is about."""

    name: str
    description: str
    columns: tuple[Column, ...]
    partition: str
    cluster: tuple[str, ...] = ()
    key: tuple[str, ...] = ()

    def __post_init__(self):
        names = [column.name for column in self.columns]
        for name in (self.partition, *self.cluster, *self.key):
            if name not in names:
                raise ValueError(f"table {self.name}: {name!r} is none of its columns {', '.join(names)}")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"table {self.name}: column {twice!r} is declared twice")


def polars_schema(table: Table) -> dict[str, pl.DataType | type[pl.DataType]]:
    """The table's columns as Polars types: the schema of its Parquet files."""
    return {column.name: polars_type(column) for column in table.columns}


def polars_type(column: Column) -> pl.DataType | type[pl.DataType]:
    """The Polars type of a column; a repeated RECORD is a List of Struct."""
    if column.type == "RECORD":
        inner: pl.DataType | type[pl.DataType] = pl.Struct({field.name: polars_type(field) for field in column.fields})
    else:
        inner = TYPES[column.type][0]
    return pl.List(inner) if column.mode == "REPEATED" else inner


def duckdb_type(column: Column) -> str:
    """The DuckDB type of a column, as DESCRIBE prints it."""
    if column.type == "RECORD":
        inner = f"STRUCT({', '.join(f'{_quoted(each.name)} {duckdb_type(each)}' for each in column.fields)})"
    else:
        inner = TYPES[column.type][1]
    return inner + "[]" if column.mode == "REPEATED" else inner


def _quoted(name: str) -> str:
    plain = name.isidentifier() and name.islower() and name not in KEYWORDS
    return name if plain else '"' + name.replace('"', '""') + '"'


def bigquery_schema(table: Table) -> list[dict]:
    """The table's columns as the `fields` of a schema in BigQuery's REST API."""
    return [bigquery_field(column) for column in table.columns]


def bigquery_field(column: Column) -> dict:
    """The column as a field of such a schema."""
    field: dict = {
        "name": column.name,
        "type": column.type,
        "mode": column.mode,
        "description": column.description,
    }
    if column.fields:
        field["fields"] = [bigquery_field(inner) for inner in column.fields]
    return field


def markdown(table: Table) -> str:
    """A section of the reference page: description, partition, cluster, key, then a row a column."""
    facts = [f"Partition: day of `{table.partition}`."]
    if table.cluster:
        facts.append("Cluster: " + ", ".join(f"`{name}`" for name in table.cluster) + ".")
    if table.key:
        facts.append("Key: " + ", ".join(f"`{name}`" for name in table.key) + ".")
    lines = [f"## {table.name}", "", table.description, "", " ".join(facts), ""]
    lines += ["| column | type | mode | what it is |", "|---|---|---|---|"]
    for column in table.columns:
        shown = column.type
        if column.fields:
            shown = f"STRUCT<{', '.join(f'{field.name} {field.type}' for field in column.fields)}>"
        description = column.description.replace("|", "\\|")
        lines.append(f"| {column.name} | {shown} | {column.mode.lower()} | {description} |")
    return "\n".join(lines) + "\n"


def histogram_column(name: str, description: str) -> Column:
    """The column of a quantile's log-spaced histogram: how many values lie in each bin."""
    fields = (
        Column("bin", "INT64", "NULLABLE", "number of the bin on the logarithmic scale"),
        Column("count", "INT64", "NULLABLE", "values in the bin"),
    )
    return Column(name, "RECORD", "REPEATED", description, fields)


def _required(name: str, type_: str, description: str) -> Column:
    return Column(name, type_, "REQUIRED", description)


def _nullable(name: str, type_: str, description: str) -> Column:
    return Column(name, type_, "NULLABLE", description)


EVENTS = Table(
    name="events",
    description="Every accepted event, once for each source, event_id and dedup window.",
    partition="event_time",
    cluster=("event_type", "user_id"),
    key=("source", "event_id"),
    columns=(
        _required(
            "event_id",
            "STRING",
            "1 to 128 printable characters; `derived:` and a hash if the source has none",
        ),
        _nullable("id_source", "STRING", "who gave the id: client, derived"),
        _required("event_type", "STRING", "lower case letters, digits, underscores: page_view, click, purchase, ..."),
        _required("event_time", "TIMESTAMP", "when it happened, UTC, microseconds; see time_source"),
        _nullable(
            "time_source",
            "STRING",
            "rule that gave event_time: trusted, client, skew_corrected, received_missing, received_invalid, "
            "future_clamped",
        ),
        _required("received_time", "TIMESTAMP", "when the queue or the collector got it, UTC; a replay keeps it"),
        _nullable("client_time", "TIMESTAMP", "the client's own time, UTC; NULL if absent or unreadable"),
        _nullable("sent_time", "TIMESTAMP", "when the client sent it by its own clock, UTC"),
        _required("source", "STRING", "name of the source it came from"),
        _nullable("source_format", "STRING", "name of the mapping that read it, or native"),
        _nullable("input", "STRING", "file or subscription it was read from"),
        _nullable("user_id", "STRING", "the signed-in user, up to 256 characters"),
        _nullable("anonymous_id", "STRING", "the device or browser, up to 256 characters"),
        _nullable("session_id", "STRING", "session as the client counts it; advisory, see sessions.visit_id"),
        _nullable("sequence", "INT64", "order among events of one event_time, as the source numbers them"),
        _nullable("content_id", "STRING", "article, video or product it is about"),
        _nullable("content_type", "STRING", "kind of content"),
        _nullable("category", "STRING", "category of the content"),
        _nullable("channel", "STRING", "web, mobile, social, iot, email, pos, server, other"),
        _nullable("campaign", "STRING", "campaign that led here"),
        _nullable("referrer", "STRING", "page or app it came from, up to 2,048 characters"),
        _nullable("country", "STRING", "country as the source writes it"),
        _nullable("device", "STRING", "kind of device"),
        _nullable("value", "NUMERIC", "amount in `currency`, or a plain number where that is NULL; 9 decimals"),
        _nullable("currency", "STRING", "three capital letters (ISO 4217)"),
        _nullable("quantity", "INT64", "number of items"),
        _nullable(
            "is_bot",
            "BOOL",
            "whether a mapping or a rule takes the sender for a program; flagged, not dropped",
        ),
        _nullable("text", "STRING", "feedback or support text, up to 8,192 bytes of UTF-8"),
        _nullable("rating", "FLOAT64", "rating on the source's own scale"),
        _nullable("properties", "JSON", "whatever else the mapping names"),
        _nullable("extra", "JSON", "every field that neither the contract nor the mapping names"),
        _nullable("warnings", "STRING", "codes of what was corrected, joined by commas"),
    ),
)

QUARANTINE = Table(
    name="quarantine",
    description="Every record not accepted, with its raw bytes and the reason; rows are only appended.",
    partition="received_time",
    cluster=("source", "stage", "code"),
    key=("input", "quarantine_id", "attempt"),
    columns=(
        _required("quarantine_id", "STRING", "hash of source, position and payload: the same record has the same id"),
        _required("source", "STRING", "name of the source it came from"),
        _nullable("source_format", "STRING", "name of the mapping that tried to read it, or native"),
        _nullable("input", "STRING", "file or subscription it was read from"),
        _nullable(
            "position",
            "STRING",
            "where in the input: file:line, row group:row, message id; at stage load events:source:event_id",
        ),
        _nullable("received_time", "TIMESTAMP", "when the queue or the collector got it, UTC; NULL if unknown"),
        _nullable("event_time", "TIMESTAMP", "when it happened, UTC, if that was settled: its day if it is too late"),
        _nullable("failed_time", "TIMESTAMP", "when this attempt failed, UTC"),
        _nullable("stage", "STRING", "stage that refused it: parse, map, validate, event_time, late, load"),
        _nullable("code", "STRING", "first rule it broke; NULL in the row of an attempt that passed"),
        _nullable("errors", "JSON", "array of {path, code, message}: the path of the field, never its value"),
        _nullable(
            "payload",
            "BYTES",
            "the record as it was read (of stage load the event, as a native record); NULL if the attempt passed",
        ),
        _nullable("attributes", "JSON", "what is needed to read the payload again: CSV header, message attributes"),
        _nullable("pipeline_version", "STRING", "version of the pipeline that made this attempt"),
        _required("attempt", "INT64", "1 for the first reading, one more for each replay"),
    ),
)


def _emission_columns() -> tuple[Column, ...]:
    return (
        _required("firing", "STRING", "early, on_time or late: where the bucket stood when the row was emitted"),
        _required("generation", "INT64", "launch that wrote it; the highest wins"),
        _required("revision", "INT64", "microseconds since 1970; among rows of one generation the highest wins"),
        _nullable("emitted_time", "TIMESTAMP", "when the row was emitted, UTC"),
        _nullable("pipeline_version", "STRING", "version of the pipeline that wrote it"),
    )


QUALITY_1M = Table(
    name="quality_1m",
    description="Audit counts: what became of the records received in each minute, for each source and input.",
    partition="bucket_start",
    cluster=("source", "input"),
    key=("source", "input", "bucket_start"),
    columns=(
        _required("source", "STRING", "name of the source"),
        _nullable("input", "STRING", "file or subscription"),
        _nullable("bucket_start", "TIMESTAMP", "minute of received_time, UTC; NULL for records without a time"),
        _nullable("bucket_end", "TIMESTAMP", "end of the minute, exclusive, UTC"),
        _required("received", "INT64", "records read"),
        _required("exploded", "INT64", "events that records made beyond their first: one record, several events"),
        _required("events", "INT64", "records accepted as events"),
        _required("duplicates", "INT64", "records left out as repeats of an event"),
        _required("conflicts", "INT64", "duplicates (counted there too) whose content differs from the event kept"),
        _required("quarantined", "INT64", "records refused, with a row in quarantine"),
        _required("out_of_range", "INT64", "records outside the range of the backfill"),
        _required("replaced", "INT64", "events of this input that a later --replace took out"),
        _required("erased", "INT64", "events and quarantined records taken out because a person asked"),
        *_emission_columns(),
    ),
)

SESSIONS = Table(
    name="sessions",
    description="The events of a visitor with less than 30 minutes between one and the next. A late event may "
    "move the start of a session or join two: rows are only appended, and a tombstone takes back the row of each "
    "session that another has taken in; sessions_current shows what stands.",
    partition="session_start",
    cluster=("user_id", "anonymous_id"),
    key=("visit_id",),
    columns=(
        _required("visit_id", "STRING", "hash of the visitor and session_start; visit_events has it for each event"),
        _nullable("anonymous_id", "STRING", "the visitor, where its events have one: a login does not cut a session"),
        _nullable("user_id", "STRING", "the user seen last; the visitor, where its events have no anonymous_id"),
        _required("session_start", "TIMESTAMP", "time of its first event, UTC"),
        _required("session_end", "TIMESTAMP", "time of its last event, UTC"),
        _required("duration_seconds", "FLOAT64", "from its first event to its last, seconds"),
        _required("is_tombstone", "BOOL", "whether the row only says that there is no such session any more"),
        _required("events", "INT64", "events"),
        _required("views", "INT64", "events of type page_view"),
        _required("clicks", "INT64", "events of type click"),
        _required("likes", "INT64", "events of type like"),
        _required("shares", "INT64", "events of type share"),
        _required("comments", "INT64", "events of type comment"),
        _required("carts", "INT64", "events of type add_to_cart"),
        _required("signups", "INT64", "events of type signup"),
        _required("purchases", "INT64", "events of type purchase"),
        Column(
            "revenue",
            "RECORD",
            "REPEATED",
            "sums of the value of its purchases, one for each currency",
            (
                Column("currency", "STRING", "NULLABLE", "three capital letters; NULL where the event had none"),
                Column("value", "NUMERIC", "NULLABLE", "the sum, exact"),
            ),
        ),
        _nullable("entry_content_id", "STRING", "content of its first event that has one"),
        _nullable("exit_content_id", "STRING", "content of its last event that has one"),
        _nullable("channel", "STRING", "channel of its first event that has one"),
        _nullable("campaign", "STRING", "campaign of its first event that has one: the first touch"),
        _nullable("country", "STRING", "country of its first event that has one"),
        _nullable("device", "STRING", "device of its first event that has one"),
        _required("furthest_step", "INT64", "the highest step of the funnel that one of its events is, from 1; else 0"),
        _required("is_converted", "BOOL", "whether it has a signup or a purchase"),
        _required("is_engaged", "BOOL", "longer than 10 s, or 2 views, or converted"),
        _required("is_bounce", "BOOL", "not engaged"),
        _required("is_long", "BOOL", "longer than 24 h: no person, or a clock; the views leave it out"),
        _required("is_bot", "BOOL", "whether one of its events is flagged as a program's; the views leave it out"),
        *_emission_columns(),
    ),
)

ERASURES = Table(
    name="erasures",
    description="Proof that a person was erased, committed together with the erasure.",
    partition="erased_time",
    key=("erased_time", "subject_hmac"),
    columns=(
        _required("erased_time", "TIMESTAMP", "when, UTC"),
        _required("subject_hmac", "STRING", "HMAC-SHA256 of the identifier's UTF-8 bytes under the key, in hex"),
        _required("key_id", "STRING", "which key: the first 16 hex digits of a hash of it"),
        _required("rows", "JSON", "object: table -> rows that were the person's and were deleted"),
        _required(
            "columns",
            "JSON",
            "array of {table, column, kind, outcome, rows, reason}: what named the person where, and whether it was "
            "deleted, redacted or kept, and why",
        ),
        _required(
            "sketches", "JSON", "array of the tables whose sketches cannot forget: their metric is not configured"
        ),
        _required("days", "JSON", "array of the days whose events and metrics were rebuilt"),
        _nullable("pipeline_version", "STRING", "version of the pipeline that did it"),
    ),
)

TABLES = (EVENTS, QUARANTINE, QUALITY_1M, SESSIONS, ERASURES)
PERSON = Column("person", "STRING", "NULLABLE", "user_id, else anonymous_id")


def metric_table(
    name: str,
    description: str,
    dimensions: Iterable[str | Column],
    measures_columns: Sequence[Column],
    partition: str = "bucket_start",
) -> Table:
    """The table of a metric: bucket, dimensions, measures, then who emitted the row and when.

    A dimension given by name takes its type and description from `events`, or is `person`.
    Key: bucket_start and the dimensions; NULL is a value of a dimension like any other.
    """
    known = {column.name: column for column in (*EVENTS.columns, PERSON)}
    keys = [known[each] if isinstance(each, str) else each for each in dimensions]
    keys = [Column(each.name, each.type, "NULLABLE", each.description) for each in keys]
    columns = (
        _required("bucket_start", "TIMESTAMP", "start of the bucket of event_time, UTC"),
        _required("bucket_end", "TIMESTAMP", "end of the bucket, exclusive, UTC"),
        *keys,
        *measures_columns,
        *_emission_columns(),
    )
    clustered = tuple(each.name for each in keys if each.type != "FLOAT64")[:CLUSTER_LIMIT]
    key = ("bucket_start", *(each.name for each in keys))
    return Table(name, description, columns, partition, clustered, key)
