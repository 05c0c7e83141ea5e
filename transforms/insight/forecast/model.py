"""Forecasts of many series at once, each with its intervals and what its method was worth in the back-test."""

from typing import NamedTuple

import numpy as np

from transforms.insight.forecast.backtest import actual, best_of, candidates, origins_of, seasonal_naive
from transforms.insight.forecast.intervals import LEVELS, limits, quantiles, spread
from transforms.insight.forecast.plans import Plan
from transforms.insight.forecast.smoothing import Season

TOGETHER = 24  # series in one pass: as many as fit the processor's cache; a part is filled up to it


class Forecast(NamedTuple):
    """What is expected of each series. All float64 (series, horizon) or (series,), but `origins` and `is_naive`.

    expected   the mean of the best settings, or the seasonal naive where that had no larger error; NaN: no value known
    naive      the same slot of the season before: of the short or the long one, whichever had the smaller error
    intervals  (2 levels: 80 and 95 %, lower and upper, series, horizon); NaN with fewer than two origins
    mase, smape, ratio, coverage
               of the back-test: mean absolute scaled error, symmetric percentage error (0 to 200), the mean of both
               in parts of the naive's, and the share within the interval of each level (levels, series); the newer
               half of the origins by the older half's errors. NaN where it cannot be told
    origins    of how many forecasts of the past the error is the mean: int64
    is_naive   whether the seasonal naive is what is shown: bool
    """

    expected: np.ndarray
    naive: np.ndarray
    intervals: np.ndarray
    mase: np.ndarray
    smape: np.ndarray
    ratio: np.ndarray
    coverage: np.ndarray
    origins: np.ndarray
    is_naive: np.ndarray


def forecast(values: np.ndarray, places: tuple[np.ndarray, np.ndarray], plan: Plan) -> Forecast:
    """The next `plan.horizon` buckets of each series.

    values: (series, buckets) float64, NaN (or infinite) where nothing is known; a series begins with its first value
    that is not 0. places: of each bucket of the history and the horizon in the short and the long season.
    What is forecast for a series depends on no other.
    """
    if not values.shape[1]:  # one bucket of which nothing is known
        values, places = np.full((len(values), 1), np.nan), (np.append(0, places[0]), np.append(0, places[1]))
    seasons = (Season(plan.lengths[0], places[0]), Season(plan.lengths[1], places[1]))
    parts = [
        _some(values[first : first + TOGETHER], seasons, plan) for first in range(0, max(len(values), 1), TOGETHER)
    ]
    axes = [2 if name == "intervals" else 1 if name == "coverage" else 0 for name in Forecast._fields]
    return Forecast(
        *(
            np.concatenate(found, axis=axis).take(range(len(values)), axis=axis)
            for found, axis in zip(zip(*parts, strict=True), axes, strict=True)
        )
    )


def _some(values: np.ndarray, seasons: tuple[Season, Season], plan: Plan) -> Forecast:
    """The forecast of up to TOGETHER series, filled up with unknown ones: so no sum depends on their number."""
    filled = np.full((values.shape[1], TOGETHER), np.nan)
    filled[:, : len(values)] = values.T
    known, size = scaled(filled)
    origins = origins_of(len(known), plan)
    after = actual(known, origins, plan.horizon)
    counts = np.where(np.isnan(known), np.inf, known).min(0, initial=np.inf) >= 0
    naives = np.stack(naives_of(known, seasons, origins, plan), axis=2)
    smoothed = best_of(np.concatenate([candidates(known, seasons, plan, origins), naives], axis=2), after, plan)
    smoothed = np.where(counts, smoothed.clip(0), smoothed)
    naive = better_naive(naives, after)
    both = ~np.isnan(smoothed[:-1] - naive[:-1] - after[:-1])
    old = settled(both, known, origins, plan)
    is_naive = ~(mean_of(np.abs(smoothed - after)[:-1], old) < mean_of(np.abs(naive - after)[:-1], old))
    shown = np.where(is_naive, naive, smoothed)
    judged = settled(np.where(is_naive, ~np.isnan(naive[:-1] - after[:-1]), both), known, origins, plan)
    unit = spread(shown, counts, mean_size(known))
    errors = np.where(judged, (after - shown)[:-1] / unit[:-1], np.nan)
    ranges = limits(shown[-1], unit[-1], quantiles(errors, plan.neighbours))
    figures = _figures(shown, naive, after, judged, _step(known, seasons[0]))
    return Forecast(
        expected=(shown[-1] * size).T,
        naive=(naive[-1] * size).T,
        intervals=(np.where(counts, ranges.clip(0), ranges) * size).transpose(0, 1, 3, 2),
        coverage=coverage(errors, plan),
        origins=judged.any(1).sum(0),
        is_naive=is_naive,
        **figures,
    )


