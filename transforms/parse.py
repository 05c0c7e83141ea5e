"""Parse and map: raw blocks to the fields of the event contract.

    PCollection[RAW_SCHEMA block] -> passed: PCollection[PARSED_SCHEMA block], rejected

The native form is decoded and type-checked in one pass by msgspec; any other record goes through a mapping. The
record keeps its raw bytes until it is an event. A field that the contract does not know goes to `extra`.
State   none
Emits   at once
"""

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from operator import attrgetter
from typing import Annotated, Any

import apache_beam as beam
import msgspec
import polars as pl
from apache_beam.pvalue import TaggedOutput

from transforms.block import (
    FIELDS,
    NUMERIC,
    PARSED_SCHEMA,
    REJECTED_SCHEMA,
    TIME,
    VALUE_DIGITS,
    empty,
    hash128,
)
from transforms.mapping import Mapping, map_records
from transforms.quality import redate
from transforms.records import (
    UNREADABLE,
    check_depth,
    decode_object,
    encode_json,
    error_of,
    errors_json,
    read_records,
    refuse,
)
from transforms.stage import rejections
from transforms.times import read_times

TRANSPORT = ("received_time", "sent_time")  # say how a record travelled, not what happened: no part of a derived id
SLICE_ROWS = 2_048  # decoded at a time: their structs stay in the processor's cache while columns are made of them
INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_NINE_PLACES = Decimal("1E-9")
_WIDE = Context(prec=60, rounding=ROUND_HALF_UP)  # half away from zero, as BigQuery rounds to NUMERIC


