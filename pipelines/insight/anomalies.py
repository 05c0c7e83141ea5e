"""Anomalies of the last 24 hours: of each series a point, a shift of its level, its silence."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipelines.insight.series import largest, read_series
from pipelines.insight.shape import Inputs, Pass
from pipelines.insight.tables import ANOMALIES_1H

if TYPE_CHECKING:
    import polars as pl

    from transforms.insight.anomalies import Found
    from transforms.insight.series import Dense

HOUR = timedelta(hours=1)
SHOWN, FOLLOWED = 24, 48  # hours: with a row, and looked at for the begin of what lasts


def compute(inputs: Inputs) -> "dict[str, pl.DataFrame]":
    """The rows of the table."""
    from transforms.insight.anomalies import NEEDED, anomalies
    from transforms.insight.series import dense

    end = inputs.as_of.replace(minute=0, second=0, microsecond=0)
    since = end - (NEEDED + FOLLOWED) * HOUR
    series = largest(read_series(inputs, "1h", since, end))
    if series.is_empty():
        return {ANOMALIES_1H.name: _columns(series)}
    found = dense(series, "1h", since, end)
    known = int((found.values != 0).any(axis=0).argmax())
    told = anomalies(found.values, inputs.configuration.insight.anomalies, FOLLOWED, known)
    rows = listed(found, told)
    return {ANOMALIES_1H.name: _columns(outside(with_intervals(rows, found, known, inputs.time_zone)))}


def listed(series: "Dense", told: "Found") -> "pl.DataFrame":
    """A row for each anomaly of the last 24 hours, without the interval."""
    import numpy as np
    import polars as pl

    from transforms.insight.anomalies import KINDS

    hours = np.arange(FOLLOWED)
    since = np.maximum.accumulate(np.where(told.anomaly, -1, hours), axis=-1) + 1  # the hour after the last calm one
    shown = told.anomaly.copy()
    shown[:, :, : FOLLOWED - SHOWN] = False
    kind, key, hour = shown.nonzero()
    buckets = series.buckets[-FOLLOWED:]
    columns = {
        "kind": np.array(KINDS)[kind],
        "value": told.value[shown].round(6),
        "expected": told.expected[shown].round(6),
        "surprise": np.abs(told.surprise[shown]).round(6),
    }
    rows = series.keys[key].with_columns(
        bucket_start=buckets.gather(hour),
        since=buckets.gather(since[shown]),
        **{n: pl.Series(c) for n, c in columns.items()},
    )
    below = pl.col("value") < pl.col("expected")
    direction = pl.when(below).then(pl.lit("below")).otherwise(pl.lit("above"))
    return rows.with_columns(direction=direction, bucket_end=pl.col("bucket_start") + HOUR)


def with_intervals(rows: "pl.DataFrame", series: "Dense", known: int, time_zone: str) -> "pl.DataFrame":
    """The rows with lower and upper, the 95 % interval of a forecast that was made 24 hours before the end.

    Only the series that have a row are forecast.
    """
    import numpy as np
    import polars as pl

    from transforms.insight.forecast.model import forecast
    from transforms.insight.forecast.plans import HOURS
    from transforms.insight.series import buckets_between, slots

    odd = series.keys.with_row_index("at").join(rows, on=["metric", "channel"], how="semi", nulls_equal=True)
    if odd.is_empty():
        return rows.with_columns(lower=pl.lit(None, pl.Float64), upper=pl.lit(None, pl.Float64))
    origin = len(series.buckets) - SHOWN
    since, begin = series.buckets[known], series.buckets[origin]
    assert isinstance(since, datetime) and isinstance(begin, datetime)
    buckets = buckets_between("1h", since, begin + HOURS.horizon * HOUR)
    places = [
        np.zeros(len(buckets), np.int64) if season is None else slots(buckets, season, time_zone)
        for season in HOURS.seasons
    ]
    past = series.values[odd["at"].to_numpy(), known:origin]
    held = forecast(past, (places[0], places[1]), HOURS).intervals[1, :, :, :SHOWN]
    ahead = pl.DataFrame({"bucket_start": series.buckets[origin:]})
    told = odd.drop("at").join(ahead, how="cross", maintain_order="left_right")
    told = told.with_columns(pl.Series(name, held[at].reshape(-1)) for at, name in enumerate(("lower", "upper")))
    told = told.with_columns(pl.col("lower", "upper").fill_nan(None).round(6))
    return rows.join(told, on=["metric", "channel", "bucket_start"], how="left", nulls_equal=True)


def outside(rows: "pl.DataFrame") -> "pl.DataFrame":
    """Without the points that a forecast's interval holds."""
    import polars as pl

    held = (pl.col("kind") == "point") & pl.col("value").is_between(pl.col("lower"), pl.col("upper"))
    return rows.filter(~held.fill_null(False))


def _columns(rows: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    from pipelines.warehouse.tables import polars_schema

    kinds = dict(list(polars_schema(ANOMALIES_1H).items())[1:-1])
    if rows.is_empty():
        return pl.DataFrame(schema=kinds)
    return rows.select(list(kinds)).cast(kinds).sort(ANOMALIES_1H.key[1:], nulls_last=True)  # type: ignore[arg-type]


PASS = Pass("anomalies", (ANOMALIES_1H,), compute)
