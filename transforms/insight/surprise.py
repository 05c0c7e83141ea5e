"""Surprise: how far each bucket of a series is from what was to be expected, judged only by the buckets before it.

Matrices are (series, buckets) float64; time runs along the last axis. No value depends on a later bucket.
"""

import numpy as np

SEASONS = 3  # so many earlier seasons give the seasonal expectation
BETTER = 0.9  # a season is used where its error has been below so much of the error of the level
REMEMBERED = 7  # seasons over which these errors are compared


def mean_before(values: np.ndarray, width: int, lag: int = 0) -> np.ndarray:
    """The mean of up to `width` buckets before each bucket, without the `lag` nearest; 0 where there is none."""
    sums = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    end = np.maximum(np.arange(values.shape[-1]) - lag, 0)
    start = np.maximum(end - width, 0)
    return (sums[..., end] - sums[..., start]) / np.maximum(end - start, 1)


def mean_upto(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of up to `width` buckets that end with each bucket."""
    sums = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    end = np.arange(values.shape[-1]) + 1
    start = np.maximum(end - width, 0)
    return (sums[..., end] - sums[..., start]) / (end - start)


def baseline(values: np.ndarray, season: int) -> np.ndarray:
    """What was to be expected of each bucket: the mean of a season, or of its place in up to 3 seasons.

    The second is taken from where on its mean error over 7 seasons has been at least a tenth smaller.
    """
    level = mean_before(values, season)
    seasonal = _same_place(values, season, level)
    memory = REMEMBERED * season
    errors = [mean_before(np.abs(values - each), memory) for each in (level, seasonal)]
    return np.where(errors[1] < BETTER * errors[0], seasonal, level)


def _same_place(values: np.ndarray, season: int, level: np.ndarray) -> np.ndarray:
    total, count = np.zeros_like(values), np.zeros(values.shape[-1])
    for back in range(season, min(SEASONS * season, values.shape[-1] - 1) + 1, season):
        total[..., back:] += values[..., :-back]
        count[back:] += 1
    return np.where(count > 0, total / np.maximum(count, 1), level)


def unusual(distance: np.ndarray, memory: int, warm: int) -> np.ndarray:
    """How many standard deviations each distance (0 or more) is above the mean of up to `memory` distances before it.

    0 for the first `warm` buckets, and never below 0.
    """
    mean = mean_before(distance, memory)
    spread = np.sqrt(np.maximum(mean_before(distance**2, memory) - mean**2, 0))
    found = (distance - mean) / np.maximum(spread, 1e-9 + 1e-3 * np.abs(mean))
    found[..., :warm] = 0
    return np.maximum(found, 0)


def alarms(surprise: np.ndarray, threshold: float, quiet: int) -> np.ndarray:
    """Places in one series at which the surprise reaches the threshold, each `quiet` buckets or more after another."""
    found: list[int] = []
    for place in np.flatnonzero(surprise >= threshold).tolist():
        if not found or place - found[-1] >= quiet:
            found.append(place)
    return np.array(found, dtype=np.int64)