def settled(judged: np.ndarray, known: np.ndarray, origins: np.ndarray, plan: Plan) -> np.ndarray:
    """Of what can be judged, (origins, horizon, series), that of the origins at which the series was old enough."""
    age = origins[:-1, None] - np.argmax(~np.isnan(known), axis=0)
    old = judged & (age >= plan.settled)[:, None]
    return np.where(old.any((0, 1)), old, judged)


def scaled(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Series in units near their mean absolute value, NaN before they begin: (buckets, series); and these units.

    A unit is a power of two, so that nothing is rounded.
    """
    known = np.where(np.isfinite(values), values, np.nan)
    begun = np.cumsum(np.nan_to_num(known) != 0, axis=0) > 0
    known = np.where(begun | ~begun.any(0), known, np.nan)
    unit = _power(np.nan_to_num(np.abs(known)).max(0, initial=0.0))
    smaller = _power(mean_size(known / unit))
    return known / unit / smaller, unit * smaller


def _power(size: np.ndarray) -> np.ndarray:
    """The power of two at or below a size; 1 for 0."""
    return np.where(size > 0, np.ldexp(1.0, np.frexp(size)[1] - 1), 1.0)


def mean_size(known: np.ndarray) -> np.ndarray:
    """The mean absolute value of what is known, 0 if nothing is: (series,)."""
    return np.nan_to_num(mean_of(np.abs(known)[None], ~np.isnan(known)[None]))


def mean_of(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """The mean over origins and horizons of what counts: (series,), NaN if nothing does."""
    number = counted.sum((0, 1))
    return np.where(number > 0, np.where(counted, values, 0).sum((0, 1)) / number.clip(1), np.nan)


def naives_of(known: np.ndarray, seasons: tuple[Season, Season], origins: np.ndarray, plan: Plan) -> list[np.ndarray]:
    """The seasonal naive of each season: (origins, horizon, series)."""
    named = [season for season, name in zip(seasons, plan.seasons, strict=True) if name is not None]
    return [seasonal_naive(known, season.slots, origins, plan.horizon) for season in named]


def better_naive(naives: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Of (origins, horizon, 1 or 2, series) the one with the smaller error, the first if that cannot be told."""
    short, long = naives[:, :, 0], naives[:, :, -1]
    both = ~np.isnan(short[:-1] - after[:-1] + long[:-1])
    longer = mean_of(np.abs(long - after)[:-1], both) < mean_of(np.abs(short - after)[:-1], both)
    return np.where(longer & ~np.isnan(long), long, short)


def _step(known: np.ndarray, season: Season) -> np.ndarray:
    """What an error is scaled by: the mean absolute step from one short season to the next, (series,)."""
    steps = np.abs(known[season.length :] - known[: -season.length])[None]
    return mean_of(steps, ~np.isnan(steps))


def _figures(shown, naive, after, judged, step) -> dict[str, np.ndarray]:
    """The mean errors of what is shown, and in parts of the naive's: each (series,)."""
    error, naive_error = (mean_of(np.abs(each - after)[:-1], judged) for each in (shown, naive))
    part, naive_part = (mean_of(symmetric(each, after)[:-1], judged) for each in (shown, naive))
    ratio = (_divided(error, naive_error) + _divided(part, naive_part)) / 2
    return {"mase": _divided(error, step), "smape": part, "ratio": ratio}


def _divided(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """NaN where the other is 0."""
    return np.where(other > 0, one / np.where(other > 0, other, 1.0), np.nan)


def symmetric(expected: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The symmetric absolute percentage error, 0 to 200; 0 where both are 0."""
    size = np.abs(expected) + np.abs(after)
    return 200 * np.abs(expected - after) / np.where(size > 0, size, 1.0)


def coverage(errors: np.ndarray, plan: Plan) -> np.ndarray:
    """The share of the newer half of the judged values within the interval by the older half's errors:
    (levels, series)."""
    there = (~np.isnan(errors)).any(1)
    rank = np.cumsum(there, axis=0)
    older = (rank * 2 <= there.sum(0))[:, None]
    # A horizon of the older half reaches into the newer: those origins belong to neither.
    over = -(-plan.horizon // plan.step)
    gap = np.concatenate([older[over:], np.zeros((min(over, len(older)), *older.shape[1:]), bool)])[: len(older)]
    lower, upper = quantiles(np.where(gap, errors, np.nan), plan.neighbours).transpose(1, 0, 2, 3)
    newer = ~older & ~np.isnan(errors)
    found = []
    for at in range(len(LEVELS)):
        within = (errors >= np.minimum(lower[at], 0)) & (errors <= np.maximum(upper[at], 0))
        found.append(mean_of(np.where(within, 1.0, 0.0), newer & ~np.isnan(lower[at])))
    return np.stack(found)
