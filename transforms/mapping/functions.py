"""The functions of a mapping, over columns.

An intermediate value is a Series of String, Int64 or Boolean, the common types of JSON values, so that numbers need not
be converted to text and back. If a function cannot be applied to a value, that is a `Failure`, and the value is
unchanged or becomes null.
"""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from itertools import compress
from typing import Any, NamedTuple

import polars as pl
import xxhash

from transforms.block import NUMERIC, SEPARATOR, TIME
from transforms.json_objects import encode_json
from transforms.numbers import VALUE_DIGITS, floor_to_nine_places, to_nine_places
from transforms.records.iso_times import read_iso_times
from transforms.records.patterns import read_formatted
from transforms.records.times import EPOCH_UNITS, RFC3339, keep_in_range, read_epochs
from transforms.records.zones import localize

TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no")
_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_PRECISE = r"[eE]|\.[0-9]{10}"  # Polars rounds half to even; BigQuery half away from zero, and so do we
_INEXACT = re.compile(r"[eE]|\.[0-9]{10}|[0-9]{19}")  # rounded by us, or too large
_FLOATS = re.compile(r"(?:[+-]?[0-9]{1,15}(?:\.[0-9]{0,15})?(?:\n|\Z))*")
_GROUPED = r"^[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?$"
_NANOSECONDS = r"^([0-9]{1,19})(?:\.[0-9]*)?$"
_TOO_LARGE = Decimal(10) ** VALUE_DIGITS


class Failure(NamedTuple):
    """Rows (Boolean, no nulls) whose value could not be converted."""

    code: str
    message: str
    rows: pl.Series


class Column(NamedTuple):
    """Values: String, Int64 or Boolean, what failed on the way to them, and what was read and is not among them.

    replaced   the rows (Boolean) whose value a map replaced
    passed     paths of which another was chosen, and the rows (Boolean) where they had another value than that
    """

    values: pl.Series
    failures: tuple[Failure, ...] = ()
    replaced: pl.Series | None = None
    passed: tuple[tuple[str, pl.Series], ...] = ()


def column_of(values: Sequence[Any] | pl.Series) -> Column:
    """Return JSON values as a column: all strings, all integers or all booleans unchanged, else their JSON text."""
    if isinstance(values, pl.Series):
        return Column(values)
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {str}:
        return Column(pl.Series(values, dtype=pl.String))
    if kinds == {bool}:
        return Column(pl.Series(values, dtype=pl.Boolean))
    if kinds == {int}:
        try:
            return Column(pl.Series(values, dtype=pl.Int64))
        except (TypeError, OverflowError):
            pass  # beyond 64 bits: its digits
    texts = pl.Series([at if at is None or type(at) is str else _json(at) for at in values], dtype=pl.String)
    if kinds.isdisjoint((dict, list)):
        return Column(texts)
    nested = pl.Series([type(at) is dict or type(at) is list for at in values], dtype=pl.Boolean)
    return Column(texts, (Failure("not_a_text", "an object or a list where one value is wanted", nested),))


def _json(value: Any) -> str:
    return str(value) if type(value) is int or type(value) is Decimal else encode_json(value).decode()


def constant(value: Any, dtype: Any, height: int) -> pl.Series:
    """A column of one value."""
    return pl.Series([value], dtype=dtype).new_from_index(0, height)


def texts_of(values: pl.Series) -> pl.Series:
    """String: numbers and booleans as JSON writes them."""
    return values if values.dtype == pl.String else values.cast(pl.String)


# Functions that a field names: String in, String out.


def lower(texts: pl.Series) -> pl.Series:
    return texts.str.to_lowercase()


def upper(texts: pl.Series) -> pl.Series:
    return texts.str.to_uppercase()


def trim(texts: pl.Series) -> pl.Series:
    return texts.str.strip_chars()


def snake(texts: pl.Series) -> pl.Series:
    """PageView, page-view and "Page view" are page_view; HTTPError is http_error."""
    worded = texts.str.replace_all(r"(\p{Ll}|\d)(\p{Lu})", "${1}_${2}")
    worded = worded.str.replace_all(r"(\p{Lu})(\p{Lu}\p{Ll})", "${1}_${2}")
    return worded.str.replace_all(r"[^\p{L}\p{N}]+", "_").str.strip_chars("_").str.to_lowercase()


def number(values: pl.Series) -> Column:
    """Return a number's text without surrounding blanks and thousands separators; else not_a_number."""
    if values.dtype == pl.Int64:
        return Column(values)
    texts = trim(texts_of(values))
    grouped = texts.str.contains(_GROUPED).fill_null(False)
    if grouped.any():
        texts = texts.str.replace_all(",", "", literal=True).zip_with(grouped, texts)
    wrong = ~texts.str.contains(_NUMBER).fill_null(True)
    if not wrong.any():
        return Column(texts)
    return Column(texts, (Failure("not_a_number", "not a number", wrong),))


