"""JSON Schemas for editors, of the configuration file and of a mapping, from what the program itself reads by.

    # yaml-language-server: $schema=schemas/configuration.json     (a first line that most editors understand)

A schema says which keys there are and of what kind a value is; what depends on several keys only the program says.
"""

from typing import Any

import msgspec

from pipelines.settings.config import Quality
from pipelines.settings.options import Option
from pipelines.settings.values import FILE_OPTIONS
from transforms.mapping.spec import Mapping
from transforms.metrics.spec import NAME, MetricSpec
from transforms.sessions.funnel import Funnel

DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def configuration_schema() -> dict[str, Any]:
    """The schema of a configuration file."""
    _, kinds = msgspec.json.schema_components((MetricSpec, Quality, Funnel), ref_template="#/$defs/{name}")
    kinds["MetricSpec"] = _without_name(kinds["MetricSpec"])
    metrics = {
        "type": "object",
        "description": "Metrics by name, beside the shipped ones; null leaves a shipped one out",
        "propertyNames": {"pattern": NAME.pattern},
        "additionalProperties": {"anyOf": [{"$ref": "#/$defs/MetricSpec"}, {"type": "null"}]},
    }
    quality = {"anyOf": [{"$ref": "#/$defs/Quality"}, {"type": "null"}], "description": "Rules of quality"}
    funnel = {"anyOf": [{"$ref": "#/$defs/Funnel"}, {"type": "null"}], "description": "The funnel that is asked"}
    return DIALECT | {
        "title": "Configuration of audience",
        "type": ["object", "null"],
        "properties": {option.name: _property(option) for option in FILE_OPTIONS}
        | {"metrics": metrics, "quality": quality, "funnel": funnel},
        "additionalProperties": False,
        "$defs": kinds,
    }


def mapping_schema() -> dict[str, Any]:
    """The schema of a mapping."""
    return DIALECT | {"title": "Mapping of audience"} | msgspec.json.schema(Mapping)


SCHEMAS = {"configuration": configuration_schema, "mapping": mapping_schema}


def schema_text(name: str) -> str:
    """One of SCHEMAS as it is shipped."""
    return msgspec.json.format(msgspec.json.encode(SCHEMAS[name]()), indent=2).decode() + "\n"


def _without_name(metric: dict[str, Any]) -> dict[str, Any]:
    """A metric as a file has it: its name is the key that it stands under."""
    properties = {key: value for key, value in metric["properties"].items() if key != "name"}
    return metric | {"properties": properties, "required": [key for key in metric["required"] if key != "name"]}


def _property(option: Option) -> dict[str, Any]:
    read = int if option.limits else str
    kind: dict[str, Any] = {"type": ["string", "null"], "pattern": f"^(?:{option.regex})$"}
    if option.limits:
        kind = {"type": ["integer", "null"], "minimum": option.limits[0], "maximum": option.limits[1]}
    told = {"description": f"{option.help} ({option.unit})", "examples": [read(option.example)]}
    return kind | told | ({} if option.default is None else {"default": read(option.default)})
