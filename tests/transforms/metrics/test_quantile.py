"""Quantiles: within 1 % of the value at rank floor(q (n - 1)), whatever the order and cut of the input."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.metrics import quantile
from transforms.metrics.quantile import ALPHA, SHIFT, bins, estimates, suffix

Q = (0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0)
NUMBERS = st.one_of(
    st.floats(-1e29, 1e29, allow_subnormal=False).filter(lambda number: number == 0 or abs(number) >= 1e-9),
    st.integers(-50, 50).map(float),
)


def histogram(*groups: list[float]) -> pl.DataFrame:
    """One row a group."""
    group = np.repeat(np.arange(len(groups)), [len(each) for each in groups])
    return quantile.build_histograms(
        "m", len(groups), group, np.concatenate([np.array(each, float) for each in groups])
    ).to_frame()


def merged(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """All rows in one group."""
    rows = pl.concat(frames)
    return quantile.merge("m", 1, np.zeros(rows.height, np.int64), rows).to_frame()


def quantiles(frame: pl.DataFrame, q: tuple[float, ...]) -> list[dict]:
    columns = quantile.finish("m", q, frame)
    return pl.DataFrame(columns).drop("m_histogram").to_dicts()


@settings(max_examples=150, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=40))
def test_a_quantile_is_within_one_percent_of_the_value_at_its_rank(numbers):
    exact = sorted(numbers)
    (row,) = quantiles(histogram(numbers), Q)
    for q in Q:
        wanted = exact[math.floor(q * (len(exact) - 1))]
        assert abs(row["m" + suffix(q)] - wanted) <= ALPHA * abs(wanted) * (1 + 1e-9)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(NUMBERS, max_size=40),
    st.lists(st.integers(0, 40), max_size=5),
    st.randoms(use_true_random=False),
)
def test_order_and_cuts_do_not_matter(numbers, cuts, random):
    shuffled = random.sample(numbers, len(numbers))
    parts = [histogram(list(part)) for part in np.split(np.array(shuffled, float), sorted(cuts))]
    random.shuffle(parts)
    middle = random.randint(0, len(parts) - 1)
    tree = merged([merged(parts[: middle + 1]), *parts[middle + 1 :]])
    assert tree.equals(merged([histogram(numbers)]))
    assert tree.equals(histogram(numbers))


def test_bins_are_in_the_order_of_their_values():
    numbers = np.array([-1e29, -5.0, -1.0, -1e-9, 0.0, 5e-324, 1e-9, 1.0, 5.0, 1e29, 1.7e308])
    found = bins(numbers)
    assert (np.diff(found) > 0).all()
    assert found[4] == 0 and found[7] == SHIFT
    assert estimates(found[4:5])[0] == 0.0


def test_each_group_has_its_own_quantiles_and_one_of_nothing_has_null():
    rows = quantiles(histogram([1.0] * 9 + [100.0], [], [-3.0, -2.0, 0.0]), (0.5, 1.0))
    assert rows[0]["m_p50"] == pytest.approx(1, rel=ALPHA) and rows[0]["m_p100"] == pytest.approx(100, rel=ALPHA)
    assert rows[1] == {"m_p50": None, "m_p100": None}
    assert rows[2]["m_p50"] == pytest.approx(-2, rel=ALPHA) and rows[2]["m_p100"] == 0.0


def test_what_is_no_number_is_left_out():
    assert histogram([1.0, math.nan, math.inf, -math.inf])["m"].to_list() == [[{"bin": SHIFT, "count": 1}]]


def test_equal_values_are_one_bin_with_a_count():
    assert histogram([1.0, 1.0, 0.0, -1.0])["m"].to_list() == [
        [{"bin": -SHIFT, "count": 1}, {"bin": 0, "count": 1}, {"bin": SHIFT, "count": 2}]
    ]


def test_a_fraction_names_its_column():
    assert [suffix(q) for q in (0.0, 0.5, 0.99, 0.999, 1.0)] == ["_p0", "_p50", "_p99", "_p99_9", "_p100"]