class NativeEvent(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The native form: one JSON object. Times may be of any type here: an unreadable one is no reason to refuse."""

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
    """The same with fields of anyone's own beside it: slower, since the record is decoded twice."""


KNOWN = frozenset(NativeEvent.__struct_fields__)
_decode = msgspec.json.Decoder(NativeEvent, float_hook=Decimal).decode
_decode_open = msgspec.json.Decoder(OpenEvent, float_hook=Decimal).decode
_NUMBERS = {type(None), int, Decimal}
_NO_NUMBER = "Expected `number | null` - at `$.value`"


class Parse(beam.PTransform):
    """Without a mapping a record is of the native form; `source` names those that state none.

    Also -> books: PCollection[BOOKS_SCHEMA block], see transforms/quality.py.
    """

    def __init__(self, mapping: Mapping | None, source: str, input: str):
        super().__init__()
        self.mapping, self.source, self.input = mapping, source, input

    def expand(self, raw):
        parsing = beam.ParDo(_Parse(self.mapping, self.source, self.input))
        typed = parsing.with_output_types(pl.DataFrame, rejected=pl.DataFrame, books=pl.DataFrame)
        return raw | "Parse" >> typed.with_outputs("rejected", "books", main="passed")


class _Parse(beam.DoFn):
    def __init__(self, mapping, source, input):
        self.mapping, self.source, self.input = mapping, source, input

    def process(self, raw):
        passed, rejected = parse(raw, self.mapping, self.source)
        settled = pl.concat([part.select("source", "received_time") for part in (passed, rejected)])
        queue = raw["received_time"].null_count() == 0
        yield TaggedOutput("books", redate(settled, self.source, self.input, queue=queue))
        if not rejected.is_empty():
            yield TaggedOutput("rejected", rejected)
        if not passed.is_empty():
            yield passed


def parse(raw: pl.DataFrame, mapping: Mapping | None, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(PARSED_SCHEMA block with received_given, rejected) of a raw block."""
    if mapping is None:
        parsed, rejected = parse_native(raw, source)
    else:
        records, kept, unreadable = read_records(raw)
        parsed, unmapped = map_records(records, kept, mapping)
        rejected = pl.concat([unreadable.with_columns(source=pl.lit(mapping.source)), unmapped])
    return settle_received(parsed), rejected


def settle_received(parsed: pl.DataFrame) -> pl.DataFrame:
    """Fill `received_time` from the client's time; `received_given` remembers that a skew cannot be proved then."""
    return parsed.with_columns(
        received_given=pl.col("received_time").is_not_null(),
        received_time=pl.coalesce("received_time", "client_time"),
    )


def parse_native(raw: pl.DataFrame, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Decode native events: (PARSED_SCHEMA block, rejected). `source` is for records that state none."""
    slices = [_parse_slice(part, source) for part in raw.iter_slices(SLICE_ROWS)]
    if not slices:
        return empty(PARSED_SCHEMA), empty(REJECTED_SCHEMA)
    parsed, rejected = zip(*slices, strict=True)
    return pl.concat(parsed), pl.concat(rejected)


def _parse_slice(raw: pl.DataFrame, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    events, extras, derived, kept, refused = [], [], [], [], []
    for row, payload in enumerate(raw["payload"].to_list()):
        try:
            event, extra = _decode_native(payload)
            derives = event.event_id is None
            if derives:
                event.event_id = _id_of(event, payload, source)
        except UNREADABLE as problem:
            refused.append((row, *error_of(problem)))
            continue
        events.append(event)
        extras.append(extra)
        derived.append(derives)
        kept.append(row)
    origin = raw if not refused else raw[kept]
    parsed, unfit = _to_block(events, extras, derived, origin, source)
    rejected = refuse(raw.with_columns(source=pl.lit(source)), refused, "native")
    return parsed, pl.concat([rejected, unfit])


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


def _to_block(events, extras, derived, origin: pl.DataFrame, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Columns from structs; a value that NUMERIC cannot hold is rejected here, where it is still a number."""
    column: Callable[[str], list] = lambda name: list(map(attrgetter(name), events))  # noqa: E731
    values, unfit = numerics(column("value"))
    fields = {
        name: pl.Series(name, column(name), dtype=dtype)
        for name, dtype in FIELDS.items()
        if name not in ("value", "properties", "extra")
    }
    event_time, sent_time, received_time = (column(name) for name in ("event_time", "sent_time", "received_time"))
    block = pl.DataFrame(
        fields
        | {
            "value": pl.Series("value", values, dtype=NUMERIC),
            "properties": _texts([bytes(event.properties) or None for event in events]),
            "extra": pl.Series(extras, dtype=pl.String),
            "client_time": _times(event_time),
            "client_time_given": pl.Series([time is not None for time in event_time], dtype=pl.Boolean),
            "sent_time": _times(sent_time),
            "received_time": _times(received_time),
            "source": pl.Series(column("source"), dtype=pl.String).fill_null(source),
        }
    ).with_columns(
        id_source=pl.when(pl.Series(derived, dtype=pl.Boolean)).then(pl.lit("derived")).otherwise(pl.lit("client")),
        clock=pl.lit("client"),
        source_format=pl.lit("native"),
        received_time=pl.coalesce(origin["received_time"], "received_time"),
        payload=origin["payload"],
        position=origin["position"],
        attributes=origin["attributes"],
    )
    block = block.select(list(PARSED_SCHEMA))
    if not unfit:
        return block, empty(REJECTED_SCHEMA)
    message = errors_json("$.value", "invalid_value", f"at most {VALUE_DIGITS} digits before the point")
    fit = block.with_row_index("row").filter(~pl.col("row").is_in(unfit)).drop("row")
    return fit, rejections(block[unfit], "validate", "invalid_value", message)


def numerics(values: list[int | Decimal | None]) -> tuple[list[Decimal | None], list[int]]:
    """Round to the nine places of NUMERIC, half away from zero; (values, rows that do not fit)."""
    fitted: list[Decimal | None] = []
    unfit: list[int] = []
    for row, value in enumerate(values):
        if value is not None:
            try:
                rounded = _WIDE.quantize(value, _NINE_PLACES)
                fits = rounded.is_finite() and rounded.adjusted() < VALUE_DIGITS
            except InvalidOperation:
                fits = False
            if not fits:
                unfit.append(row)
            value = rounded if fits else None
        fitted.append(value)
    return fitted, unfit


def _times(values: list[Any]) -> pl.Series:
    texts = [value if type(value) is str else None for value in values]
    series = pl.Series(texts, dtype=pl.String)
    return series.cast(TIME) if series.null_count() == len(series) else read_times(series)


def _texts(values: list[bytes | None]) -> pl.Series:
    series = pl.Series(values, dtype=pl.Binary).cast(pl.String)
    return series.set(series == "null", None) if len(series) else series


def _id_of(event: NativeEvent, payload: bytes, source: str) -> str:
    """An id that a second delivery of the same record derives again."""
    record = {name: value for name, value in decode_object(payload).items() if name not in TRANSPORT}
    return derived_id(source if event.source is None else event.source, record)


def derived_id(source: str, record: dict[str, Any]) -> str:
    """`derived:` and the hash of the source's name and the record, whatever the order of its keys."""
    return "derived:" + hash128((source.encode(), encode_json(record)))
