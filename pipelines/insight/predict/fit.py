"""scikit-learn: a calibrated logistic regression, its baselines, and how good probabilities are.

A row is a person as of a time, so a person may have several. Those of one person are on one side of each split of the
calibration: otherwise it would be fitted to persons that the regression knows.
"""

from typing import NamedTuple

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.model_selection import GroupKFold

from pipelines.insight.predict.card import Measures, Tenth
from transforms.insight.predict.features import NAMES, RECENCY
from transforms.insight.predict.logistic import Logistic, seen

SPLITS, TENTHS, STEPS = 5, 10, 1_000


class Rows(NamedTuple):
    """features  float64 [rows, features]; is_so  bool [rows]; persons  int64 [rows], one number a person."""

    features: np.ndarray
    is_so: np.ndarray
    persons: np.ndarray


def fit(rows: Rows) -> Logistic:
    """The model of these rows. They hold both outcomes, of SPLITS persons and more each."""
    values = seen(rows.features)
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    splits = list(GroupKFold(SPLITS).split(values, rows.is_so, rows.persons))
    regression = LogisticRegression(max_iter=STEPS)
    calibrated = CalibratedClassifierCV(regression, method="sigmoid", cv=splits, ensemble=False)
    calibrated.fit((values - mean) / scale, rows.is_so)
    [fitted] = calibrated.calibrated_classifiers_
    [sigmoid] = fitted.calibrators
    return Logistic(
        NAMES,
        mean.tolist(),
        scale.tolist(),
        fitted.estimator.coef_[0].tolist(),
        float(fitted.estimator.intercept_[0]),
        float(sigmoid.a_),
        float(sigmoid.b_),
    )


def by_recency(rows: Rows, test: Rows) -> np.ndarray:
    """The baseline: probabilities of the test rows by a regression of recency alone."""
    at = NAMES.index(RECENCY)
    known, asked = (seen(each.features)[:, [at]] for each in (rows, test))
    return LogisticRegression(max_iter=STEPS).fit(known, rows.is_so).predict_proba(asked)[:, 1]


def measures(probabilities: np.ndarray, is_so: np.ndarray) -> Measures:
    """How good they are; both outcomes are there."""
    tenths_ = tenths(probabilities, is_so)
    error = sum(each.rows * abs(each.predicted - each.observed) for each in tenths_) / is_so.size
    first = np.argsort(-probabilities, kind="stable")[: -(-is_so.size // TENTHS)]
    return Measures(
        float(roc_auc_score(is_so, probabilities)),
        float(brier_score_loss(is_so, probabilities)),
        float(error),
        float(is_so[first].mean() / is_so.mean()),
    )


def tenths(probabilities: np.ndarray, is_so: np.ndarray) -> list[Tenth]:
    """Tenths of the rows by probability, the lowest first."""
    parts = [part for part in np.array_split(np.argsort(probabilities, kind="stable"), TENTHS) if part.size]
    return [Tenth(part.size, float(probabilities[part].mean()), float(is_so[part].mean())) for part in parts]
