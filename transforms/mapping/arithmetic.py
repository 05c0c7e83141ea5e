"""Arithmetic of a mapping over columns: exact, rounded to nine places half away from zero."""

from collections.abc import Callable, Iterable, Sequence
from decimal import ROUND_05UP, Context, Decimal
from functools import reduce

import polars as pl

from transforms.mapping.functions import Column, Failure, decimal_of, texts_of
from transforms.numbers import VALUE_DIGITS, to_nine_places

_EXACT = Context(prec=120, rounding=ROUND_05UP)  # a later rounding to nine places comes out as if it were the only one
_PLACES = {  # ISO 4217: currencies by the decimal places of their minor unit; all others have two
    0: (
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "ISK",
        "JPY",
        "KMF",
        "KRW",
        "PYG",
        "RWF",
        "UGX",
        "UYI",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    ),
    3: ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"),
    4: ("CLF", "UYW"),
}
_NOT_TWO_PLACES = {code: places for places, codes in _PLACES.items() for code in codes}
_CURRENCY = r"^[A-Z]{3}$"


def product(columns: Sequence[Column]) -> Column:
    """Return the product of numbers; null if one of them is null."""
    return _reckon(columns, _EXACT.multiply, "factor", "product")


def total(columns: Sequence[Column]) -> Column:
    """Return the sum of numbers; null if one of them is null."""
    return _reckon(columns, _EXACT.add, "summand", "sum")


def difference(columns: Sequence[Column]) -> Column:
    """Return the first number less the others; null if one of them is null."""
    return _reckon(columns, _EXACT.subtract, "term", "difference")


def quotient(columns: Sequence[Column]) -> Column:
    """Return the first number divided by the others; null if one of them is null, not_a_number if a divisor is 0."""
    return _reckon(columns, _EXACT.divide, "divisor or dividend", "quotient")


def to_major_units(column: Column, currencies: Column, digits: dict[str, int]) -> Column:
    """Return amounts in minor units (cents) in major units, by the decimal places of their currency.

    digits   decimal places of currencies that differ from ISO 4217
    """
    codes = texts_of(currencies.values).str.strip_chars().str.to_uppercase()
    known = codes.str.contains(_CURRENCY).fill_null(False)
    table = _NOT_TWO_PLACES | digits
    scales = {code: format(Decimal(1).scaleb(-places), "f") for code, places in table.items()}
    factors = codes.replace_strict(list(scales), list(scales.values()), default="0.01", return_dtype=pl.String)
    values, failures, *_ = product([column, Column(factors.set(~known, "1"))])
    unknown = ~known & column.values.is_not_null()
    if unknown.any():
        message = "an amount in minor units whose currency is not three letters, as ISO 4217 writes them"
        failures += (Failure("unknown_currency", message, unknown),)
    return Column(values, failures)


def _reckon(columns: Sequence[Column], combine: Callable, part: str, whole: str) -> Column:
    lists = [texts_of(column.values).to_list() for column in columns]
    failures = tuple(failure for column in columns for failure in column.failures)
    numbers = [[None if text is None else decimal_of(text) for text in texts] for texts in lists]
    made = [None if None in row else _combined(combine, row) for row in zip(*numbers, strict=True)]
    values = pl.Series([None if number is None else format(number, "f") for number in made], dtype=pl.String)
    complete = pl.Series([None not in row for row in zip(*lists, strict=True)], dtype=pl.Boolean)
    unread = [pl.Series([at is None for at in column], dtype=pl.Boolean) for column in numbers]
    wrong = complete & values.is_null()
    for column, absent in zip(columns, unread, strict=True):
        wrong = wrong | (absent & column.values.is_not_null())
    if not wrong.any():
        return Column(values, failures)
    message = f"a {part} that is not a number, or a {whole} of more than {VALUE_DIGITS} digits before the point"
    return Column(values, (*failures, Failure("not_a_number", message, wrong)))


def _combined(combine: Callable, numbers: Iterable[Decimal]) -> Decimal | None:
    try:
        return to_nine_places(reduce(combine, numbers))
    except ArithmeticError:
        return None