def translate(column: Column, table: dict[str, str], otherwise: str | None) -> Column:
    """Translate each value by the table; a missing one becomes `otherwise`, or unmapped_value."""
    texts = texts_of(column.values)
    known, made = list(table), list(table.values())
    values = texts.replace_strict(known, made, default=otherwise, return_dtype=pl.String)
    if otherwise is not None:
        replaced = ~texts.is_in(known).fill_null(True)
        values = values.set(texts.is_null(), None) if texts.null_count() else values
        return Column(values, column.failures, replaced if replaced.any() else None)
    if values.null_count() == texts.null_count():
        return Column(values, column.failures)
    lacking = values.is_null() & texts.is_not_null()
    message = f"a value that is missing from the map; it has {', '.join(table)}"
    # The value is kept: a time that is not in the map was still given.
    failure = Failure("unmapped_value", message, lacking)
    return Column(texts.zip_with(lacking, values), (*column.failures, failure))


def coalesce(columns: Sequence[Column]) -> Column:
    """Return the first value that is not null. A failure counts only if its value is the one used."""
    values, failures = texts_of(columns[0].values), columns[0].failures
    for column in columns[1:]:
        missing = values.is_null()
        if not missing.any():
            break
        failures += tuple(failure._replace(rows=failure.rows & missing) for failure in column.failures)
        values = values.zip_with(~missing, texts_of(column.values))
    return Column(values, failures)


def concat(columns: Sequence[Column]) -> Column:
    """Concatenate the texts; null if one of them is null."""
    return _joined(columns, pl.concat_str(_numbered(columns)))


def hash_texts(columns: Sequence[Column]) -> Column:
    """Return xxh3-128 of the texts, separated, as 32 hex digits; a null counts as empty, unless all are null."""
    parts = _numbered(columns)
    texts = pl.concat_str(parts, separator=SEPARATOR)
    if any(column.values.null_count() for column in columns):
        filled = pl.concat_str([part.fill_null("") for part in parts], separator=SEPARATOR)
        texts = pl.when(pl.any_horizontal(part.is_not_null() for part in parts)).then(filled)
    values, failures, *_ = _joined(columns, texts)
    digest = xxhash.xxh3_128_hexdigest
    digests = [None if text is None else digest(text) for text in values.cast(pl.Binary).to_list()]
    return Column(pl.Series(digests, dtype=pl.String), failures)


def _numbered(columns: Sequence[Column]) -> list[pl.Expr]:
    return [pl.col(str(at)) for at in range(len(columns))]


def _joined(columns: Sequence[Column], texts: pl.Expr) -> Column:
    frame = pl.DataFrame({str(at): texts_of(column.values) for at, column in enumerate(columns)})
    failures = tuple(failure for column in columns for failure in column.failures)
    return Column(frame.select(texts=texts)["texts"], failures)


def concatenate(columns: Sequence[Column]) -> Column:
    """Concatenate columns; a failure keeps its rows."""
    dtypes = {column.values.dtype for column in columns if column.values.null_count() < len(column.values)}
    dtype = dtypes.pop() if len(dtypes) == 1 else pl.String
    values = pl.concat([_as_kind(column.values, dtype) for column in columns])
    if not any(column.failures for column in columns):
        return Column(values)
    rows: dict[tuple[str, str], list[pl.Series]] = {}
    for at, column in enumerate(columns):
        for code, message, marked in column.failures:
            none = [pl.repeat(False, len(other.values), eager=True) for other in columns]
            parts = rows.setdefault((code, message), none)
            parts[at] = marked
    return Column(values, tuple(Failure(*which, pl.concat(parts)) for which, parts in rows.items()))


def _as_kind(values: pl.Series, dtype: Any) -> pl.Series:
    if values.dtype == dtype:
        return values
    nothing = values.null_count() == len(values)
    return pl.Series([None] * len(values), dtype=dtype) if nothing else texts_of(values)


# Casts: a column to the dtype of a field; what cannot be cast is null and a failure.

_UNFIT = {
    NUMERIC: ("not_a_number", f"not a number of at most {VALUE_DIGITS} digits before the point"),
    pl.Int64: ("not_an_integer", "not an integer of 64 bits"),
    pl.Float64: ("not_a_number", "not a finite number"),
    pl.Boolean: ("not_a_boolean", f"not one of {', '.join(TRUE + FALSE)}"),
}


def cast(column: Column, dtype: Any) -> Column:
    """The values as the dtype of a field: String, NUMERIC, Int64, Float64 or Boolean."""
    values, failures, *_ = column
    if dtype == pl.String:
        return Column(texts_of(values), failures)
    if values.null_count() == len(values):
        return Column(constant(None, dtype, len(values)), failures)
    fit = _CASTS[dtype](values)
    if fit.null_count() == values.null_count():
        return Column(fit, failures)
    return Column(fit, (*failures, Failure(*_UNFIT[dtype], fit.is_null() & values.is_not_null())))


