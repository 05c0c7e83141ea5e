"""The fields of a mapping: where each is read from, and how (transforms/mapping/spec.py documents the language)."""

import re
from collections.abc import Iterator
from typing import Literal

import msgspec
import polars as pl
from msgspec import UNSET, UnsetType

from transforms.block import FIELDS
from transforms.mapping.functions import Column, cast
from transforms.records.match import Match, Scalar, check_match, paths_in, text_of
from transforms.records.paths import Path, parse_path
from transforms.records.patterns import check_pattern, pattern_of
from transforms.records.times import EPOCH_UNITS, RFC3339
from transforms.records.zones import zone_of
from transforms.validate import CHANNELS

Function = Literal["lower", "trim", "snake", "number"]
OnError = Literal["quarantine", "null"] | None

TIMES = ("event_time", "sent_time", "received_time")
TYPES = {name: dtype for name, dtype in FIELDS.items() if name not in ("properties", "extra")}
SOURCES = ("path", "const", "coalesce", "concat", "hash", "product", "match")
_EXAMPLE = "%m/%d/%Y %H:%M"
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
            check_path(self.path, ".path")

    def parts(self) -> tuple["Part", ...]:
        """The parts that it combines: none for a path or a constant."""
        return ()

    def paths(self) -> Iterator[str]:
        """Every path that is read."""
        if self.path is not None:
            yield self.path
        for part in self.parts():
            yield from part.paths()


class ZoneField(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A zone that another value of the record states."""

    path: str
    default: str | None = None

    def __post_init__(self):
        check_path(self.path, ".path")
        if self.default is not None:
            check_zone(self.default, ".default")


class Field(Part, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"otherwise": "else"}):
    """What an event's field is read from, and how."""

    coalesce: tuple[Part, ...] | None = None
    concat: tuple[Part, ...] | None = None
    hash: tuple[Part, ...] | None = None
    product: tuple[Part, ...] | None = None
    match: Match | None = None
    map: dict[str, Scalar] | None = None
    otherwise: Scalar | None = None
    default: Scalar | None = None
    time: str | None = None
    time_zone: str | ZoneField | None = None
    on_error: OnError | UnsetType = UNSET

    def __post_init__(self):
        super().__post_init__()
        for name in ("coalesce", "concat", "hash", "product", "map"):
            value = getattr(self, name)
            if value is not None and not value:
                raise ValueError(f".{name}: got nothing in it, allowed one or more")
        if self.match is not None:
            check_match(self.match, ".match")
            wrong = [key for key in self.map or () if key not in ("true", "false")]
            if wrong:
                raise ValueError(f".map: got {wrong[0]!r}, allowed true and false, which a match gives")
        if self.otherwise is not None and self.map is None:
            raise ValueError(f".else: got {self.otherwise!r} without a map, allowed beside a map")
        if self.time is not None and self.time not in (*EPOCH_UNITS, RFC3339):
            try:
                check_pattern(self.time)
            except ValueError as problem:
                allowed = (
                    f"{', '.join(EPOCH_UNITS)}, {RFC3339} or a strptime pattern with a whole day, such as {_EXAMPLE}"
                )
                raise ValueError(f".time: got {self.time!r}, allowed {allowed}: {problem}") from None
        self._check_zone()

    def _check_zone(self) -> None:
        if self.time_zone is None:
            return
        if self.has_zone:
            raise ValueError(f".time_zone: got one beside {self.time!r}, allowed for times that state no zone")
        if isinstance(self.time_zone, str):
            check_zone(self.time_zone, ".time_zone")

    @property
    def has_zone(self) -> bool:
        """Whether each time states its zone, by its pattern."""
        return self.time not in (None, *EPOCH_UNITS, RFC3339) and pattern_of(str(self.time)).states_zone

    def paths(self) -> Iterator[str]:
        yield from super().paths()
        if isinstance(self.time_zone, ZoneField):
            yield self.time_zone.path

    def parts(self) -> tuple[Part, ...]:
        return self.coalesce or self.concat or self.hash or self.product or ()

    def looks(self) -> tuple[str, ...]:
        """The paths that are checked but not consumed: those of a match."""
        return () if self.match is None else tuple(paths_in(self.match))

    def outcomes(self) -> Iterator[tuple[str, str]]:
        """Yield the values that the mapping itself may give the field, each with its place in the field."""
        if self.const is not None and not self.functions and self.map is None:
            yield ".const", text_of(self.const)
        for key, value in (self.map or {}).items():
            yield f".map.{key}", text_of(value)
        for name, given in ((".else", self.otherwise), (".default", self.default)):
            if given is not None:
                yield name, text_of(given)


Fields = msgspec.defstruct(
    "Fields",
    [(name, Field | None, None) for name in (*TIMES, *TYPES)],
    module=__name__,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
)


def check_path(path: str, place: str) -> Path:
    """The steps of a path. Errors: ValueError `place: got ..., allowed ...`."""
    try:
        return parse_path(path)
    except ValueError as problem:
        raise ValueError(f"{place}: {problem}") from None


def check_zone(zone: str, place: str) -> None:
    """Refuse what names no zone. Errors: ValueError `place: got ..., allowed ...`."""
    if zone_of(zone) is None:
        allowed = "a name such as Europe/Berlin, an offset such as +02:00, or {path: ...} where the record states one"
        raise ValueError(f"{place}: got {zone!r}, allowed {allowed}")


def check_field(name: str, field: Field, place: str) -> None:
    """Refuse settings that are invalid for this field, whatever the record. Errors: ValueError `place: got ...`."""
    if name in TIMES:
        if field.on_error is not UNSET:
            allowed = "nothing: an unreadable time is always null"
            raise ValueError(f"{place}.on_error: got {field.on_error!r}, allowed {allowed}")
        return
    for key in ("time", "time_zone"):
        if getattr(field, key) is not None:
            raise ValueError(f"{place}.{key}: got {getattr(field, key)!r}, allowed for {', '.join(TIMES)} only")
    for inner, text in field.outcomes():
        problem = _problem(name, text)
        if problem:
            raise ValueError(f"{place}{inner}: got {text!r}, allowed {problem}")


def _problem(name: str, text: str) -> str | None:
    """Return what the contract allows for a field if this text is not allowed, else None."""
    if name == "event_type":
        return None if _EVENT_TYPE.fullmatch(text) else f"a name like page_view: ^{_EVENT_TYPE.pattern}$"
    if name == "channel":
        return None if text in CHANNELS else ", ".join(CHANNELS)
    failures = cast(Column(pl.Series([text])), TYPES[name]).failures
    return failures[0].message.replace("not ", "", 1) if failures else None
