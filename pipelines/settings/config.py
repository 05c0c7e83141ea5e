"""The configuration file: options that a team fixes once, metrics and quality rules beside the shipped catalogue.

warehouse: audience      # options by their names; docs/configuration.md lists all keys
time_zone: Europe/London
metrics:                 # see templates/default.yaml for the catalogue and the form of a metric
  shares_1h: {bucket: 1h, dimensions: [category], measures: {shares: {count: all, where: {event_type: share}}}}
  activity_1m: null      # leave a shipped metric out
funnel: {steps: [page_view, signup], window: 7d}   # see transforms/sessions/funnel.py
quality:
  null_ids: ["", "null", "undefined"]   # texts, in lower case, that stand for no identifier
  bots: [{device: {pattern: "(?i)bot"}}]   # flag events as is_bot, of whatever source; see transforms/records/match.py
"""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from pipelines.settings.file import ConfigFile, read_document, text_of
from pipelines.settings.mapping_tests import check_tests
from transforms.mapping import Mapping, load_mapping
from transforms.metrics.spec import MetricSpec, read_metrics
from transforms.records.bots import check_column
from transforms.records.match import Match, check_match
from transforms.sessions.funnel import Funnel
from transforms.validate import NULL_IDS

TEMPLATES = Path(str(resources.files("templates")))
DEFAULT = TEMPLATES / "default.yaml"


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules of quality that a source may need otherwise."""

    null_ids: Annotated[
        tuple[str, ...],
        Meta(
            description="Texts that stand for no identifier: a user_id or anonymous_id that is one of them is NULL",
            examples=[["", "null", "guest"]],
            extra={"unit": "texts in lower case"},
        ),
    ] = NULL_IDS
    bots: Annotated[
        tuple[Match, ...],
        Meta(
            description="Rules by which an event of any source is a bot's: is_bot is true where one of them fits",
            examples=[[{"user_id": {"pattern": "(?i)bot$"}}]],
            extra={"unit": "conditions on the columns of events"},
        ),
    ] = ()

    def __post_init__(self):
        for at, match in enumerate(self.bots):
            check_match(match, f".bots[{at}]", check_column)


class Config(ConfigFile, frozen=True, forbid_unknown_fields=True):
    """The file as it is written; `metrics` are read one by one, so that an error names its path."""

    quality: Quality | None = None
    funnel: Funnel | None = None


class Stated(NamedTuple):
    """The metrics, rules and funnel in force as they are written, and which of their names the file states.

    A metric that is None is a shipped one that the file leaves out.
    """

    metrics: dict[str, Any]
    quality: Quality
    funnel: Funnel
    own_metrics: frozenset[str]
    own_quality: frozenset[str]
    own_funnel: frozenset[str]


def read_config(path: str | None) -> tuple[tuple[MetricSpec, ...], Quality]:
    """The metrics and rules in force: the shipped ones, with what the file at `path` adds, changes or leaves out."""
    stated = read_stated(path)
    metrics = {name: form for name, form in stated.metrics.items() if form is not None}
    return read_metrics(metrics, path or DEFAULT.name), stated.quality


def read_funnel(path: str | None) -> Funnel:
    """The funnel in force: that of the file at `path`, else the shipped one."""
    return read_stated(path).funnel


def read_stated(path: str | None) -> Stated:
    """All that is in force as it is written. Errors: ConfigError with the path of what is wrong."""
    shipped = read_document(str(DEFAULT), Config)
    assert shipped.funnel is not None, DEFAULT
    if path is None:
        return Stated(shipped.metrics, Quality(), shipped.funnel, frozenset(), frozenset(), frozenset())
    own = read_document(path, Config)
    keys = read_document(path, ConfigFile)
    return Stated(
        shipped.metrics | own.metrics,
        own.quality or Quality(),
        own.funnel or shipped.funnel,
        frozenset(own.metrics),
        frozenset(keys.quality or {}),
        frozenset(keys.funnel or {}),
    )


def read_mapping(path: str) -> Mapping:
    """The mapping in a file, whose own tests pass; ConfigError names the path of what is wrong."""
    mapping = load_mapping(text_of(path, "mapping", "mapping"), path)
    check_tests(mapping, path)
    return mapping
