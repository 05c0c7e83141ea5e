"""Decode payloads to records: the JSON object or the CSV row in a raw payload.

The raw bytes stay with the record until it is an event, so that quarantine can keep them. What is needed to read a
payload again (a CSV header) is in `attributes`, so a quarantined row can be replayed by itself.
"""

import csv
from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
import polars as pl

from transforms.block import REJECTED_SCHEMA, TIME, empty
from transforms.json_objects import UNREADABLE, check_depth, decode_object, encode_json, error_of, errors_json
from transforms.records.csv_rows import rows_of, without_trailing
from transforms.records.paths import Table

# Limits on the cost of one record: its values as Python objects take up to 40 times its bytes.
RECORD_LIMIT = 10 << 20  # bytes of a record, from wherever: as long as a message of Pub/Sub may be
csv.field_size_limit(RECORD_LIMIT)  # Python's own limit is 128 KiB

KEPT_BYTES = 64 << 10  # of a record that is too long
TOO_LONG = "too_long"  # the attribute of what is left of it, by which it is never taken for a whole one
CELL_BYTES = 64  # of a CSV's field as an object of Python
SLICE_BYTES = 4 << 20  # of records that are decoded at a time: their objects take many times as much
SLICE_ROWS = 2_048  # decoded and made into columns at a time: while they are in the processor's cache


def decode_each(decoded: Iterator[Any], otherwise: Callable[[int], Any]) -> list[Any]:
    """Return what an iterator of decoded payloads yields, and `otherwise(row)` where it raises UNREADABLE.

    The iterator must go on after an error, as `map` does and a generator does not.
    """
    made: list[Any] = []
    while True:
        try:
            made.extend(decoded)
            return made
        except UNREADABLE:  # what came before is in the list
            made.append(otherwise(len(made)))


NOTHING = empty(REJECTED_SCHEMA)
Refused = list[tuple[int, str, str]]  # (row, code, errors)


def read_records(raw: pl.DataFrame, format: str = "unknown") -> tuple[list[dict[str, Any]], pl.DataFrame, pl.DataFrame]:
    """Decode a RECORD_SCHEMA block: (records, their raw rows in the same order, rejected as of `format`)."""
    records: list[dict[str, Any]] = []
    kept: list[int] = []
    refused: Refused = []
    for some, rows in read_slices(raw, refused):
        records += some
        kept += rows
    return records, raw if not refused else raw[kept], refuse(raw, refused, format)


def read_slices(raw: pl.DataFrame, refused: Refused) -> Iterator[tuple[Sequence[dict[str, Any]], list[int]]]:
    """Decode a RECORD_SCHEMA block: (records, their rows) of SLICE_ROWS at a time; the others go to `refused`."""
    payloads, form = raw["payload"].to_list(), csv_form(raw)
    for start, stop in slices_of(raw, CELL_BYTES * len(form["header"]) if form else 0):
        part = payloads[start:stop]
        yield read_json(part, start, refused) if form is None else read_csv(part, start, refused, form)


def slices_of(raw: pl.DataFrame, each: int = 0) -> Iterator[tuple[int, int]]:
    """(first row, row behind the last) of slices of at most SLICE_ROWS and about SLICE_BYTES; a row has `each` more."""
    known = raw["payload"].bin.size()
    sizes = (known.fill_null(0) if known.null_count() else known).to_numpy().astype(np.int64) + each
    ends, start = np.cumsum(sizes), 0
    while start < len(raw):
        before = int(ends[start - 1]) if start else 0
        full = int(np.searchsorted(ends, before + SLICE_BYTES, "right"))
        stop = min(start + SLICE_ROWS, max(full, start + 1), len(raw))
        yield start, stop
        start = stop


def read_json(payloads: list[bytes], start: int, refused: Refused) -> tuple[list[dict[str, Any]], list[int]]:
    """(JSON records, their rows) of payloads that are rows of a block from `start` on; the others go to `refused`."""
    records, kept = [], []
    for row, payload in enumerate(payloads, start):
        try:
            check_depth(payload)
            records.append(decode_object(payload))
            kept.append(row)
        except UNREADABLE as problem:
            refused.append((row, *error_of(problem)))
    return records, kept


def csv_form(raw: pl.DataFrame) -> dict[str, Any] | None:
    """Return what the attributes of a block say of its CSV, None if it is none."""
    first = raw["attributes"][0] if len(raw) else None
    attributes = msgspec.json.decode(first) if first else {}
    return attributes if attributes.get("format") == "csv" else None


