"""Definitions of the metrics, from templates/metrics.yaml: for the pages in docs/metrics, a report, and agents."""

import textwrap
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

from transforms.strict_yaml import load

TEMPLATES = Path(str(files("templates")))
DEFINITIONS = TEMPLATES / "metrics.yaml"


class Definition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A metric. `views` are the views that answer it, the first one to query; `query` is an example; `tables` are
    those of answers whose columns its page lists."""

    title: str
    sentence: str
    views: tuple[str, ...]
    formula: tuple[str, ...]
    window: str
    late: str
    query: str
    tables: tuple[str, ...] = ()


WIDTH = 118  # of a line of a page


def wrap(text: str, first: str = "", rest: str = "") -> str:
    """Text in lines of a page."""
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def markdown(metric: Definition) -> str:
    """What the page of a metric says: sentence, views, formula, window, late data."""
    where = ", ".join(f"`{view}`" for view in metric.views)
    formula = "\n".join(wrap(line, "- ", "  ") for line in metric.formula)
    return (
        f"{wrap(metric.sentence)}\n\n{wrap(f'**Views:** {where}')}\n\n{formula}\n\n"
        f"{wrap(f'**Window:** {metric.window}')}\n\n{wrap(f'**Late data:** {metric.late}')}"
    )


@cache
def definitions() -> dict[str, Definition]:
    """Every metric, by the name of its page."""
    return load(DEFINITIONS.read_text(encoding="utf-8"), dict[str, Definition], DEFINITIONS.name)
