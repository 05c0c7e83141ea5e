"""The functions that a value of a mapping names, and how they are applied to a column, one after the other.

A name, or a map of one key for a function that needs more: `functions: [trim, {split: {by: "|", at: 0}}, upper]`.
Regular expressions are those of Rust, which take time in proportion to the text, whatever the text is.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec
import polars as pl
from msgspec import Meta

from transforms.mapping import texts as of_text
from transforms.mapping.functions import Column, lower, number, snake, texts_of, trim, upper
from transforms.records.paths import parse_path

MOST_PATTERN = 1_000  # characters of a regular expression
MOST_PIECES = 100_000
_SIGNS = f"+-{of_text.MINUS}()0123456789"


def _of(text: str, *examples: object) -> Meta:
    return Meta(description=text, examples=list(examples))


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A piece of a text that is cut at a separator."""

    by: Annotated[str, _of("The separator, taken literally", "|")]
    at: Annotated[int, _of("Which piece: 0 is the first, -1 the last; no such piece is no value", 0)]

    def __post_init__(self):
        if not self.by:
            raise ValueError(".by: got '', allowed a separator of one or more characters")
        if abs(self.at) > MOST_PIECES:
            raise ValueError(f".at: got {self.at}, allowed {-MOST_PIECES} to {MOST_PIECES}")


class NumberForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How numbers are written."""

    decimal: Annotated[Literal[".", ","], _of("The decimal sign", ",")] = "."
    group: Annotated[
        str | None,
        _of(
            "The signs that may group thousands, each a character; '' for none. By default the comma or the dot that is"
            " not the decimal sign, apostrophes, blanks and, beside a decimal point, the underscore",
            ".",
        ),
    ] = None
    unit: Annotated[
        str | tuple[str, ...], _of("Units that may stand before or behind the number", "€", ["°C", "K"])
    ] = ()

    def __post_init__(self):
        if self.group is not None and (self.decimal in self.group or any(at.isalnum() for at in self.group)):
            allowed = "characters that are no letters, no digits and not the decimal sign"
            raise ValueError(f".group: got {self.group!r}, allowed {allowed}")
        for unit in self.units():
            if not unit.strip() or any(at in _SIGNS for at in (unit.strip()[0], unit.strip()[-1])):
                raise ValueError(
                    f".unit: got {unit!r}, allowed a text that neither begins nor ends with a sign or digit"
                )

    def units(self) -> tuple[str, ...]:
        """The units as a list."""
        return (self.unit,) if isinstance(self.unit, str) else self.unit


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A function with arguments: exactly one of these keys."""

    extract: Annotated[
        str | None,
        _of("A regular expression: its first group, or all that it finds; nothing found is no value", "^[A-Z]+ (\\S+)"),
    ] = None
    split: Annotated[Split | None, _of("The piece at a place, cut at a separator", {"by": "|", "at": 0})] = None
    url: Annotated[
        Literal["host", "path", "query", "fragment"] | None,
        _of("A part of a URL; a URL without a host, such as /a?b=c, has the others", "path"),
    ] = None
    query: Annotated[str | None, _of("The value of a parameter in the query of a URL, decoded", "utm_source")] = None
    json: Annotated[str | None, _of("The value at this path of the JSON that a text holds", "item.id")] = None
    number: Annotated[
        NumberForm | None, _of("A number as it is written elsewhere, such as 1.355,90 €", {"decimal": ",", "unit": "€"})
    ] = None
    absent: Annotated[
        tuple[str, ...] | None, _of("Texts that are no value, after blanks around them are cut", ["-", "(none)"])
    ] = None

    def __post_init__(self):
        stated = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        if len(stated) != 1:
            got = " and ".join(stated) or "no function"
            raise ValueError(f"got {got}, allowed exactly one of {', '.join(self.__struct_fields__)}")
        if self.query == "":
            raise ValueError(".query: got '', allowed the name of a parameter")
        if self.absent == ():
            raise ValueError(".absent: got nothing in it, allowed one or more")
        if self.extract is not None:
            _check_pattern(self.extract)
        if self.json is not None:
            try:
                parse_path(of_text.inside(self.json))
            except ValueError as problem:
                raise ValueError(f".json: {str(problem).replace(of_text.inside(self.json), self.json)}") from None

    @property
    def cuts(self) -> bool:
        """Whether the value is a part of what it is applied to, so that the whole of it stays in `extra`."""
        return self.number is None and self.absent is None


Name = Literal["lower", "upper", "trim", "snake", "number", "percent_decode", "absent"]
Function = Name | Call
_OF_TEXTS: dict[str, Callable[[pl.Series], pl.Series]] = {
    "lower": lower,
    "upper": upper,
    "trim": trim,
    "snake": snake,
    "percent_decode": of_text.percent_decode,
    "absent": of_text.without_null_like,
}


def _check_pattern(pattern: str) -> None:
    allowed = f"a regular expression of Rust with at most one group and {MOST_PATTERN:,} characters"
    try:
        one = len(pattern) <= MOST_PATTERN and of_text.groups_of(pattern) <= 1
        pl.Series([""]).str.extract(pattern, 0)
    except pl.exceptions.PolarsError:
        one = False
    if not one:
        raise ValueError(f".extract: got {pattern!r}, allowed {allowed}; (?:...) groups without being one")


def apply(column: Column, functions: Sequence[Function]) -> Column:
    """The functions, one after the other."""
    for function in functions:
        if isinstance(function, Call):
            column = _called(function, column)
        elif function == "number":
            made = number(column.values)
            column = Column(made.values, column.failures + made.failures)
        else:
            column = column._replace(values=_OF_TEXTS[function](texts_of(column.values)))
    return column


def _called(call: Call, column: Column) -> Column:
    if call.json is not None:
        return of_text.read_inside(column, call.json)
    values, failures, *_ = column
    if call.number is not None:
        form = call.number
        made = of_text.read_number(values, form.decimal, form.group, form.units())
        return Column(made.values, failures + made.failures)
    texts = texts_of(values)
    if call.extract is not None:
        return Column(of_text.extract(texts, call.extract), failures)
    if call.split is not None:
        return Column(of_text.piece(texts, call.split.by, call.split.at), failures)
    if call.url is not None:
        return Column(of_text.part_of_url(texts, call.url), failures)
    if call.query is not None:
        return Column(of_text.query_parameter(texts, call.query), failures)
    return Column(of_text.without(texts, call.absent or ()), failures)
