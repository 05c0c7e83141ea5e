"""Values of Arrow as JSON, for parquet.py: which columns Polars writes as they are, and the others, value by value.

`unwritable` finds what has no JSON form by the schema alone. Polars panics, or writes something else, for the values
that `is_plain` leaves to `texts`:

    times outside of the years 1 to 9999     text: `infinity`, `-infinity` (the last values of the type, which is how
                                             DuckDB and Spark write them), else the number with its unit, `1234567us`
    times of day outside of a day, durations beyond milliseconds    text, the same way
    times of a zone that is not known        RFC 3339 in UTC
    bytes, and texts that are no UTF-8       text if they are UTF-8, else base64; a UUID by its logical type as a UUID
    decimals                                 a column's own: a number with all its digits; within others: text
    maps                                     an object; with keys that are no scalars a list of {"key", "value"}
"""

import base64
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

MOST_DEPTH = 64
_DAY = 86_400
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = int((datetime(1, 1, 2, tzinfo=UTC) - _EPOCH).total_seconds())  # a day off the ends: in any zone of these years
_LAST = int((datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH).total_seconds())
_END = int((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH).total_seconds())
_types = pa.types
Spell = Callable[[Any], Any]  # an Arrow scalar that is not null -> what msgspec encodes


def unwritable(schema: pa.Schema) -> str | None:
    """What a file's columns have that has no JSON form, in words; None if they have nothing of it."""
    return next(_unwritable([*schema], "column", 0), None)


def _unwritable(fields: list[pa.Field], what: str, depth: int) -> Iterator[str]:
    names = [field.name for field in fields]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{what} {name!r} occurs {names.count(name)} times; give each a name of its own"
    for field in fields:
        kind = _storage(field.type)
        if depth >= MOST_DEPTH:
            yield f"{what} {field.name!r} is nested more than {MOST_DEPTH} deep"
        elif _types.is_struct(kind):
            yield from _unwritable([*kind], f"{what} {field.name!r}: field", depth + 1)
        elif _is_list(kind):
            yield from _unwritable([field.with_type(kind.value_type)], what, depth + 1)
        elif _types.is_map(kind):
            inner = [pa.field("key", kind.key_type), pa.field("value", kind.item_type)]
            yield from _unwritable(inner, f"{what} {field.name!r}: map's", depth + 1)
        elif _types.is_union(kind) or (_types.is_nested(kind) and not _types.is_run_end_encoded(kind)):
            yield f"{what} {field.name!r} holds {kind}, which has no JSON form"


def settled(column: pa.Array) -> pa.Array:
    """The column without what stands around its values: dictionaries of anything but text, and extensions of types."""
    if isinstance(column.type, pa.BaseExtensionType) and not isinstance(column.type, pa.UuidType):
        column = column.storage
    if _types.is_dictionary(column.type) and not _is_text(column.type.value_type):
        column = column.dictionary_decode()
    return column


def is_plain(column: pa.Array) -> bool:
    """Whether Polars writes each value of a column as JSON."""
    column.validate()  # the structure; what follows is of the values, such as a text that is no UTF-8
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return _is_plain(column)


def _is_plain(values: pa.Array) -> bool:
    kind = values.type
    if _types.is_struct(kind):
        return kind.num_fields > 0 and all(field.name for field in kind) and all(map(_is_plain, values.flatten()))
    if _types.is_list(kind) or _types.is_large_list(kind) or (_types.is_fixed_size_list(kind) and kind.list_size):
        return _is_plain(values.flatten())
    if _types.is_map(kind):
        return _is_text(kind.key_type) and _is_plain(values.keys) and _is_plain(values.items)
    if _types.is_dictionary(kind):
        return _is_text(kind.value_type)
    if _types.is_temporal(kind):
        return _in_range(values)
    return _is_text(kind) or _types.is_integer(kind) or _types.is_floating(kind) or kind in (pa.bool_(), pa.null())


def _in_range(values: pa.Array) -> bool:
    kind = values.type
    if not _types.is_date(kind) and not hasattr(kind, "unit"):
        return False  # intervals
    if _types.is_timestamp(kind) and not _polars_knows(kind.tz):
        return False
    if len(values) == values.null_count:
        return True
    numbers = values.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    least, most = (each.as_py() for each in pc.min_max(numbers).values())
    if _types.is_date32(kind):
        return least >= _FIRST // _DAY and most <= _LAST // _DAY
    per = 1_000 if _types.is_date64(kind) else _PER_SECOND[kind.unit]
    if _types.is_duration(kind):  # Polars has no seconds
        return per > 1 or abs(least) < 2**53 > abs(most)
    if _types.is_time(kind):
        return least >= 0 and most < _DAY * per
    return _FIRST * per <= least and most <= _LAST * per


@lru_cache(maxsize=256)
def _polars_knows(zone: str | None) -> bool:
    if zone is None or zone[:1] in "+-":  # an offset would become a zone of another spelling
        return zone is None
    try:
        pl.Series([0]).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone)
    except pl.exceptions.PolarsError:
        return False
    return True


def texts(column: pa.Array) -> pl.Series:
    """Each value of a column as JSON, String."""
    kind = column.type
    if _types.is_decimal(kind) and kind.bit_width <= 128 and kind.scale >= 0:
        digits = pl.from_arrow(column)
        assert isinstance(digits, pl.Series)
        return digits.cast(pl.String).fill_null("null")
    spell = _decimal_spelled if _types.is_decimal(kind) else _encoded(_spelled(kind))
    return pl.Series([spell(value) if value.is_valid else "null" for value in column], dtype=pl.String)