def to_numeric(values: pl.Series, rounded: Callable[[Decimal], Decimal | None] = to_nine_places) -> pl.Series:
    """Convert to Decimal(38, 9), rounded half away from zero unless stated; null if not a number or too large."""
    if values.dtype == pl.Int64:
        return _within(values.cast(NUMERIC))
    texts = texts_of(values)
    if not _INEXACT.search("\n".join(filter(None, texts.to_list()))):
        return texts.cast(NUMERIC, strict=False)
    numbers = _within(texts.cast(NUMERIC, strict=False))
    precise = texts.str.contains(_PRECISE)
    if precise.any():
        at = precise.arg_true()
        exact = [decimal_of(text) for text in texts[at].to_list()]
        fitted = [None if number is None else rounded(number) for number in exact]
        numbers = numbers.scatter(at, pl.Series(fitted, dtype=NUMERIC))
    return numbers


def _within(numbers: pl.Series) -> pl.Series:
    fits = numbers.is_between(-_TOO_LARGE, _TOO_LARGE, closed="none")
    return numbers if fits.all() else numbers.set(~fits.fill_null(False), None)


def decimal_of(text: str) -> Decimal | None:
    """The number that a text is, exactly; None if it is none."""
    if not re.match(_NUMBER, text) or text.endswith("\n"):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond any number
        return None


def _to_integer(values: pl.Series) -> pl.Series:
    if values.dtype == pl.Int64:
        return values
    texts = texts_of(values)
    integers = texts.cast(pl.Int64, strict=False)
    if integers.null_count() == texts.null_count():
        return integers
    rest = (integers.is_null() & texts.is_not_null()).arg_true()
    return integers.scatter(rest, pl.Series([_whole(text) for text in texts[rest].to_list()], dtype=pl.Int64))


def _whole(text: str) -> int | None:
    """The integer that a text such as 12.0 or 1E+3 is too."""
    exact = decimal_of(text)
    if exact is None or exact.adjusted() > 18 or exact != exact.to_integral_value():
        return None
    return int(exact) if -(2**63) <= exact < 2**63 else None


def _to_float(values: pl.Series) -> pl.Series:
    texts = texts_of(values)
    floats = texts.cast(pl.Float64, strict=False)
    if _FLOATS.fullmatch("\n".join(filter(None, texts.to_list()))) and floats.null_count() == texts.null_count():
        return floats
    return floats.set(~(floats.is_finite() & texts.str.contains(_NUMBER)).fill_null(False), None)


def _to_boolean(values: pl.Series) -> pl.Series:
    if values.dtype == pl.Boolean:
        return values
    table = dict.fromkeys(TRUE, True) | dict.fromkeys(FALSE, False)
    if {*values.to_list()} <= {"true", "false", None}:
        return values == "true"
    texts = lower(texts_of(values))
    return texts.replace_strict(list(table), list(table.values()), default=None, return_dtype=pl.Boolean)


_CASTS: dict[Any, Callable[[pl.Series], pl.Series]] = {
    NUMERIC: to_numeric,
    pl.Int64: _to_integer,
    pl.Float64: _to_float,
    pl.Boolean: _to_boolean,
}


def to_times(columns: Sequence[pl.Series], form: str) -> list[pl.Series]:
    """Columns of one height as by `to_time`, read as one: a call costs more than the times of a small block."""
    if form != RFC3339 or len(columns) == 1:
        return [to_time(values, form) for values in columns]
    height, given = len(columns[0]), [values.null_count() < len(values) for values in columns]
    texts = [texts_of(values) for values in compress(columns, given)]
    times = read_iso_times(pl.concat(texts)) if texts else None
    starts = iter(range(0, height * len(columns), height or 1))
    nothing = constant(None, TIME, height)
    return [times.slice(next(starts), height) if times is not None and any_text else nothing for any_text in given]


def to_time(values: pl.Series, form: str, zones: str | pl.Series | None = None) -> pl.Series:
    """Datetime(us, UTC), null where unreadable.

    form   s, ms, us, ns, rfc3339 or a strptime pattern
    zones  of times that state none, one for all or one a row (String); UTC without. A number counts from a 1970 of the
           zone's own clock
    """
    if form in EPOCH_UNITS:
        times = read_epochs(_counts(values, form), form)
        return times if zones is None else keep_in_range(localize(times.dt.replace_time_zone(None), zones))
    texts = texts_of(values)
    if texts.null_count() == len(texts):
        return constant(None, TIME, len(texts))
    return read_iso_times(texts, zones) if form == RFC3339 else keep_in_range(read_formatted(texts, form, zones))


def _counts(values: pl.Series, unit: str) -> pl.Series:
    """The counts of a unit since 1970 as Int64 or Decimal(38, 9)."""
    if values.dtype == pl.Int64:
        return values
    if unit == "ns":  # more digits than a NUMERIC of ours; no part of one is read
        return texts_of(values).str.extract(_NANOSECONDS).cast(pl.Int64, strict=False)
    return to_numeric(values, floor_to_nine_places)
