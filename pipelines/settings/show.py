"""The configuration in force, as YAML: each key with what it is, its unit, its default, and where its value is from.

What is printed is a configuration file that says the same.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from pipelines.settings.config import Stated, read_config, read_stated
from pipelines.settings.keys import keys_of
from pipelines.settings.resolve import effective
from pipelines.settings.values import FILE_OPTIONS, NAMED, value_of
from pipelines.settings.yaml_line import flow
from pipelines.version import VERSION
from transforms.sessions.funnel import Funnel


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
    stated = read_stated(path)
    yield from _metrics(stated, path)
    yield from ("", "# Rules of quality", "quality:")
    yield from _keys(stated.quality, stated.own_quality, path)
    yield from ("", "# The funnel that funnel_by_day asks", "funnel:")
    yield from _keys(stated.funnel, stated.own_funnel, path)


def _metrics(stated: Stated, path: str | None) -> Iterator[str]:
    yield from ("", "# Metrics by name, beside the shipped ones; null leaves a shipped one out")
    yield from ("# unit: that of each measure; default: the shipped catalogue; from: said at each", "metrics:")
    for name, form in stated.metrics.items():
        yield f"  # from: {_from('file' if name in stated.own_metrics else 'default', path)}"
        yield from _written(name, form, "  ")


def _keys(struct: msgspec.Struct, own: frozenset[str], path: str | None) -> Iterator[str]:
    """The keys of a part of the file, of which it states `own`."""
    shipped = msgspec.to_builtins(read_stated(None).funnel) if isinstance(struct, Funnel) else {}
    for key in keys_of(type(struct)):
        origin = "file" if key.name in own else "default"
        yield f"  # {key.description}"
        default = _default(shipped.get(key.name, key.default))
        yield f"  # unit: {key.unit}; default: {default}; from: {_from(origin, path)}"
        yield f"  {key.name}: {flow(msgspec.to_builtins(getattr(struct, key.name)))}"


def _default(value: Any) -> str:
    text = flow(msgspec.to_builtins(value))
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
