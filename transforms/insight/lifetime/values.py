"""Gamma-Gamma: what a purchase of a buyer is worth, drawn to what all buyers spend the fewer it has made.

The values of a buyer's purchases are Gamma with shape p and a rate of its own, which is Gamma with shape q and rate v.
P. Fader and B. Hardie, "The Gamma-Gamma Model of Monetary Value", 2013: (1) is the likelihood, (5) the expectation.
The model says that how often somebody buys tells nothing of how much.
"""

from typing import NamedTuple

import numpy as np

from transforms.insight.lifetime.maximum import maximum
from transforms.insight.lifetime.numbers import log_gamma


class GammaGamma(NamedTuple):
    """The parameters of a fit; v is in the unit of the values."""

    p: float
    q: float
    v: float


def fit_values(x: np.ndarray, mean: np.ndarray) -> GammaGamma | None:
    """The parameters of the largest likelihood of buyers by their number of purchases and the mean value of these.

    Buyers without a purchase, or whose mean is not above 0, do not count. None: no maximum was found.
    """
    counts = (x > 0) & (mean > 0)
    x, mean = x[counts], mean[counts]
    if len(x) < 2 or np.ptp(mean) == 0:
        return None
    scale = float(np.median(mean))
    numbers, at = np.unique(x, return_inverse=True)
    each = np.bincount(at) / len(x)
    money, log_mean = mean / scale, np.log(mean / scale)
    sum_log, by_number = log_mean.mean(), np.bincount(at, log_mean) / len(x)

    def likelihood(parameters: np.ndarray) -> float:
        p, q, v = parameters
        of_x = log_gamma(p * numbers + q) - log_gamma(p * numbers) - log_gamma(q) + q * np.log(v)
        of_x = each * (of_x + p * numbers * np.log(numbers)) + p * numbers * by_number
        return float(of_x.sum() - sum_log - ((p * x + q) * np.log(v + money * x)).mean())

    found = maximum(likelihood, np.array([1.0, 2.0, 1.0]))
    p, q, v = found.parameters.tolist()
    return GammaGamma(p, q, v * scale) if found.is_found else None


def expected_values(fit: GammaGamma, x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """What a purchase of each buyer is to be worth; NaN where the model has no mean (p x + q <= 1)."""
    spent = np.where((x > 0) & (mean > 0), x * mean, 0.0)
    made = np.where((x > 0) & (mean > 0), x, 0.0)
    weight = fit.p * made + fit.q - 1
    return np.where(weight > 0, fit.p * (fit.v + spent) / np.where(weight > 0, weight, 1), np.nan)
