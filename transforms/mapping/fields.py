"""The fields of a mapping: where each is read from, and how (transforms/mapping/spec.py documents the language)."""

import re
from collections.abc import Iterator
from typing import Literal

import msgspec
import polars as pl
from msgspec import UNSET, UnsetType

from transforms.block import FIELDS
from transforms.mapping.calls import Call, Function
from transforms.mapping.functions import Column, cast
from transforms.records.match import Match, Scalar, check_match, paths_in, text_of
from transforms.records.paths import Path, parse_path
from transforms.records.times import EPOCH_UNITS, RFC3339, is_readable_pattern
from transforms.validate import CHANNELS

OnError = Literal["quarantine", "null"] | None

TIMES = ("event_time", "sent_time", "received_time")
TYPES = {name: dtype for name, dtype in FIELDS.items() if name not in ("properties", "extra")}
COMBINED = ("coalesce", "concat", "hash", "sum", "difference", "product", "quotient", "cases")
SOURCES = ("path", "const", *COMBINED, "match")
MOST_PLACES = 9  # of a currency
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
        if self.time is not None and self.time not in (*EPOCH_UNITS, RFC3339) and not is_readable_pattern(self.time):
            units = ", ".join(EPOCH_UNITS)
            allowed = f"{units}, {RFC3339} or a strptime pattern with a whole day, such as %m/%d/%Y %H:%M"
            raise ValueError(f".time: got {self.time!r}, allowed {allowed}")

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


def check_field(name: str, field: Field, place: str) -> None:
    """Refuse settings that are invalid for this field, whatever the record. Errors: ValueError `place: got ...`."""
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
    """Return what the contract allows for a field if this text is not allowed, else None."""
    if name == "event_type":
        return None if _EVENT_TYPE.fullmatch(text) else f"a name like page_view: ^{_EVENT_TYPE.pattern}$"
    if name == "channel":
        return None if text in CHANNELS else ", ".join(CHANNELS)
    failures = cast(Column(pl.Series([text])), TYPES[name]).failures
    return failures[0].message.replace("not ", "", 1) if failures else None
