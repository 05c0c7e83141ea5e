"""Read the configuration file: options that a team sets once, and its own metrics and quality rules.

warehouse: audience      # options by name; docs/configuration.md lists all keys
time_zone: Europe/London
metrics:                 # see templates/default.yaml for the catalogue and the format of a metric
  shares_1h: {bucket: 1h, dimensions: [category], measures: {shares: {count: all, where: {event_type: share}}}}
  activity_1m: null      # leave a shipped metric out
funnel: {steps: [page_view, signup], window: 7d}   # see transforms/sessions/funnel.py
attribution: {look_back_days: 7}   # see attribution.py
insight: {trends: {rising: 5}}   # see transforms/insight/settings.py
alerts: {rules: [{name: quiet, kind: no_new_data}]}   # see alerts.py
sync: {targets: {lake: {kind: file, folder: exports}}}   # see sync.py
quality:
  null_ids: ["", "null", "undefined"]   # values, in lower case, treated as a missing identifier
  bots: [{device: {pattern: "(?i)bot"}}]   # events of any source to flag as is_bot; see transforms/records/match.py
"""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from pipelines.settings.alerts import Alerts
from pipelines.settings.attribution import Attribution
from pipelines.settings.file import ConfigFile, parse_document, read_document, read_text
from pipelines.settings.mapping_tests import check_tests
from pipelines.settings.sync import Sync
from transforms.insight.settings import Insight
from transforms.mapping import Mapping, load_mapping
from transforms.metrics.spec import MetricSpec, read_metrics
from transforms.records.bots import check_column
from transforms.records.match import Match, check_match
from transforms.sessions.funnel import Funnel
from transforms.validate import NULL_IDS

TEMPLATES = Path(str(resources.files("templates")))
DEFAULT = TEMPLATES / "default.yaml"


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Data quality rules that a source may need to change."""

    null_ids: Annotated[
        tuple[str, ...],
        Meta(
            description="Values treated as a missing identifier: such a user_id or anonymous_id becomes NULL",
            examples=[["", "null", "guest"]],
            extra={"unit": "strings in lower case"},
        ),
    ] = NULL_IDS
    bots: Annotated[
        tuple[Match, ...],
        Meta(
            description="Rules that identify bot traffic of any source: is_bot is true if one of them matches",
            examples=[[{"user_id": {"pattern": "(?i)bot$"}}]],
            extra={"unit": "conditions on the columns of events"},
        ),
    ] = ()

    def __post_init__(self):
        for at, match in enumerate(self.bots):
            check_match(match, f".bots[{at}]", check_column)


class Config(ConfigFile, frozen=True, forbid_unknown_fields=True):
    """The file as written; `metrics` are read one by one, so that an error names its path."""

    quality: Quality | None = None
    funnel: Funnel | None = None
    attribution: Attribution | None = None
    insight: Insight | None = None
    alerts: Alerts | None = None
    sync: Sync | None = None


class Stated(NamedTuple):
    """The effective metrics, rules and funnel as written, and which of their names the file states.

    A metric that is None is a shipped one that the file disables.
    """

    metrics: dict[str, Any]
    quality: Quality
    funnel: Funnel
    own_metrics: frozenset[str]
    own_quality: frozenset[str]
    own_funnel: frozenset[str]
    insight: Insight = Insight()
    own_insight: frozenset[tuple[str, str]] = frozenset()  # (trends, rising)
    alerts: Alerts = Alerts()
    own_alerts: frozenset[str] = frozenset()
    attribution: Attribution = Attribution()
    own_attribution: frozenset[str] = frozenset()
    sync: Sync = Sync()
    own_sync: frozenset[str] = frozenset()


class Configuration(NamedTuple):
    """What a run computes, by the configuration file; a run reads it once and passes it on."""

    metrics: tuple[MetricSpec, ...]
    quality: Quality
    funnel: Funnel
    insight: Insight = Insight()
    alerts: Alerts = Alerts()
    attribution: Attribution = Attribution()
    sync: Sync = Sync()


def read_config(path: str | None) -> Configuration:
    """Return the effective configuration: the shipped one, as changed by the file at `path`. Errors: ConfigError."""
    stated = read_stated(path)
    metrics = {name: form for name, form in stated.metrics.items() if form is not None}
    return Configuration(
        read_metrics(metrics, path or DEFAULT.name),
        stated.quality,
        stated.funnel,
        stated.insight,
        stated.alerts,
        stated.attribution,
        stated.sync,
    )


def read_stated(path: str | None) -> Stated:
    """Return the effective configuration as written. Errors: ConfigError with the path of the wrong key."""
    shipped = read_document(str(DEFAULT), Config)
    assert shipped.funnel is not None, DEFAULT
    if path is None:
        return Stated(shipped.metrics, Quality(), shipped.funnel, frozenset(), frozenset(), frozenset())
    text = read_text(path, "configuration", "config")
    own, keys = parse_document(text, Config, path), parse_document(text, ConfigFile, path)
    return Stated(
        shipped.metrics | own.metrics,
        own.quality or Quality(),
        own.funnel or shipped.funnel,
        frozenset(own.metrics),
        frozenset(keys.quality or {}),
        frozenset(keys.funnel or {}),
        insight=own.insight or Insight(),
        own_insight=frozenset((part, key) for part, section in (keys.insight or {}).items() for key in section or {}),
        alerts=own.alerts or Alerts(),
        own_alerts=frozenset(keys.alerts or {}),
        attribution=own.attribution or Attribution(),
        own_attribution=frozenset(keys.attribution or {}),
        sync=own.sync or Sync(),
        own_sync=frozenset(keys.sync or {}),
    )


def read_mapping(path: str) -> Mapping:
    """Return the mapping in a file, whose own tests pass. Errors: ConfigError with the path of the wrong key."""
    mapping = load_mapping(read_text(path, "mapping", "mapping"), path)
    check_tests(mapping, path)
    return mapping
