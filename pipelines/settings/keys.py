"""What each key of a Struct is, as its declaration tells: for the documentation and for what is printed."""

from typing import Any, NamedTuple

import msgspec
from msgspec import inspect


class Key(NamedTuple):
    """A key; `default` is None where it must be stated (then `required`), `example` as it stands in YAML."""

    name: str
    description: str
    unit: str
    default: Any
    example: Any
    required: bool


def keys_of(struct: type[msgspec.Struct]) -> list[Key]:
    """The keys of a Struct in their order; a field without `Meta` has no description."""
    about = inspect.type_info(struct)
    assert isinstance(about, inspect.StructType)
    return [_key(field) for field in about.fields]


def _key(field: inspect.Field) -> Key:
    told: dict[str, Any] = {}
    unit = ""
    if isinstance(field.type, inspect.Metadata):
        told = field.type.extra_json_schema or {}
        unit = (field.type.extra or {}).get("unit", "")
    default = None if field.default is msgspec.NODEFAULT else field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    [example] = told.get("examples", [None])
    return Key(field.encode_name, told.get("description", ""), unit, default, example, field.required)
