"""The parts of a forecast, by values computed by hand."""

import numpy as np
import pytest

from transforms.insight.forecast.backtest import actual, origins_of, seasonal_naive
from transforms.insight.forecast.intervals import limits, quantiles
from transforms.insight.forecast.plans import DAYS, HOURS
from transforms.insight.forecast.smoothing import Season, Setting, paths

NAN = float("nan")
FLAT = Season(1, np.zeros(9, int))


def column(*values) -> np.ndarray:
    return np.array(values, float)[:, None]


def test_level_and_carried_error():
    # The level begins at 15, the mean of the first two. 10: off -5, level 12.5. 20: off 7.5, where -2.5 was expected,
    # so 10 are news: level 17.5. What is left of 7.5 is a half after one bucket, a quarter after two.
    setting = Setting(level=0.5, trend=0, short=0, long=-1, carried=0.5)
    found = paths(column(10, 20), (FLAT, FLAT), (setting,), np.array([1, 2]), 2, 2)
    np.testing.assert_equal(found[:, :, 0, 0], [[NAN, NAN], [17.5 + 3.75, 17.5 + 1.875]])  # one value is too few


def test_trend_grows_and_is_damped():
    # Level 15. 10: off -5, level 12.5, trend -1. 20: the trend takes 0.98 off: 11.52; off by 8.48,
    # so level 15.76, trend 0.716.
    setting = Setting(level=0.5, trend=0.2, short=0, long=-1, carried=0)
    found = paths(column(10, 20), (FLAT, FLAT), (setting,), np.array([2]), 2, 2)[0, :, 0, 0]
    assert found == pytest.approx([15.76 + 0.98 * 0.716, 15.76 + (0.98 + 0.9604) * 0.716])


def test_seasons_begin_as_means_and_follow_errors():
    # Means of the two first cycles of the long season: level 25, short -10 and 10, long 0.
    short, long = Season(2, np.arange(12) % 2), Season(4, np.arange(12) % 4)
    values = column(14, 36, 16, 34, 14, 36, 16, 34)
    still = Setting(level=0, trend=0, short=0, long=0, carried=0)
    found = paths(values, (short, long), (still, still._replace(long=-1)), np.array([8]), 4, 8)[0, :, :, 0]
    np.testing.assert_allclose(found.T, [[14, 36, 16, 34], [15, 35, 15, 35]])
    # From 15 the slot of the even buckets goes half of the way to each: 14.5, 15.25, 14.625, 15.3125.
    moved = paths(values, (short, long), (still._replace(short=0.5, long=-1),), np.array([8]), 1, 8)
    assert moved[0, 0, 0, 0] == 15.3125


def test_what_is_not_known_changes_nothing_and_a_series_without_values_has_no_forecast():
    setting = Setting(level=0.5, trend=0, short=0, long=-1, carried=0)
    found = paths(np.array([[10, NAN], [20, NAN], [NAN, NAN]]), (FLAT, FLAT), (setting,), np.array([2, 3]), 1, 2)
    assert found[0, 0, 0, 0] == found[1, 0, 0, 0] == 16.25
    assert np.isnan(found[:, :, :, 1]).all()


def test_seasonal_naive_takes_the_newest_known_value_of_the_slot():
    values = column(1, 2, 3, NAN, 5, 6)
    found = seasonal_naive(values, np.arange(9) % 3, np.array([2, 5, 6]), 3)[:, :, 0]
    np.testing.assert_equal(found, [[NAN, 1, 2], [3, 1, 5], [1, 5, 6]])


def test_origins_leave_a_whole_horizon_and_the_last_is_now():
    assert origins_of(100, HOURS).tolist() == [4, 16, 28, 40, 52, 100]
    assert origins_of(10, DAYS).tolist() == [10]
    assert len(origins_of(10_000, HOURS)) == HOURS.origins + 1
    np.testing.assert_equal(actual(column(1, 2, 3), np.array([1, 3]), 2)[:, :, 0], [[2, 3], [NAN, NAN]])


def test_quantiles_of_the_errors_of_an_horizon_and_its_neighbours():
    # Five origins with errors -2 to 2: the level of 80 % becomes 96 % (6 / 5), so 2 % on each side: 0.08 of a step.
    errors = np.repeat(np.arange(-2.0, 3.0)[:, None, None], 3, axis=1)
    found = quantiles(errors, 0)
    assert found[0, :, 0, 0] == pytest.approx([-1.92, 1.92])
    assert found[1, :, 0, 0] == pytest.approx([-2, 2])
    errors[:, 2] = 7
    assert (quantiles(errors, 0)[1, 1, :, 0] == [2, 2, 7]).all()
    assert (quantiles(errors, 1)[1, 1, :, 0] == [2, 7, 7]).all()


def test_one_origin_is_too_few_for_an_interval():
    one = np.full((3, 1, 1), NAN)
    one[1] = 5
    assert np.isnan(quantiles(one, 0)).all()
    assert np.isnan(quantiles(one[:0], 0)).all()


def test_an_interval_holds_what_is_expected():
    # All errors were above: the interval begins at the expected value.
    errors = np.array([1.0, 3.0]).reshape(1, 2, 1, 1)
    assert limits(np.full((1, 1), 10.0), np.full((1, 1), 2.0), errors)[0, :, 0, 0].tolist() == [10, 16]
