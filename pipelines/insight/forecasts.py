"""Forecasts: 48 hours and 28 days ahead of each series of the warehouse, with intervals and the back-test's figures."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipelines.insight.forecast_tables import FORECASTS_1D, FORECASTS_1H
from pipelines.insight.series import largest, read_series
from pipelines.insight.shape import Inputs, Pass

if TYPE_CHECKING:
    import polars as pl

    from transforms.insight.forecast.model import Forecast
    from transforms.insight.forecast.plans import Plan
    from transforms.insight.series import Dense

HISTORY = {"1h": timedelta(days=56), "1d": timedelta(days=400)}


def compute(inputs: Inputs) -> "dict[str, pl.DataFrame]":
    """The rows of both tables."""
    from transforms.insight.forecast.plans import DAYS, HOURS

    return {FORECASTS_1H.name: rows(inputs, HOURS), FORECASTS_1D.name: rows(inputs, DAYS)}


def rows(inputs: Inputs, plan: "Plan") -> "pl.DataFrame":
    """One row for each metric, channel and bucket ahead, in the columns of the table without as_of and version."""
    import numpy as np
    import polars as pl

    from transforms.insight.forecast.model import forecast
    from transforms.insight.series import dense, slots

    since, end = known_between(inputs, plan.every)
    found = dense(largest(read_series(inputs, plan.every, since, end)), plan.every, since, end, inputs.time_zone)
    ahead = next_buckets(plan.every, end, plan.horizon + 1, inputs.time_zone)
    buckets = pl.concat([found.buckets, ahead[:-1]])
    places = [
        np.zeros(len(buckets), np.int64) if season is None else slots(buckets, season, inputs.time_zone)
        for season in plan.seasons
    ]
    first = begun(found.values)
    told = forecast(found.values[:, first:], (places[0][first:], places[1][first:]), plan)
    return in_columns(found, told, ahead)


def known_between(inputs: Inputs, every: str) -> tuple[datetime, datetime]:
    """The start of the first bucket that is read, and the end of the last one that is over as of the time: in UTC."""
    from transforms.insight.series import buckets_between

    oldest = inputs.as_of - HISTORY[every]
    # A day may have 25 hours: of two days one begins for certain.
    starts = buckets_between(
        every, oldest - timedelta(days=2), inputs.as_of + timedelta(microseconds=1), inputs.time_zone
    )
    since, end = starts.filter(starts >= oldest)[0], starts[-1]
    assert isinstance(since, datetime) and isinstance(end, datetime)
    return since, end


def next_buckets(every: str, end: datetime, number: int, time_zone: str) -> "pl.Series":
    """The starts of so many buckets from `end` on."""
    from transforms.insight.series import buckets_between

    longest = {"1h": timedelta(hours=1), "1d": timedelta(hours=25)}[every]
    return buckets_between(every, end, end + number * longest, time_zone)[:number]


def begun(values) -> int:
    """The first bucket in which any series is not 0."""
    some = (values != 0).any(axis=0)
    return int(some.argmax()) if some.any() else 0


def in_columns(series: "Dense", told: "Forecast", ahead: "pl.Series") -> "pl.DataFrame":
    """Of each series its buckets ahead, in order: `ahead` has the starts of these and the end of the last."""
    import polars as pl

    horizon = len(ahead) - 1
    lower, upper = told.intervals[:, 0], told.intervals[:, 1]
    by_bucket = {
        "expected": told.expected,
        "lower_80": lower[0],
        "upper_80": upper[0],
        "lower_95": lower[1],
        "upper_95": upper[1],
        "seasonal_naive": told.naive,
    }
    by_series = {
        "method": ["seasonal_naive" if naive else "smoothing" for naive in told.is_naive.tolist()],
        "mase": told.mase,
        "smape": told.smape,
        "relative_error": told.ratio,
        "coverage_80": told.coverage[0],
        "coverage_95": told.coverage[1],
        "origins": told.origins,
    }
    buckets = pl.DataFrame({"bucket_start": ahead[:-1], "bucket_end": ahead[1:]})
    keys = series.keys.with_columns(pl.Series(name, values) for name, values in by_series.items())
    names = [*series.keys.columns, *buckets.columns, *by_bucket, *by_series]
    found = (
        keys.join(buckets, how="cross", maintain_order="left_right") if keys.height else keys.join(buckets, how="cross")
    )
    assert found.height == keys.height * horizon
    found = found.with_columns(pl.Series(name, values.reshape(-1)) for name, values in by_bucket.items())
    return found.select(names).with_columns(pl.col(pl.Float64).fill_nan(None)).drop_nulls("expected")


PASS = Pass("forecasts", (FORECASTS_1H, FORECASTS_1D), compute)
