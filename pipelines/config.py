"""The configuration file: metrics and quality rules beside the shipped catalogue.

metrics:                 # see templates/default.yaml for the catalogue and the form of a metric
  shares_1h: {bucket: 1h, dimensions: [category], measures: {shares: {count: all, where: {event_type: share}}}}
  activity_1m: null      # leave a shipped metric out
quality:
  null_ids: ["", "null", "undefined"]   # texts, in lower case, that stand for no identifier
  bots: [{device: {pattern: "(?i)bot"}}]   # flag events as is_bot, of whatever source; see transforms/match.py
"""

from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from transforms.bots import check_column
from transforms.errors import ConfigError
from transforms.mapping import Mapping, load_mapping
from transforms.mapping_tests import check_tests
from transforms.match import Match, check_match
from transforms.metrics import MetricSpec, read_metrics
from transforms.strict_yaml import load
from transforms.validate import NULL_IDS

TEMPLATES = Path(str(resources.files("templates")))
DEFAULT = TEMPLATES / "default.yaml"
_OPTION = {"configuration": "config", "mapping": "mapping"}


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules of quality that a source may need otherwise."""

    null_ids: tuple[str, ...] = NULL_IDS
    bots: tuple[Match, ...] = ()

    def __post_init__(self):
        for at, match in enumerate(self.bots):
            check_match(match, f".bots[{at}]", check_column)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as it is written; `metrics` are read one by one, so that an error names its path."""

    metrics: dict[str, Any] = {}
    quality: Quality = Quality()


def read_config(path: str | None) -> tuple[tuple[MetricSpec, ...], Quality]:
    """The metrics and rules in force: the shipped ones, with what the file at `path` adds, changes or leaves out."""
    shipped = _read(str(DEFAULT))
    if path is None:
        return read_metrics(shipped.metrics, DEFAULT.name), shipped.quality
    own = _read(path)
    metrics = {name: spec for name, spec in (shipped.metrics | own.metrics).items() if spec is not None}
    return read_metrics(metrics, path), own.quality


def _read(path: str) -> Config:
    # A file of comments alone is a document of null.
    return load(_text(path, "configuration"), Config | None, path) or Config()  # type: ignore[arg-type]


def read_mapping(path: str) -> Mapping:
    """The mapping in a file, whose own tests pass; ConfigError names the path of what is wrong."""
    mapping = load_mapping(_text(path, "mapping"), path)
    check_tests(mapping, path)
    return mapping


def _text(path: str, what: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as problem:
        raise ConfigError(f"{path}: the {what} cannot be read: {problem.strerror}; check --{_OPTION[what]}") from None
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path}: the {what} is not UTF-8: {problem.reason} at byte {problem.start}") from None
