"""BG/NBD and Gamma-Gamma: against published figures, the same sums by plain Python, and buyers that were drawn."""

import math
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from transforms.insight.lifetime.numbers import hypergeometric, log_gamma
from transforms.insight.lifetime.purchases import (
    BgNbd,
    Buyers,
    alive,
    expected_purchases,
    fit_purchases,
    purchase_quantiles,
)
from transforms.insight.lifetime.table import LEAST, lifetime
from transforms.insight.lifetime.values import GammaGamma, expected_values, fit_values

PUBLISHED = BgNbd(0.243, 4.414, 0.793, 2.426)  # CDNOW, Fader, Hardie and Lee 2005


def buyers(*each: tuple[float, float, float]) -> Buyers:
    return Buyers(*(np.array(column, float) for column in zip(*each, strict=True)))


def drawn(fit: BgNbd, number: int, weeks: float, seed: int = 5) -> tuple[Buyers, np.ndarray]:
    """Buyers of a model, buyer by buyer, and how often each buys in as long a time again."""
    random = np.random.default_rng(seed)
    rows, after = [], []
    for _ in range(number):
        rate, leaves = random.gamma(fit.r, 1 / fit.alpha), random.beta(fit.a, fit.b)
        at, times = 0.0, []
        while (at := at + random.exponential(1 / rate)) < 2 * weeks:
            times.append(at)
            if random.random() < leaves:
                break
        known = [time for time in times if time < weeks]
        rows.append((len(known), max(known, default=0.0), weeks))
        after.append(len(times) - len(known))
    return buyers(*rows), np.array(after)


def test_the_functions_are_those_of_the_standard_library():
    z = np.array([1e-3, 0.2, 0.5, 1, 2, 3.7, 12, 150, 1e5])
    assert log_gamma(z) == pytest.approx([math.lgamma(each) for each in z], rel=1e-12, abs=1e-12)
    half = np.array([0.5, 0.9])
    assert hypergeometric(1, 1, np.full(2, 2.0), half) == pytest.approx(-np.log1p(-half) / half)


def test_the_expectation_is_the_published_one():
    assert expected_purchases(PUBLISHED, buyers((2, 30.43, 38.86)), 39) == pytest.approx([1.226], abs=5e-4)


def test_the_expectation_and_the_quantiles_are_of_one_distribution():
    told = buyers((0, 0, 38.86), (2, 30.43, 38.86), (2, 3, 38.86), (9, 38, 39))
    expected, levels = expected_purchases(PUBLISHED, told, 39), np.linspace(0, 1, 4001)[:-1] + 1 / 8000
    mean = purchase_quantiles(PUBLISHED, told, 39, tuple(levels)).mean(axis=0)  # of a number: the integral of quantiles
    assert mean == pytest.approx(expected, rel=0.005, abs=0.005)
    assert alive(PUBLISHED, told)[0] == 1 and (np.diff(alive(PUBLISHED, told)[[2, 1]]) > 0).all()


def test_a_fit_finds_the_model_that_buyers_were_drawn_of_and_expects_what_they_do():
    told, after = drawn(BgNbd(0.8, 5, 1.2, 3), 6000, 40)
    fit = fit_purchases(told)
    assert fit == pytest.approx((0.8, 5, 1.2, 3), rel=0.25)
    assert expected_purchases(fit, told, 40).sum() == pytest.approx(after.sum(), rel=0.05)
    low, high = purchase_quantiles(fit, told, 40, (0.1, 0.9))
    assert (after <= high).mean() >= 0.9 - 0.02 and (after >= low).mean() >= 0.9 - 0.02
    order = np.random.default_rng(1).permutation(len(after))
    assert fit_purchases(Buyers(*(column[order] for column in told))) == pytest.approx(fit, rel=1e-6)


def test_buyers_who_never_came_back_have_no_fit():
    assert fit_purchases(buyers((0, 0, 5), (0, 0, 9))) is None
    assert fit_values(np.array([1.0, 2.0]), np.array([5.0, 5.0])) is None


def test_values_are_fitted_and_drawn_to_those_of_all_the_fewer_there_are():
    random = np.random.default_rng(3)
    x = random.integers(1, 6, 5000).astype(float)
    rates = random.gamma(4, 1 / 15, 5000)
    mean = random.gamma(6 * x) / rates / x
    fit = fit_values(x, mean)
    assert fit == pytest.approx((6, 4, 15), rel=0.15)
    told = expected_values(GammaGamma(6, 4, 15), np.array([0, 1, 20]), np.array([0, 90, 90]))
    assert told[0] == pytest.approx(6 * 15 / 3) and told[0] < told[1] < told[2] < 90


def test_a_table_of_purchases_by_hand():
    def bought(person, currency, day, hour, value):
        return person, currency, datetime(2026, 3, day, hour, tzinfo=UTC), value and Decimal(value)

    rows = [
        bought("u1", "EUR", 1, 22, "10"),
        bought("u1", "EUR", 1, 23, "5"),  # on 2 March in Berlin
        bought("u1", "EUR", 15, 9, "7"),
        bought("u1", "EUR", 15, 10, None),
        bought("u1", None, 15, 9, "1"),
        bought("u2", "EUR", 20, 9, None),
    ]
    schema = {"person": pl.String, "currency": pl.String}
    schema |= {"event_time": pl.Datetime("us", "UTC"), "value": pl.Decimal(38, 9)}
    values, fits = lifetime(
        pl.DataFrame(rows, schema, orient="row"), datetime(2026, 3, 30, tzinfo=UTC), "Europe/Berlin", 7
    )
    names = ["person", "currency", "purchases", "revenue", "purchase_days", "x", "last", "seen", "paid", "mean"]
    assert values.sort("currency", "person").select(names).rows() == [
        ("u1", None, 1, Decimal(1), 1, 0.0, 0.0, 15 / 7, 0.0, 0.0),
        ("u1", "EUR", 4, Decimal(22), 3, 2.0, 2.0, pytest.approx(29 / 7), 2.0, 6.0),
        ("u2", "EUR", 1, Decimal(0), 1, 0.0, 0.0, pytest.approx(10 / 7), 0.0, 0.0),
    ]
    assert values["alive"].null_count() == 3 and fits.sort("currency")["repeat_buyers"].to_list() == [0, 1]
    assert LEAST == 30, "fewer have no fit"
