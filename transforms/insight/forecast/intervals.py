"""Intervals from the errors of the back-test: their quantiles, horizon by horizon (conformal prediction).

An error counts in units of the spread that is usual at the value that was expected: a count's grows with its root.
"""

import numpy as np

LEVELS = (0.8, 0.95)
FLOOR = 0.1  # of a series' mean, so that the spread at 0 is not 0
FEWEST = 2  # origins that an interval needs


def spread(expected: np.ndarray, counts: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The unit of an error at an expected value. counts: whether a series is never negative; mean: its size."""
    floor = np.where(mean > 0, FLOOR * mean, 1.0)
    return np.where(counts, np.sqrt(expected.clip(0) + floor), 1.0)


def quantiles(errors: np.ndarray, neighbours: int) -> np.ndarray:
    """Lower and upper quantile of the errors at each level: (levels, 2, horizon, series), NaN with too few origins.

    errors: (origins, horizon, series), NaN where there is none. Those of `neighbours` horizons to each side count too.
    Among n origins the level is raised by (n + 1) / n, as a future error is one more of as many.
    """
    _, horizon, series = errors.shape
    found = np.full((len(LEVELS), 2, horizon, series), np.nan)
    several = (~np.isnan(errors)).any(1).sum(0)
    for ahead in range(horizon):
        near = errors[:, max(0, ahead - neighbours) : ahead + neighbours + 1].reshape(-1, series)
        ordered = np.sort(near, axis=0)  # NaN last
        count = (~np.isnan(near)).sum(0)
        for at, level in enumerate(LEVELS):
            raised = np.minimum(1.0, level * (several + 1) / several.clip(1))
            for side, share in enumerate(((1 - raised) / 2, (1 + raised) / 2)):
                found[at, side, ahead] = _at_share(ordered, count, share)
    return np.where(several >= FEWEST, found, np.nan)


def _at_share(ordered: np.ndarray, count: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The value at a share of the first `count` rows, between two of them if need be: (series,)."""
    if not len(ordered):
        return np.full(len(count), np.nan)
    place = share * (count - 1).clip(0)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, (count - 1).clip(0))
    columns = np.arange(len(count))
    below, above = ordered[low, columns], ordered[high, columns]
    return below + (above - below) * (place - low)


def limits(expected: np.ndarray, unit: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """The interval around an expected value: (levels, 2, ..., series); the value itself is within."""
    found = expected + unit * errors
    return np.stack([np.minimum(found[:, 0], expected), np.maximum(found[:, 1], expected)], axis=1)
