"""A mapping: how the records of a source, of whatever shape, become events. Written in YAML, read once.

    source: github-events       # required: the name of the source
    format: jsonl               # jsonl, csv or parquet; without it the name of a file tells
    csv: {delimiter: ";"}       # delimiter, quote, header, columns
    clock: client               # trusted: the source's clock is right; client: it may be wrong
    on_error: quarantine        # of a record with a value that cannot be read; null: that field becomes NULL
    transport: [sent_at]        # paths that say how a record travelled: no part of a derived event_id
    fields:
      event_time: {path: at, time: ms}             # s, ms, us, rfc3339 or a pattern: "%m/%d/%Y %H:%M"
      event_type: {path: type, map: {watch: like}, else: other}
      user_id:    {hash: [{path: "device.id"}, {path: "ids[0]"}]}
      content_id: {concat: [{path: channel}, {const: /}, {path: page}]}
      category:   {coalesce: [{path: section}, {path: "['page section']"}], default: none}
    properties: [screen, app]   # keys of the record that are kept as the JSON `properties`

A field is read in this order: path, const, coalesce, concat or hash; functions (lower, trim, snake, number);
map, with `else` for a value that it lacks; default, for a value that is absent (and for one that the map
lacks, if there is no `else`); the field's own type. All that no path reads goes to `extra`, and so does the
whole of a list of which an element is read. There are no expressions: what a mapping cannot say belongs in a
step before.
"""

import re
from collections.abc import Iterator
from typing import Literal

import msgspec
import polars as pl
from msgspec import UNSET, UnsetType

from transforms.block import FIELDS
from transforms.csv_format import CsvFormat
from transforms.mapping_functions import Column, cast
from transforms.paths import Path, parse_path
from transforms.strict_yaml import load
from transforms.times import EPOCH_UNITS, RFC3339, is_readable_pattern
from transforms.validate import CHANNELS

Function = Literal["lower", "trim", "snake", "number"]
OnError = Literal["quarantine", "null"] | None
Scalar = str | int | float | bool

TIMES = ("event_time", "sent_time", "received_time")
TYPES = {name: dtype for name, dtype in FIELDS.items() if name not in ("properties", "extra")}
SOURCES = ("path", "const", "coalesce", "concat", "hash")
_SOURCE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_EVENT_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A value out of a record, or a constant."""

    path: str | None = None
    const: Scalar | None = None
    functions: tuple[Function, ...] = ()

    def __post_init__(self):
        stated = [name for name in SOURCES if getattr(self, name, None) is not None]
        if len(stated) != 1:
            allowed = [name for name in SOURCES if hasattr(self, name)]
            got = " and ".join(stated) or "no source of a value"
            raise ValueError(f"got {got}, allowed exactly one of {', '.join(allowed)}")
        if self.path is not None:
            _check_path(self.path, ".path")

    def parts(self) -> tuple["Part", ...]:
        """The parts that it is made of: none, for a path or a constant."""
        return ()

    def paths(self) -> Iterator[str]:
        """Every path that is read."""
        if self.path is not None:
            yield self.path
        for part in self.parts():
            yield from part.paths()


class Field(Part, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"otherwise": "else"}):
    """What an event's field is read from, and how."""

    coalesce: tuple[Part, ...] | None = None
    concat: tuple[Part, ...] | None = None
    hash: tuple[Part, ...] | None = None
    map: dict[str, Scalar] | None = None
    otherwise: Scalar | None = None
    default: Scalar | None = None
    time: str | None = None
    on_error: OnError | UnsetType = UNSET

    def __post_init__(self):
        super().__post_init__()
        for name in ("coalesce", "concat", "hash", "map"):
            value = getattr(self, name)
            if value is not None and not value:
                raise ValueError(f".{name}: got nothing in it, allowed one or more")
        if self.otherwise is not None and self.map is None:
            raise ValueError(f".else: got {self.otherwise!r} without a map, allowed beside a map")
        if self.time is not None and self.time not in (*EPOCH_UNITS, RFC3339) and not is_readable_pattern(self.time):
            units = ", ".join(EPOCH_UNITS)
            allowed = f"{units}, {RFC3339} or a strptime pattern with a whole day, such as %m/%d/%Y %H:%M"
            raise ValueError(f".time: got {self.time!r}, allowed {allowed}")

    def parts(self) -> tuple[Part, ...]:
        return self.coalesce or self.concat or self.hash or ()

    def outcomes(self) -> Iterator[tuple[str, str]]:
        """The texts that the mapping itself may make the field, each with its place in the field."""
        if self.const is not None and not self.functions and self.map is None:
            yield ".const", text_of(self.const)
        for key, value in (self.map or {}).items():
            yield f".map.{key}", text_of(value)
        for name, given in ((".else", self.otherwise), (".default", self.default)):
            if given is not None:
                yield name, text_of(given)


