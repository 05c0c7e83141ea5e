"""Anomalies of hourly series: a point, a shift of the level, silence; each judged only by the hours before it.

    expected  the median of the same hour of up to 4 weeks before, times the level of the 3 days before
    distance  sqrt(value + 3/8) - sqrt(expected + 3/8), over the spread of such distances in the 4 weeks before
    point     the distance of one hour
    shift     the mean of the distances of 6 hours, over the spread of such means
    silence   no event, for longer than in the 4 weeks before, where many were expected

Matrices are (series, hours) float64; time runs along the last axis. Where two weeks are not known, days take the place
of weeks; the first week of a series is not judged. A series without a value in half of its hours can only be silent.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from transforms.insight.settings import Anomalies

DAY, WEEK = 24, 168
MEMORY = 4 * WEEK  # hours by which a spread is known
LEVEL = 3 * DAY  # hours that tell the level
SHIFT = 6  # hours
NEEDED = 2 * MEMORY + LEVEL + SHIFT  # hours before one that may matter to it
HALF = 0.5  # deviation of the square root of a Poisson count
NORMAL = 1.4826  # deviations in a median absolute deviation
BUSY = 0.5  # share of hours with a value from which on points and shifts are judged: silence is usual below
SERIES = 100  # of a part: bounds the memory
KINDS = ("point", "shift", "silence")


class Found(NamedTuple):
    """(kinds, series, hours) each: whether an hour is an anomaly of a kind, its surprise, value and expectation."""

    anomaly: np.ndarray
    surprise: np.ndarray
    value: np.ndarray
    expected: np.ndarray


def anomalies(values: np.ndarray, settings: Anomalies, recent: int, known: int = 0) -> Found:
    """Judge the last `recent` hours of each series; `known` is the first hour of the warehouse in the matrix."""
    parts = [_judge(values[at : at + SERIES], settings, recent, known) for at in range(0, max(len(values), 1), SERIES)]
    return Found(*(np.concatenate(each, axis=1) for each in zip(*parts, strict=True)))


def _judge(values: np.ndarray, settings: Anomalies, recent: int, known: int) -> Found:
    expected = expectation(values, known)
    distance = _root(values) - _root(expected)
    begun = np.cumsum(values != 0, axis=-1) > 0  # a series is judged a week after its first event
    first = np.where(begun.any(axis=-1), begun.argmax(axis=-1), values.shape[-1])[:, None]
    hours = np.arange(values.shape[-1])
    judged = hours >= np.maximum(first, known) + WEEK
    distance = np.where(hours >= np.maximum(first, known) + DAY, distance, np.nan)
    mean = _windows(distance, SHIFT).mean(axis=-1)
    point = _over_spread(distance, recent)
    shift = _over_spread(mean, recent)
    missed, silent = _silence(values, expected, recent)
    last = (slice(None), slice(-recent, None))
    judged, value, usual = judged[last], values[last], expected[last]
    means = [_windows(each, SHIFT).mean(axis=-1)[last] for each in (values, expected)]
    silent &= judged & (missed >= settings.silence)
    busy = _windows(values[:, :-1] != 0, MEMORY, 1)[:, -recent:].sum(axis=-1)
    passed = np.clip(hours - np.maximum(first, known), 1, MEMORY)[last]
    calm = judged & ~silent & (busy >= BUSY * passed)
    anomaly = [calm & (np.abs(point) >= settings.point), calm & (np.abs(shift) >= settings.shift), silent]
    return Found(
        np.array(anomaly),
        np.array([point, shift, missed]),
        np.array([value, means[0], value]),
        np.array([usual, means[1], usual]),
    )


def expectation(values: np.ndarray, known: int = 0) -> np.ndarray:
    """What was to be expected of each hour by the hours before it; 0 where none is known."""
    hours = np.arange(values.shape[-1]) - known
    weekly, daily = _median_back(values, WEEK, 4, known), _median_back(values, DAY, 7, known)
    usual = np.where(hours >= 2 * WEEK, weekly, daily)
    bounded = np.clip(values, usual / 2, 2 * usual + 3)  # an outage moves the level by half at most
    with np.errstate(invalid="ignore"):
        sums = [_windows(np.where(hours >= DAY, each, 0.0)[:, :-1], LEVEL, 1).sum(axis=-1) for each in (bounded, usual)]
    return usual * np.where(sums[1] > 0, sums[0] / np.where(sums[1] > 0, sums[1], 1), 1.0)


def _median_back(values: np.ndarray, step: int, most: int, known: int) -> np.ndarray:
    """The median of the values 1 to `most` steps before each hour, of those that are known; 0 where none is."""
    back = np.full((most, *values.shape), np.nan)
    for at in range(most):
        by = step * (at + 1)
        if by < values.shape[-1]:
            back[at, :, by:] = np.where(np.arange(by, values.shape[-1]) - by >= known, values[:, :-by], np.nan)
    count = (~np.isnan(back)).sum(axis=0)
    order = np.sort(back, axis=0)  # NaN last
    low, high = np.maximum((count - 1) // 2, 0), np.minimum(count // 2, most - 1)
    low, high = (np.take_along_axis(order, each[None], axis=0)[0] for each in (low, high))
    return np.where(count > 0, (low + high) / 2, 0.0)


def _root(values: np.ndarray) -> np.ndarray:
    """The square root of a count, which has a deviation of a half at any level; of a negative sum with its sign."""
    return np.where(values >= 0, np.sqrt(np.maximum(values, 0) + 0.375), -np.sqrt(np.abs(values) + 0.375))


def _over_spread(distance: np.ndarray, recent: int) -> np.ndarray:
    """Each of the last distances over the spread of those of 4 weeks before it; 0 where that is not known."""
    before = _windows(distance[:, :-1], MEMORY, 1)[:, -recent:]
    known = (~np.isnan(before)).sum(axis=-1)
    order = np.sort(np.abs(before), axis=-1)
    middle = np.take_along_axis(order, np.maximum(known - 1, 0)[..., None] // 2, axis=-1)[..., 0]
    wide = np.take_along_axis(order, (np.maximum(known - 1, 0) * 95 // 100)[..., None], axis=-1)[..., 0]
    spread = np.maximum(np.maximum(NORMAL * middle, wide / 2), HALF / np.sqrt(SHIFT))
    return np.where(known >= DAY, np.nan_to_num(distance[:, -recent:]) / np.where(known >= DAY, spread, 1), 0.0)


def _silence(values: np.ndarray, expected: np.ndarray, recent: int) -> tuple[np.ndarray, np.ndarray]:
    """Events missed in the hours without any that end with each, and whether these are more hours than ever before."""
    hours = np.arange(values.shape[-1])
    last = np.maximum.accumulate(np.where(values != 0, hours, -1), axis=-1)
    run = np.where(last >= 0, hours - last, 0)  # what is before the first event is no silence
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(expected, axis=-1)], axis=-1)
    missed = sums[:, 1:] - np.take_along_axis(sums, last + 1, axis=-1)
    longest = np.maximum.accumulate(
        np.where(values != 0, np.concatenate([run[:, :1], run[:, :-1]], axis=1), 0), axis=-1
    )
    return missed[:, -recent:], ((run > longest) & (last >= 0))[:, -recent:]


def _windows(values: np.ndarray, width: int, more: int = 0) -> np.ndarray:
    """(series, hours, width): the hours up to each; what comes before the matrix is NaN in distances, 0 in sums."""
    fill = np.nan if np.isnan(values).any() else 0
    padded = np.pad(values, ((0, 0), (width - 1 + more, 0)), constant_values=fill)
    return sliding_window_view(padded, width, axis=1)
