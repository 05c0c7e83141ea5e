"""The fields of a mapping: where each is read from, and how (transforms/mapping/spec.py documents the language)."""

import math
import re
from collections.abc import Iterator
from typing import Literal

import msgspec
import polars as pl
from msgspec import UNSET, UnsetType

from transforms.block import FIELDS
from transforms.contract import CHANNELS
from transforms.mapping.calls import Call, Function
from transforms.mapping.functions import Column, cast
from transforms.records.match import Match, Scalar, check_match, paths_in, text_of
from transforms.records.paths import Path, parse_path
from transforms.records.patterns import check_pattern, pattern_of
from transforms.records.times import EPOCH_UNITS, RFC3339
from transforms.records.zones import zone_of

OnError = Literal["quarantine", "null"] | None

TIMES = ("event_time", "sent_time", "received_time")
TYPES = {name: dtype for name, dtype in FIELDS.items() if name not in ("properties", "extra")}
COMBINED = ("coalesce", "concat", "hash", "sum", "difference", "product", "quotient", "cases")
SOURCES = ("path", "const", *COMBINED, "match")
MOST_PLACES = 9  # of a currency
_EXAMPLE = "%m/%d/%Y %H:%M"
_EVENT_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A value out of a record, or a constant; a number is multiplied by `scale`."""

    path: str | None = None
    const: Scalar | None = None
    functions: tuple[Function, ...] = ()
    scale: int | float | None = None

    def __post_init__(self):
        stated = [name for name in SOURCES if getattr(self, name, None) is not None]
        if len(stated) != 1:
            allowed = [name for name in SOURCES if hasattr(self, name)]
            got = " and ".join(stated) or "no source of a value"
            raise ValueError(f"got {got}, allowed exactly one of {', '.join(allowed)}")
        if self.path is not None:
            check_path(self.path, ".path")
        if self.scale is not None and not (math.isfinite(self.scale) and 1e-9 <= abs(self.scale) < 1e18):
            raise ValueError(f".scale: got {self.scale}, allowed a number from 0.000000001 to 18 digits")

    def parts(self) -> tuple["Part", ...]:
        """The parts that it combines: none for a path or a constant."""
        return ()

    def paths(self) -> Iterator[str]:
        """Every path that is read."""
        if self.path is not None:
            yield self.path
        for part in self.parts():
            yield from part.paths()

    def spent(self) -> Iterator[str]:
        """The paths whose whole value is read: nothing of it is left for `extra`."""
        if self.path is not None and not any(isinstance(call, Call) and call.cuts for call in self.functions):
            yield self.path
        for part in self.parts():
            yield from part.spent()


class Choice(Part, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A value, and when it is the one."""

    when: Match | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.when is not None:
            check_match(self.when, ".when")


class MinorUnits(Part, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The currency of an amount in minor units, such as cents."""

    digits: dict[str, int] = {}

    def __post_init__(self):
        super().__post_init__()
        for code, places in self.digits.items():
            if not 0 <= places <= MOST_PLACES:
                raise ValueError(f".digits.{code}: got {places}, allowed 0 to {MOST_PLACES}")
            if not re.fullmatch("[A-Z]{3}", code):
                raise ValueError(f".digits: got {code!r}, allowed a code of ISO 4217, such as ISK")


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
    sum: tuple[Part, ...] | None = None
    difference: tuple[Part, ...] | None = None
    product: tuple[Part, ...] | None = None
    quotient: tuple[Part, ...] | None = None
    cases: tuple[Choice, ...] | None = None
    minor_units: MinorUnits | None = None
    match: Match | None = None
    map: dict[str, Scalar] | None = None
    otherwise: Scalar | None = None
    default: Scalar | None = None
    time: str | None = None
    time_zone: str | ZoneField | None = None
    on_error: OnError | UnsetType = UNSET

    def __post_init__(self):
        super().__post_init__()
        for name in (*COMBINED, "map"):
            value = getattr(self, name)
            if value is not None and not value:
                raise ValueError(f".{name}: got nothing in it, allowed one or more")
        for at, choice in enumerate((self.cases or ())[:-1]):
            if choice.when is None:
                raise ValueError(
                    f".cases[{at}]: got no `when`, allowed in the last case only; those behind never apply"
                )
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
        yield from self._zone_paths()

    def spent(self) -> Iterator[str]:
        # Of what a hash reads nothing is left, also where it takes a part of a text.
        yield from super().spent() if self.hash is None else super().paths()
        yield from self._zone_paths()

    def _zone_paths(self) -> Iterator[str]:
        if isinstance(self.time_zone, ZoneField):
            yield self.time_zone.path

    def parts(self) -> tuple[Part, ...]:
        return next((parts for name in COMBINED if (parts := getattr(self, name))), ())

    def matches(self) -> tuple[Match, ...]:
        """The matches that decide on its value."""
        stated = (self.match, *(choice.when for choice in self.cases or ()))
        return tuple(match for match in stated if match is not None)

    def looks(self) -> tuple[str, ...]:
        """The paths that are checked but not consumed: those of matches, and of a currency that gives the unit."""
        of_unit = () if self.minor_units is None else self.minor_units.paths()
        return (*(path for match in self.matches() for path in paths_in(match)), *of_unit)

    def outcomes(self) -> Iterator[tuple[str, str]]:
        """Yield the values that the mapping itself may give the field, each with its place in the field."""
        if self.const is not None and not self.functions and self.map is None:
            yield ".const", text_of(self.const)
        for at, choice in enumerate(self.cases or ()):
            if choice.const is not None and not choice.functions and not self.functions and self.map is None:
                yield f".cases[{at}].const", text_of(choice.const)
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