def read_csv(
    payloads: list[bytes], start: int, refused: Refused, form: dict[str, Any]
) -> tuple[Sequence[dict[str, Any]], list[int]]:
    """The same of CSV records."""
    names, read = form["header"], partial(rows_of, form=form)
    if len(names) > 1 and len(set(names)) == len(names):
        columns = _split(payloads, form, len(names)) or _csv_columns(
            payloads, read, len(names), form.get("trailing", False)
        )
        if columns is not None:
            if null := frozenset(form.get("null", ())):
                columns = [["" if value in null else value for value in column] for column in columns]
            return Table(dict(zip(names, columns, strict=True))), list(range(start, start + len(payloads)))
    records, kept = [], []
    for row, payload in enumerate(payloads, start):
        try:
            values = next(iter(read([payload.decode()])))
            if form.get("trailing"):
                values = without_trailing(values, len(names))
        except (UnicodeDecodeError, csv.Error) as problem:
            message = f"not a CSV record in UTF-8: {problem}"
            refused.append((row, "invalid_csv", errors_json("$", "invalid_csv", message)))
            continue
        if len(values) != len(names):
            message = f"{len(values)} fields, but the header has {len(names)}"
            refused.append((row, "invalid_csv", errors_json("$", "invalid_csv", message)))
            continue
        records.append(_csv_record(names, values, form.get("null", ())))
        kept.append(row)
    return records, kept


def _split(payloads: list[bytes], form: dict[str, Any], width: int) -> list[list[str]] | None:
    """The columns of payloads of which each is a row without quotes; None if one is another."""
    delimiter, mark = form["delimiter"], form["delimiter"].encode()
    if len(mark) > 1 or any(payload.count(mark) != width - 1 for payload in payloads):
        return None
    try:
        text = mark.join(payloads).decode()
    except UnicodeDecodeError:
        return None
    if any(char in text for char in (form.get("quote"), form.get("escape"), "\n", "\r") if char):
        return None
    values = text.split(delimiter)
    return [values[at::width] for at in range(width)]


def _csv_columns(payloads: list[bytes], read: Any, width: int, trailing: bool) -> list[Sequence[str]] | None:
    """The columns, if each payload is one row; None if one cannot be read, or a quote left open runs into the next."""
    try:
        rows = list(read([payload.decode() for payload in payloads]))
    except (UnicodeDecodeError, csv.Error):
        return None
    if trailing:
        rows = [without_trailing(row, width) for row in rows]
    if len(rows) != len(payloads) or any(len(row) != width for row in rows):
        return None
    return list(zip(*rows, strict=True))


def _csv_record(names: list[str], values: list[str], null: Container[str]) -> dict[str, Any]:
    # An empty CSV field is an absent one: the format has no other way to say so, but for texts that a mapping states.
    return {name: value for name, value in zip(names, values, strict=True) if value and value not in null}


def set_aside_long(raw: pl.DataFrame, format: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (the records of a RECORD_SCHEMA block to read, those that are too long as rejected of `format`).

    The first KEPT_BYTES of a record that is too long are kept, and its attributes state that: when it is replayed, it
    is rejected again.
    """
    longest = raw.select(pl.col("payload").bin.size().max()).item()
    first = raw["attributes"][0] if len(raw) else None
    if first and f'"{TOO_LONG}":' in first and msgspec.json.decode(first).get(TOO_LONG):
        is_long = pl.repeat(True, len(raw), eager=True)
    elif (longest or 0) <= RECORD_LIMIT:
        return raw, NOTHING.clone()
    else:
        is_long = raw["payload"].bin.size().fill_null(0) > RECORD_LIMIT
    found = raw.filter(is_long).with_columns(pl.col("payload").bin.slice(0, KEPT_BYTES))
    told = [msgspec.json.decode(text) if text else {} for text in found["attributes"].to_list()]
    attributes = [encode_json(at | {TOO_LONG: True}).decode() for at in told]
    found = found.with_columns(attributes=pl.Series(attributes, dtype=pl.String))
    message = f"more than {RECORD_LIMIT >> 20} MB; its first {KEPT_BYTES >> 10} kB are kept"
    error = errors_json("$", "record_too_long", message)
    return raw.filter(~is_long), refuse(found, [(row, "record_too_long", error) for row in range(len(found))], format)


def refuse(raw: pl.DataFrame, refused: Refused, format: str, source: str | None = None) -> pl.DataFrame:
    """Return the raw rows at [(row, code, errors)] as rejected by the stage `parse`, of another source if given."""
    if not refused:
        return NOTHING.clone()
    rows = [row for row, _, _ in refused]
    block = raw if rows == list(range(len(raw))) else raw[rows]
    stated = {"source_format": format, "stage": "parse"} | ({} if source is None else {"source": source})
    series = {name: pl.Series(name, [text]).new_from_index(0, len(rows)) for name, text in stated.items()}
    series["event_time"] = pl.Series("event_time", [None], dtype=TIME).new_from_index(0, len(rows))
    series["code"] = _few("code", [code for _, code, _ in refused])
    series["errors"] = _few("errors", [errors for _, _, errors in refused])
    first, *others = (series[name] if name in series else block[name] for name in REJECTED_SCHEMA)
    return first.to_frame().hstack(others)


def _few(name: str, texts: list[str]) -> pl.Series:
    """Return a String column of texts that are mostly equal: each distinct text is copied once."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return pl.Series(name, list(numbers), dtype=pl.String).gather([numbers[text] for text in texts])
