"""Definitions of the metrics, from templates/metrics.yaml: for the pages in docs/metrics and for a report."""

from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

from transforms.strict_yaml import load

TEMPLATES = Path(str(files("templates")))
DEFINITIONS = TEMPLATES / "metrics.yaml"


class Definition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A metric. `views` are the views that answer it, the first one to query; `query` is an example."""

    title: str
    sentence: str
    views: tuple[str, ...]
    formula: tuple[str, ...]
    window: str
    late: str
    query: str


@cache
def definitions() -> dict[str, Definition]:
    """Every metric, by the name of its page."""
    return load(DEFINITIONS.read_text(encoding="utf-8"), dict[str, Definition], DEFINITIONS.name)
