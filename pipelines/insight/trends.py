"""Trends of the last 24 hours, in buckets of 10 minutes and of hours: what rises and what falls.

Counts come from `events`, so that a bucket counts what the metrics count; how busy an hour of the week is from
`activity_1m`, of 5 weeks. A refresh reads 3 days of events, however long the history is.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from pipelines.insight.clock import smallest_part
from pipelines.insight.days import ask_days
from pipelines.insight.series import MINUTES, events_by_type
from pipelines.insight.shape import Inputs, Pass
from pipelines.insight.tables import TRENDS_1H, TRENDS_10M
from pipelines.warehouse.conditions import moment

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from transforms.insight.settings import Trends
    from transforms.insight.trends import Trend

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WHOLE = "whole"
DIMENSIONS = {
    WHOLE: None,
    "channel": "channel",
    "category": "category",
    "campaign": "campaign",
    "content": "content_id",
}
NO_KEY = "CAST(NULL AS STRING)"
SHOWN, READ, BUSY = timedelta(hours=24), timedelta(hours=72), timedelta(days=36)


class Grain(NamedTuple):
    """Buckets of a length: `every` in the terms of transforms/insight/series.py, and how many make an hour."""

    every: str
    an_hour: int

    @property
    def length(self) -> timedelta:
        """Of a bucket."""
        return timedelta(hours=1) / self.an_hour

    def end(self, as_of: datetime) -> datetime:
        """Of the last bucket that is over as of then."""
        return as_of - (as_of - EPOCH) % self.length

    def bucket(self, time: str) -> str:
        """SQL that BigQuery and DuckDB share, of the day, the hour and the part of the hour of a time."""
        part = f"CAST(FLOOR(EXTRACT(MINUTE FROM {time}) * {self.an_hour} / 60) AS INT64)"
        return f"CAST({time} AS DATE) AS day, CAST(EXTRACT(HOUR FROM {time}) AS INT64) AS hour, {part} AS part"

    def typed(self, asked: "pl.DataFrame", **columns) -> "pl.DataFrame":
        """The answer with bucket_start in place of day, hour and part, and these columns of these types."""
        import polars as pl

        day = pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        minutes = pl.col("hour") * 60 + pl.col("part") * (60 // self.an_hour)
        start = (day + pl.duration(minutes=minutes)).cast(pl.Datetime("us", "UTC"))
        return asked.select(start.alias("bucket_start"), *(pl.col(name).cast(kind) for name, kind in columns.items()))


TEN_MINUTES, HOUR = Grain("10m", 6), Grain("1h", 1)
GRAINS = {TRENDS_10M.name: TEN_MINUTES, TRENDS_1H.name: HOUR}


def compute(inputs: Inputs) -> "dict[str, pl.DataFrame]":
    """The rows of both tables."""
    import polars as pl

    end = inputs.as_of.replace(minute=0, second=0, microsecond=0)
    first = first_event(inputs)
    if first is None:
        return {}
    busy = busy_hours(inputs, max(first, end - BUSY), end + timedelta(hours=1))
    parts: dict[str, list[pl.DataFrame]] = {name: [] for name in GRAINS}
    for dimension in DIMENSIONS:
        counted = counts(inputs, dimension)
        for name, grain in GRAINS.items():
            parts[name].append(rows(inputs, grain, dimension, first, busy, counted))
    order = ["bucket_start", "dimension", "key"]
    return {name: pl.concat(found).sort(order, nulls_last=True) for name, found in parts.items()}


def first_event(inputs: Inputs) -> datetime | None:
    """The start of the hour of the first event of up to 5 weeks before; None if there is none."""
    import polars as pl

    since = f"event_time >= {moment(inputs.as_of - BUSY)} AND event_time < {moment(inputs.as_of)}"
    found = inputs.ask(f"SELECT MIN(event_time) AS first FROM events WHERE {since}")
    first = found.cast({"first": pl.Datetime("us", "UTC")})["first"][0] if found.height else None
    return None if first is None else first.replace(minute=0, second=0, microsecond=0)


class Busy(NamedTuple):
    """How busy each hour was to be: `since` the first hour, `of` the shape by channel, None the whole."""

    since: datetime
    of: "dict[str | None, np.ndarray]"

    def at(self, starts: "np.ndarray", key: str | None) -> "np.ndarray":
        """The shape of the hours in which buckets start, 1 before the first: `starts` in hours since 1970."""
        import numpy as np

        shape = self.of.get(key, self.of[None])
        place = np.floor(starts).astype(np.int64) - int(_hours(self.since))
        return np.where(place >= 0, shape[np.clip(place, 0, len(shape) - 1)], 1.0)


def busy_hours(inputs: Inputs, since: datetime, end: datetime) -> Busy:
    """The shape of the hours from `since` to before `end`, of the whole and by channel; 1 without `activity_1m`."""
    import numpy as np
    import polars as pl

    from transforms.insight.series import dense, with_whole
    from transforms.insight.trends import shape

    if MINUTES not in inputs.names:
        return Busy(since, {None: np.ones(int(_hours(end) - _hours(since)))})
    last = max(since, inputs.as_of.replace(minute=0, second=0, microsecond=0))
    question = events_by_type(smallest_part(inputs.time_zone, since, inputs.as_of))
    # The hours that are over are those of the series; the minutes since then are asked.
    counted = pl.concat([ask_days(inputs, question, since, last), question.ask(inputs, last, inputs.as_of)])
    hours = counted.with_columns(pl.col("bucket_start").dt.truncate("1h"), metric=pl.lit("events"))
    found = dense(with_whole(hours), "1h", since, end)
    channels = found.keys["channel"].to_list()
    if None not in channels:
        return Busy(since, {None: np.ones(len(found.buckets))})
    whole = shape(found.values[[channels.index(None)]])
    shapes = np.concatenate([shape(found.values, whole), whole])
    return Busy(since, dict(zip([*channels, None], shapes, strict=True)))


def rows(
    inputs: Inputs, grain: Grain, dimension: str, first: datetime, busy: Busy, tens: "pl.DataFrame"
) -> "pl.DataFrame":
    """The rows of a dimension, in the columns of the table without as_of and version; `tens`: its `counts`."""
    import numpy as np
    import polars as pl

    from transforms.insight.series import dense
    from transforms.insight.trends import trend

    settings = inputs.configuration.insight.trends
    end = grain.end(inputs.as_of)
    start = end - READ
    within = tens.filter((pl.col("bucket_start") >= start) & (pl.col("bucket_start") < end))
    bucket = pl.col("bucket_start").dt.truncate(grain.every)
    counted = within.group_by("channel", bucket).agg(pl.col("value").sum()).with_columns(metric=pl.lit("events"))
    totals = counted.group_by("channel").agg(pl.col("value").sum()).sort("value", "channel", descending=[True, False])
    kept = counted.join(totals.head(settings.max_keys), on="channel", how="semi", nulls_equal=True)
    found = dense(kept, grain.every, start, end)
    starts = _hours(start) + np.arange(len(found.buckets)) / grain.an_hour
    keys = found.keys["channel"].to_list()
    own = [key if dimension == "channel" else None for key in keys]
    shapes = np.array([busy.at(starts, key) for key in own]).reshape(len(own), len(starts))
    known = max(round((_hours(first) - _hours(start)) * grain.an_hour), 0)
    told = trend(found.values, shapes, grain.an_hour, settings.half_life, known)
    shown = len(starts) - int(SHOWN / grain.length)
    with np.errstate(invalid="ignore"):
        large = (found.values >= settings.min_count) | (told.expected >= settings.min_count)
    large[:, : max(shown, known)] = False
    listed = _listed(found.keys["channel"], found.buckets, found.values, told, large)
    listed = listed.join(
        persons(inputs, grain, dimension, end), on=["key", "bucket_start"], how="left", nulls_equal=True
    )
    listed = listed.with_columns(pl.col("persons").fill_null(0), folded_keys=pl.lit(0, pl.Int64))
    rest = _folded(counted.filter(pl.col("bucket_start") >= end - SHOWN), listed)
    columns = TRENDS_1H.columns[1:-1]
    both = pl.concat([_judged(listed, settings), rest], how="diagonal").with_columns(
        dimension=pl.lit(dimension), bucket_end=pl.col("bucket_start") + grain.length
    )
    return both.select(column.name for column in columns)


def counts(inputs: Inputs, dimension: str) -> "pl.DataFrame":
    """The events of every grain in buckets of 10 minutes: channel (the key), bucket_start, value."""
    import polars as pl

    column, ends = DIMENSIONS[dimension], [grain.end(inputs.as_of) for grain in GRAINS.values()]
    asked = inputs.ask(
        f"SELECT {column or NO_KEY} AS channel, {TEN_MINUTES.bucket('event_time')}, COUNT(*) AS value FROM events "
        f"WHERE {_within(column, min(ends) - READ, max(ends))} GROUP BY 1, 2, 3, 4"
    )
    return TEN_MINUTES.typed(asked, channel=pl.String, value=pl.Float64)


def persons(inputs: Inputs, grain: Grain, dimension: str, end: datetime) -> "pl.DataFrame":
    """key, bucket_start, persons: of the buckets of the last 24 hours that have min_count events or more."""
    import polars as pl

    column = DIMENSIONS[dimension]
    asked = inputs.ask(
        f"SELECT {column or NO_KEY} AS key, {grain.bucket('event_time')}, "
        f"COUNT(DISTINCT COALESCE(user_id, anonymous_id)) AS persons "
        f"FROM events WHERE {_within(column, end - SHOWN, end)} GROUP BY 1, 2, 3, 4 "
        f"HAVING COUNT(*) >= {inputs.configuration.insight.trends.min_count}"
    )
    return grain.typed(asked, key=pl.String, persons=pl.Int64)


def _within(column: str | None, start: datetime, end: datetime) -> str:
    known = f" AND {column} IS NOT NULL" if column else ""
    return f"event_time >= {moment(start)} AND event_time < {moment(end)}{known}"


def _listed(keys, buckets, counts, told: "Trend", large) -> "pl.DataFrame":
    import polars as pl

    key, bucket = large.nonzero()
    growth = counts[large] / told.expected[large].clip(1e-300)
    columns = {
        "count": counts[large].astype("int64"),
        "expected": told.expected[large].round(6),
        "z": told.z[large].round(6),
        "spread": told.spread[large].round(6),
        "growth": growth.round(6),
        "hot": told.hot[large].round(6),
    }
    found = pl.DataFrame({"key": keys.gather(key), "bucket_start": buckets.gather(bucket), **columns})
    growth_known = pl.when(pl.col("expected") > 0).then(pl.col("growth"))
    return found.with_columns(growth=growth_known).with_columns(pl.col(pl.Float64).fill_nan(None))


def _judged(listed: "pl.DataFrame", settings: "Trends") -> "pl.DataFrame":
    import polars as pl

    far = pl.col("z") / pl.col("spread")
    rising = (
        (far >= settings.rising) & (pl.col("count") >= settings.min_count) & (pl.col("persons") >= settings.min_persons)
    )
    falling = (far <= -settings.falling) & (pl.col("expected") >= settings.min_count)
    text = pl.when(rising).then(pl.lit("rising")).when(falling).then(pl.lit("falling"))
    return listed.with_columns(trend=text.otherwise(pl.lit(None, pl.String)))


def _folded(counted: "pl.DataFrame", listed: "pl.DataFrame") -> "pl.DataFrame":
    """What has no row of its own, by bucket: how many events of how many keys."""
    import polars as pl

    named = counted.select(
        pl.col("channel").alias("key"), "bucket_start", pl.col("value").cast(pl.Int64).alias("count")
    )
    rest = named.join(listed, on=["key", "bucket_start"], how="anti", nulls_equal=True)
    folded = rest.group_by("bucket_start").agg(pl.col("count").sum(), folded_keys=pl.len().cast(pl.Int64))
    return folded.with_columns(key=pl.lit(None, pl.String))


def _hours(time: datetime) -> float:
    return (time - EPOCH) / timedelta(hours=1)


PASS = Pass("trends", (TRENDS_10M, TRENDS_1H), compute)
