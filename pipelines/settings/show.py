"""Print the effective configuration as YAML: each key with its description, unit, default and origin.

The output is itself a configuration file with the same effect.
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
    """Yield the lines, without newlines, for options as typed. Errors: OptionError, ConfigError."""
    path = values.get("config")
    given = effective(values)
    for name, each in given.items():
        value_of(NAMED[name], each)
    read_config(path)
    yield f"# Effective configuration of audience {VERSION}: an option overrides the file, the file overrides the"
    yield "# default. Saved to a file and passed as --config, it has the same effect."
    for option in FILE_OPTIONS:
        value, origin = given[option.name].value, given[option.name].origin
        default = option.unless or option.default
        yield from ("", f"# {option.help}", f"# unit: {option.unit}; default: {default}; from: {_from(origin, path)}")
        yield f"{option.name}: {flow(int(value) if option.limits else value)}"
    stated = read_stated(path)
    yield from _metrics(stated, path)
    yield from ("", "# Data quality rules", "quality:")
    yield from _keys(stated.quality, stated.own_quality, path)
    yield from ("", "# The funnel that the view funnel_by_day counts", "funnel:")
    yield from _keys(stated.funnel, stated.own_funnel, path)
    yield from ("", "# The visits that the view attribution_by_day attributes conversions to", "attribution:")
    yield from _keys(stated.attribution, stated.own_attribution, path)
    yield from ("", "# Trends, anomalies, feedback, profiles, recommendations and predictions", "insight:")
    for part in stated.insight.__struct_fields__:
        own = frozenset(key for of, key in stated.own_insight if of == part)
        yield f"  {part}:"
        yield from (f"  {line}" for line in _keys(getattr(stated.insight, part), own, path))
    yield from ("", "# When to raise an alert, and where to send it", "alerts:")
    yield from _keys(stated.alerts, stated.own_alerts, path)
    yield from ("", "# Segments of persons, and where their members go", "sync:")
    yield from _keys(stated.sync, stated.own_sync, path)


def _metrics(stated: Stated, path: str | None) -> Iterator[str]:
    yield from ("", "# Metrics by name, in addition to the shipped ones; null disables a shipped one")
    yield from ("# unit: that of each measure; default: the shipped catalogue; from: stated at each", "metrics:")
    for name, form in stated.metrics.items():
        yield f"  # from: {_from('file' if name in stated.own_metrics else 'default', path)}"
        yield from _format_key(name, form, "  ")


def _keys(struct: msgspec.Struct, own: frozenset[str], path: str | None) -> Iterator[str]:
    """Yield the keys of a section, of which the file states `own`."""
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
    """Return where a value was stated; a file's name is quoted, so that it stays on one line."""
    return f"file {path!r}" if origin == "file" else origin


def _format_key(key: str, value: Any, indent: str, deep: int = 3) -> Iterator[str]:
    """Yield a key and its value as lines; what is nested deeper than `deep` goes on the line of its key."""
    if isinstance(value, dict) and value and deep > 1:
        yield f"{indent}{flow(key)}:"
        for inner, each in value.items():
            yield from _format_key(inner, each, indent + "  ", deep - 1)
    else:
        yield f"{indent}{flow(key)}: {flow(value)}"
