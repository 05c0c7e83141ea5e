"""What is tried for series of hours and of days: seasons, settings of the smoothing, and the back-test."""

from itertools import product
from typing import NamedTuple

from transforms.insight.forecast.smoothing import Setting


class Plan(NamedTuple):
    """How series of one kind are forecast.

    every      length of a bucket, as series.buckets_between reads it
    seasons    the short and the long season, as series.slots reads them; no long one: None
    lengths    their lengths in buckets
    horizon    how many buckets ahead
    step       buckets from one origin of the back-test to the next
    origins    at most so many origins, the newest ones that a whole horizon follows
    settings   of the smoothing, each tried on the values, their square roots and their logarithms
    first      of how many buckets the smoothing's first values are the means; a series needs as many
    settled    how many buckets a series has at an origin that is judged; if it has none such, all are judged
    averaged   how many of these, the best of a series, a forecast is the mean of
    neighbours errors of how many horizons to each side count for the interval of a horizon
    """

    every: str
    seasons: tuple[str, str | None]
    lengths: tuple[int, int]
    horizon: int
    step: int
    origins: int
    settings: tuple[Setting, ...]
    first: int
    settled: int
    averaged: int
    neighbours: int


def _settings(level, trend, short, long, carried) -> tuple[Setting, ...]:
    return tuple(Setting(*rates) for rates in product(level, trend, short, long, carried))


HOURS = Plan(
    every="1h",
    seasons=("hour of day", "hour of week"),
    lengths=(24, 168),
    horizon=48,
    step=12,
    origins=39,
    settings=(
        *_settings((0, 0.02, 0.2), (0,), (0.02, 0.15, 0.5), (-1, 0.1, 0.4), (0, 0.7)),
        *_settings((0.05,), (0.002,), (0.02, 0.3), (0.1,), (0,)),
    ),
    first=168,
    settled=336,
    averaged=6,
    neighbours=8,
)
DAYS = Plan(
    every="1d",
    seasons=("day of week", None),
    lengths=(7, 1),
    horizon=28,
    step=2,
    origins=40,
    settings=(
        *_settings((0, 0.05, 0.2, 0.5), (0,), (0.05, 0.2, 0.5), (-1,), (0, 0.5)),
        *_settings((0.1, 0.3), (0.01, 0.05), (0.05, 0.3), (-1,), (0,)),
    ),
    first=14,
    settled=42,
    averaged=6,
    neighbours=4,
)
