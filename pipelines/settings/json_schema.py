"""JSON Schemas for editors: of the configuration file and of a mapping, generated from the program's own types.

    # yaml-language-server: $schema=schemas/configuration.json     (a first line that most editors understand)

A schema covers keys and types; only the program checks rules that span several keys.
"""

from typing import Any

import msgspec

from pipelines.settings.alerts import Alerts
from pipelines.settings.attribution import Attribution
from pipelines.settings.config import Quality
from pipelines.settings.forms import Option
from pipelines.settings.sync import Sync
from pipelines.settings.values import FILE_OPTIONS
from transforms.insight.settings import Insight
from transforms.mapping.spec import Mapping
from transforms.metrics.spec import NAME, MetricSpec
from transforms.sessions.funnel import Funnel

DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def configuration_schema() -> dict[str, Any]:
    """Return the schema of a configuration file."""
    structs = (MetricSpec, Quality, Funnel, Attribution, Insight, Alerts, Sync)
    _, kinds = msgspec.json.schema_components(structs, ref_template="#/$defs/{name}")
    kinds["MetricSpec"] = _without_name(kinds["MetricSpec"])
    metrics = {
        "type": "object",
        "description": "Metrics by name, in addition to the shipped ones; null disables a shipped one",
        "propertyNames": {"pattern": NAME.pattern},
        "additionalProperties": {"anyOf": [{"$ref": "#/$defs/MetricSpec"}, {"type": "null"}]},
    }
    quality = {"anyOf": [{"$ref": "#/$defs/Quality"}, {"type": "null"}], "description": "Data quality rules"}
    funnel = {"anyOf": [{"$ref": "#/$defs/Funnel"}, {"type": "null"}], "description": "The funnel"}
    attribution = {"anyOf": [{"$ref": "#/$defs/Attribution"}, {"type": "null"}], "description": "The look-back"}
    insight = {
        "anyOf": [{"$ref": "#/$defs/Insight"}, {"type": "null"}],
        "description": "Trends, anomalies, feedback, profiles, recommendations and predictions",
    }
    alerts = {"anyOf": [{"$ref": "#/$defs/Alerts"}, {"type": "null"}], "description": "Alerts"}
    sync = {"anyOf": [{"$ref": "#/$defs/Sync"}, {"type": "null"}], "description": "Segments of persons, sent elsewhere"}
    return DIALECT | {
        "title": "Configuration of audience",
        "type": ["object", "null"],
        "properties": {option.name: _property(option) for option in FILE_OPTIONS}
        | {"metrics": metrics, "quality": quality, "funnel": funnel, "attribution": attribution}
        | {"insight": insight, "alerts": alerts, "sync": sync},
        "additionalProperties": False,
        "$defs": kinds,
    }


def mapping_schema() -> dict[str, Any]:
    """Return the schema of a mapping."""
    return DIALECT | {"title": "Mapping of audience"} | msgspec.json.schema(Mapping)


SCHEMAS = {"configuration": configuration_schema, "mapping": mapping_schema}


def schema_text(name: str) -> str:
    """Return one of SCHEMAS as shipped."""
    return msgspec.json.format(msgspec.json.encode(SCHEMAS[name]()), indent=2).decode() + "\n"


def _without_name(metric: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a metric in a file, where its name is its key."""
    properties = {key: value for key, value in metric["properties"].items() if key != "name"}
    return metric | {"properties": properties, "required": [key for key in metric["required"] if key != "name"]}


def _property(option: Option) -> dict[str, Any]:
    read = int if option.limits else str
    kind: dict[str, Any] = {"type": ["string", "null"], "pattern": f"^(?:{option.regex})$"}
    if option.limits:
        kind = {"type": ["integer", "null"], "minimum": option.limits[0], "maximum": option.limits[1]}
    texts = {"description": f"{option.help} ({option.unit})", "examples": [read(option.example)]}
    return kind | texts | ({} if option.default is None else {"default": read(option.default)})
