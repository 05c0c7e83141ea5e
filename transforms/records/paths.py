"""Paths: where a value is in a record.

a.b         keys, joined by dots; a key may hold anything but . [ ] ' "
c[0]        an element of a list, counted from 0
c[key=x]    the first element of a list of objects whose member `key` is the text x: event_params[key=page].value;
            ['...'] quotes it: c[key='a.b [c]'], and key-value lists whose value is an object of one typed member, as
            those of GA4 (string_value) and OpenTelemetry (stringValue), give that member
['a b.c']   a key with anything in it but a quote, also behind a key: a['b.c'].d
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple


class Named(NamedTuple):
    """A step to the first element of a list of objects whose member `key` is `text`."""

    key: str
    text: str


Path = tuple[str | int | Named, ...]
Record = dict[Any, Any]  # a JSON object: its keys are texts


class Table(Sequence):
    """Records with the same keys and string values, stored as columns: like a list of dicts, but faster by column.

    An empty string is an absent value.
    """

    def __init__(self, columns: Mapping[str, Sequence[str]]):
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, at: Any) -> Any:
        return {name: values[at] for name, values in self.columns.items() if values[at]}

    def __iter__(self) -> Iterator[Record]:
        return self._but(())

    def column(self, name: Any) -> list[str | None]:
        """The value of each record at a key."""
        return [value or None for value in self.columns.get(name) or [""] * len(self)]

    def only(self, names: Sequence[str]) -> Iterable[Record | None]:
        """Each record with no other keys than these; None, perhaps, if it has none of them."""
        for values in zip(*(self.column(name) for name in names), strict=True):
            yield {name: value for name, value in zip(names, values, strict=True) if value}

    def but(self, taken: Container[str]) -> Iterable[Record | None]:
        """Each record without the taken keys; None for all where no other is."""
        return [None] * len(self) if all(name in taken for name in self.columns) else self._but(taken)

    def _but(self, taken: Container[str]) -> Iterator[Record]:
        left = [name for name in self.columns if name not in taken]
        for values in zip(*(self.columns[name] for name in left), strict=True):
            yield {name: value for name, value in zip(left, values, strict=True) if value}


_STEP = re.compile(
    r"""(?P<dot>\.?)(?P<key>[^.\[\]'"]+) | \[(?P<index>[0-9]{1,9})\] | \[(['"])(?P<quoted>[^'"]*)\4\]
      | \[(?P<member>[^.\[\]'"=?@!<>\s]+)=(?:(?P<bare>[^\[\]'"=\s][^\[\]'"]*)|(['"])(?P<text>[^'"]*)\8)\]""",
    re.VERBOSE,
)
_FORM = (
    "keys joined by dots, [0] for an element of a list, [key=x] for the element whose `key` is x, ['a b.c'] for any"
    " other key"
)
# What a value is wrapped in by its type: OpenTelemetry writes the one that it has, GA4 leaves the others null.
_TYPED = tuple(
    spelled for kind in ("string", "int", "double", "float", "bool") for spelled in (f"{kind}_value", f"{kind}Value")
)


@lru_cache(maxsize=4096)
def parse_path(text: str) -> Path:
    """The steps of a path: str is a key, int an index. Errors: ValueError `got ..., allowed ...`."""
    steps: list[str | int | Named] = []
    at = 0
    while at < len(text):
        step = _STEP.match(text, at)
        # A dot stands between two steps only, and a list is never the record itself.
        if step is None or (bool(step["dot"]) != bool(steps) if step["key"] else not steps and step["quoted"] is None):
            raise ValueError(f"got {text!r}, allowed {_FORM}")
        if step["member"]:
            steps.append(Named(step["member"], step["bare"] or step["text"] or ""))
        else:
            steps.append(int(step["index"]) if step["index"] else step["key"] or step["quoted"] or "")
        at = step.end()
    if not steps:
        raise ValueError(f"got {text!r}, allowed {_FORM}")
    return tuple(steps)


def read(records: Sequence[Record], path: Path) -> list[Any]:
    """The value at the path in each record, None where there is none."""
    first, *inner = path
    values = records.column(first) if isinstance(records, Table) else [record.get(first) for record in records]
    for step in inner:
        if type(step) is int:
            values = [at[step] if type(at) is list and step < len(at) else None for at in values]
        elif isinstance(step, Named):
            found = [_place(at, step) for at in values]
            values = [None if place is None else at[place] for at, place in zip(values, found, strict=True)]  # type: ignore[index]
        else:
            values = [at.get(step) if type(at) is dict else None for at in values]
    return [_unwrapped(at) for at in values] if any(isinstance(step, Named) for step in inner) else values


def _place(values: Any, step: Named) -> int | None:
    """The index of the named element."""
    if type(values) is not list:
        return None
    key, text = step
    return next((at for at, each in enumerate(values) if type(each) is dict and _is(each.get(key), text)), None)


def _is(value: Any, text: str) -> bool:
    return value == text if type(value) is str else type(value) is int and str(value) == text


def _unwrapped(value: Any) -> Any:
    """The member of an object that is a value wrapped in its type; any other value unchanged."""
    if type(value) is not dict:
        return value
    members = [value[name] for name in _TYPED if name in value]
    return next((at for at in members if at is not None), None) if members else value


def prune(record: Record, paths: Iterable[Path]) -> Record:
    """Return a copy of the record without the values at the paths of keys, and without parents that become empty.

    The record itself is not changed.
    """
    for path in paths:
        record = _pruned(record, path)
    return record


def _pruned(record: Record, path: Path) -> Record:
    first, *inner = path
    if first not in record:
        return record
    if not inner:
        return {key: value for key, value in record.items() if key != first}
    parent = record[first]
    if type(parent) is not dict or not parent:
        return record
    left = _pruned(parent, tuple(inner))
    if left is parent:
        return record
    return record | {first: left} if left else {key: value for key, value in record.items() if key != first}


def replace_at(record: Record, path: Path, value: Any) -> Record:
    """Return a copy of the record with the value at an existing path of keys; the record itself is not changed."""
    first, *inner = path
    return record | {first: replace_at(record[first], tuple(inner), value) if inner else value}


def remove_at(record: Record, paths: Iterable[Path]) -> Record:
    """Return a copy of the record without the values at the paths; the record itself is not changed."""
    for path in paths:
        record = _without(record, path)
    return record


def _without(value: Any, path: Path) -> Any:
    first: Any = path[0]
    inner = path[1:]
    if isinstance(first, Named):
        first = _place(value, first)
        if first is None:
            return value
    is_list = type(value) is list
    found = (type(first) is int and first < len(value)) if is_list else (type(value) is dict and first in value)
    if not found:
        return value
    copy: Any = value.copy()  # a dict or a list
    if inner:
        copy[first] = _without(copy[first], inner)
    elif type(copy) is list:
        copy[first] = None  # later elements keep their index
    else:
        del copy[first]
    return copy
