"""The native format: one JSON object per event, decoded and type-checked by msgspec.

A slice of records is decoded without a step of Python for each of them, and becomes columns while its texts are in the
processor's cache. A record that this refuses, or that is in doubt, is judged by itself (`_decode_native`): it may have
a field that is not in the contract, which goes to `extra`, or be no event at all.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import lru_cache, partial
from itertools import compress
from typing import Any

import msgspec
import numpy as np
import polars as pl
from msgspec.structs import astuple

from transforms.block import FIELDS, NUMERIC, ORIGIN, PARSED_SCHEMA, hash128
from transforms.contract import NO_NUMBER, NUMBERS, TRANSPORT, VALUE_ALLOWED, NativeEvent, decode_native
from transforms.json_objects import DEEPEST, UNREADABLE, check_depth, decode_object, encode_json, error_of, errors_json
from transforms.numbers import to_nine_places
from transforms.records.payloads import NOTHING, decode_each, refuse
from transforms.records.plain import Plain, read_plain
from transforms.records.times import read_stated
from transforms.stage import rejections

PLAIN_ROWS = 2_000  # of a block in which plain records are read by themselves: NumPy's calls cost more below
SLICE_ROWS = 2_048  # made into columns at a time: while their strings are in the processor's cache
CHUNK_ROWS = 512  # made into tuples at a time: fewer than what starts Python's collector of garbage
_decode = msgspec.json.Decoder(NativeEvent, float_hook=Decimal).decode
_INEXACT = re.compile(r"[eEnN]|\.[0-9]{10}|[0-9]{19}")  # no number as Polars reads it exactly, or one that is too large


# An event as a tuple: where each field is, and which of them become columns as they are.
_AT = {name: at for at, name in enumerate(NativeEvent.__struct_fields__)}
_ID, _SOURCE, _VALUE, _PROPERTIES = (_AT[name] for name in ("event_id", "source", "value", "properties"))
_EVENT_TIME, _SENT_TIME, _RECEIVED_TIME = (_AT[name] for name in ("event_time", "sent_time", "received_time"))
_PLAIN = [(name, _AT[name], dtype) for name, dtype in FIELDS.items() if name not in ("value", "properties", "extra")]
_PLAIN_SCHEMA = {name: dtype for name, _, dtype in _PLAIN}
_NO_EVENT = astuple(NativeEvent())
_NO_PROPERTIES = _NO_EVENT[_PROPERTIES]
_TIMES = ("client_time", "sent_time", "received_time")
_CLIENT, _NULL = "client", {None}
Parsed = tuple[pl.DataFrame, pl.DataFrame]  # a PARSED_SCHEMA block, a REJECTED_SCHEMA block
Columns = list[list[Any]]  # what records state, in the order of NativeEvent


def parse_native(raw: pl.DataFrame, source: str) -> Parsed:
    """Decode native events to (PARSED_SCHEMA block, rejected). `source` is for records that do not state one."""
    rows, parts = [], []
    for parsed, at in _parse_parts(raw, source):
        parts.append(parsed)
        rows.append(at)
    if len(parts) == 1:
        return parts[0]
    blocks, rejected = zip(*parts, strict=True)
    return pl.concat(blocks, rechunk=True)[np.argsort(np.concatenate(rows))], pl.concat(rejected)


def parse_unordered(raw: pl.DataFrame, source: str) -> Iterator[Parsed]:
    """Yield the same in parts, at least one, which need no copy in the order of the records."""
    return (parsed for parsed, _ in _parse_parts(raw, source))


def _parse_parts(raw: pl.DataFrame, source: str) -> Iterator[tuple[Parsed, np.ndarray]]:
    """Yield (PARSED_SCHEMA block, rejected), and the rows of the block: of plain records, and of the others."""
    queued = not raw["received_time"].null_count()
    plain = read_plain(raw["payload"]) if len(raw) >= PLAIN_ROWS else None
    others = raw
    if plain is not None:
        is_plain = pl.Series(plain.rows)
        some = raw if is_plain.all() else raw.filter(is_plain)
        yield (_settle(_series_of_plain(plain, source), some, queued), NOTHING.clone()), np.flatnonzero(plain.rows)
        if len(some) == len(raw):
            return
        others = raw.filter(~is_plain)
    block, rejected, kept = _parse_each(others, source, queued)
    yield (block, rejected), np.array(kept) if plain is None else np.flatnonzero(~plain.rows)[kept]


def _series_of_plain(plain: Plain, source: str) -> dict[str, pl.Series]:
    """What plain records state, as `_series_of` returns it."""
    height, columns = int(plain.rows.sum()), dict(plain.columns)
    own, client = columns.get("source"), columns.get("client_time")
    columns["source"] = _column_of("source", source, height) if own is None else own.fill_null(source)
    columns["id_source"] = _column_of("id_source", _CLIENT, height)
    columns["client_time_given"] = (
        _column_of("client_time_given", False, height) if client is None else client.is_not_null()
    )
    return {
        name: columns[name].alias(name) if name in columns else _column_of(name, None, height)
        for name in (*FIELDS, *_TIMES, "source", "id_source", "client_time_given")
    }


def _parse_each(raw: pl.DataFrame, source: str, queued: bool) -> tuple[pl.DataFrame, pl.DataFrame, list[int]]:
    """(PARSED_SCHEMA block, rejected, the rows of the block) of records that are decoded by msgspec."""
    reader = _Reader(raw["payload"], source)
    slices: list[dict[str, pl.Series]] = []
    kept: list[int] = []
    unfit: list[int] = []
    for start in range(0, len(raw) or 1, SLICE_ROWS):
        columns, rows = reader.read(range(start, min(start + SLICE_ROWS, len(raw))))
        series, over = _series_of(columns, rows, reader, queued)
        slices.append(series)
        unfit += [len(kept) + at for at in over]
        kept += rows
    stated = slices[0] if len(slices) == 1 else {name: pl.concat([at[name] for at in slices]) for name in slices[0]}
    block = _settle(stated, raw[kept] if reader.refused else raw, queued)
    refused = [(row, *reader.refused[row]) for row in sorted(reader.refused)]
    rejected = refuse(raw, refused, "native", source)
    if unfit:
        block, rejected = _set_aside(block, unfit, rejected)
        kept = [row for at, row in enumerate(kept) if at not in {*unfit}]
    return block, rejected, kept


class _Reader:
    """Decodes the records of a block, a slice at a time."""

    def __init__(self, payloads: pl.Series, source: str):
        self.payloads, self.source = payloads, source
        self.refused: dict[int, tuple[str, str]] = {}  # (code, errors), by row
        self.derived: list[int] = []  # rows of the slice whose `event_id` is derived
        self.extra: dict[int, str] = {}  # unknown fields as JSON, by row of the slice

    def read(self, rows: range) -> tuple[Columns, list[int]]:
        """Return the columns of those of the rows that are events, and their rows."""
        self.derived, self.extra = [], {}
        some = self.payloads[rows.start : rows.stop]
        payloads = some.to_list()
        columns, kept = self._decode(payloads, _without_doubtful(some, payloads), rows.start)
        before = len(self.refused)
        if not NUMBERS.issuperset(map(type, columns[_VALUE])):
            for row, value in zip(kept, columns[_VALUE], strict=True):
                if type(value) not in NUMBERS:
                    self._refuse(row, msgspec.ValidationError(NO_NUMBER))
        if not all(columns[_ID]):
            self._identify(columns, kept, lambda row: payloads[row - rows.start])
        if len(self.refused) == before:
            return columns, kept
        keep = [row not in self.refused for row in kept]
        return [list(compress(column, keep)) for column in columns], list(compress(kept, keep))

    def _decode(self, payloads: list[bytes], plain: list[bytes], first: int) -> tuple[Columns, list[int]]:
        columns: Columns = [[] for _ in _AT]
        kept: list[int] = []
        for start in range(0, len(plain), CHUNK_ROWS):
            before = len(self.refused)
            judge = partial(self._judge, payloads[start : start + CHUNK_ROWS], first + start)
            events = decode_each(map(astuple, map(_decode, plain[start : start + CHUNK_ROWS])), judge)
            rows: Sequence[int] = range(first + start, first + start + len(events))
            if len(self.refused) > before:
                events = [event for event in events if event is not _NO_EVENT]
                rows = [row for row in rows if row not in self.refused]
            kept.extend(rows)
            for column, values in zip(columns, zip(*events, strict=True), strict=bool(events)):
                column.extend(values)
        return columns, kept

    def _judge(self, payloads: list[bytes], first: int, at: int) -> tuple:
        try:
            event, unknown = decode_native(payloads[at])
        except UNREADABLE as problem:
            self._refuse(first + at, problem)
            return _NO_EVENT
        if unknown is not None:
            self.extra[first + at] = unknown
        return astuple(event)

    def leave_times(self, lost: dict[int, Any]) -> None:
        """Add event times that cannot be read, or are finer than a microsecond, to `extra`, by row.

        Not those of TRANSPORT: a second delivery states others, and would be another event.
        """
        for row, value in lost.items():
            unknown = decode_object(self.extra[row].encode()) if row in self.extra else {}
            self.extra[row] = encode_json(unknown | {"event_time": value}).decode()

    def _refuse(self, row: int, problem: Exception) -> None:
        self.refused[row] = error_of(problem)

    def _identify(self, columns: Columns, rows: list[int], payload_of: Callable[[int], bytes]) -> None:
        ids = columns[_ID]
        for at in [at for at, id in enumerate(ids) if id is None]:
            row = rows[at]
            if row not in self.refused:
                try:
                    ids[at] = _id_of(columns[_SOURCE][at], payload_of(row), self.source)
                    self.derived.append(row)
                except UNREADABLE as problem:
                    self._refuse(row, problem)


def _without_doubtful(column: pl.Series, payloads: list[bytes]) -> list[bytes]:
    """Return the payloads, and nothing in place of one that may be refused though msgspec accepts it.

    msgspec does not look into what stays raw.
    """
    found = {
        at for at, payload in enumerate(payloads) if len(payload) >= 2 * DEEPEST and _refuses(check_depth, payload)
    }
    try:
        column.cast(pl.String)
    except pl.exceptions.PolarsError:
        unsure = (at for at, payload in enumerate(payloads) if not payload.isascii())
        found.update(at for at in unsure if _refuses(bytes.decode, payloads[at]))
    return [b"" if at in found else payload for at, payload in enumerate(payloads)] if found else payloads


def _refuses(check: Callable[[bytes], Any], payload: bytes) -> bool:
    try:
        check(payload)
    except UNREADABLE:
        return True
    return False


def _series_of(
    columns: Columns, rows: Sequence[int], reader: _Reader, queued: bool
) -> tuple[dict[str, pl.Series], list[int]]:
    """(what records state, as columns of PARSED_SCHEMA; the rows of them whose value NUMERIC cannot hold)."""
    height, source = len(rows), reader.source
    event_time, stated = columns[_EVENT_TIME], columns[_SOURCE]
    value, unfit = _numeric(columns[_VALUE])
    received = [None] * height if queued else columns[_RECEIVED_TIME]
    read = read_stated([event_time, columns[_SENT_TIME], received])
    times = dict(zip(_TIMES, (each.times for each in read), strict=True))
    reader.leave_times({rows[at]: event_time[at] for at in read[0].lost})
    made: dict[str, Any] = {
        "properties": [None if at is _NO_PROPERTIES else _text_of(at) for at in columns[_PROPERTIES]],
        "extra": _at_rows(rows, reader.extra, None),
        "id_source": _at_rows(rows, dict.fromkeys(reader.derived, "derived"), _CLIENT),
        "client_time_given": True if all(event_time) else [time is not None for time in event_time],
        "source": [source if at is None else at for at in stated] if {*stated} != _NULL else source,
    }
    plain = pl.DataFrame({name: columns[at] for name, at, _ in _PLAIN}, schema=_PLAIN_SCHEMA)
    series = dict(zip(_PLAIN_SCHEMA, plain.get_columns(), strict=True))
    series["value"] = value
    series |= {name: _column_of(name, values, height) for name, values in made.items()}
    return series | {name: times[name].alias(name) for name in _TIMES}, unfit


def _at_rows(rows: Sequence[int], values: dict[int, str], otherwise: str | None) -> list[str | None] | str | None:
    """The values at some of the rows, which are in order, and another at the rest."""
    if not values:
        return otherwise
    column = [otherwise] * len(rows)
    for row, value in values.items():
        at = bisect_left(rows, row)
        if at < len(rows) and rows[at] == row:  # else it was refused
            column[at] = value
    return column


def _column_of(name: str, values: Any, height: int) -> pl.Series:
    """Return a column of PARSED_SCHEMA: of a list of values, or of one value in each row."""
    if isinstance(values, list):
        return pl.Series(name, values, dtype=PARSED_SCHEMA[name])
    return _one(name, values).new_from_index(0, height)


@lru_cache(maxsize=256)
def _one(name: str, value: Any) -> pl.Series:
    return pl.Series(name, [value], dtype=PARSED_SCHEMA[name])


def _settle(stated: dict[str, pl.Series], origin: pl.DataFrame, queued: bool) -> pl.DataFrame:
    """PARSED_SCHEMA block; row n of what is `stated` was read from row n of `origin`."""
    height, received = len(origin), origin["received_time"]
    if not queued:
        own = stated["received_time"]
        received = own if received.null_count() == height else received.fill_null(own)
    columns = dict(zip(origin.columns, origin.get_columns(), strict=True))
    series = stated | {name: columns[name] for name in ORIGIN} | {"received_time": received}
    series["clock"] = _column_of("clock", _CLIENT, height)
    series["source_format"] = _column_of("source_format", "native", height)
    first, *others = (series[name] for name in PARSED_SCHEMA)
    return first.to_frame().hstack(others)


def _set_aside(block: pl.DataFrame, unfit: list[int], rejected: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Move rows of a block to the rejected: their value is more than NUMERIC holds."""
    is_unfit = pl.int_range(pl.len()).is_in(unfit)
    message = errors_json("$.value", "invalid_value", VALUE_ALLOWED)
    too_large = rejections(block.filter(is_unfit), "validate", "invalid_value", message)
    return block.filter(~is_unfit), pl.concat([rejected, too_large])


