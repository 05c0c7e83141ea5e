"""Predictions: the probability of each target for each person, by the models that `audience train` wrote.

The pass counts the features as of the time and compares them with those of the training; a model that was worse than a
baseline or whose features have drifted is not used, unless the configuration forces it. Blocks of persons then go
through Beam's RunInference, a step for each model. Versions are pinned before the run: all of it has the same.
"""

from typing import TYPE_CHECKING

from pipelines.insight.predict.card import Card
from pipelines.insight.predict.folder import card_of
from pipelines.insight.predict.rows import features, seen
from pipelines.insight.prediction_tables import PREDICTION_MODELS, PREDICTIONS
from pipelines.insight.shape import Inputs, Pass, Step
from transforms.insight.predict.features import NAMES, target_named

if TYPE_CHECKING:
    import polars as pl

    from pipelines.settings.config import Configuration

BLOCK_ROWS = 20_000


def compute(inputs: Inputs) -> "dict[str, pl.DataFrame]":
    """A row for each model; and of each that is used the features to score, for its step."""
    import polars as pl

    stated, cards = inputs.configuration.insight.predictions, cards_of(inputs.configuration)
    if not cards:
        return {}
    rows = features(inputs)
    found, about = {}, []
    for card in cards:
        part = seen(rows, target_named(card.target))
        feature, drift, drifted = drift_of(part, card)
        problem = card.worse or drifted
        if is_used := problem is None or stated.force:
            found[step_name(card.target)] = part
        about.append(
            {
                "target": card.target,
                "model_version": card.version,
                "is_used": is_used,
                "problem": problem,
                "persons": part.height,
                "auc": card.model.auc,
                "recency_auc": card.recency.auc,
                "brier": card.model.brier,
                "base_rate_brier": card.base_rate_brier,
                "lift_10": card.model.lift_10,
                "drifted_feature": feature,
                "drift": drift,
                "test_cut": card.test_cut,
            }
        )
    types = {"problem": pl.String, "drifted_feature": pl.String, "drift": pl.Float64}
    return found | {PREDICTION_MODELS.name: pl.DataFrame(about, schema_overrides=types)}


def drift_of(rows: "pl.DataFrame", card: Card) -> tuple[str | None, float | None, str | None]:
    """The feature that moved most, its PSI, and what to say if that is too much; None without a row."""
    from transforms.insight.predict.drift import limit, psi
    from transforms.insight.predict.scored import matrix

    if rows.is_empty():
        return None, None, None
    columns = matrix(rows).T
    # By how much of its limit each has moved: rare bins allow of more.
    moved = {
        name: (psi(values, bins), limit(rows.height, card.train_rows, bins))
        for name, values, bins in zip(NAMES, columns, card.bins, strict=True)
    }
    worst = max(NAMES, key=lambda name: moved[name][0] / moved[name][1])
    found, allowed = moved[worst]
    problem = f"{worst} has drifted: PSI {found:.2f}, allowed {allowed:.2f}; run: audience train"
    return worst, found, problem if found > allowed else None


def cards_of(configuration: "Configuration") -> list[Card]:
    """The cards of the versions that a refresh pinned."""
    stated = configuration.insight.predictions
    return [card_of(str(stated.model_dir), name, version) for name, version in sorted(stated.versions.items())]


def steps(configuration: "Configuration") -> dict[str, Step]:
    """A step of RunInference for each model that is pinned."""
    stated = configuration.insight.predictions
    if not stated.versions:
        return {}
    from apache_beam.ml.inference.base import RunInference

    from pipelines.insight.predict.handler import PredictionHandler, card_path

    return {
        step_name(name): Step(
            PREDICTIONS, RunInference(PredictionHandler(card_path(str(stated.model_dir), name, version))), BLOCK_ROWS
        )
        for name, version in sorted(stated.versions.items())
    }


def step_name(target: str) -> str:
    """The name of a target's step."""
    return f"score_{target}"


PASS = Pass("predictions", (PREDICTIONS, PREDICTION_MODELS), compute, keeps="none", steps=steps)
