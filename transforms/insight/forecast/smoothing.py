"""Exponential smoothing with two seasons, for many series and many settings at once.

The model is Holt-Winters with two additive seasons and a damped trend, its remaining error an AR(1) (Taylor, 2003,
"Short-term electricity demand forecasting using double seasonal exponential smoothing"). One pass over time updates
every series under every setting, so that what costs is the length of the series and not their number.
"""

from typing import NamedTuple

import numpy as np

TREND_DAMPING = 0.98  # what is left of a trend after one bucket more


class Setting(NamedTuple):
    """How fast each part follows, 0 (never) to 1 (at once), and how much of an error is left a bucket later."""

    level: float
    trend: float
    short: float  # the short season, such as the hours of a day
    long: float  # the long season, such as the hours of a week; 0: as at the start; negative: left out
    carried: float


class Season(NamedTuple):
    """A season: its length, and for each bucket of the history and the horizon the place of the bucket in it."""

    length: int
    slots: np.ndarray  # (buckets + horizon,) int64


def paths(
    values: np.ndarray,
    seasons: tuple[Season, Season],
    settings: tuple[Setting, ...],
    origins: np.ndarray,
    horizon: int,
    first: int,
) -> np.ndarray:
    """What each setting expects after each origin.

    values: (buckets, series) float64, NaN where nothing is known. origins: how many buckets each forecast knows,
    ascending. first: of how many buckets of a series the first level and seasons are the means. Returns (origins,
    horizon, settings, series) float64, NaN where a series has less than these.
    """
    short, long = seasons
    smoothing = _State(values, seasons, settings, first)
    found = np.full((len(origins), horizon, len(settings), values.shape[1]), np.nan)
    wanted = {int(known): at for at, known in enumerate(origins)}
    for bucket in range(max(wanted, default=0) + 1):
        if bucket in wanted:
            ahead = slice(bucket, bucket + horizon)
            found[wanted[bucket]] = smoothing.ahead(short.slots[ahead], long.slots[ahead])
        if bucket < len(values):
            smoothing.learn(values[bucket], short.slots[bucket], long.slots[bucket])
    return found


class _State:
    """Level, trend, seasons and last error, each (settings, series)."""

    def __init__(self, values: np.ndarray, seasons: tuple[Season, Season], settings: tuple[Setting, ...], first: int):
        rates = np.array(settings).T[:, :, None]
        self.rates, self.carried = rates[:4].clip(0), rates[4]
        shape = (len(settings), values.shape[1])
        level, short, long = first_values(values, seasons, first)
        self.level = np.broadcast_to(level, shape).copy()
        self.short = np.broadcast_to(short[:, None], (len(short), *shape)).copy()
        self.long = np.broadcast_to(long[:, None], (len(long), *shape)) * (rates[3] >= 0)
        self.trend, self.error = np.zeros(shape), np.zeros(shape)
        self.age, self.first = np.zeros(shape[1], int), first

    def learn(self, value: np.ndarray, short: int, long: int) -> None:
        """Take the values of one bucket: (series,) float64; NaN changes nothing but what is left of an error."""
        rate_level, rate_trend, rate_short, rate_long = self.rates
        moved = self.trend * TREND_DAMPING
        off = value - self.level - moved - self.short[short] - self.long[long]
        known = ~np.isnan(value)
        begun = known | (self.age > 0)
        self.age += begun
        news = np.where(known, off - self.carried * self.error, 0.0)
        self.error = np.where(known, off, self.carried * self.error)
        self.level = self.level + np.where(begun, moved, 0.0) + rate_level * news
        self.trend = np.where(begun, moved, 0.0) + rate_trend * news
        self.short[short] += rate_short * news
        self.long[long] += rate_long * news

    def ahead(self, short: np.ndarray, long: np.ndarray) -> np.ndarray:
        """What follows: (horizon, settings, series)."""
        steps = np.arange(1, len(short) + 1)[:, None, None]
        grown = np.cumsum(TREND_DAMPING**steps, axis=0) * self.trend
        expected = self.level + grown + self.short[short] + self.long[long] + self.carried**steps * self.error
        return np.where(self.age >= self.first, expected, np.nan)


def first_values(
    values: np.ndarray, seasons: tuple[Season, Season], first: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Level (series,), short season and long season (length, series): means of the first buckets of each series."""
    known = ~np.isnan(values)
    age = np.where(known.any(0), np.arange(len(values))[:, None] - known.argmax(0), -1)
    early = known & (age >= 0) & (age < first)
    level = np.where(early, values, 0.0).sum(0) / early.sum(0).clip(1)
    rest = np.where(early, values - level, 0.0)
    found = []
    for season in seasons:
        slots = season.slots[: len(values)]
        total, count = np.zeros((season.length, values.shape[1])), np.zeros((season.length, values.shape[1]))
        np.add.at(total, slots, rest)
        np.add.at(count, slots, early)
        means = total / count.clip(1)
        found.append(means)
        rest = np.where(early, rest - means[slots], 0.0)
    return level, found[0], found[1]
