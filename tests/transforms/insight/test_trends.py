"""Trends: hand-computed expectations, what a later bucket may not change, and what is found of injected trends."""

import math
from typing import NamedTuple

import numpy as np
import pytest

from transforms.insight.settings import Trends
from transforms.insight.trends import anscombe, shape, trend


def test_the_shape_is_the_hour_of_the_week_beside_the_mean_of_the_weeks():
    hours = np.ones((1, 3 * 168))
    hours[0, [5, 168 + 5]] = 9
    busy = shape(hours)[0]
    week = (167 + 9) / 168
    assert busy[2 * 168 + 5] == pytest.approx(9 / week, rel=1e-12)
    assert busy[2 * 168 + 6] == pytest.approx(1 / ((335 + 9) / 336), rel=1e-12)


def test_without_a_week_the_shape_is_the_hour_of_the_day_and_without_a_day_it_is_even():
    hours = np.ones((1, 72))
    hours[0, [3, 27]] = 4
    busy = shape(hours)[0]
    assert busy[:24].tolist() == [1.0] * 24
    assert busy[48 + 3] == pytest.approx(4 * 24 / 27, rel=1e-12)


def test_a_channel_with_few_events_takes_the_shape_of_the_whole():
    whole = np.tile(np.where(np.arange(24) == 12, 25.0, 1.0), 8)[None]
    none, many = np.zeros_like(whole), whole * 1e6
    busy = shape(np.concatenate([none, many]), shape(whole))
    assert busy[0, 180] == pytest.approx(shape(whole)[0, 180])
    assert busy[1, 180] == pytest.approx(25 * 24 / 48, rel=1e-3)


def test_what_is_expected_is_the_level_of_the_day_before_and_z_is_anscombes():
    counts = np.concatenate([np.full(24, 6.0), [20.0, 6.0]])[None]
    found = trend(counts, np.ones((1, 26)), 1, 6.0)
    assert math.isnan(found.expected[0, 0])
    assert found.expected[0, 24:] == pytest.approx([6, (23 * 6 + 20) / 24])
    assert found.z[0, 24] == pytest.approx(2 * (math.sqrt(20.375) - math.sqrt(6.375)), rel=1e-12)
    assert found.spread[0, 24] == 1


def test_a_restless_key_has_a_wide_spread():
    counts = np.tile([0.0, 40.0], 36)[None]
    found = trend(counts, np.ones((1, 72)), 1, 6.0)
    far = anscombe(np.array([0.0, 40.0]), np.array([20.0, 20.0]))
    assert found.spread[0, 71] == pytest.approx(math.sqrt((far**2).mean()), rel=1e-6)


def test_hot_counts_an_event_half_after_each_half_life_and_forgets_it_after_a_day():
    counts = np.zeros((1, 40))
    counts[0, 2] = 8
    hot = trend(counts, np.ones((1, 40)), 1, 6.0).hot[0]
    assert hot[[1, 2, 8, 14]] == pytest.approx([0, 8, 4, 2])
    assert hot[25] > 0 == hot[26]


def test_nothing_that_comes_later_matters_and_neither_does_where_the_matrix_begins():
    counts = np.random.default_rng(1).poisson(9, (5, 24 * 6)).astype(float)
    busy = shape(counts.sum(axis=0, keepdims=True))
    all_of_it, known = trend(counts, busy, 1, 6.0), trend(counts[:, :100], busy[:, :100], 1, 6.0)
    shorter = trend(counts[:, 24:], busy[:, 24:], 1, 6.0)
    for whole, early, late in zip(all_of_it, known, shorter, strict=True):
        assert np.array_equal(whole[:, :100], early, equal_nan=True)
        assert np.array_equal(whole[:, 24 + 48 :], late[:, 48:])  # a day for the level, and one for the spread


def test_keys_do_not_depend_on_each_other_nor_on_their_order():
    counts = np.random.default_rng(2).poisson(9, (7, 80)).astype(float)
    busy = np.ones((7, 80))
    forward, backward = trend(counts, busy, 6, 2.0), trend(counts[::-1], busy, 6, 2.0)
    for one, other in zip(forward, backward, strict=True):
        assert np.array_equal(one, other[::-1], equal_nan=True)


class Injected(NamedTuple):
    """A change of one key: its hours, its sign, and whether an hour of it has 25 events and 7 deviations."""

    key: int
    span: slice
    sign: int
    large: bool


def simulated(seed: int, keys: int = 60, hours: int = 3 * 168) -> tuple[np.ndarray, list[Injected]]:
    """Counts with a season of the day and the week, and levels that walk; and what was injected."""
    random, hour = np.random.default_rng(seed), np.arange(hours)
    season = np.exp(0.7 * np.sin(2 * np.pi * (hour - 8) / 24)) * np.where(hour // 24 % 7 > 4, 0.7, 1)
    level = np.exp(random.uniform(0.5, 5, keys))[:, None]
    mean = level * season * np.exp(np.cumsum(random.normal(0, 0.01, (keys, hours)), axis=1))
    injected = []
    for key in range(keys):
        starts = random.choice(np.arange(240, hours - 24, 30), 3, replace=False) + random.integers(0, 12, 3)
        for start in starts.tolist():
            span = slice(start, start + int(random.integers(2, 6)))
            up = random.random() < 0.6
            factor = random.uniform(2.5, 6) if up else random.uniform(0, 0.25)
            usual = mean[key, span].copy()
            mean[key, span] = usual * factor
            far = 2 * np.abs(np.sqrt(usual * factor) - np.sqrt(usual))
            large = bool(((usual * max(factor, 1) >= 25) & (far >= 7)).any())
            injected.append(Injected(key, span, 1 if up else -1, large))
    return random.poisson(mean).astype(float), injected


def test_of_injected_trends_nine_in_ten_are_found_and_of_those_shown_95_in_100_are_injected():
    settings, shown, right, asked, found = Trends(), 0, 0, 0, 0
    for seed in (101, 102, 103):
        counts, injected = simulated(seed)
        told = trend(counts, shape(counts.sum(axis=0, keepdims=True)), 1, settings.half_life)
        far = told.z / told.spread
        up = (far >= settings.rising) & (counts >= settings.min_count)
        down = (far <= -settings.falling) & (told.expected >= settings.min_count)
        got = np.where(up, 1, np.where(down, -1, 0))
        got[:, :240] = 0
        shown += np.count_nonzero(got)
        for each in injected:
            hits = np.count_nonzero(got[each.key, each.span] == each.sign)
            right += hits
            asked += each.large
            found += each.large and hits > 0
    assert asked > 150
    assert right / shown >= 0.95, (right, shown)
    assert found / asked >= 0.9, (found, asked)
