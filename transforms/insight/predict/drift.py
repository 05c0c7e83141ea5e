"""How far the features of today are from those of the training: the population stability index (PSI).

    PSI = sum over bins of (share now - share then) * ln(share now / share then)

Bins are cut at the deciles of the training; equal deciles are one. Below 0.1 a PSI is usually called stable, above 0.25
shifted. Few rows differ by chance: so the limit is 0.25 or, if that is more, what one of 1,000 equal pairs of so many
rows would exceed (PSI is about chi-squared with bins - 1 degrees, times 1/n + 1/m).
"""

import msgspec
import numpy as np

PARTS, LIMIT = 10, 0.25
RARE = 3.09  # deviations that one of 1,000 normal numbers exceeds


class Bins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A feature in the training: `edges` between the bins, ascending, the share of each bin, and the median."""

    edges: list[float]
    shares: list[float]
    median: float


def bins_of(values: np.ndarray) -> Bins:
    """float64 [rows], at least one -> their bins."""
    edges = np.unique(np.quantile(values, np.arange(1, PARTS) / PARTS, method="inverted_cdf"))
    return Bins(edges.tolist(), _shares(values, edges).tolist(), float(np.quantile(values, 0.5, method="lower")))


def psi(values: np.ndarray, bins: Bins) -> float:
    """The PSI of float64 [rows], at least one, against the training."""
    now, then = _shares(values, np.array(bins.edges)), np.array(bins.shares)
    least = 0.5 / values.size  # of an empty bin, whose logarithm has no value
    now, then = np.maximum(now, least), np.maximum(then, least)
    return float(((now - then) * np.log(now / then)).sum())


def limit(rows: int, trained_rows: int, bins: Bins) -> float:
    """The PSI above which a feature has drifted."""
    freedom = max(len(bins.edges), 1)
    # Wilson and Hilferty's approximation of the quantile of chi-squared
    rare = freedom * (1 - 2 / (9 * freedom) + RARE * (2 / (9 * freedom)) ** 0.5) ** 3
    return max(LIMIT, rare * (1 / rows + 1 / trained_rows))


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=edges.size + 1)
    return counts / values.size
