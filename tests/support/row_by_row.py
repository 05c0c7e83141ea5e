"""The native format read one record at a time: what `parse_native` is compared with."""

import re
from decimal import Decimal

import msgspec
import polars as pl

from transforms.block import FIELDS, ORIGIN, PARSED_SCHEMA, REJECTED_SCHEMA
from transforms.contract import KNOWN, NativeEvent, OpenEvent
from transforms.json_objects import UNREADABLE, check_depth, decode_object, encode_json, error_of, errors_json
from transforms.numbers import VALUE_DIGITS, to_nine_places
from transforms.records.native import derived_id
from transforms.records.times import read_times

TEXTS = [name for name, dtype in FIELDS.items() if dtype == pl.String and name not in ("properties", "extra")]
AS_STATED = (*TEXTS, "sequence", "quantity", "is_bot", "rating")
STRICT, OPEN = (msgspec.json.Decoder(kind, float_hook=Decimal).decode for kind in (NativeEvent, OpenEvent))


def parse_row_by_row(raw: pl.DataFrame, source: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(PARSED_SCHEMA block, REJECTED_SCHEMA): the rejected of `parse` first, then those of `validate`."""
    passed, refused, unfit = [], [], []
    for row in raw.to_dicts():
        try:
            event = _event(row, source)
        except UNREADABLE as problem:
            refused.append(_rejected(row, source, "parse", *error_of(problem)))
            continue
        if event["value"] is not None and to_nine_places(event["value"]) is None:
            errors = errors_json("$.value", "invalid_value", f"at most {VALUE_DIGITS} digits before the point")
            unfit.append(_rejected(row, event["source"], "validate", "invalid_value", errors, event["received_time"]))
            continue
        event["value"] = None if event["value"] is None else to_nine_places(event["value"])
        passed.append(event)
    return pl.DataFrame(passed, schema=PARSED_SCHEMA), pl.DataFrame(refused + unfit, schema=REJECTED_SCHEMA)


def _event(row: dict, source: str) -> dict:
    payload = row["payload"]
    check_depth(payload)
    event, extra = _decoded(payload)
    if event.value is not None and type(event.value) not in (int, Decimal):
        raise msgspec.ValidationError("Expected `number | null` - at `$.value`")
    payload.decode()
    source = source if event.source is None else event.source
    id, id_source = event.event_id, "client"
    if id is None:
        record = {name: at for name, at in decode_object(payload).items() if name not in ("received_time", "sent_time")}
        id, id_source = derived_id(source, record), "derived"
    properties = bytes(event.properties).decode()
    return {name: row[name] for name in ORIGIN} | {
        **{name: getattr(event, name) for name in AS_STATED},
        "event_id": id,
        "id_source": id_source,
        "value": event.value,
        "properties": None if properties in ("", "null") else properties,
        "extra": _with_time(extra, event),
        "client_time": _time(event.event_time),
        "client_time_given": event.event_time is not None,
        "sent_time": _time(event.sent_time),
        "received_time": row["received_time"] or _time(event.received_time),
        "clock": "client",
        "source": source,
        "source_format": "native",
    }


def _decoded(payload: bytes) -> tuple[NativeEvent, str | None]:
    try:
        return STRICT(payload), None
    except UNREADABLE:
        event = OPEN(payload)
        unknown = {name: value for name, value in decode_object(payload).items() if name not in KNOWN}
        return event, encode_json(unknown).decode() if unknown else None


def _with_time(extra: str | None, event: NativeEvent) -> str | None:
    """With the event time, if it is not in its column, or not to the last digit."""
    said = event.event_time
    if said in (None, "") or (_time(said) is not None and not re.search(r"[.,]\d{6}\d*[1-9]", said)):
        return extra
    return encode_json((decode_object(extra.encode()) if extra else {}) | {"event_time": said}).decode()


def _time(stated):
    return read_times(pl.Series([stated], dtype=pl.String))[0] if isinstance(stated, str) else None


def _rejected(row: dict, source: str, stage: str, code: str, errors: str, received=None) -> dict:
    return {name: row[name] for name in ORIGIN} | {
        "received_time": row["received_time"] or received,
        "event_time": None,
        "source": source,
        "source_format": "native",
        "stage": stage,
        "code": code,
        "errors": errors,
    }
