"""Trends: how many events a key had in a bucket, and how many were to be expected by what was known at its start.

    expected  level * shape: the key's events of the 24 hours before, and the share of the hour of the week
    z         2 (sqrt(count + 3/8) - sqrt(expected + 3/8)): about normal with deviation 1 (Anscombe 1948)
    spread    what z of the key was in the 24 hours before, as a root mean square; at least 1
    hot       events of the last 24 hours, each counted half for each half-life of its age

Matrices are (keys, buckets) float64 of whole numbers; time runs along the last axis.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

WEEKS = 4  # so many earlier weeks tell the share of an hour of the week
DAY, WEEK = 24, 168  # hours
DAYS = 6  # so many earlier days tell it where no week is known
PRIOR = 20.0  # events: the weight of the shape of the whole in the shape of a channel


class Trend(NamedTuple):
    """What was found of each key and bucket, (keys, buckets) each; NaN where nothing was known."""

    expected: np.ndarray
    z: np.ndarray
    spread: np.ndarray
    hot: np.ndarray


def shape(hours: np.ndarray, prior: np.ndarray | None = None) -> np.ndarray:
    """How busy each hour was to be, beside the mean of the weeks before it, which is 1.

    hours: (keys, hours) of events, from the first hour that is known. By the same hour of up to 4 weeks before, of up
    to 6 days before where no week is known, else 1. prior: a shape, such as that of the whole, which counts as 20
    events do.
    """
    slots, counted, level = np.zeros_like(hours), np.zeros(hours.shape[-1]), np.zeros_like(hours)
    known = np.arange(hours.shape[-1])
    for step, most in ((WEEK, WEEKS), (DAY, DAYS)):
        seasons = np.minimum(known // step, most)
        use = (counted == 0) & (seasons > 0)
        sums = sum(_back(hours, step * back) for back in range(1, most + 1))
        slots = np.where(use, sums, slots)
        level = np.where(use, _total_before(hours, seasons * step) / step, level)
        counted = np.where(use, seasons, counted)
    weight = 0.0 if prior is None else PRIOR
    base = np.ones(hours.shape[-1]) if prior is None else prior
    return np.where(level + weight > 0, (slots + weight * base) / np.where(level + weight > 0, level + weight, 1), base)


def _back(values: np.ndarray, by: int) -> np.ndarray:
    """The values so many buckets before; 0 before the first."""
    moved = np.zeros_like(values)
    if by < values.shape[-1]:
        moved[..., by:] = values[..., :-by]
    return moved


def _total_before(values: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The sum of so many buckets before each: exact, as these are whole numbers."""
    sums = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    at = np.arange(values.shape[-1])
    return sums[..., at] - sums[..., at - widths]


def trend(counts: np.ndarray, busy: np.ndarray, an_hour: int, half_life: float, known: int = 0) -> Trend:
    """What was to be expected of each bucket, and how far from it each is.

    counts     (keys, buckets), from 24 hours or more before the first bucket that matters
    busy       (keys or 1, buckets): the shape of each bucket's hour
    an_hour    buckets of an hour
    half_life  of `hot`, hours
    known      the first bucket at or after the warehouse's first event: nothing before it counts
    """
    day = DAY * an_hour
    at = np.arange(counts.shape[-1])
    counts = np.where(at >= known, counts, 0.0)
    usual = _sum_before(np.where(at >= known, np.broadcast_to(busy, counts.shape), 0.0), day)
    level = _sum_before(counts, day) / np.where(usual > 0, usual, 1)
    expected = np.where((at > known) & (usual > 0), level * busy, np.nan)
    z = anscombe(counts, expected)
    passed = np.clip(at - known - 1, 1, day)
    spread = np.maximum(np.sqrt(_sum_before(np.nan_to_num(z) ** 2, day) / passed), 1)
    return Trend(expected, z, spread, _hot(counts, day, 0.5 ** (1 / (half_life * an_hour))))


def anscombe(count: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The distance of a count from what was expected, in standard deviations of a Poisson count."""
    return 2 * (np.sqrt(count + 0.375) - np.sqrt(np.maximum(expected, 0) + 0.375))


def _sum_before(values: np.ndarray, width: int) -> np.ndarray:
    """The sum of up to `width` buckets before each; the same wherever the matrix begins."""
    return _windows(values[:, :-1], width, 1).sum(axis=-1)


def _hot(counts: np.ndarray, width: int, keep: float) -> np.ndarray:
    return _windows(counts, width, 0) @ keep ** np.arange(width - 1, -1, -1.0)


def _windows(values: np.ndarray, width: int, more: int) -> np.ndarray:
    """(keys, buckets, width): the buckets up to each; `more` of the first come from before the matrix, as 0."""
    padded = np.concatenate([np.zeros((values.shape[0], width - 1 + more)), values], axis=1)
    return sliding_window_view(padded, width, axis=1)
