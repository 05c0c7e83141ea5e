"""Profiles: what each person does, likes and buys as of a time, and what it is to be worth.

The warehouse counts: a question answers with a row for each person, or for each of the keys of a person that matter.
Weights are whole numbers and values exact decimals, so that the order of rows changes no sum.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipelines.insight.clock import local
from pipelines.insight.people import VISITS, WHOLE, is_liked, oldest, people, sessions, totals, weight
from pipelines.insight.profile_tables import LIFETIME_FITS, USER_ATTRIBUTES, USER_INTERESTS, USER_PROFILES, USER_VALUES
from pipelines.insight.shape import Inputs, Pass
from pipelines.warehouse.conditions import DAY, moment, one_of

if TYPE_CHECKING:
    import polars as pl

    from transforms.insight.settings import Attribute

SHORT, LONG = 7 * DAY, 28 * DAY
LIKED = {"category": "category", "content": "content_id"}


def compute(inputs: Inputs) -> "dict[str, pl.DataFrame]":
    """The rows of each table."""
    from transforms.insight.lifetime.table import lifetime
    from transforms.insight.profiles import profiles

    settings = inputs.configuration.insight.profiles
    since = inputs.as_of - settings.history * DAY
    half_life = timedelta(days=settings.half_life)
    begin = max(since, oldest(inputs, half_life))
    liked = is_liked(inputs)
    interests = {name: keys(inputs, begin, half_life, column, settings.places, liked) for name, column in LIKED.items()}
    channels = keys(inputs, begin, half_life, "channel", 1)
    hour = f"EXTRACT(HOUR FROM {local(inputs, 'event_time', begin)})"
    hours = keys(inputs, begin, half_life, hour, 1)
    counted, visited = counts(inputs, since), visits(inputs)
    values, fits = lifetime(purchases(inputs, since), inputs.as_of, inputs.time_zone, settings.days_ahead)
    return {
        USER_PROFILES.name: profiles(counted, visited, channels, hours, interests, inputs.as_of),
        USER_INTERESTS.name: _interests(interests),
        USER_VALUES.name: values,
        LIFETIME_FITS.name: fits,
        USER_ATTRIBUTES.name: attributes(inputs),
    }


def counts(inputs: Inputs, since: datetime) -> "pl.DataFrame":
    """person, is_user, first_seen, last_seen, events, events_1d, events_7d, events_28d, active_days_28d."""
    import polars as pl

    def within(span: timedelta, what: str) -> str:
        return f"CASE WHEN event_time >= {moment(inputs.as_of - span)} THEN {what} END"

    day = f"CAST({local(inputs, 'event_time', inputs.as_of - LONG)} AS DATE)"
    counted = {"events": "COUNT(*)", "events_1d": f"COUNT({within(DAY, '1')})"}
    counted |= {"events_7d": f"COUNT({within(SHORT, '1')})", "events_28d": f"COUNT({within(LONG, '1')})"}
    ends = {"first_seen": "MIN(event_time)", "last_seen": "MAX(event_time)"}
    found = totals(inputs, since, {"active_day": within(LONG, day)}, ends | counted)
    asked = inputs.ask(
        "SELECT person, MAX(CASE WHEN is_user THEN 1 ELSE 0 END) AS is_user, MIN(first_seen) AS first_seen, "
        f"MAX(last_seen) AS last_seen, {', '.join(f'SUM({name}) AS {name}' for name in counted)}, "
        f"COUNT(DISTINCT active_day) AS active_days_28d FROM ({found}) AS found GROUP BY person"
    )
    times = pl.col("first_seen", "last_seen").cast(pl.Datetime("us", "UTC"))
    return asked.with_columns(pl.col("is_user") == 1, times, pl.col(*counted).cast(pl.Int64))


def visits(inputs: Inputs) -> "pl.DataFrame":
    """person, sessions_28d, engaged_sessions_28d, session_seconds_28d: of who had a session."""
    import polars as pl

    schema = {
        "person": pl.String,
        "sessions_28d": pl.Int64,
        "engaged_sessions_28d": pl.Int64,
        "session_seconds_28d": pl.Float64,
    }
    if VISITS not in inputs.names:
        return pl.DataFrame(schema=schema)
    found = sessions(inputs, inputs.as_of - LONG, ["is_engaged", "duration_seconds"])
    asked = inputs.ask(
        "SELECT person, COUNT(*) AS sessions_28d, COUNT(CASE WHEN is_engaged THEN 1 END) AS engaged_sessions_28d, "
        "SUM(CAST(ROUND(duration_seconds * 1000000) AS INT64)) AS micros "
        f"FROM ({found}) AS found GROUP BY person"
    )
    seconds = pl.col("micros").cast(pl.Float64) / 1e6 / pl.col("sessions_28d")
    return asked.with_columns(session_seconds_28d=seconds).select(pl.col(name).cast(of) for name, of in schema.items())


def keys(
    inputs: Inputs, since: datetime, half_life: timedelta, key: str, places: int, where: str = "TRUE"
) -> "pl.DataFrame":
    """person, key, place, weight, share: of each person the keys with the largest weights; the smaller first."""
    import polars as pl

    summed = {"weight": f"SUM({weight(inputs, 'event_time', half_life)})"}
    weighted = (
        "SELECT person, key, SUM(weight) AS weight "
        f"FROM ({totals(inputs, since, {'key': key}, summed, where)}) AS found GROUP BY 1, 2"
    )
    asked = inputs.ask(
        f"SELECT *, ROW_NUMBER() OVER (PARTITION BY person ORDER BY weight DESC, key) AS place FROM ("
        f"SELECT person, key, weight, SUM(weight) OVER (PARTITION BY person) AS total FROM ({weighted}) AS weighted "
        f"WHERE key IS NOT NULL AND weight > 0) AS totals WHERE weight > 0 QUALIFY place <= {places}"
    )
    measured = pl.col("weight", "total").cast(pl.Float64) / WHOLE
    found = asked.with_columns(pl.col("place").cast(pl.Int64), measured)
    return found.with_columns(share=pl.col("weight") / pl.col("total")).drop("total")


def purchases(inputs: Inputs, since: datetime) -> "pl.DataFrame":
    """person, currency, event_time, value: each purchase once, in no order."""
    import polars as pl

    columns = ["currency", "event_time", "value", "source", "event_id", "received_time", "input"]
    bought = people(inputs, since, columns, "e.event_type = 'purchase'")
    asked = inputs.ask(
        f"SELECT person, currency, event_time, value FROM ({bought}) AS found WHERE TRUE QUALIFY ROW_NUMBER() OVER "
        "(PARTITION BY source, event_id ORDER BY received_time, event_time, input) = 1"
    )
    types: dict = {
        "person": pl.String,
        "currency": pl.String,
        "event_time": pl.Datetime("us", "UTC"),
        "value": pl.Decimal(38, 9),
    }
    return asked.select(pl.col(name).cast(kind) for name, kind in types.items())


def attributes(inputs: Inputs) -> "pl.DataFrame":
    """person, attribute, number, text: those that the configuration declares."""
    import polars as pl

    schema: dict = {"person": pl.String, "attribute": pl.String, "number": pl.Decimal(38, 9), "text": pl.String}
    declared = inputs.configuration.insight.profiles.attributes
    found = [pl.DataFrame(schema=schema)]
    for name, attribute in declared.items():
        asked = inputs.ask(attribute_sql(inputs, attribute)).with_columns(attribute=pl.lit(name))
        missing = [pl.lit(None).alias(each) for each in ("number", "text") if each not in asked.columns]
        found.append(asked.with_columns(missing).select(pl.col(each).cast(of) for each, of in schema.items()))
    return pl.concat(found)


def attribute_sql(inputs: Inputs, attribute: "Attribute") -> str:
    """SQL that BigQuery and DuckDB share: person and number, or person and text; people without one have no row."""
    column = attribute.column or "event_id"
    where = f"e.{column} IS NOT NULL"
    if attribute.event_types:
        where += f" AND {one_of('e.event_type', attribute.event_types)}"
    order = ["event_time", "received_time", "source", "event_id"]
    columns = list(dict.fromkeys([column, *order]))
    found = f"({people(inputs, inputs.as_of - attribute.days * DAY, columns, where)}) AS found"
    if attribute.of in ("first", "last"):
        by = ", ".join(f"{each} {'DESC' if attribute.of == 'last' else 'ASC'}" for each in order)
        return (
            f"SELECT person, {column} AS text FROM {found} WHERE TRUE "
            f"QUALIFY ROW_NUMBER() OVER (PARTITION BY person ORDER BY {by}) = 1"
        )
    number = {"count": "COUNT(*)", "sum": f"SUM({column})", "distinct": f"COUNT(DISTINCT {column})"}[attribute.of]
    return f"SELECT person, {number} AS number FROM {found} GROUP BY person"


def _interests(by_dimension: "dict[str, pl.DataFrame]") -> "pl.DataFrame":
    import polars as pl

    return pl.concat([rows.with_columns(dimension=pl.lit(name)) for name, rows in by_dimension.items()])


PASS = Pass(
    "profiles", (USER_PROFILES, USER_INTERESTS, USER_VALUES, LIFETIME_FITS, USER_ATTRIBUTES), compute, keeps="none"
)
