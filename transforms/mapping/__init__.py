"""Mapping: what turns decoded records into the fields of the event contract; declared in YAML, applied to blocks."""

from transforms.mapping.apply import map_block, map_records
from transforms.mapping.spec import Mapping, load_mapping, required_columns, states_zone

__all__ = ["Mapping", "load_mapping", "map_block", "map_records", "required_columns", "states_zone"]
