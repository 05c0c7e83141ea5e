"""The warehouses of the real sets, by the shipped configuration: backfilled once for the two files that ask them."""

from pathlib import Path

import pytest

from pipelines.batch.backfill import backfill
from pipelines.settings.config import TEMPLATES
from pipelines.settings.resolve import resolve
from tests.integration.records import shared


def read_set(factory: pytest.TempPathFactory, kind: str, files: str, mapping: str) -> Path:
    """The warehouse of a real set, whose files a pattern names."""

    def make(folder: Path) -> None:
        named = str(TEMPLATES / "mappings" / f"{mapping}.yaml")
        backfill(resolve({"input": [files], "warehouse": str(folder / "warehouse"), "mapping": named}))

    return shared(factory, kind, make) / "warehouse"
