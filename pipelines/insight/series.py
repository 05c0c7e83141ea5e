"""The series of a warehouse: events, sessions, purchases and revenue by hour or by local day, by channel and whole.

| metric                         | what it counts                                | read from           |
|--------------------------------|-----------------------------------------------|---------------------|
| events, events:<event_type>    | accepted events                               | activity_1m_current |
| sessions                       | sessions by their start, without programs     | visits              |
| purchases, revenue:<currency>  | purchases and their value, without programs   | events, each once   |

A warehouse without `activity_1m` has no series of events. The currency of a purchase without one is `unknown`.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from pipelines.insight.clock import HOUR, smallest_part
from pipelines.insight.shape import Inputs
from pipelines.insight.unique import unique_events
from pipelines.warehouse.conditions import moment

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

    types: dict = {"metric": pl.String, "channel": pl.String, "value": pl.Float64, "part": pl.Int64}
    columns = list(SERIES_SCHEMA)
    time = pl.col("utc_day").cast(pl.Datetime("us", "UTC")) + pl.duration(minutes=pl.col("part"))
    asked = [inputs.ask(sql).cast(types).with_columns(bucket_start=time) for sql in questions(inputs, since, end)]
    counted = pl.concat([each.select(columns) for each in (*asked, paid(inputs, since, end))]).sort("bucket_start")
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


def questions(inputs: Inputs, since: datetime, end: datetime) -> list[str]:
    """SQL that BigQuery and DuckDB share: metric, channel, utc_day, part (minutes of the day), value."""
    minutes = smallest_part(inputs.time_zone, since, end)
    found = [_question("'sessions'", "COUNT(*)", "visits", "session_start", "TRUE", minutes)]
    if MINUTES in inputs.names:
        closed = f"bucket_end <= {moment(end)}"
        found.append(
            _question("CONCAT('events:', event_type)", "SUM(events)", MINUTES, "bucket_start", closed, minutes)
        )
    return [sql.format(since=moment(since), end=moment(end)) for sql in found]


def paid(inputs: Inputs, since: datetime, end: datetime) -> "pl.DataFrame":
    """Purchases and their revenue, in parts of hours: metric, channel, bucket_start, value."""
    import polars as pl

    minutes = smallest_part(inputs.time_zone, since, end)
    bought = unique_events(
        inputs, ("channel", "currency", "value"), since, end, "event_type = 'purchase' AND is_bot IS NOT TRUE"
    ).select(
        pl.col("channel", "currency").cast(pl.String),
        pl.col("value").cast(pl.Float64),
        pl.col("event_time").dt.truncate(f"{minutes}m").alias("bucket_start"),
    )
    revenue = pl.format("revenue:{}", pl.col("currency").fill_null("unknown")).alias("metric")
    keys = ["metric", "channel", "bucket_start"]
    count = bought.with_columns(metric=pl.lit("purchases")).group_by(keys).agg(value=pl.len().cast(pl.Float64))
    priced = bought.filter(pl.col("value").is_not_null()).with_columns(revenue)
    return pl.concat([count, priced.group_by(keys).agg(pl.col("value").sort().sum())]).sort(keys, nulls_last=True)


def _question(metric: str, value: str, source: str, time: str, where: str, minutes: int) -> str:
    part = f"EXTRACT(HOUR FROM {time}) * 60"
    if minutes < HOUR:
        part += f" + FLOOR(EXTRACT(MINUTE FROM {time}) / {minutes}) * {minutes}"
    return (
        f"SELECT {metric} AS metric, channel, CAST({time} AS DATE) AS utc_day, {part} AS part, {value} AS value "
        f"FROM {source} WHERE {where} AND {time} >= {{since}} AND {time} < {{end}} GROUP BY 1, 2, 3, 4"
    )
