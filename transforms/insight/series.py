"""Series: counts by metric, channel and bucket, made into matrices that cover every bucket.

Buckets of up to an hour are cut in UTC; days in a time zone, so that one has 23 or 25 hours when clocks change. The
place of a bucket in a season is that of the local clock: the hour of a day, of a week, or the day of a week.
"""

from datetime import datetime
from typing import NamedTuple

import numpy as np
import polars as pl

# channel null: the whole
SERIES_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "metric": pl.String,
    "channel": pl.String,
    "bucket_start": pl.Datetime("us", "UTC"),
    "value": pl.Float64,
}
KEYS = ("metric", "channel")


class Dense(NamedTuple):
    """Series without gaps.

    keys     metric, channel: String (channel null: the whole); one row a series, sorted, null first
    buckets  bucket_start: Datetime("us", UTC), ascending, one for each column of `values`
    values   (series, buckets) float64
    """

    keys: pl.DataFrame
    buckets: pl.Series
    values: np.ndarray


def with_whole(frame: pl.DataFrame) -> pl.DataFrame:
    """The series by channel, and for each metric the whole: the sum of all channels, in the rows of channel null.

    What has no channel is part of the whole alone. Rows of one series and bucket are added up.
    """
    columns, total = list(SERIES_SCHEMA), pl.col("value").sort_by("channel", "value").sum()
    whole = frame.group_by("metric", "bucket_start").agg(total).with_columns(channel=pl.lit(None, pl.String))
    parts = frame.filter(pl.col("channel").is_not_null()).group_by("metric", "channel", "bucket_start").agg(total)
    return pl.concat([parts.select(columns), whole.select(columns)]).sort(*columns[:3])


def buckets_between(every: str, start: datetime, end: datetime, time_zone: str = "UTC") -> pl.Series:
    """The starts of the buckets that begin at or after `start` and before `end`: bucket_start, Datetime("us", UTC).

    every: "10m", "1h" or "1d"; days begin at midnight in the time zone.
    """
    zone = time_zone if every == "1d" else "UTC"
    first, last = (pl.lit(at).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone) for at in (start, end))
    if every == "1d":
        days = pl.date_range(first.dt.date(), last.dt.date(), "1d").cast(pl.Datetime("us"))
        # A clock may skip midnight: such a day begins an hour later. One that comes twice begins with the first.
        begin = days.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        later = (days + pl.duration(hours=1)).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        found = pl.select(bucket_start=pl.coalesce(begin, later))
    else:
        found = pl.select(bucket_start=pl.datetime_range(first.dt.truncate(every), last, every))
    found = found.with_columns(pl.col("bucket_start").dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC")))
    return found.filter((pl.col("bucket_start") >= start) & (pl.col("bucket_start") < end))["bucket_start"]


def dense(frame: pl.DataFrame, every: str, start: datetime, end: datetime, time_zone: str = "UTC") -> Dense:
    """The series from `start` to before `end`, 0 in the buckets that have no row.

    frame: the columns of SERIES_SCHEMA, in any order of rows; rows of one series and bucket are added up, rows
    outside the time or off the grid of buckets are left out.
    """
    buckets = buckets_between(every, start, end, time_zone)
    at = pl.DataFrame({"bucket_start": buckets}).with_row_index("at")
    columns = [pl.col(name).cast(dtype) for name, dtype in SERIES_SCHEMA.items()]
    found = frame.select(columns).join(at, on="bucket_start")
    found = found.group_by(*KEYS, "at").agg(pl.col("value").sort().sum())
    keys = found.select(KEYS).unique().sort(*KEYS)
    placed = found.join(keys.with_row_index("series"), on=KEYS, nulls_equal=True)
    values = np.zeros((keys.height, len(buckets)))
    values[placed["series"].to_numpy(), placed["at"].to_numpy()] = placed["value"].to_numpy()
    return Dense(keys, buckets, values)


def slots(buckets: pl.Series, season: str, time_zone: str) -> np.ndarray:
    """The place of each bucket in a season by the local clock, from 0: int64.

    season: "hour of day" (24), "hour of week" (168, from Monday) or "day of week" (7).
    """
    local = buckets.dt.convert_time_zone(time_zone)
    hours, days = (part.cast(int).to_numpy() for part in (local.dt.hour(), local.dt.weekday() - 1))
    places = {"hour of day": hours, "hour of week": days * 24 + hours, "day of week": days}
    return places[season].astype(np.int64)
