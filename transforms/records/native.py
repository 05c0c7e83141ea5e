"""The native format: one JSON object per event, decoded and type-checked in one pass by msgspec.

Each record is processed once: its fields are extracted while the decoded struct is still in the processor's cache. A
field that is not in the contract goes to `extra`.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import polars as pl

from transforms.block import FIELDS, ORIGIN, PARSED_SCHEMA, REJECTED_SCHEMA, VALUE_DIGITS, empty, hash128
from transforms.records.numbers import to_nine_places
from transforms.records.payloads import (
    UNREADABLE,
    check_depth,
    decode_object,
    encode_json,
    error_of,
    errors_json,
    refuse,
)
from transforms.records.times import read_times
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


# What a slice states, as columns: the fields, the times as texts, and what only the raw record can tell.
_STATED = {
    **FIELDS,
    "source": pl.String,
    "event_time": pl.String,
    "sent_time": pl.String,
    "received_time": pl.String,
    "derived": pl.Boolean,
    "client_time_given": pl.Boolean,
    "unfit": pl.Boolean,  # states a value that NUMERIC cannot hold
}


def parse_native(raw: pl.DataFrame, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Decode native events to (PARSED_SCHEMA block, rejected). `source` is for records that do not state one."""
    payloads = raw["payload"].to_list()
    stated, kept, refused = [empty(_STATED)], [], []
    for start in range(0, len(payloads), SLICE_ROWS):
        rows = []
        for row, payload in enumerate(payloads[start : start + SLICE_ROWS], start):
            try:
                event, extra = _decode_native(payload)
                derived = event.event_id is None
                if derived:
                    event.event_id = _id_of(event, payload, source)
            except UNREADABLE as problem:
                refused.append((row, *error_of(problem)))
                continue
            rows.append(_row_of(event, extra, derived))
            kept.append(row)
        if rows:
            stated.append(_stated(rows))
    origin = raw if not refused else raw[kept]
    parsed, unfit = _settle(pl.concat(stated), origin, source)
    rejected = refuse(raw.with_columns(source=pl.lit(source)), refused, "native")
    return parsed, pl.concat([rejected, unfit])


def _row_of(event: NativeEvent, extra: str | None, derived: bool) -> tuple:
    """Return the fields in the order of _STATED, up to `derived`, each by name: a loop takes three times as long."""
    return (
        event.event_id,
        event.event_type,
        event.user_id,
        event.anonymous_id,
        event.session_id,
        event.content_id,
        event.content_type,
        event.category,
        event.channel,
        event.campaign,
        event.referrer,
        event.country,
        event.device,
        event.value,
        event.currency,
        event.quantity,
        event.is_bot,
        event.text,
        event.rating,
        event.properties,
        extra,
        event.source,
        event.event_time,
        event.sent_time,
        event.received_time,
        derived,
    )


def _stated(rows: list[tuple]) -> pl.DataFrame:
    """Rows as _STATED columns."""
    columns: dict[str, Sequence] = dict(zip(_STATED, zip(*rows, strict=True), strict=False))
    given = [time is not None for time in columns["event_time"]]
    for name in ("event_time", "sent_time", "received_time"):
        columns[name] = [time if type(time) is str else None for time in columns[name]]
    columns["value"], unfit = numerics(columns["value"])
    properties = _texts([bytes(raw) or None for raw in columns.pop("properties")])
    series = [pl.Series(name, values, dtype=_STATED[name]) for name, values in columns.items()]
    return (
        pl.DataFrame(series)
        .with_columns(
            properties=properties,
            client_time_given=pl.Series(given, dtype=pl.Boolean),
            unfit=pl.int_range(pl.len()).is_in(unfit),
        )
        .select(list(_STATED))
    )


def _settle(stated: pl.DataFrame, origin: pl.DataFrame, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(PARSED_SCHEMA block, rejected); row n of `stated` was read from row n of `origin`."""
    block = stated.with_columns(
        client_time=read_times(stated["event_time"]),
        sent_time=read_times(stated["sent_time"]),
        received_time=origin["received_time"].fill_null(read_times(stated["received_time"])),
        source=pl.col("source").fill_null(source),
        id_source=pl.when("derived").then(pl.lit("derived")).otherwise(pl.lit("client")),
        clock=pl.lit("client"),
        source_format=pl.lit("native"),
        **{name: origin[name] for name in ORIGIN},
    ).select(*PARSED_SCHEMA, "unfit")
    if not stated["unfit"].any():
        return block.drop("unfit"), empty(REJECTED_SCHEMA)
    message = errors_json("$.value", "invalid_value", f"at most {VALUE_DIGITS} digits before the point")
    unfit = rejections(block.filter("unfit"), "validate", "invalid_value", message)
    return block.filter(~pl.col("unfit")).drop("unfit"), unfit


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


def _texts(values: list[bytes | None]) -> pl.Series:
    series = pl.Series(values, dtype=pl.Binary).cast(pl.String)
    return series.set(series == "null", None) if len(series) else series


def _id_of(event: NativeEvent, payload: bytes, source: str) -> str:
    """Return an id that a second delivery of the same record yields again."""
    record = {name: value for name, value in decode_object(payload).items() if name not in TRANSPORT}
    return derived_id(source if event.source is None else event.source, record)


def derived_id(source: str, record: dict[str, Any]) -> str:
    """`derived:` and the hash of the source's name and the record, whatever the order of its keys."""
    return "derived:" + hash128((source.encode(), encode_json(record)))
