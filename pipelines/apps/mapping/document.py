"""Write a mapping as a person would: YAML with one field per line, each with a comment."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from pipelines.system.terminal import shown

WIDTH = 116
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


class Line(NamedTuple):
    """A key, its value, and a comment on it; `comments` are those on the keys of its map."""

    key: str
    value: Any
    comment: str = ""
    comments: dict[str, str] = {}


def document(
    head: Sequence[Line],
    fields: Sequence[Line],
    above: Sequence[str] = (),
    below: Sequence[str] = (),
    rules: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Return the text of a mapping with these fields, and these rules of `events`."""
    lines = [commented for text in above for commented in _comments(text)]
    lines += [f"{line.key}: {inline(line.value)}" + _beside(line) for line in head]
    lines.append("fields:")
    for line in fields:
        lines += _field(line)
    if rules:
        lines += ["events:", *(f"  {name}: {inline(rule)}" for name, rule in rules.items())]
    lines += [commented for text in below for commented in _comments(text)]
    return "\n".join(lines) + "\n"


def _field(line: Line) -> list[str]:
    head = f"  {line.key}:" if "map" in line.value else f"  {line.key}: {inline(line.value)}"
    beside = _beside(line)
    # A comment that does not fit on the line goes above it.
    long = len(head + beside) > WIDTH
    lines = [f"  {commented}" for commented in _comments(line.comment)] if long else []
    lines.append(head if long else head + beside)
    if "map" not in line.value:
        return lines
    for key, value in line.value.items():
        if key != "map":
            lines.append(f"    {key}: {inline(value)}")
            continue
        lines.append("    map:")
        for word, mapped in value.items():
            comment = line.comments.get(word, "")
            lines.append(f"      {scalar(word)}: {scalar(mapped)}" + (f"  # {printable(comment)}" if comment else ""))
    return lines


def _beside(line: Line) -> str:
    return f"  # {printable(line.comment)}" if line.comment else ""


def _comments(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(printable(text), WIDTH, break_on_hyphens=False)]


def inline(value: Any) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return scalar(value)


def scalar(value: Any) -> str:
    """Return a scalar as YAML that reads back unchanged: plain if that is safe, else in double quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    text = printable(re.sub(r'(["\\\\])', r"\\\1", value))
    return '"' + text.replace(r"\U00000009", r"\t") + '"'


def printable(text: str) -> str:
    """Return the text on one line, with invisible characters escaped as in YAML."""
    return shown(text, lambda char: f"\\U{ord(char):08x}")
