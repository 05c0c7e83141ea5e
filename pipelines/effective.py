"""The configuration in force, as YAML: each key with what it is, its unit, its default, and where its value is from.

What is printed is a configuration file that says the same.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from pipelines.config import Quality, read_config, read_stated
from pipelines.flow import flow
from pipelines.keys import Key, keys_of
from pipelines.options import FILE_OPTIONS, NAMED, effective, value_of
from pipelines.version import VERSION


def config_lines(values: dict[str, Any]) -> Iterator[str]:
    """The lines, without their newline, for options as they were typed. Errors: OptionError, ConfigError."""
    path = values.get("config")
    given = effective(values)
    for name, each in given.items():
        value_of(NAMED[name], each)
    read_config(path)
    yield f"# The configuration in force, by audience {VERSION}: an option counts more than the file, the file more"
    yield "# than the default. Saved to a file and given as --config it says the same."
    for option in FILE_OPTIONS:
        value, origin = given[option.name].value, given[option.name].origin
        default = option.unless or option.default
        yield from ("", f"# {option.help}", f"# unit: {option.unit}; default: {default}; from: {_from(origin, path)}")
        yield f"{option.name}: {flow(int(value) if option.limits else value)}"
    yield from _metrics_and_quality(path)


def _metrics_and_quality(path: str | None) -> Iterator[str]:
    stated = read_stated(path)
    yield from ("", "# Metrics by name, beside the shipped ones; null leaves a shipped one out")
    yield from ("# unit: that of each measure; default: the shipped catalogue; from: said at each", "metrics:")
    for name, form in stated.metrics.items():
        yield f"  # from: {_from('file' if name in stated.own_metrics else 'default', path)}"
        yield from _written(name, form, "  ")
    yield from ("", "# Rules of quality", "quality:")
    for key in keys_of(Quality):
        origin = "file" if key.name in stated.own_quality else "default"
        yield f"  # {key.description}"
        yield f"  # unit: {key.unit}; default: {_default(key)}; from: {_from(origin, path)}"
        yield f"  {key.name}: {flow(msgspec.to_builtins(getattr(stated.quality, key.name)))}"


def _default(key: Key) -> str:
    text = flow(msgspec.to_builtins(key.default))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _from(origin: str, path: str | None) -> str:
    """Where a value was stated; of the file its name, on one line whatever it is."""
    return f"file {path!r}" if origin == "file" else origin


def _written(key: str, value: Any, indent: str, deep: int = 3) -> Iterator[str]:
    """A key and its value as lines; what lies deeper than `deep` stands on the line of its key."""
    if isinstance(value, dict) and value and deep > 1:
        yield f"{indent}{flow(key)}:"
        for inner, each in value.items():
            yield from _written(inner, each, indent + "  ", deep - 1)
    else:
        yield f"{indent}{flow(key)}: {flow(value)}"
