"""The days that a question can be about, by the conditions that it states: files of other days need not be listed.

    spans_of(nodes, values)            -> the days that are asked of each relation
    narrowed(manifest, spans, reaches) -> the manifest with the files of the days that these need

The conditions stay in the question: what is left out here could only hold rows that they refuse. Believed are
conditions on a column of one table or view, with a constant, that have to be true of every row; else all days are
asked.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from typing import Any, NamedTuple

import msgspec

from pipelines.warehouse.local.manifest import Manifest
from pipelines.warehouse.views import Reach

ZONE = timedelta(days=1)  # what day it is in a time zone and in UTC differs by no more
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,9})?)?( ?(Z|\+00(:?00)?|(?P<far>[+-]\d\d(:?\d\d)?)))?", re.ASCII
)
_TYPES = {"date", "timestamp", "timestamptz", "timestamp with time zone", "datetime"}
_FROM = {"COMPARE_EQUAL", "COMPARE_GREATERTHAN", "COMPARE_GREATERTHANOREQUALTO"}
_TO = {"COMPARE_EQUAL", "COMPARE_LESSTHAN", "COMPARE_LESSTHANOREQUALTO"}


class Span(NamedTuple):
    """Days from `first` to `last`, both included."""

    first: date = date.min
    last: date = date.max

    def both(self, other: "Span") -> "Span":
        """The days of both."""
        return Span(max(self.first, other.first), min(self.last, other.last))

    def either(self, other: "Span") -> "Span":
        """The days from the first of either to the last of either."""
        return Span(min(self.first, other.first), max(self.last, other.last))

    def wider(self, before: timedelta, after: timedelta) -> "Span":
        """With so many days more on either side, as far as there are days."""
        first = self.first - before if self.first - date.min > before else date.min
        last = self.last + after if date.max - self.last > after else date.max
        return Span(first, last)


ALL = Span()
Spans = Mapping[
    str, Sequence[Mapping[str, Span]]
]  # relation in lower case -> for each time it is named: column -> days


def spans_of(nodes: Iterable[Mapping[str, Any]], values: Sequence[Any] = ()) -> Spans:
    """What the objects of a parsed statement say of each relation that they name; `values` of its parameters."""
    found: dict[str, list[Mapping[str, Span]]] = {}
    bounded: dict[str, list[Mapping[str, Span]]] = {}
    for node in nodes:
        if node.get("type") in ("BASE_TABLE", "SHOW_REF"):
            found.setdefault(node["table_name"].strip('"').lower(), []).append({})
        source, condition = node.get("from_table"), node.get("where_clause")
        if source and condition and source.get("type") == "BASE_TABLE" and not source.get("column_name_alias"):
            name = source["table_name"].lower()
            bounded.setdefault(name, []).append(_columns(condition, {name, source["alias"].lower()}, values))
    return {name: bounded[name] if len(bounded.get(name, ())) == len(named) else named for name, named in found.items()}


def narrowed(manifest: Manifest, spans: Spans, reaches: Mapping[str, Mapping[str, Reach | None]]) -> Manifest:
    """The manifest with those files of tables alone that the named relations can need.

    reaches  relation -> table that it reads, itself or through others -> how far its rows may lie from a day asked;
             None: anywhere
    """
    needed: dict[str, Span] = {}
    for name, tables in reaches.items():
        for table, reach in tables.items():
            days = ALL if reach is None else _asked(spans.get(name.lower(), ()), manifest.tables[table].partition)
            if reach is not None:
                days = days.wider(timedelta(days=reach.before), timedelta(days=reach.after))
                if reach.from_now:
                    days = days.both(Span(datetime.now(UTC).date() - 2 * ZONE))
            needed[table] = needed[table].either(days) if table in needed else days
    files = {
        table: {day: live for day, live in days.items() if _holds(needed.get(table, ALL), day)}
        for table, days in manifest.files.items()
    }
    return msgspec.structs.replace(manifest, files=files)


def _holds(span: Span, day: str) -> bool:
    return span == ALL or f"{span.first}" <= day <= f"{span.last}"  # `unknown` is later than any day


def _asked(named: Sequence[Mapping[str, Span]], partition: str) -> Span:
    """The days that a relation is asked of, wherever it is named."""
    asked = [columns.get("day", ALL).both(columns.get(partition, ALL)) for columns in named] or [ALL]
    return reduce(Span.either, asked)


def _columns(condition: Mapping[str, Any], names: set[str], values: Sequence[Any]) -> dict[str, Span]:
    """The days of each column for which a condition can be true."""
    found: dict[str, Span] = {}
    for column, span in _conditions(condition, names, values):
        found[column] = found.get(column, ALL).both(span)
    return found


def _conditions(node: Mapping[str, Any], names: set[str], values: Sequence[Any]) -> Iterator[tuple[str, Span]]:
    waiting = [node]
    while waiting:
        each = waiting.pop()
        kind, parts = each.get("type"), each.get("children", ())
        if kind == "CONJUNCTION_AND":
            waiting.extend(parts)
        elif kind == "COMPARE_BETWEEN" and (column := _column(each["input"], names)):
            low, high = (_days(each[end], column, values) for end in ("lower", "upper"))
            yield column, Span(low.first, high.last)
        elif kind == "COMPARE_IN" and (column := _column(parts[0], names)):
            days = [_days(part, column, values) for part in parts[1:]]
            yield column, Span(min(each.first for each in days), max(each.last for each in days))
        elif kind in _FROM | _TO:
            for ours, other, lower, upper in (("left", "right", _FROM, _TO), ("right", "left", _TO, _FROM)):
                if column := _column(each[ours], names):
                    within = _days(each[other], column, values)
                    first, last = (
                        within.first if kind in lower else date.min,
                        within.last if kind in upper else date.max,
                    )
                    yield column, Span(first, last)


def _column(node: Mapping[str, Any], names: set[str]) -> str | None:
    path = [each.lower() for each in node.get("column_names", ())]
    if node.get("type") != "COLUMN_REF" or not 1 <= len(path) <= 2 or (len(path) == 2 and path[0] not in names):
        return None
    return path[-1]


def _days(node: Mapping[str, Any], column: str, values: Sequence[Any]) -> Span:
    """The days that a constant may lie on: the one of a day for the column `day`, else those around; all for no day."""
    kind: Any = node.get("type")
    if kind == "OPERATOR_CAST":
        typed = ((node.get("type_expr") or {}).get("type_name") or "").lower()
        return _days(node["child"], column, values) if typed in _TYPES else ALL
    text: Any = None
    if kind == "VALUE_CONSTANT":
        literal = node.get("literal") or {}
        text = literal.get("text") if literal.get("kind") == "STRING" else None
    elif kind == "VALUE_PARAMETER" and node.get("identifier", "").isdecimal():
        place = int(node["identifier"])
        text = f"{values[place - 1]}" if 0 < place <= len(values) else None
    return _written(text, column == "day") if isinstance(text, str) else ALL


def _written(text: str, is_day: bool) -> Span:
    time = _TIME.fullmatch(text)
    if not time and not _DAY.fullmatch(text):
        return ALL
    try:
        day = date.fromisoformat(text[:10])
    except ValueError:  # not in the calendar
        return ALL
    around = ZONE * (2 if time and time["far"] else 1 if time or not is_day else 0)
    return Span(day, day).wider(around, around)
