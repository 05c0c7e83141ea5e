"""Write values as YAML on one line, which the strict reader (transforms/strict_yaml.py) reads back unchanged."""

import math
import re
from typing import Any

import yaml

_PLAIN = re.compile(r"[A-Za-z_][\w/-]*(?: [\w/-]+)*|[1-9]\d*[smhd]", re.ASCII)
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}  # some readers do not take these for strings


def flow(value: Any) -> str:
    """Return a value of strings, numbers, booleans, None, lists and dicts as YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
            return value
        return yaml.safe_dump(value, default_style='"', allow_unicode=True, width=math.inf).rstrip("\n")
    return yaml.safe_dump(value).partition("\n")[0]
