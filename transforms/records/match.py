"""Match: conditions on the values of a record, or on the columns of a block.

A match is a map of paths to conditions, all of which must hold; or a list of such maps, any of which may hold.

    {type: click}                                     # the value's text, as JSON writes it: 1 fits 1 and "1"
    {type: [click, tap], price: {above: 0}}           # one of; and a number above 0
    [{agent: {pattern: "(?i)bot"}}, {user: {exists: false}}]

A condition of keys holds if each of them does:
    pattern                          a regular expression of Rust, found anywhere in the text unless anchored
    exists                           whether there is a value; null is none
    not                              a condition that must not hold; an absent value does not meet a condition
    above, below, at_least, at_most  bounds of a number; other values are outside all bounds
"""

import math
from collections.abc import Callable, Iterator

import msgspec
import polars as pl
from msgspec import UNSET, UnsetType

from transforms.block import NUMERIC
from transforms.records.paths import parse_path

Scalar = str | int | float | bool
_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_BOUNDS: dict[str, Callable] = {
    "above": pl.Series.gt,
    "below": pl.Series.lt,
    "at_least": pl.Series.ge,
    "at_most": pl.Series.le,
}


class Criterion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"negated": "not"}):
    """A condition of keys. Errors: ValueError `.key: got ..., allowed ...`."""

    pattern: str | UnsetType = UNSET
    exists: bool | UnsetType = UNSET
    negated: "Condition | UnsetType" = UNSET
    above: int | float | UnsetType = UNSET
    below: int | float | UnsetType = UNSET
    at_least: int | float | UnsetType = UNSET
    at_most: int | float | UnsetType = UNSET

    def __post_init__(self):
        stated = [name for name in self.__struct_fields__ if getattr(self, name) is not UNSET]
        if not stated:
            raise ValueError(f"got no condition, allowed one or more of {', '.join(self.__struct_encode_fields__)}")
        if self.pattern is not UNSET:
            _check_pattern(self.pattern)
        for name in _BOUNDS:
            bound = getattr(self, name)
            if bound is not UNSET and not (math.isfinite(bound) and abs(bound) < 2**63):
                raise ValueError(f".{name}: got {bound!r}, allowed a number of at most 18 digits before the point")
        if self.negated is not UNSET:
            _check_condition(self.negated, ".not")


Condition = str | int | float | bool | tuple[Scalar, ...] | Criterion
Conditions = dict[str, Condition]
Match = Conditions | tuple[Conditions, ...]


def text_of(value: Scalar) -> str:
    """Return a scalar as JSON text; a string is returned unchanged."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def ways_of(match: Match) -> tuple[tuple[str, Conditions], ...]:
    """Return (place in the YAML, conditions) for each of the alternative maps."""
    if isinstance(match, dict):
        return (("", match),)
    return tuple((f"[{at}]", way) for at, way in enumerate(match))


def paths_in(match: Match) -> Iterator[str]:
    """Yield every path, or column, of the match."""
    for _, way in ways_of(match):
        yield from way


def check_match(match: Match, place: str, check_key: Callable[[str], object] = parse_path) -> None:
    """Errors: ValueError `place...: got ..., allowed ...`; `check_key` raises ValueError for a wrong path."""
    if not match:
        raise ValueError(f"{place}: got nothing in it, allowed one or more")
    for at, way in ways_of(match):
        if not way:
            raise ValueError(f"{place}{at}: got nothing in it, allowed one or more")
        for key, condition in way.items():
            try:
                check_key(key)
            except ValueError as problem:
                raise ValueError(f"{place}{at}: {problem}") from None
            _check_condition(condition, f"{place}{at}.{key}")


def _check_condition(condition: Condition, place: str) -> None:
    if condition == ():
        raise ValueError(f"{place}: got nothing in it, allowed one or more")


def _check_pattern(pattern: str) -> None:
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError:
        raise ValueError(f".pattern: got {pattern!r}, allowed a regular expression as Rust has them") from None


def holds(match: Match, values_of: Callable[[str], pl.Series]) -> pl.Series:
    """Return where the match holds, as Boolean without nulls; `values_of` returns the values of a path or column."""
    any_way: pl.Series | None = None
    for _, way in ways_of(match):
        all_hold: pl.Series | None = None
        for key, condition in way.items():
            one = _fits(condition, values_of(key))
            all_hold = one if all_hold is None else all_hold & one
        assert all_hold is not None
        any_way = all_hold if any_way is None else any_way | all_hold
    assert any_way is not None
    return any_way


def _fits(condition: Condition, values: pl.Series) -> pl.Series:
    if isinstance(condition, Criterion):
        return _meets(condition, values)
    allowed = condition if isinstance(condition, tuple) else (condition,)
    return _texts(values).is_in([text_of(one) for one in allowed]).fill_null(False)


def _meets(condition: Criterion, values: pl.Series) -> pl.Series:
    met = pl.repeat(True, len(values), eager=True)
    if condition.exists is not UNSET:
        met = met & (values.is_not_null() if condition.exists else values.is_null())
    if condition.pattern is not UNSET:
        met = met & _texts(values).str.contains(condition.pattern).fill_null(False)
    if condition.negated is not UNSET:
        met = met & ~_fits(condition.negated, values)
    for name, compare in _BOUNDS.items():
        bound = getattr(condition, name)
        if bound is not UNSET:
            met = met & _bounded(values, compare, bound)
    return met


def _bounded(values: pl.Series, compare: Callable, bound: int | float) -> pl.Series:
    # Integers are compared as integers, whatever the other values are: a float has only 53 bits.
    texts = _texts(values)
    numbers = texts.set(~texts.str.contains(_NUMBER).fill_null(False), None)
    as_integers, as_floats = numbers.cast(pl.Int64, strict=False), numbers.cast(pl.Float64, strict=False)
    exact = compare(as_integers, bound) if isinstance(bound, int) else compare(as_floats, bound)
    return exact.fill_null(compare(as_floats, float(bound))).fill_null(False)


def _texts(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        return values
    texts = values.cast(pl.String)
    if values.dtype == NUMERIC or values.dtype.is_float():  # 5, not 5.000000000
        pointed = texts.str.contains(r"^[^e]*\.[^e]*$").fill_null(False)
        return texts.str.strip_chars_end("0").str.strip_chars_end(".").zip_with(pointed, texts)
    return texts
