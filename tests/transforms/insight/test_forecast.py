"""What holds for a forecast of any series, and how good it is on series whose truth is known."""

import numpy as np
import pytest

from transforms.insight.forecast.backtest import actual, best_of, candidates, origins_of
from transforms.insight.forecast.model import forecast
from transforms.insight.forecast.plans import DAYS, HOURS
from transforms.insight.forecast.smoothing import Season

HISTORY = 600  # hours
PLACES = (np.arange(HISTORY + 48) % 24, np.arange(HISTORY + 48) % 168)


def weekly(series: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Poisson counts with a day and a weekend: (history, what comes after), and their mean."""
    hours = np.arange(HISTORY + 48)
    mean = 40 * (1.2 + np.sin(hours * 2 * np.pi / 24)) * np.where(hours // 24 % 7 < 5, 1.0, 0.4)
    return np.random.default_rng(seed).poisson(mean, (series, len(hours))).astype(float), mean


def told(values, plan=HOURS, places=PLACES):
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        return forecast(np.asarray(values, float), places, plan)


@pytest.fixture(scope="module")
def counts():
    known, mean = weekly(30)
    return known[:, :HISTORY], known[:, HISTORY:], mean[HISTORY:], told(known[:, :HISTORY])


def test_a_season_and_a_weekend_are_foretold_better_than_by_the_seasonal_naive(counts):
    _, after, mean, found = counts
    assert found.is_naive.mean() < 0.1
    assert found.ratio.mean() < 0.9
    # No forecast can be nearer to the values than their mean is: by about 1 in 6 of their own error.
    assert np.abs(found.expected - after).mean() < 1.2 * np.abs(mean - after).mean()
    assert np.abs(found.naive - after).mean() > 1.3 * np.abs(mean - after).mean()


def test_intervals_hold_as_many_values_as_they_say(counts):
    _, after, _, found = counts
    for level, (lower, upper), judged in zip((0.8, 0.95), found.intervals, found.coverage, strict=True):
        # Past forecasts knew less and were wider of the mark, so that there are some more.
        assert level - 0.03 < np.mean((after >= lower) & (after <= upper)) < level + 0.09
        assert level - 0.05 < judged.mean()


def test_intervals_lie_in_each_other_and_around_what_is_expected(counts):
    found = counts[-1]
    (lower_80, upper_80), (lower_95, upper_95) = found.intervals
    assert (lower_95 <= lower_80).all() and (lower_80 <= found.expected).all()
    assert (found.expected <= upper_80).all() and (upper_80 <= upper_95).all()


def test_a_series_is_forecast_as_it_is_alone_and_in_any_order(counts):
    history, _, _, found = counts
    order = [29, 3, 11]
    shuffled, alone = told(history[order]), told(history[order[:1]])
    for name in found._fields:
        axis = {"intervals": 2, "coverage": 1}.get(name, 0)
        whole, few, one = (getattr(each, name) for each in (found, shuffled, alone))
        np.testing.assert_array_equal(whole.take(order, axis), few, err_msg=name)
        np.testing.assert_array_equal(few.take([0], axis), one, err_msg=name)


def test_a_scaled_series_has_a_scaled_forecast(counts):
    history, _, _, found = counts
    scaled = told(history[:5] * 1000)
    np.testing.assert_allclose(scaled.expected, found.expected[:5] * 1000, rtol=1e-6)
    np.testing.assert_allclose(scaled.intervals, found.intervals[:, :, :5] * 1000, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scaled.ratio, found.ratio[:5], rtol=1e-6)


def test_the_back_test_sees_nothing_of_what_comes_after_its_origin():
    values = weekly(3)[0][:, :HISTORY].T
    origins = origins_of(HISTORY, HOURS)
    seasons = (Season(24, PLACES[0]), Season(168, PLACES[1]))
    at = len(origins) - 6
    changed = values.copy()
    changed[origins[at] :] = changed[origins[at] :] * 7 + 1
    one, other = (
        best_of(candidates(each, seasons, HOURS, origins), actual(each, origins, 48), HOURS)
        for each in (values, changed)
    )
    assert np.isfinite(one[at]).all()
    np.testing.assert_array_equal(one[: at + 1], other[: at + 1])
    assert not np.array_equal(one[-1], other[-1])


ODD = {
    "nothing known": np.full(HISTORY, np.nan),
    "zeros": np.zeros(HISTORY),
    "constant": np.full(HISTORY, 7.0),
    "one value at the end": np.r_[np.full(HISTORY - 1, np.nan), 5.0],
    "one value after zeros": np.r_[np.zeros(HISTORY - 1), 5.0],
    "gaps": np.where(np.arange(HISTORY) % 5 == 0, np.nan, weekly(1)[0][0, :HISTORY]),
    "infinite": np.where(np.arange(HISTORY) == 300, np.inf, weekly(1)[0][0, :HISTORY]),
    "negative": -weekly(1)[0][0, :HISTORY],
    "around zero": weekly(1)[0][0, :HISTORY] - 40,
    "huge": weekly(1)[0][0, :HISTORY] * 1e300,
    "tiny": weekly(1)[0][0, :HISTORY] * 1e-300,
    "shifted": weekly(1)[0][0, :HISTORY] * np.where(np.arange(HISTORY) < 500, 1, 50),
    "rare": (np.random.default_rng(3).random(HISTORY) < 0.01).astype(float),
    "ended": np.where(np.arange(HISTORY) < 400, weekly(1)[0][0, :HISTORY], 0),
}


def test_odd_series_have_forecasts_too():
    found = told(list(ODD.values()))
    for at, (name, values) in enumerate(ODD.items()):
        known = np.isfinite(values).any()
        assert np.isfinite(found.expected[at]).sum() in ((48,) if known and name[:3] != "one" else (0, 2)), name
        if np.isfinite(found.intervals[:, :, at]).any():
            assert (found.intervals[1, 0, at] <= found.expected[at]).all(), name
        if np.nanmin(values, initial=0) >= 0:
            assert not (found.expected[at] < 0).any() and not (found.intervals[:, :, at] < 0).any(), name
    names = list(ODD)
    assert (found.expected[names.index("constant")] == 7).all()
    assert (found.intervals[:, :, names.index("constant")] == 7).all()
    assert (found.expected[names.index("zeros")] == 0).all()
    assert np.isnan(found.mase[names.index("zeros")])
    late = found.expected[names.index("shifted")].mean() / ODD["shifted"][500:].mean()
    assert late == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize("length", [0, 1, 23, 24, 25, 47, 49, 100, 168, 240])
def test_a_short_history_has_the_seasonal_naive_or_what_was_better(length):
    values = weekly(2)[0][:, :length]
    found = told(values, places=tuple(each[: length + 48] for each in PLACES))
    assert found.expected.shape == (2, 48)
    assert found.origins.tolist() == [max(0, found.origins[0])] * 2
    if length >= 24:
        assert np.isfinite(found.expected).all()
    if length < 100:
        assert found.is_naive.all()
        np.testing.assert_array_equal(found.expected, found.naive)
    if length <= 49:
        assert found.origins.tolist() == [0, 0] or length == 49
        assert np.isnan(found.intervals).all()


def test_days_have_a_weekly_season_and_28_days_ahead():
    days = np.arange(200 + 28)
    mean = 500 * np.where(days % 7 < 5, 1.0, 0.4)
    values = np.random.default_rng(4).poisson(mean, (4, len(days))).astype(float)
    found = told(values[:, :200], DAYS, (days % 7, days * 0))
    assert found.expected.shape == (4, 28)
    assert np.abs(found.expected - values[:, 200:]).mean() < 1.2 * np.abs(mean[200:] - values[:, 200:]).mean()
    assert np.abs(found.naive - values[:, 200:]).mean() > 1.2 * np.abs(mean[200:] - values[:, 200:]).mean()


def test_no_series_at_all_is_no_row():
    found = told(np.zeros((0, HISTORY)))
    assert found.expected.shape == (0, 48) and found.intervals.shape == (2, 2, 0, 48)
