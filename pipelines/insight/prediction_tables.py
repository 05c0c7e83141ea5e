"""The tables of the pass `predictions`: of the rows of a person only those of the newest time stay."""

from pipelines.insight.profile_tables import PERSON
from pipelines.insight.tables import answers_table, count_column, number_column
from pipelines.warehouse.tables import Column

_TARGET = Column("target", "STRING", "REQUIRED", "conversion_7d, churn_14d")
_VERSION = Column("model_version", "STRING", "REQUIRED", "version of the model: a hash of its file")

PREDICTIONS = answers_table(
    "predictions",
    "How probable each target is of each person that was seen in the 28 days before `as_of`; of `churn_14d`, in 14.",
    (
        PERSON,
        _TARGET,
        Column("probability", "FLOAT64", "REQUIRED", "probability of the target in the days from `as_of` on, 0 to 1"),
        _VERSION,
        *(
            Column(
                f"reason_{place}",
                "STRING",
                "NULLABLE",
                f"{which} that moves it most: `+` raises it, `-` lowers it, against the median of the training",
            )
            for place, which in ((1, "the feature"), (2, "the second feature"), (3, "the third feature"))
        ),
    ),
    key=("person", "target"),
    cluster=("person",),
)
PREDICTION_MODELS = answers_table(
    "prediction_models",
    "The model of each target: whether it scores, and how good it was on its test rows.",
    (
        _TARGET,
        _VERSION,
        Column("is_used", "BOOL", "REQUIRED", "persons are scored with it"),
        Column("problem", "STRING", "NULLABLE", "why it is not used, or would not be without --force; NULL: nothing"),
        count_column("persons", "persons whom the target is predicted of"),
        Column("auc", "FLOAT64", "REQUIRED", "AUC of the test rows: 0.5 is chance, 1 ranks all of them"),
        Column("recency_auc", "FLOAT64", "REQUIRED", "AUC of recency alone, on the same rows"),
        Column("brier", "FLOAT64", "REQUIRED", "mean squared distance of probability and what happened"),
        Column("base_rate_brier", "FLOAT64", "REQUIRED", "the same of the base rate"),
        Column("lift_10", "FLOAT64", "REQUIRED", "share of whom it was so in the highest tenth, over that of all"),
        Column("drifted_feature", "STRING", "NULLABLE", "the feature that moved most since the training; NULL: no row"),
        number_column("drift", "population stability index of it: below 0.1 is stable, above 0.25 shifted"),
        Column("test_cut", "TIMESTAMP", "REQUIRED", "the time of the test rows, UTC"),
    ),
    key=("target",),
)
