"""The card of a model, `model.json`: what it predicts, of what, fitted to what, and how good it was then.

It names no person, and neither does a model: both hold sums, medians and deciles of many.
"""

from datetime import datetime

import msgspec

from pipelines.insight.predict.forms import FILES
from transforms.insight.predict.drift import Bins
from transforms.insight.predict.features import FEATURES, NAMES, target_named
from transforms.insight.predict.settings import Predicted


class Measures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How good probabilities were on the test rows.

    auc                probability that one of whom it is so has a higher one than one of whom it is not; 0.5: chance
    brier              mean squared distance to what happened; lower is better
    calibration_error  mean distance of probability and share of whom it was so, in tenths of the rows by probability
    lift_10            share of whom it was so in the tenth with the highest, over that of all
    """

    auc: float
    brier: float
    calibration_error: float
    lift_10: float


class Tenth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tenth of the test rows by probability: the mean of it, and the share of whom it was so."""

    rows: int
    predicted: float
    observed: float


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The card. `version` is a hash of the model file, form and target; `cuts` are the times of the training rows."""

    target: Predicted
    version: str
    form: str
    file: str
    features: list[str]
    data_from: datetime
    data_to: datetime
    cuts: list[datetime]
    test_cut: datetime
    train_rows: int
    train_share: float
    test_rows: int
    test_share: float
    model: Measures
    recency: Measures
    base_rate_brier: float
    tenths: list[Tenth]
    bins: list[Bins]
    pipeline_version: str
    fitted_by: str

    def __post_init__(self):
        if self.file != FILES.get(self.form):
            raise ValueError(f".file: got {self.file!r} of the form {self.form!r}; allowed: {FILES}")
        if self.features != NAMES:
            raise ValueError(f".features: got {', '.join(self.features)}; allowed: {', '.join(NAMES)}")
        if len(self.bins) != len(NAMES):
            raise ValueError(f".bins: got {len(self.bins)}; allowed: one for each of {len(NAMES)} features")

    @property
    def medians(self) -> list[float]:
        """The median of each feature in the training."""
        return [each.median for each in self.bins]

    @property
    def worse(self) -> str | None:
        """Why the model is worse than a baseline; None if it is not."""
        if self.model.auc < self.recency.auc:
            return f"worse than recency alone: AUC {self.model.auc:.3f}, of recency {self.recency.auc:.3f}"
        if self.model.brier > self.base_rate_brier:
            return f"worse than the base rate: Brier {self.model.brier:.4f}, of the rate {self.base_rate_brier:.4f}"
        return None


def markdown(card: Card) -> str:
    """The card to read: `card.md`."""
    rows = "".join(
        f"| {name} | {each.auc:.3f} | {each.brier:.4f} | {each.calibration_error:.4f} | {each.lift_10:.2f} |\n"
        for name, each in (("this model", card.model), ("recency alone", card.recency))
    )
    tenths = "".join(f"| {each.rows:,} | {each.predicted:.4f} | {each.observed:.4f} |\n" for each in card.tenths)
    features = "".join(f"| `{each.name}` | {each.definition} |\n" for each in FEATURES)
    cuts = ", ".join(f"{cut:%Y-%m-%d %H:%M}" for cut in card.cuts)
    return (
        f"# {card.target}, version {card.version}\n\n"
        f"Predicts {target_named(card.target).definition}. {card.fitted_by}. "
        f"{'**' + card.worse.capitalize() + ': not used without --force.**' if card.worse else ''}\n\n"
        f"- Form: {card.form}, file `{card.file}`, audience-insights {card.pipeline_version}\n"
        f"- Data: {card.data_from:%Y-%m-%d %H:%M} to {card.data_to:%Y-%m-%d %H:%M} UTC\n"
        f"- Training: {card.train_rows:,} rows as of {cuts} UTC; {card.train_share:.2%} are so\n"
        f"- Test: {card.test_rows:,} rows as of {card.test_cut:%Y-%m-%d %H:%M} UTC; {card.test_share:.2%} are so\n\n"
        "| on the test rows | AUC | Brier | calibration error | lift at 10 % |\n|---|---|---|---|---|\n"
        f"{rows}| base rate | 0.500 | {card.base_rate_brier:.4f} | | 1.00 |\n\n"
        f"Calibration, by tenths of the test rows:\n\n| rows | predicted | observed |\n|---|---|---|\n{tenths}\n"
        f"| feature | of a person as of T |\n|---|---|\n{features}"
    )
