"""The section `insight.predictions` of the configuration."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Predicted = Literal["conversion_7d", "churn_14d"]
Path = Annotated[str, Meta(min_length=1, max_length=1000)]
Version = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]


class OwnModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model that you fitted elsewhere: `audience train` measures it, instead of fitting one."""

    form: Annotated[
        Literal["onnx", "xgboost"],
        Meta(
            description="`onnx`: of scikit-learn and others; `xgboost`: the JSON or UBJSON of `save_model`",
            examples=["onnx"],
            extra={"unit": "one of these; nothing in it is executed"},
        ),
    ]
    file: Annotated[
        Path,
        Meta(
            description="The model file; it takes the features in their order, and gives the probability",
            examples=["models/own.onnx"],
            extra={"unit": "a path, local or gs://"},
        ),
    ]


class Predictions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which models score persons."""

    model_dir: Annotated[
        Path | None,
        Meta(
            description="Folder of the models; null: `models/` in a local warehouse, none of a dataset",
            examples=["gs://my-bucket/models"],
            extra={"unit": "a path, local or gs://"},
        ),
    ] = None
    versions: Annotated[
        dict[Predicted, Version],
        Meta(
            description="Versions to score with, by target; of others the version that was trained last",
            examples=[{"churn_14d": "0f3a9c1e5b7d2468"}],
            extra={"unit": "16 hexadecimal digits"},
        ),
    ] = {}
    own: Annotated[
        dict[Predicted, OwnModel],
        Meta(
            description="Models that you fitted elsewhere, by target",
            examples=[{"conversion_7d": {"form": "onnx", "file": "own.onnx"}}],
            extra={"unit": "see a model fitted elsewhere"},
        ),
    ] = {}
    force: Annotated[
        bool,
        Meta(
            description="Whether a model scores that is worse than a baseline, or whose features have drifted",
            examples=[True],
            extra={"unit": "true or false; also `audience refresh --force`"},
        ),
    ] = False
