"""A model in Beam's RunInference: a block of rows is a batch, and `update_model_path` is how a long run gets the next
version.

    features (person, FEATURES) -> rows of `predictions` without as_of

The batches of RunInference are blocks already, so it makes none of its own.
"""

import logging
from collections.abc import Iterable

import polars as pl
from apache_beam.ml.inference.base import ModelHandler

from pipelines.insight.predict.folder import CARD, Model, read_model
from transforms.insight.predict.scored import scored


def _is_said(record: logging.LogRecord) -> bool:
    """Not what Beam says at each load, where it has no model manager: that it cannot measure memory."""
    return not record.getMessage().startswith("Resource module is not available")


logging.getLogger().addFilter(_is_said)


class PredictionHandler(ModelHandler[pl.DataFrame, pl.DataFrame, Model]):
    """Scores blocks of persons with the model whose card is at `path`."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def load_model(self) -> Model:
        """The model. Errors: OptionError if it cannot be read."""
        return read_model(self.path)

    def update_model_path(self, model_path: str | None = None) -> None:
        """Score with another version from now on: the path of its card."""
        self.path = model_path or self.path

    def run_inference(self, batch, model: Model, inference_args=None) -> Iterable[pl.DataFrame]:
        """One block -> one block."""
        found = scored(batch, model.probabilities, model.card.medians)
        return [found.with_columns(target=pl.lit(model.card.target), model_version=pl.lit(model.card.version))]

    def should_skip_batching(self) -> bool:
        """True: a block is a batch."""
        return True

    def get_num_bytes(self, batch) -> int:
        """The size of a block."""
        return batch.estimated_size()


def card_path(folder: str, target: str, version: str) -> str:
    """Where the card of a version is."""
    return f"{folder}/{target}/{version}/{CARD}"
