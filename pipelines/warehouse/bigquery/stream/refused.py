"""Events that BigQuery refuses at load, on their way to quarantine.

An event no longer has the bytes it was read from. So its payload is the event itself, as a record of the native form
from which a replay makes the same event, and its position says which event it was.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl

from pipelines.warehouse.bigquery.stream.at_least_once import Refusal
from pipelines.warehouse.row_json import TIME_FORMAT
from transforms.block import FIELDS, REJECTED_SCHEMA
from transforms.json_objects import errors_json

CODE = "refused_by_bigquery"
_BAD_VALUE = re.compile(r"\s*\(bad value\).*", re.DOTALL)
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`")
_encode = msgspec.json.Encoder(decimal_format="number").encode


def refused_events(events: pl.DataFrame, refusals: Sequence[Refusal]) -> pl.DataFrame:
    """The refused of these events, as REJECTED_SCHEMA."""
    rows = events[[refusal.row for refusal in refusals]]
    times = rows.with_columns(pl.col("client_time", "sent_time", "received_time").dt.strftime(TIME_FORMAT)).to_dicts()
    received = [_encode({"received_time": row["received_time"]}).decode() for row in times]
    errors = [
        errors_json(refusal.path, CODE, without_values(refusal.message, row))
        for refusal, row in zip(refusals, times, strict=True)
    ]
    rejected = rows.with_columns(
        payload=pl.Series([_encode(record_of(row)) for row in times], dtype=pl.Binary),
        position=pl.concat_str(pl.lit("events"), "source", "event_id", separator=":"),
        attributes=pl.Series(received, dtype=pl.String),
        quarantine_id=pl.lit(None, pl.String),
        attempt=pl.lit(1, pl.Int64),
        part=pl.lit(0, pl.Int64),
        source_format=pl.lit("native"),
        stage=pl.lit("load"),
        code=pl.lit(CODE),
        errors=pl.Series(errors, dtype=pl.String),
    )
    return rejected.select(pl.col(name).cast(dtype) for name, dtype in REJECTED_SCHEMA.items())


def record_of(event: dict[str, Any]) -> dict[str, Any]:
    """An event (times as texts) as a record of the native form."""
    record = {name: event[name] for name in FIELDS if name not in ("properties", "extra")}
    record |= {"event_time": event["client_time"], "source": event["source"]}
    record |= {name: event[name] for name in ("sent_time", "received_time")}
    if event["properties"] is not None:
        record["properties"] = _json(event["properties"])
    extra = _json(event["extra"])
    if isinstance(extra, dict):  # the fields that the contract does not know stand beside those it knows
        record = extra | record
    return {name: value for name, value in record.items() if value is not None}


def _json(text: str | None) -> Any:
    """The value of a JSON text; the text itself if it is none, which may be why it was refused."""
    try:
        return None if text is None else msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def without_values(message: str, row: dict[str, Any]) -> str:
    """BigQuery's message without what it quotes of the row."""
    message = _QUOTED.sub("...", _BAD_VALUE.sub("", message))
    for text in sorted((str(value) for value in row.values() if value is not None), key=len, reverse=True):
        if len(text) > 3:  # a shorter one is as likely a part of the sentence
            message = message.replace(text, "...")
    return message
