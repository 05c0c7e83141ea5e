"""The native format: one JSON object per event, decoded and type-checked by msgspec.

A slice of records is decoded without a step of Python for each of them, and becomes columns while its texts are in the
processor's cache. A record that this refuses, or that is in doubt, is judged by itself (`_decode_native`): it may have
a field that is not in the contract, which goes to `extra`, or be no event at all.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import polars as pl
from msgspec.structs import astuple

from transforms.block import FIELDS, ORIGIN, PARSED_SCHEMA, VALUE_DIGITS, hash128
from transforms.records.numbers import to_nine_places
from transforms.records.payloads import (
    DEEPEST,
    UNREADABLE,
    check_depth,
    decode_each,
    decode_object,
    encode_json,
    error_of,
    errors_json,
    refuse,
)
from transforms.records.times import read_stated
from transforms.stage import rejections

TRANSPORT = ("received_time", "sent_time")  # about how a record travelled: not part of a derived id
SLICE_ROWS = 2_048  # made into columns at a time: while their strings are in the processor's cache
INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class NativeEvent(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The native format: one JSON object. Times may have any type here: an unreadable time is not an error."""

    event_id: str | None = None
    event_type: str | None = None
    event_time: Any = None
    sent_time: Any = None
    received_time: Any = None
    source: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    session_id: str | None = None
    content_id: str | None = None
    content_type: str | None = None
    category: str | None = None
    channel: str | None = None
    campaign: str | None = None
    referrer: str | None = None
    country: str | None = None
    device: str | None = None
    value: Any = None  # as Decimal it could also be a text, even "NaN"
    currency: str | None = None
    quantity: INT64 | None = None
    is_bot: bool | None = None
    text: str | None = None
    rating: float | None = None
    properties: msgspec.Raw = msgspec.Raw(b"")


class OpenEvent(NativeEvent, gc=False, forbid_unknown_fields=False):
    """The same with custom fields: slower, since the record is decoded twice."""


KNOWN = frozenset(NativeEvent.__struct_fields__)
_decode = msgspec.json.Decoder(NativeEvent, float_hook=Decimal).decode
_decode_open = msgspec.json.Decoder(OpenEvent, float_hook=Decimal).decode
_NUMBERS = {type(None), int, Decimal}
_NO_NUMBER = "Expected `number | null` - at `$.value`"


# An event as a tuple: where each field is, and which of them become columns as they are.
_AT = {name: at for at, name in enumerate(NativeEvent.__struct_fields__)}
_ID, _SOURCE, _VALUE, _PROPERTIES = (_AT[name] for name in ("event_id", "source", "value", "properties"))
_EVENT_TIME, _SENT_TIME, _RECEIVED_TIME = (_AT[name] for name in ("event_time", "sent_time", "received_time"))
_PLAIN = [(name, _AT[name], dtype) for name, dtype in FIELDS.items() if name not in ("value", "properties", "extra")]
_NO_EVENT = astuple(NativeEvent())
_NO_PROPERTIES = _NO_EVENT[_PROPERTIES]
_CLIENT = "client"
Columns = list[Sequence[Any]]  # what records state, in the order of NativeEvent


