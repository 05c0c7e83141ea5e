"""Anomalies: hand-computed expectations, as-of, and what is found, and not found, in simulated series."""

import numpy as np
import pytest

from transforms.insight.anomalies import KINDS, NEEDED, anomalies, expectation
from transforms.insight.settings import Anomalies

POINT, SHIFT, SILENCE = range(len(KINDS))
WEEKS = 12


def counts(seed: int, hours: int = WEEKS * 168, series: int = 10) -> np.ndarray:
    """Means of series with seasons of the day and the week, growth, and noise of their own."""
    random, hour = np.random.default_rng(seed), np.arange(hours)
    day = np.sin(2 * np.pi * (hour - 8) / 24) * random.uniform(0.2, 0.9, (series, 1))
    weekend = np.where(hour // 24 % 7 > 4, random.uniform(0.5, 1.2, (series, 1)), 1)
    growth = random.uniform(-0.02, 0.03, (series, 1)) * hour / 168
    return (
        np.exp(random.uniform(1.5, 6.5, (series, 1)) + day + growth + random.normal(0, 0.08, (series, hours))) * weekend
    )


def test_what_is_expected_is_the_median_of_the_hour_of_the_week_at_the_level_of_three_days():
    values = np.ones((1, 6 * 168)) * 10
    values[0, 3 * 168 + 7] = 500  # one odd week moves no median
    values[0, 5 * 168 :] = 20  # twice as much for a week
    expected = expectation(values)[0]
    assert expected[4 * 168 + 7] == 10
    assert expected[5 * 168 + 72] == 20
    assert expected[5 * 168 + 36] == 15


def test_an_outage_moves_what_is_expected_after_it_by_no_more_than_half():
    values = np.full((1, 6 * 168), 100.0)
    values[0, -72:] = 0
    assert expectation(values)[0, -1] == pytest.approx(100 - 71 / 72 * 50)


def test_each_kind_is_found_where_it_is():
    mean = counts(3, series=4)
    values = np.random.default_rng(3).poisson(mean).astype(float)
    values[0, -20] = mean[0, -20] * 5 + 60
    values[1, -12:] = np.round(values[1, -12:] * 2)
    values[2, -14:] = 0
    found = anomalies(values, Anomalies(), 24)
    assert found.anomaly[POINT, 0].nonzero()[0].tolist() == [4]
    assert found.anomaly[SHIFT, 1].any() and not found.anomaly[:, 1, :12].any()
    silent = found.anomaly[SILENCE, 2]
    assert silent[-1] and not silent[:10].any() and not found.anomaly[:, 2][:, silent][[POINT, SHIFT]].any()
    assert not found.anomaly[:, 3].any()


def test_nothing_that_comes_later_matters():
    values = np.random.default_rng(4).poisson(counts(4)).astype(float)
    values[:, -100] *= 4
    late, early = anomalies(values, Anomalies(), 120), anomalies(values[:, :-60], Anomalies(), 60)
    for one, other in zip(late, early, strict=True):
        assert np.array_equal(one[:, :, :60], other)


def test_what_is_older_than_needed_does_not_matter_and_neither_do_other_series():
    values = np.random.default_rng(5).poisson(counts(5)).astype(float)
    values[::2, -10] *= 6
    whole = anomalies(values, Anomalies(), 24)
    newest = anomalies(values[::-1, -(NEEDED + 24) :], Anomalies(), 24)
    assert whole.anomaly.any()
    assert np.array_equal(whole.anomaly, newest.anomaly[:, ::-1])
    assert np.allclose(whole.surprise, newest.surprise[:, ::-1], rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 900)),
        np.full((1, 900), 5.0),
        np.ones((1, 3)),
        np.zeros((0, 900)),
        np.where(np.arange(900) == 450, 1e12, 0.0)[None],
        np.where(np.arange(900) % 40 == 0, -7.0, 0.0)[None],
    ],
    ids=["nothing", "constant", "short", "no series", "one value", "sparse and negative"],
)
def test_series_that_say_nothing_have_no_point_and_no_shift(values):
    found = anomalies(values, Anomalies(), 2)
    assert found.anomaly.shape == (3, len(values), 2)
    assert not found.anomaly[[POINT, SHIFT]].any()
    assert np.isfinite(found.surprise).all()


def test_of_quiet_series_there_is_less_than_one_false_anomaly_a_week():
    weeks = false = 0
    for seed in (201, 202, 203):
        values = np.random.default_rng(seed).poisson(counts(seed)).astype(float)
        found = anomalies(values, Anomalies(), (WEEKS - 7) * 168).anomaly
        begun = found & ~np.concatenate([np.zeros((*found.shape[:2], 1), bool), found[:, :, :-1]], axis=2)
        false, weeks = false + begun.sum(), weeks + WEEKS - 7
    assert false <= weeks / 5, (false, weeks)  # of ten series together


def test_outages_and_bursts_are_found_and_so_are_shifts():
    asked, found = [0, 0, 0], [0, 0, 0]
    for seed in (301, 302, 303):
        random, mean = np.random.default_rng(seed), counts(seed)
        injected = []
        for series in range(len(mean)):
            starts = np.sort(random.choice(np.arange(50, WEEKS * 7 - 3, 7), 3, replace=False)) * 24 + 12
            lengths, factors = (random.integers(4, 9), random.integers(1, 4), 48), (0, random.uniform(3, 6), 1.9)
            for kind, start in zip(random.permutation(3).tolist(), starts.tolist(), strict=True):
                span = slice(start, start + lengths[kind])
                large = mean[series, span].sum() >= 60
                mean[series, span] *= factors[kind]
                injected.append((kind, series, span, large))
        values = random.poisson(mean).astype(float)
        recent = (WEEKS - 7) * 168
        shown = anomalies(values, Anomalies(), recent).anomaly.any(axis=0)
        first = values.shape[1] - recent
        for kind, series, span, large in injected:
            asked[kind] += large
            found[kind] += large and shown[series, span.start - first : span.stop - first].any()
    assert min(asked) >= 15
    assert found[0] == asked[0] and found[1] >= 0.9 * asked[1] and found[2] >= 0.8 * asked[2], (found, asked)
