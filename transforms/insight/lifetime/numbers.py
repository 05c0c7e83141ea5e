"""Functions that NumPy lacks, of arrays of positive numbers."""

import numpy as np

SHIFT = 8  # the series of Stirling is taken so far up, where its terms below are exact to 1e-14
MOST_TERMS = 20_000


def log_gamma(z: np.ndarray | float) -> np.ndarray:
    """The logarithm of the gamma function, of numbers above 0 (Abramowitz and Stegun, 6.1.41)."""
    z = np.asarray(z, float)
    below = np.zeros_like(z)
    for step in range(SHIFT):
        below += np.log(z + step)
    y = z + SHIFT
    tail = 1 / (12 * y) - 1 / (360 * y**3) + 1 / (1260 * y**5) - 1 / (1680 * y**7) + 1 / (1188 * y**9)
    return (y - 0.5) * np.log(y) - y + 0.5 * np.log(2 * np.pi) + tail - below


def log_beta(a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """The logarithm of the beta function."""
    return log_gamma(a) + log_gamma(b) - log_gamma(np.add(a, b))


def hypergeometric(a: float, b: float, c: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Gauss's 2F1(a, b; c; z), 0 <= z < 1, by its series: to 1e-13 of the sum, or what MOST_TERMS terms reach."""
    total, term = np.ones_like(z), np.ones_like(z)
    for n in range(MOST_TERMS):
        term = term * ((a + n) * (b + n)) / ((c + n) * (n + 1)) * z
        total += term
        if not term.size or np.abs(term).max() <= 1e-13 * np.abs(total).min():
            break
    return total
