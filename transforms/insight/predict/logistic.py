"""The model of `audience train` as numbers: a logistic regression, calibrated by Platt's sigmoid.

    f = intercept + sum(coefficient * (x - mean) / scale),  probability = 1 / (1 + exp(slope * f + shift))

where x is a feature, or log(1 + feature). It is read as JSON and scored in NumPy: nothing in it is executed, and a
worker needs no scikit-learn. A row's probability does not depend on the rows beside it.
"""

import msgspec
import numpy as np

from transforms.insight.predict.features import FEATURES, NAMES

IS_LOG = np.array([feature.is_log for feature in FEATURES])
MOST = 500.0  # exp of it is finite


class Logistic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers; a list has one for each feature, in the order of `features`."""

    features: list[str]
    mean: list[float]
    scale: list[float]
    coefficients: list[float]
    intercept: float
    slope: float
    shift: float

    def __post_init__(self):
        if self.features != NAMES:
            raise ValueError(f".features: got {', '.join(self.features)}; allowed: {', '.join(NAMES)}")
        if {len(each) for each in (self.mean, self.scale, self.coefficients)} != {len(NAMES)}:
            raise ValueError(f"got lists of other lengths; allowed: {len(NAMES)} numbers each")

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        """float64 [rows, features] -> float64 [rows]."""
        parts = (seen(rows) - np.array(self.mean)) / np.array(self.scale) * np.array(self.coefficients)
        sums = self.intercept + np.ascontiguousarray(parts).sum(axis=1)  # `@` would round by the number of rows
        return 1 / (1 + np.exp(np.clip(self.slope * sums + self.shift, -MOST, MOST)))


def seen(rows: np.ndarray) -> np.ndarray:
    """What the model sees of features: float64 [rows, features] -> the same shape."""
    return np.where(IS_LOG, np.log1p(np.where(IS_LOG, rows, 0)), rows)