def parse_native(raw: pl.DataFrame, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Decode native events to (PARSED_SCHEMA block, rejected). `source` is for records that do not state one."""
    reader, frames = _Reader(raw["payload"], source), []
    queued = not raw["received_time"].null_count()
    kept: list[int] = []
    unfit: list[int] = []
    for start in range(0, len(raw) or 1, SLICE_ROWS):
        columns, rows = reader.read(range(start, min(start + SLICE_ROWS, len(raw))))
        frame, over = _frame(columns, rows, reader, queued)
        frames.append(frame)
        unfit += [len(kept) + at for at in over]
        kept += rows
    origin = raw[kept] if reader.refused else raw
    block = _settle(frames[0] if len(frames) == 1 else pl.concat(frames), origin, queued)
    refused = [(row, *reader.refused[row]) for row in sorted(reader.refused)]
    rejected = refuse(raw.with_columns(source=pl.lit(source)) if refused else raw, refused, "native")
    return _set_aside(block, unfit, rejected) if unfit else (block, rejected)


class _Reader:
    """Decodes the records of a block, and notes of rows: (code, errors) if refused, a derived id, unknown fields."""

    def __init__(self, column: pl.Series, source: str):
        self.payloads, self.source = column.to_list(), source
        self.doubtful = _doubtful(column, self.payloads)
        self.refused: dict[int, tuple[str, str]] = {}
        self.derived: set[int] = set()
        self.extra: dict[int, str] = {}

    def read(self, rows: range) -> tuple[Columns, Sequence[int]]:
        """Return the columns of those of the rows that are events, and their rows."""
        plain = self.payloads[rows.start : rows.stop]
        for row in self.doubtful.intersection(rows) if self.doubtful else ():
            plain[row - rows.start] = b""  # which is judged, as whatever cannot be decoded
        events = decode_each(map(astuple, map(_decode, plain)), lambda at: self._judge(rows[at]))
        columns: Columns = list(zip(*events, strict=True)) or [()] * len(_AT)
        if not _NUMBERS.issuperset(map(type, columns[_VALUE])):
            for row, value in zip(rows, columns[_VALUE], strict=True):
                if type(value) not in _NUMBERS:
                    self._refuse(row, msgspec.ValidationError(_NO_NUMBER))
        if not all(columns[_ID]):
            columns[_ID] = self._identified(columns, rows)
        if self.refused.keys().isdisjoint(rows):
            return columns, rows
        kept = [at for at, row in enumerate(rows) if row not in self.refused]
        return [[column[at] for at in kept] for column in columns], [rows[at] for at in kept]

    def _judge(self, row: int) -> tuple:
        try:
            event, unknown = _decode_native(self.payloads[row])
        except UNREADABLE as problem:
            self._refuse(row, problem)
            return _NO_EVENT
        if unknown is not None:
            self.extra[row] = unknown
        return astuple(event)

    def _refuse(self, row: int, problem: Exception) -> None:
        self.refused[row] = error_of(problem)

    def _identified(self, columns: Columns, rows: range) -> list[str]:
        ids = list(columns[_ID])
        for at, row in enumerate(rows):
            if ids[at] is None and row not in self.refused:
                try:
                    ids[at] = _id_of(columns[_SOURCE][at], self.payloads[row], self.source)
                    self.derived.add(row)
                except UNREADABLE as problem:
                    self._refuse(row, problem)
        return ids


def _doubtful(column: pl.Series, payloads: list[bytes]) -> set[int]:
    """Return the rows that may be refused though msgspec accepts them: it does not look into what stays raw."""
    found = {row for row, payload in enumerate(payloads) if len(payload) > DEEPEST and _refuses(check_depth, payload)}
    try:
        column.cast(pl.String)
    except pl.exceptions.PolarsError:
        found.update(row for row, payload in enumerate(payloads) if _refuses(bytes.decode, payload))
    return found


def _refuses(check: Callable[[bytes], Any], payload: bytes) -> bool:
    try:
        check(payload)
    except UNREADABLE:
        return True
    return False


def _frame(columns: Columns, rows: Sequence[int], reader: _Reader, queued: bool) -> tuple[pl.DataFrame, list[int]]:
    """(what records state, as columns of PARSED_SCHEMA; the rows of it whose value NUMERIC cannot hold)."""
    height, derived, extra, source = len(rows), reader.derived, reader.extra, reader.source
    event_time, stated = columns[_EVENT_TIME], columns[_SOURCE]
    value, unfit = numerics(columns[_VALUE])
    times = [event_time, columns[_SENT_TIME], [None] * height if queued else columns[_RECEIVED_TIME]]
    client_time, sent_time, received_time = read_stated(times)
    made: dict[str, Any] = {
        "value": value,
        "properties": [None if at is _NO_PROPERTIES else _text_of(at) for at in columns[_PROPERTIES]],
        "extra": None if extra.keys().isdisjoint(rows) else [extra.get(row) for row in rows],
        "id_source": _CLIENT
        if derived.isdisjoint(rows)
        else ["derived" if row in derived else _CLIENT for row in rows],
        "client_time_given": True if all(event_time) else [time is not None for time in event_time],
        "source": source if stated.count(None) == height else [source if at is None else at for at in stated],
    }
    series = [pl.Series(name, columns[at], dtype=dtype) for name, at, dtype in _PLAIN]
    series += [column_of(name, values, PARSED_SCHEMA[name], height) for name, values in made.items()]
    series += [client_time.alias("client_time"), sent_time.alias("sent_time"), received_time.alias("received_time")]
    return pl.DataFrame(series), unfit


def column_of(name: str, values: Any, dtype: Any, height: int) -> pl.Series:
    """Return a column of a list of values, or of the same value in each row."""
    if isinstance(values, list):
        return pl.Series(name, values, dtype=dtype)
    return pl.Series(name, [values], dtype=dtype).new_from_index(0, height)


def _settle(stated: pl.DataFrame, origin: pl.DataFrame, queued: bool) -> pl.DataFrame:
    """PARSED_SCHEMA block; row n of `stated` was read from row n of `origin`."""
    height, received = len(stated), origin["received_time"]
    if not queued and received.null_count() < height:
        received = received.fill_null(stated["received_time"])
    elif not queued:
        received = stated["received_time"]
    series = {column.name: column for column in (*stated.get_columns(), received, *(origin[name] for name in ORIGIN))}
    series["clock"] = column_of("clock", _CLIENT, pl.String, height)
    series["source_format"] = column_of("source_format", "native", pl.String, height)
    return pl.DataFrame([series[name] for name in PARSED_SCHEMA])


def _set_aside(block: pl.DataFrame, unfit: list[int], rejected: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Move rows of a block to the rejected: their value is more than NUMERIC holds."""
    is_unfit = pl.int_range(pl.len()).is_in(unfit)
    message = errors_json("$.value", "invalid_value", f"at most {VALUE_DIGITS} digits before the point")
    too_large = rejections(block.filter(is_unfit), "validate", "invalid_value", message)
    return block.filter(~is_unfit), pl.concat([rejected, too_large])


def _decode_native(payload: bytes) -> tuple[NativeEvent, str | None]:
    """(event, its unknown fields as JSON). Errors: UNREADABLE."""
    extra = None
    check_depth(payload)
    try:
        event = _decode(payload)
    except UNREADABLE:
        event, extra = _decode_with_extra(payload)
    if type(event.value) not in _NUMBERS:
        raise msgspec.ValidationError(_NO_NUMBER)
    if not payload.isascii():
        payload.decode()  # msgspec does not look into what stays raw
    return event, extra


def _decode_with_extra(payload: bytes) -> tuple[OpenEvent, str | None]:
    event = _decode_open(payload)
    record = decode_object(payload)
    unknown = {name: value for name, value in record.items() if name not in KNOWN}
    return event, encode_json(unknown).decode() if unknown else None


def numerics(values: Sequence[int | Decimal | None]) -> tuple[list[Decimal | None], list[int]]:
    """Round to the nine places of NUMERIC, half away from zero; (values, rows that do not fit)."""
    fitted = [None if value is None else to_nine_places(value) for value in values]
    unfit = [row for row, value in enumerate(values) if value is not None and fitted[row] is None]
    return fitted, unfit


def _text_of(raw: msgspec.Raw) -> str | None:
    text = str(raw, "utf-8")
    return text if text and text != "null" else None


def _id_of(stated: str | None, payload: bytes, source: str) -> str:
    """Return an id that a second delivery of the same record yields again."""
    record = {name: value for name, value in decode_object(payload).items() if name not in TRANSPORT}
    return derived_id(source if stated is None else stated, record)


def derived_id(source: str, record: dict[str, Any]) -> str:
    """`derived:` and the hash of the source's name and the record, whatever the order of its keys."""
    return "derived:" + hash128((source.encode(), encode_json(record)))
