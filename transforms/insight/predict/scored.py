"""Rows of features -> the probability of each, and what moves it most.

    rows    person (String), and FEATURES (Float64)
    scored  person, probability (Float64), reason_1 to reason_3 (String): a sign and the name of a feature

A reason is what replacing a feature by the median of the training changes: `+events_7d`, the probability is higher
than it would be with the median; `-`, it is lower. Changes are compared as log-odds, so this holds for any model.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from transforms.insight.predict.features import NAMES

REASONS, LEAST = 3, 0.01  # reasons of a row; log-odds below which a change is none
CERTAIN = 1e-9  # log-odds of 0 and 1 are those of this distance to them
Probabilities = Callable[[np.ndarray], np.ndarray]


def matrix(rows: pl.DataFrame) -> np.ndarray:
    """The features of rows: float64 [rows, features], in the order of FEATURES."""
    return np.ascontiguousarray(rows.select(pl.col(NAMES).cast(pl.Float64)).to_numpy())


def scored(rows: pl.DataFrame, probabilities: Probabilities, medians: list[float]) -> pl.DataFrame:
    """The rows, scored; `medians` has one number for each feature."""
    values = matrix(rows)
    found = probabilities(values)
    changes = np.empty(values.shape)
    for at, median in enumerate(medians):
        without = values.copy()
        without[:, at] = median
        changes[:, at] = _odds(found) - _odds(probabilities(without))
    changes = np.round(changes, 9)
    order = np.argsort(-np.abs(changes), axis=1, kind="stable")[:, :REASONS]
    largest = np.take_along_axis(changes, order, axis=1)
    texts = np.array([[f"-{name}" for name in NAMES], [f"+{name}" for name in NAMES]])
    reasons = texts[(largest > 0).astype(int), order]
    columns = {
        f"reason_{place + 1}": pl.Series(reasons[:, place], dtype=pl.String).set(
            pl.Series(np.abs(largest[:, place]) < LEAST), None
        )
        for place in range(REASONS)
    }
    return rows.select("person").with_columns(probability=pl.Series(found, dtype=pl.Float64), **columns)


def _odds(probabilities: np.ndarray) -> np.ndarray:
    sure = np.clip(probabilities, CERTAIN, 1 - CERTAIN)
    return np.log(sure / (1 - sure))
