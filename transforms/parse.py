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

from transforms.block import FIELDS, VALUE_DIGITS, NUMERIC, PARSED_SCHEMA, REJECTED_SCHEMA, TIME, empty, hash128
from transforms.mapping import Mapping, map_records
from transforms.quality import redate
from transforms.records import UNREADABLE, decode_object, encode_json, error_of, errors_json, read_records, refuse
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
    value: Decimal | None = None
    currency: str | None = None
    quantity: INT64 | None = None
    is_bot: bool | None = None
    text: str | None = None
    rating: float | None = None
    properties: msgspec.Raw = msgspec.Raw(b"")


class OpenEvent(NativeEvent, gc=False, forbid_unknown_fields=False):
    """The same with fields of anyone's own beside it: slower, since the record is decoded twice."""


KNOWN = frozenset(NativeEvent.__struct_fields__)
_decode = msgspec.json.Decoder(NativeEvent).decode
_decode_open = msgspec.json.Decoder(OpenEvent).decode


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
    events, extras, kept, refused = [], [], [], []
    add, add_extra, keep = events.append, extras.append, kept.append
    for row, payload in enumerate(raw["payload"].to_list()):
        try:
            add(_decode(payload))
            add_extra(None)
            keep(row)
        except UNREADABLE:
            try:
                event, extra = _decode_with_extra(payload)
            except UNREADABLE as problem:
                refused.append((row, *error_of(problem)))
                continue
            add(event)
            add_extra(extra)
            keep(row)
    origin = raw if not refused else raw[kept]
    parsed, unfit = _to_block(events, extras, origin, source)
    rejected = refuse(raw.with_columns(source=pl.lit(source)), refused, "native")
    return parsed, pl.concat([rejected, unfit])


def _decode_with_extra(payload: bytes) -> tuple[OpenEvent, str | None]:
    event = _decode_open(payload)
    record = decode_object(payload)
    unknown = {name: value for name, value in record.items() if name not in KNOWN}
    return event, encode_json(unknown).decode() if unknown else None


def _to_block(events, extras, origin: pl.DataFrame, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
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
        id_source=pl.when(pl.col("event_id").is_null()).then(pl.lit("derived")).otherwise(pl.lit("client")),
        clock=pl.lit("client"),
        source_format=pl.lit("native"),
        received_time=pl.coalesce(origin["received_time"], "received_time"),
        payload=origin["payload"],
        position=origin["position"],
        attributes=origin["attributes"],
    )
    block = _derive_ids(block).select(list(PARSED_SCHEMA))
    if not unfit:
        return block, empty(REJECTED_SCHEMA)
    message = errors_json("$.value", "invalid_value", f"at most {VALUE_DIGITS} digits before the point")
    fit = block.with_row_index("row").filter(~pl.col("row").is_in(unfit)).drop("row")
    return fit, rejections(block[unfit], "validate", "invalid_value", message)


def numerics(values: list[Decimal | None]) -> tuple[list[Decimal | None], list[int]]:
    """Round to the nine places of NUMERIC, half away from zero; (values, rows that do not fit)."""
    fitted: list[Decimal | None] = []
    unfit: list[int] = []
    for row, value in enumerate(values):
        if value is not None:
            try:
                value = value.quantize(_NINE_PLACES, context=_WIDE)
                fits = value.adjusted() < VALUE_DIGITS
            except InvalidOperation:
                fits = False
            if not fits:
                unfit.append(row)
                value = None
        fitted.append(value)
    return fitted, unfit


def _times(values: list[Any]) -> pl.Series:
    texts = [value if type(value) is str else None for value in values]
    return read_times(pl.Series(texts, dtype=pl.String)) if any(texts) else pl.Series(texts, dtype=TIME)


def _texts(values: list[bytes | None]) -> pl.Series:
    series = pl.Series(values, dtype=pl.Binary).cast(pl.String)
    return series.set(series == "null", None) if len(series) else series


def _derive_ids(block: pl.DataFrame) -> pl.DataFrame:
    """Give a record without an id one that a second delivery of the same record derives again."""
    missing = block["event_id"].is_null().arg_true()
    if missing.is_empty():
        return block
    without = block[missing]
    derived = [
        derived_id(source, {k: v for k, v in decode_object(payload).items() if k not in TRANSPORT})
        for source, payload in zip(without["source"].to_list(), without["payload"].to_list(), strict=True)
    ]
    return block.with_columns(event_id=block["event_id"].scatter(missing, derived))


def derived_id(source: str, record: dict[str, Any]) -> str:
    """`derived:` and the hash of the source's name and the record, whatever the order of its keys."""
    return "derived:" + hash128((source.encode(), encode_json(record)))