def _encoded(inner: Spell) -> Callable[[Any], str]:
    return lambda value: msgspec.json.encode(inner(value)).decode()


def _decimal_spelled(value: Any) -> str:
    return f"{value.as_py():f}"


def _spelled(kind: pa.DataType) -> Spell:
    """How to spell a value of this type."""
    if isinstance(kind, pa.UuidType):
        return lambda value: str(uuid.UUID(bytes=value.value.as_py()))
    if isinstance(kind, pa.BaseExtensionType) or _types.is_dictionary(kind) or _types.is_run_end_encoded(kind):
        inner = _spelled(kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type)
        return lambda value: _or_null(inner, value.value)
    if _is_list(kind):
        inner = _spelled(kind.value_type)
        return lambda value: [_or_null(inner, each) for each in value.values]
    if _types.is_struct(kind):
        inners = [(field.name, _spelled(field.type)) for field in kind]
        return lambda value: {name: _or_null(inner, value[at]) for at, (name, inner) in enumerate(inners)}
    if _types.is_map(kind):
        return _map_spelled(kind)
    if _types.is_temporal(kind):
        return _time_spelled(kind)
    if _types.is_decimal(kind):
        return _decimal_spelled
    if _is_text(kind) or _types.is_binary(kind) or _types.is_large_binary(kind) or _types.is_binary_view(kind):
        return lambda value: text(value.as_buffer().to_pybytes())
    if _types.is_fixed_size_binary(kind):
        return lambda value: text(value.as_py())
    if _types.is_floating(kind):
        return lambda value: float(value.as_py())
    return lambda value: value.as_py()


def _or_null(inner: Spell, value: Any) -> Any:
    return inner(value) if value is not None and value.is_valid else None


def _map_spelled(kind: pa.MapType) -> Spell:
    key_of, value_of = _spelled(kind.key_type), _spelled(kind.item_type)

    def spelled(value: Any) -> Any:
        pairs = [(_or_null(key_of, pair[0]), _or_null(value_of, pair[1])) for pair in value.values]
        if any(isinstance(key, dict | list) for key, _ in pairs):
            return [{"key": key, "value": value} for key, value in pairs]
        named = ((key if isinstance(key, str) else msgspec.json.encode(key).decode(), value) for key, value in pairs)
        return dict(named)

    return spelled


def _time_spelled(kind: pa.DataType) -> Spell:
    if _types.is_date32(kind):
        return lambda value: _date(value.value)
    if _types.is_date64(kind):
        return lambda value: _instant(value.value, 1_000, "ms", 64)
    if not hasattr(kind, "unit"):  # months, days and nanoseconds
        return lambda value: str(value.as_py())
    unit, per = kind.unit, _PER_SECOND[kind.unit]
    if _types.is_timestamp(kind):
        return lambda value: _instant(value.value, per, unit, 64)
    if _types.is_duration(kind):
        return lambda value: _duration(value.value, per)
    return lambda value: _of_day(value.value, per, unit)


def _date(days: int) -> str:
    if _edge := _infinite(days, 32):
        return _edge
    year_one = -719_162
    in_range = year_one <= days <= _END // _DAY
    return (_EPOCH + timedelta(days=days)).date().isoformat() if in_range else f"{days}d"


def _instant(number: int, per: int, unit: str, bits: int) -> str:
    if _edge := _infinite(number, bits):
        return _edge
    if not (_FIRST - _DAY) * per <= number < (_END + 1) * per:
        return f"{number}{unit}"
    seconds, rest = divmod(number, per)
    return f"{(_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]}{_fraction(rest, per)}+00:00"


def _infinite(number: int, bits: int) -> str | None:
    most = 2 ** (bits - 1) - 1
    return "infinity" if number == most else "-infinity" if number <= -most else None


def _of_day(number: int, per: int, unit: str) -> str:
    if not 0 <= number < _DAY * per:
        return f"{number}{unit}"
    seconds, rest = divmod(number, per)
    return f"{(_EPOCH + timedelta(seconds=seconds)).time().isoformat()}{_fraction(rest, per)}"


def _fraction(rest: int, per: int) -> str:
    """As Polars writes it: of 3, 6 or 9 digits, none where it is 0."""
    if not rest:
        return ""
    digits = str(rest * (1_000_000_000 // per)).zfill(9)
    short = next(size for size in (3, 6, 9) if not digits[size:].strip("0"))
    return f".{digits[:short]}"


def _duration(number: int, per: int) -> str:
    """As Polars writes it."""
    seconds, rest = divmod(abs(number), per)
    digits = str(rest * (1_000_000_000 // per)).zfill(9).rstrip("0")
    shown = f"{seconds}.{digits}" if digits else str(seconds)
    return f"{'-' if number < 0 else ''}PT{shown}S" if number else "P0D"


def text(value: bytes) -> str:
    """Bytes as text if they are UTF-8, else in base64."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _is_list(kind: pa.DataType) -> bool:
    return (
        _types.is_list(kind)
        or _types.is_large_list(kind)
        or _types.is_fixed_size_list(kind)
        or _types.is_list_view(kind)
        or _types.is_large_list_view(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return _types.is_string(kind) or _types.is_large_string(kind) or _types.is_string_view(kind)


def _storage(kind: pa.DataType) -> pa.DataType:
    while isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind.value_type if _types.is_dictionary(kind) else kind
