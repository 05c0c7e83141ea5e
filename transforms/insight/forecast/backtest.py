"""The rolling back-test: which settings foretold a series best, by the origins of the past.

At each origin only what lies before it is known: the settings that are averaged there are those with the least error
at earlier origins whose horizons were over. So its errors are those of a forecast that was made then.
"""

import numpy as np

from transforms.insight.forecast.plans import Plan
from transforms.insight.forecast.smoothing import Season, paths


def origins_of(buckets: int, plan: Plan) -> np.ndarray:
    """How many buckets each origin knows, ascending; the last one knows all of them and is the forecast itself."""
    newest = buckets - plan.horizon
    past = newest - plan.step * np.arange(plan.origins)[::-1]
    return np.append(past[past > 0], buckets)


def actual(values: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
    """What came after each origin: (origins, horizon, series), NaN where it is not known."""
    after = np.full((horizon, values.shape[1]), np.nan)
    return np.concatenate([values, after])[origins[:, None] + np.arange(horizon)]


def seasonal_naive(values: np.ndarray, slots: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
    """The last known value of the same slot: (origins, horizon, series), NaN where there is none.

    values: (buckets, series), NaN where nothing is known; slots: (buckets + horizon,) places in the season.
    """
    newest: dict[int, int] = {}
    before = np.full(len(slots), -1)
    filled = values.copy()
    for bucket, slot in enumerate(slots.tolist()):
        before[bucket] = newest.get(slot, -1)
        newest[slot] = bucket
        if bucket < len(values) and before[bucket] >= 0:
            filled[bucket] = np.where(np.isnan(values[bucket]), filled[before[bucket]], values[bucket])
    at = origins[:, None] + np.arange(horizon)
    while (late := at >= origins[:, None]).any():
        at = np.where(late, before[at], at)
    return np.where((at >= 0)[:, :, None], filled[at], np.nan)


def candidates(values: np.ndarray, seasons: tuple[Season, Season], plan: Plan, origins: np.ndarray) -> np.ndarray:
    """What every setting expects, on the values, their roots and their logarithms: (origins, horizon, 3 x settings,
    series). NaN where a series is too short yet, or where the form takes no such value.
    """
    least = np.where(np.isnan(values), np.inf, values).min(0, initial=np.inf)
    forms = (
        (values, lambda found: found, least > -np.inf),
        (np.sqrt(values.clip(0)), lambda found: found.clip(0) ** 2, least >= 0),
        (np.log(np.where(values > 0, values, 1.0)) + 0 * values, lambda found: np.exp(found.clip(-99, 99)), least > 0),
    )
    found = [
        np.where(fits, back(paths(form, seasons, plan.settings, origins, plan.horizon, plan.first)), np.nan)
        for form, back, fits in forms
    ]
    return np.concatenate(found, axis=2)


def best_of(expected: np.ndarray, after: np.ndarray, plan: Plan) -> np.ndarray:
    """The mean of the best candidates at each origin: (origins, horizon, series), NaN before any could be judged.

    expected: (origins, horizon, candidates, series); after: (origins, horizon, series).
    """
    off = np.abs(expected[:-1] - after[:-1, :, None])
    judged = ~np.isnan(off)
    error = np.where(judged, off, 0).sum(1) / judged.sum(1).clip(1)
    seen = judged.any(1)
    total, count = np.cumsum(np.where(seen, error, 0), axis=0), np.cumsum(seen, axis=0)
    found = np.full((len(expected), *after.shape[1:]), np.nan)
    over = -(-plan.horizon // plan.step)  # origins until the horizon of one is over
    last = len(expected) - 1
    for at in range(len(expected)):
        judge = last - 1 if at == last else at - over
        if judge >= 0:
            mean = np.where(count[judge] > 0, total[judge] / count[judge].clip(1), np.inf)
            order = np.argsort(mean, axis=0, kind="stable")[: plan.averaged]
            usable = np.take_along_axis(mean, order, axis=0) < np.inf
            chosen = np.take_along_axis(expected[at], order[None], axis=1)
            total_of = np.where(usable, chosen, 0).sum(1)
            found[at] = np.where(usable.any(0), total_of / usable.sum(0).clip(1), np.nan)
    return found
