"""Describe the keys of a Struct from its declaration, for the documentation and for `audience config --show`."""

from typing import Any, NamedTuple

import msgspec
from msgspec import inspect


class Key(NamedTuple):
    """A key; `default` is None if it is `required`; `example` is a value as written in YAML."""

    name: str
    description: str
    unit: str
    default: Any
    example: Any
    required: bool


def keys_of(struct: type[msgspec.Struct]) -> list[Key]:
    """Return the keys of a Struct in order; a field without `Meta` has no description."""
    about = inspect.type_info(struct)
    assert isinstance(about, inspect.StructType)
    return [_key(field) for field in about.fields]


def _key(field: inspect.Field) -> Key:
    schema: dict[str, Any] = {}
    unit = ""
    if isinstance(field.type, inspect.Metadata):
        schema = field.type.extra_json_schema or {}
        unit = (field.type.extra or {}).get("unit", "")
    default = None if field.default is msgspec.NODEFAULT else field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    [example] = schema.get("examples", [None])
    return Key(field.encode_name, schema.get("description", ""), unit, default, example, field.required)
