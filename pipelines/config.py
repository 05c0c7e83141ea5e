"""The configuration file: metrics and quality rules beside the shipped catalogue.

    metrics:                 # see templates/default.yaml for the catalogue and the form of a metric
      shares_1h: {bucket: 1h, dimensions: [category], measures: {shares: {count: all, where: {event_type: share}}}}
      activity_1m: null      # leave a shipped metric out
    quality:
      null_ids: ["", "null", "undefined"]   # texts, in lower case, that stand for no identifier
"""

from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import yaml

from transforms.errors import ConfigError
from transforms.mapping import Mapping, load_mapping
from transforms.metrics import MetricSpec, read_metrics
from transforms.validate import NULL_IDS

TEMPLATES = Path(str(resources.files("templates")))
DEFAULT = TEMPLATES / "default.yaml"


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules of quality that a source may need otherwise."""

    null_ids: tuple[str, ...] = NULL_IDS


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
    return read_metrics(metrics, Path(path).name), own.quality


def _read(path: str) -> Config:
    parsed = read_yaml(path, "configuration")
    try:
        return msgspec.convert({} if parsed is None else parsed, Config)
    except msgspec.ValidationError as problem:
        raise ConfigError(f"{path}: {problem}; allowed: metrics, quality (null_ids)") from None


def read_mapping(path: str) -> Mapping:
    """The mapping in a file; ConfigError names the path of what is wrong."""
    return load_mapping(_text(path, "mapping"), path)


def read_yaml(path: str, what: str) -> Any:
    """The document in a YAML file."""
    try:
        return yaml.safe_load(_text(path, what))
    except yaml.YAMLError as problem:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(problem).split())}") from None


def _text(path: str, what: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such {what} file") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path}: cannot read this {what} file: {problem}") from None
