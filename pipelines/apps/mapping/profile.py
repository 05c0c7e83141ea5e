"""Profile the records of a sample: each path, how many records have it, and its types and values."""

import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import chain
from typing import Any

import polars as pl

from transforms.json_objects import encode_json
from transforms.mapping.functions import snake
from transforms.records.paths import Path, Record, read

MOST_PATHS = 400
DEEPEST = 5  # levels of nesting
MOST_ELEMENTS = 50  # of a list, that are inspected
WRAPPERS = {"data", "payload", "event", "properties", "context", "attributes", "body", "record", "params", "message"}
WRAPPERS |= {"fields", "_source", "detail", "details", "value", "before", "after", "meta", "metadata", "result"}
_KINDS: dict[type, str] = {
    str: "text",
    int: "integer",
    Decimal: "number",
    float: "number",
    bool: "boolean",
    list: "list",
    dict: "object",
}
_SAYS_LITTLE = {"id", "name", "type", "key", "value", "code", "title", "text", "at", "date", "url", "path"}
_BARE = re.compile(r"[^.\[\]'\"]+")


@dataclass(frozen=True, eq=False)
class Seen:
    """A path and its value in each record of the sample; None where it is missing."""

    path: Path
    values: list[Any]
    unfolded: int = 0  # number of leading keys that lead to the list that was unfolded

    @property
    def spelled(self) -> str:
        """The path as written in a mapping."""
        return spell(self.path) or ""

    @cached_property
    def present(self) -> list[Any]:
        """The values that are not None."""
        return [value for value in self.values if value is not None]

    @cached_property
    def kinds(self) -> Counter[str]:
        """The number of values by type."""
        return Counter(_KINDS[kind] for kind in map(type, self.present) if kind in _KINDS)

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each scalar occurs, as its JSON text."""
        return Counter(text_of(value) for value in self.present if not isinstance(value, list | dict))

    @property
    def share(self) -> float:
        """The share of records that have a value here."""
        return len(self.present) / max(len(self.values), 1)

    @property
    def scalar(self) -> bool:
        """Whether it holds only scalars, not lists or objects."""
        return bool(self.present) and not self.kinds.keys() & {"list", "object"}

    @cached_property
    def _own_keys(self) -> list[str]:
        """Its keys below the list that was unfolded and below keys that only wrap, such as `data`."""
        keys = [str(key) for key in self.path[self.unfolded :] or self.path]
        while len(keys) > 1 and keys[0].lower() in WRAPPERS:
            keys = keys[1:]
        return keys

    @property
    def depth(self) -> int:
        """The number of its keys that do not only wrap."""
        return len(self._own_keys)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Its names in snake case: the full name first, then its last key, unless that alone means little."""
        keys = self._own_keys
        whole = to_snake_case(tuple(keys))
        last = whole[-1]
        if len(keys) == 1:
            return (last, *(["_".join(to_snake_case(tuple(map(str, self.path[-2:]))))] if len(self.path) > 1 else []))
        return ("_".join(whole[-2:]), *([last] if last not in _SAYS_LITTLE else []))


def text_of(value: Any) -> str:
    """Return a value as text, as the map of a mapping compares it."""
    return value if isinstance(value, str) else encode_json(value).decode()


def to_snake_case(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Convert keys to snake case."""
    return tuple(snake(pl.Series(list(keys), dtype=pl.String)).to_list())


def spell(path: Path) -> str | None:
    """Return the text that parse_path reads as this path; None if one of its keys cannot be written."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not isinstance(step, str):
            return None
        elif _BARE.fullmatch(step):
            text += f".{step}" if text else step
        elif "'" not in step and '"' not in step:
            text += f"['{step}']"
        else:
            return None
    return text


def profile(records: list[Record]) -> list[Seen]:
    """Return the paths of the records, the top before the deep; a list is one value."""
    return [seen for seen in _all_below(records) if spell(seen.path) is not None]


def profile_elements(records: list[Record], path: Path) -> list[Seen]:
    """Return the paths of the records after unfolding the list at `path`."""
    unfolded = unfold(records, path)
    found = [seen for seen in _all_below(unfolded) if spell(seen.path) is not None]
    return [Seen(seen.path, seen.values, len(path)) if seen.path[: len(path)] == path else seen for seen in found]


def unfold(records: list[Record], path: Path) -> list[Record]:
    """Return a record for each element of the list at the path, with the other keys of its record; none without."""
    unfolded = []
    for record, found in zip(records, read(records, path), strict=True):
        elements = found if isinstance(found, list) else []
        unfolded += [_replace(record, path, element) for element in elements]
    return unfolded


def lists_of_objects(found: list[Seen]) -> list[Seen]:
    """Return the paths that hold lists of objects, though some records may lack the list or hold another value."""
    lists = []
    for seen in found:
        elements = [element for value in seen.present if isinstance(value, list) for element in value[:MOST_ELEMENTS]]
        objects = sum(isinstance(element, dict) for element in elements)
        if seen.kinds["list"] > len(seen.present) / 2 and objects > len(elements) / 2:
            lists.append(seen)
    return lists


def _replace(record: Record, path: Path, element: Any) -> Record:
    first, *rest = path
    inner = _replace(record[first], tuple(rest), element) if rest and isinstance(record.get(first), dict) else element
    return {**record, first: inner}


def _all_below(records: list[Record]) -> list[Seen]:
    """Return the paths level by level, the top before the deep; of a level that is too wide, what most records have."""
    found: list[Seen] = []
    level: list[tuple[Path, list[Record]]] = [((), records)]
    for depth in range(1, DEEPEST + 1):
        keys = [
            (count, path, key, inner)
            for path, inner in level
            for key, count in Counter(chain.from_iterable(inner)).items()
        ]
        seen = [
            Seen((*path, key), [record.get(key) for record in inner])
            for path, key, inner in _commonest(keys, MOST_PATHS - len(found))
        ]
        below = [each for each in seen if each.kinds["object"] and depth < DEEPEST]
        found += [each for each in seen if each not in below or len(each.kinds) > 1]
        level = [(each.path, [at if isinstance(at, dict) else {} for at in each.values]) for each in below]
        if not level or len(found) >= MOST_PATHS:
            break
    return found


def _commonest(keys: list[tuple[int, Path, str, list[Record]]], most: int) -> list[tuple[Path, str, list[Record]]]:
    """Return at most `most` of the keys, those that most records have, in their order."""
    kept = set(sorted(range(len(keys)), key=lambda at: -keys[at][0])[: max(most, 0)])
    return [(path, key, inner) for at, (_, path, key, inner) in enumerate(keys) if at in kept]
