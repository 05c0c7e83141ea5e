"""The series of a warehouse: events, sessions, purchases and revenue by hour or by local day, by channel and whole.

| metric                         | what it counts                                | read from           |
|--------------------------------|-----------------------------------------------|---------------------|
| events, events:<event_type>    | accepted events                               | activity_1m_current |
| sessions                       | sessions by their start, without programs     | visits              |
| purchases, revenue:<currency>  | purchases and their value, without programs   | events, each once   |

A warehouse without `activity_1m` has no series of events. The currency of a purchase without one is `unknown`.

Each is asked of each day, in hours, or in quarters of them where a local day may begin with one: see days.py.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from pipelines.insight.clock import HOUR, smallest_part
from pipelines.insight.days import DayQuestion, ask_days
from pipelines.insight.shape import Inputs
from pipelines.insight.unique import BESIDE, unique_events
from pipelines.warehouse.conditions import moment
from pipelines.warehouse.local.kept_days import DayRows

if TYPE_CHECKING:
    import polars as pl

MINUTES = "activity_1m_current"
MOST_SERIES = 1_000  # of a pass: the whole of each metric, then the channels with the largest sums


def read_series(inputs: Inputs, every: str, since: datetime, end: datetime) -> "pl.DataFrame":
    """The series of the buckets from `since` to before `end`, starts of buckets both: the columns of SERIES_SCHEMA.

    every: "1h" or "1d". Buckets without anything have no row. The whole has the rows of channel null.
    """
    import polars as pl

    from transforms.insight.series import SERIES_SCHEMA, buckets_between, with_whole

    columns = list(SERIES_SCHEMA)
    asked = [ask_days(inputs, each, since, end).select(columns) for each in questions(inputs, since, end)]
    counted = pl.concat(asked).sort("bucket_start")
    starts = pl.DataFrame({"bucket_start": buckets_between(every, since, end, inputs.time_zone)})
    starts = starts.with_columns(bucket=pl.col("bucket_start"))
    found = counted.join_asof(starts, on="bucket_start").with_columns(bucket_start=pl.col("bucket"))
    types_together = found.filter(pl.col("metric").str.starts_with("events:")).with_columns(metric=pl.lit("events"))
    return with_whole(pl.concat([found, types_together]).filter(pl.col("bucket").is_not_null()).select(columns))


def largest(series: "pl.DataFrame") -> "pl.DataFrame":
    """The series that a pass takes: at most MOST_SERIES, the whole first."""
    import polars as pl

    sums = series.group_by("metric", "channel").agg(total=pl.col("value").sort().sum())
    order = sums.sort(pl.col("channel").is_not_null(), -pl.col("total"), "metric", "channel")
    return series.join(order.head(MOST_SERIES), on=["metric", "channel"], how="semi", nulls_equal=True)


def questions(inputs: Inputs, since: datetime, end: datetime) -> list[DayQuestion]:
    """Of sessions, of events where they are counted, and of purchases."""
    minutes = smallest_part(inputs.time_zone, since, end)
    found = [_counting("'sessions'", "COUNT(*)", "visits", "sessions", "session_start", minutes), _paying(minutes)]
    return [events_by_type(minutes), *found] if MINUTES in inputs.names else found


def events_by_type(minutes: int) -> DayQuestion:
    """Events by type and channel in parts of hours, of the buckets that end by the end that is asked."""
    metric, table = "CONCAT('events:', event_type)", MINUTES.removesuffix("_current")
    return _counting(metric, "SUM(events)", MINUTES, table, "bucket_start", minutes, " AND bucket_end <= {end}")


def _counting(
    metric: str, value: str, source: str, table: str, time: str, minutes: int, where: str = ""
) -> DayQuestion:
    """SQL that BigQuery and DuckDB share; rows of metric, channel, bucket_start, value."""
    part = f"EXTRACT(HOUR FROM {time}) * 60"
    if minutes < HOUR:
        part += f" + FLOOR(EXTRACT(MINUTE FROM {time}) / {minutes}) * {minutes}"
    sql = (
        f"SELECT {metric} AS metric, channel, CAST({time} AS DATE) AS utc_day, {part} AS part, {value} AS value "
        f"FROM {source} WHERE {time} >= {{since}} AND {time} < {{end}}{where} GROUP BY 1, 2, 3, 4"
    )

    def ask(inputs: Inputs, since: datetime, end: datetime) -> "pl.DataFrame":
        import polars as pl

        types: dict = {"metric": pl.String, "channel": pl.String, "value": pl.Float64, "part": pl.Int64}
        start = pl.col("utc_day").cast(pl.Datetime("us", "UTC")) + pl.duration(minutes=pl.col("part"))
        asked = inputs.ask(sql.format(since=moment(since), end=moment(end))).cast(types)
        keys = ["metric", "channel", "bucket_start"]
        return asked.select("metric", "channel", bucket_start=start, value="value").sort(keys, nulls_last=True)

    return DayQuestion(DayRows(f"{table}_by_hour", (table,), 0, 0, sql), ask)


def _paying(minutes: int) -> DayQuestion:
    """Purchases and their revenue, in parts of hours: metric, channel, bucket_start, value."""
    bought = "event_type = 'purchase' AND is_bot IS NOT TRUE"

    def ask(inputs: Inputs, since: datetime, end: datetime) -> "pl.DataFrame":
        import polars as pl

        once = unique_events(inputs, ("channel", "currency", "value"), since, end, bought).select(
            pl.col("channel", "currency").cast(pl.String),
            pl.col("value").cast(pl.Float64),
            pl.col("event_time").dt.truncate(f"{minutes}m").alias("bucket_start"),
        )
        revenue = pl.format("revenue:{}", pl.col("currency").fill_null("unknown")).alias("metric")
        keys = ["metric", "channel", "bucket_start"]
        count = once.with_columns(metric=pl.lit("purchases")).group_by(keys).agg(value=pl.len().cast(pl.Float64))
        priced = once.filter(pl.col("value").is_not_null()).with_columns(revenue)
        return pl.concat([count, priced.group_by(keys).agg(pl.col("value").sort().sum())]).sort(keys, nulls_last=True)

    return DayQuestion(DayRows("purchases_by_hour", ("events",), BESIDE, BESIDE, f"{bought} {minutes}"), ask)
