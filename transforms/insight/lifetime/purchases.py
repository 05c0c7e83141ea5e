"""BG/NBD: how often a buyer comes back, and whether it still does.

Each buyer buys at random times at a rate of its own (Gamma: r, alpha), and after each further purchase is gone with a
probability of its own (Beta: a, b). P. Fader, B. Hardie and K. Lee, '"Counting Your Customers" the Easy Way', Marketing
Science 24, 2005: (6) is the likelihood, (8) P(X(t) = n), (10) the expectation; that a buyer is still there is of their
note "Computing P(alive) Using the BG/NBD Model", 2008.

    x    purchases after the first, whole numbers
    last time from the first purchase to the last, 0 without a further one
    seen time from the first purchase to the end of what is known

Times are of one unit, which is that of 1 / rate: weeks here.
"""

from typing import NamedTuple

import numpy as np

from transforms.insight.lifetime.maximum import maximum
from transforms.insight.lifetime.numbers import hypergeometric, log_beta, log_gamma

START = np.array([0.5, 5.0, 1.0, 2.0])
MOST_PURCHASES = 2_000  # that a quantile may be


class Buyers(NamedTuple):
    """What is known of each buyer, (buyers,) float64 each."""

    x: np.ndarray
    last: np.ndarray
    seen: np.ndarray


class BgNbd(NamedTuple):
    """The parameters of a fit."""

    r: float
    alpha: float
    a: float
    b: float


def fit_purchases(buyers: Buyers) -> BgNbd | None:
    """The parameters of the largest likelihood; None where there is no maximum that was found.

    Equal buyers are counted once, and the gamma function is taken once for each x.
    """
    if not buyers.x.any():
        return None
    columns = np.stack(buyers)
    unique, counts = np.unique(columns, axis=1, return_counts=True)
    x, last, seen = unique
    numbers, at = np.unique(x, return_inverse=True)
    weight = counts / counts.sum()

    def likelihood(parameters: np.ndarray) -> float:
        r, alpha, a, b = parameters
        of_x = log_gamma(r + numbers) - log_gamma(r) + r * np.log(alpha) - log_beta(a, b)
        there = log_beta(a, b + numbers)
        gone = np.where(numbers > 0, log_beta(a + 1, np.maximum(b + numbers - 1, 1e-300)), -np.inf)
        power = (r + numbers)[at]
        both = np.logaddexp(
            there[at] - power * np.log(alpha + seen), gone[at] - power * np.log(alpha + np.where(x > 0, last, 0))
        )
        return float(weight @ (of_x[at] + both))

    found = maximum(likelihood, START)
    return BgNbd(*found.parameters.tolist()) if found.is_found else None


def alive(fit: BgNbd, buyers: Buyers) -> np.ndarray:
    """The probability that each buyer is still there; 1 without a further purchase, as the model has it."""
    x, last, seen = buyers
    odds = (fit.r + x) * (np.log(fit.alpha + seen) - np.log(fit.alpha + last))
    with np.errstate(over="ignore"):
        gone = fit.a / np.where(x > 0, fit.b + x - 1, 1) * np.exp(odds)
    return 1 / (1 + np.where(x > 0, gone, 0))


def expected_purchases(fit: BgNbd, buyers: Buyers, ahead: float) -> np.ndarray:
    """Purchases that are to be expected of each buyer within a time.

    The series is that of the paper by Euler's transformation, after which it converges fast; it is the same for all
    buyers of one x that were first seen at one time.
    """
    a = fit.a if abs(fit.a - 1) > 1e-6 else 1 + 1e-6  # at 1 the expectation is a limit
    (x, seen), at = np.unique(np.stack([buyers.x, buyers.seen]), axis=1, return_inverse=True)
    c = a + fit.b + x - 1
    z = ahead / (fit.alpha + seen + ahead)
    series = hypergeometric(a + fit.b - 1 - fit.r, a - 1, c, z)
    found = c / (a - 1) * (1 - (1 - z) ** (a - 1) * series)
    return found[at.reshape(-1)] * alive(fit, buyers)


def purchase_quantiles(fit: BgNbd, buyers: Buyers, ahead: float, levels: tuple[float, ...]) -> np.ndarray:
    """(levels, buyers): the smallest number of purchases within a time that is not exceeded with each probability.

    A buyer that is still there goes on as one of the same model would, of r + x, alpha + seen, a and b + x.
    """
    (x, seen), at = np.unique(np.stack([buyers.x, buyers.seen]), axis=1, return_inverse=True)
    at = at.reshape(-1)
    there = alive(fit, buyers)
    found = np.zeros((len(levels), len(there)))
    r, b, share = fit.r + x, fit.b + x, ahead / (fit.alpha + seen + ahead)
    below = np.zeros(len(x))  # P(X < n) of a buyer that is still there
    arrivals = np.zeros(len(x))  # of them, P(fewer than n come if nobody goes)
    open_ = np.arange(len(there))
    for n in range(MOST_PURCHASES):
        come = np.exp(log_gamma(r + n) - log_gamma(r) - log_gamma(n + 1.0) + r * np.log1p(-share) + n * np.log(share))
        stayed = np.exp(log_beta(fit.a, b + n) - log_beta(fit.a, b)) * come
        left = np.exp(log_beta(fit.a + 1, b + n - 1) - log_beta(fit.a, b)) * (1 - arrivals) if n else 0.0
        arrivals, below = arrivals + come, below + stayed + left
        reached = 1 - there[open_] + there[open_] * below[at[open_]]
        short = reached[None, :] < np.array(levels)[:, None]
        found[:, open_] += short
        open_ = open_[short.any(axis=0)]
        if not open_.size:
            break
    return found