def text_of(value: Scalar) -> str:
    """A scalar of the mapping as JSON writes it."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


Fields = msgspec.defstruct(
    "Fields",
    [(name, Field | None, None) for name in (*TIMES, *TYPES)],
    module=__name__,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
)


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the records of a source become events."""

    source: str
    fields: Fields  # type: ignore[valid-type]
    format: Literal["jsonl", "csv", "parquet"] | None = None
    csv: CsvFormat | None = None
    clock: Literal["trusted", "client"] = "client"
    on_error: OnError = "quarantine"
    transport: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()

    def __post_init__(self):
        if not _SOURCE.fullmatch(self.source):
            allowed = f"a name like web-shop: ^{_SOURCE.pattern}$"
            raise ValueError(f".source: got {self.source!r}, allowed {allowed}")
        if self.csv is not None and self.format not in (None, "csv"):
            raise ValueError(f".csv: got a block with format {self.format!r}, allowed with format csv")
        for at, path in enumerate(self.transport):
            _check_path(path, f".transport[{at}]")
        for at, path in enumerate(self.properties):
            if len(_check_path(path, f".properties[{at}]")) > 1:
                raise ValueError(f".properties[{at}]: got {path!r}, allowed a key at the top of the record")
        if self.field("event_type") is None:
            raise ValueError(".fields.event_type: got nothing, but it is required; state it")
        if self.clock == "trusted" and self.field("event_time") is None:
            raise ValueError(".clock: got 'trusted' without an event_time, allowed client")
        for name, field in self.stated():
            _check_field(name, field)

    def __hash__(self) -> int:
        return hash(self.source)  # a map, being a dict, has none; that equal mappings have equal ones is enough

    def field(self, name: str) -> Field | None:
        """How a field is read, None if the mapping leaves it out."""
        return getattr(self.fields, name)

    def stated(self) -> Iterator[tuple[str, Field]]:
        """(name, Field) of the fields that the mapping states, in the order of the contract, times first."""
        for name in (*TIMES, *TYPES):
            field = self.field(name)
            if field is not None:
                yield name, field

    def quarantines(self, field: Field) -> bool:
        """Whether a value of the field that cannot be read sends the record to quarantine."""
        return (self.on_error if field.on_error is UNSET else field.on_error) == "quarantine"


def _check_path(path: str, place: str) -> Path:
    try:
        return parse_path(path)
    except ValueError as problem:
        raise ValueError(f"{place}: {problem}") from None


def _check_field(name: str, field: Field) -> None:
    """Refuse what could be no value of this field, whatever a record says."""
    place = f".fields.{name}"
    if name in TIMES:
        if field.on_error is not UNSET:
            allowed = "nothing: an unreadable time is always null"
            raise ValueError(f"{place}.on_error: got {field.on_error!r}, allowed {allowed}")
        return
    if field.time is not None:
        raise ValueError(f"{place}.time: got {field.time!r}, allowed for {', '.join(TIMES)} only")
    for inner, text in field.outcomes():
        problem = _problem(name, text)
        if problem:
            raise ValueError(f"{place}{inner}: got {text!r}, allowed {problem}")


def _problem(name: str, text: str) -> str | None:
    """What the contract allows for a field, where this text is not allowed."""
    if name == "event_type":
        return None if _EVENT_TYPE.fullmatch(text) else f"a name like page_view: ^{_EVENT_TYPE.pattern}$"
    if name == "channel":
        return None if text in CHANNELS else ", ".join(CHANNELS)
    failures = cast(Column(pl.Series([text])), TYPES[name]).failures
    return failures[0].message.replace("not ", "", 1).replace("none of ", "", 1) if failures else None


def load_mapping(text: str, where: str) -> Mapping:
    """The mapping in a YAML text. Errors: ConfigError `where: $.path: got ..., allowed ...`."""
    return load(text, Mapping, where)


def required_columns(mapping: Mapping) -> set[str]:
    """The columns that a CSV must have: read by a field with neither a default nor another value to take."""
    fields = [field for _, field in mapping.stated() if field.default is None and field.coalesce is None]
    return {str(parse_path(path)[0]) for field in fields for path in field.paths()}
