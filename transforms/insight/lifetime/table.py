"""What buyers bought, and what is to be expected of them, of a table of purchases.

What counts is a local day with a purchase, as in the published fits: those of one day are one, of their summed value.
The first day of a buyer begins its time; the days after it are what repeats.
"""

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from transforms.insight.lifetime.purchases import (
    BgNbd,
    Buyers,
    alive,
    expected_purchases,
    fit_purchases,
    purchase_quantiles,
)
from transforms.insight.lifetime.values import GammaGamma, expected_values, fit_values

LEAST = 30  # buyers who came back, for a fit
LEVELS = (0.1, 0.9)
WEEK = 7.0
EXPECTED = (
    *("alive", "expected_purchases", "purchases_low", "purchases_high"),
    *("purchase_value", "expected_value", "value_low", "value_high"),
)


def lifetime(purchases: pl.DataFrame, as_of: datetime, zone: str, days_ahead: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of `user_values` and of `lifetime_fits`, by currency.

    purchases   person, currency String, event_time Datetime, value Decimal (null: counts as a purchase of no known
                value), all before as_of
    days_ahead  of the expectations
    """
    bought = buyers(purchases, as_of, zone)
    found, fits = [], []
    for key, part in (
        bought.sort("currency", "person").partition_by("currency", as_dict=True, maintain_order=True).items()
    ):
        rows, fit = _of_currency(part, days_ahead)
        found.append(rows)
        fits.append(fit.with_columns(currency=pl.lit(key[0], pl.String)))
    if not found:
        return bought, pl.DataFrame()
    return pl.concat(found), pl.concat(fits)


def buyers(purchases: pl.DataFrame, as_of: datetime, zone: str) -> pl.DataFrame:
    """A row for each person and currency: person, currency, purchases, revenue, last_purchase, purchase_days, and

    x, last, seen   as the model has them, in weeks; Float64
    paid, mean      days after the first of a value above 0, and their mean value; Float64
    """
    by = ["person", "currency"]
    day = pl.col("event_time").dt.convert_time_zone(zone).dt.date()
    end = pl.lit(as_of - timedelta(microseconds=1), pl.Datetime("us", "UTC")).dt.convert_time_zone(zone).dt.date()
    days = purchases.group_by(*by, day.alias("day")).agg(
        purchases=pl.len().cast(pl.Int64), value=pl.col("value").sum(), last_purchase=pl.col("event_time").max()
    )
    days = days.with_columns(is_first=pl.col("day") == pl.col("day").min().over(by))
    repeats = ~pl.col("is_first") & (pl.col("value") > 0)
    first, last = pl.col("day").min(), pl.col("day").max()
    return days.group_by(by).agg(
        pl.col("purchases").sum(),
        revenue=pl.col("value").sum(),
        last_purchase=pl.col("last_purchase").max(),
        purchase_days=pl.len().cast(pl.Int64),
        x=(pl.len() - 1).cast(pl.Float64),
        last=(last - first).dt.total_days() / WEEK,
        seen=(end - first).dt.total_days() / WEEK,
        paid=repeats.sum().cast(pl.Float64),
        mean=pl.col("value").filter(repeats).sum().cast(pl.Float64),
    ).with_columns(mean=pl.when(pl.col("paid") > 0).then(pl.col("mean") / pl.col("paid")).otherwise(0.0))  # fmt: skip


def _of_currency(rows: pl.DataFrame, days_ahead: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    told = Buyers(*(rows[name].to_numpy() for name in ("x", "last", "seen")))
    paid, mean = rows["paid"].to_numpy(), rows["mean"].to_numpy()
    repeat = int((told.x > 0).sum())
    fit = fit_purchases(told) if repeat >= LEAST else None
    money = fit_values(paid, mean) if int((paid > 0).sum()) >= LEAST else None
    expected = _expected(told, paid, mean, fit, money, days_ahead / WEEK)
    columns = [pl.Series(name, values).round(6).fill_nan(None) for name, values in expected.items()]
    counts = {"buyers": [rows.height], "repeat_buyers": [repeat], "days_ahead": [days_ahead]}
    parameters = {name: [getattr(fit, name, None)] for name in BgNbd._fields}
    parameters |= {name: [getattr(money, name, None)] for name in GammaGamma._fields}
    fitted = pl.DataFrame(
        counts | parameters, {name: pl.Int64 for name in counts} | dict.fromkeys(parameters, pl.Float64)
    )
    return rows.with_columns(columns), fitted


def _expected(
    told: Buyers, paid: np.ndarray, mean: np.ndarray, fit: BgNbd | None, money: GammaGamma | None, ahead: float
) -> dict[str, np.ndarray]:
    """The columns EXPECTED; NaN where there is no fit, or the model of values has no mean."""
    found = {name: np.full(len(told.x), np.nan) for name in EXPECTED}
    if fit is not None:
        found["alive"] = alive(fit, told)
        found["expected_purchases"] = expected_purchases(fit, told, ahead)
        found["purchases_low"], found["purchases_high"] = purchase_quantiles(fit, told, ahead, LEVELS)
    if money is not None and money.q > 1:
        found["purchase_value"] = expected_values(money, paid, mean)
        numbers = ("expected_purchases", "purchases_low", "purchases_high")
        for name, number in zip(("expected_value", "value_low", "value_high"), numbers, strict=True):
            found[name] = found[number] * found["purchase_value"]
    return found