def _numeric(values: Sequence[int | Decimal | None]) -> tuple[pl.Series, list[int]]:
    """(`value` as NUMERIC, rows whose number does not fit)."""
    texts = [None if value is None else str(value) for value in values]
    given = " ".join(filter(None, texts))
    if not given:
        return _column_of("value", None, len(values)), []
    if not _INEXACT.search(given):
        return pl.Series("value", texts, dtype=pl.String).cast(NUMERIC), []
    fitted, unfit = numerics(values)
    return pl.Series("value", fitted, dtype=NUMERIC), unfit


def numerics(values: Sequence[int | Decimal | None]) -> tuple[list[Decimal | None], list[int]]:
    """Round to the nine places of NUMERIC, half away from zero; (values, rows that do not fit)."""
    fitted: list[Decimal | None] = [None] * len(values)
    unfit = []
    for row in [row for row, value in enumerate(values) if value is not None]:
        fitted[row] = to_nine_places(values[row])  # type: ignore[arg-type]
        if fitted[row] is None:
            unfit.append(row)
    return fitted, unfit


def _text_of(raw: msgspec.Raw) -> str | None:
    text = str(raw, "utf-8")
    return text if text and text != "null" else None


def _id_of(stated: str | None, payload: bytes, source: str) -> str:
    """Return an id that a second delivery of the same record yields again."""
    record = decode_object(payload)
    for name in TRANSPORT:
        record.pop(name, None)
    return derived_id(source if stated is None else stated, record)


def derived_id(source: str, record: dict[str, Any]) -> str:
    """`derived:` and the hash of the source's name and the record, whatever the order of its keys."""
    return "derived:" + hash128((source.encode(), encode_json(record)))
