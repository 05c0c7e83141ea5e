"""Run the tests in a mapping, with the code that reads real records, whenever the mapping is read."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import polars as pl

from transforms.block import EVENT_SCHEMA, RAW_SCHEMA, TIME, tag_input
from transforms.errors import ConfigError
from transforms.event_time import settle_event_time
from transforms.json_objects import decode_object, encode_json
from transforms.mapping import Mapping
from transforms.mapping.spec import Case
from transforms.parse import parse
from transforms.records.csv_format import BLANKS, CsvFormat
from transforms.records.csv_rows import form_of
from transforms.records.match import text_of
from transforms.records.times import read_times
from transforms.validate import Validator

COMPARED = tuple(name for name in EVENT_SCHEMA if name not in ("input", "source_format"))
_JSON = ("properties", "extra")


def check_tests(mapping: Mapping, where: str) -> None:
    """Raise ConfigError `where: $.tests[n]: got ..., expected ...` for the first test that fails."""
    for at, case in enumerate(mapping.tests):
        problem = next(_problems(case, mapping), None)
        if problem is not None:
            raise ConfigError(f"{where}: $.tests[{at}]: {problem}")


def _problems(case: Case, mapping: Mapping) -> Iterator[str]:
    for event in case.events or ():
        unknown = next((name for name in event if name not in COMPARED), None)
        if unknown is not None:
            yield f"got the unknown field {unknown!r}, allowed {', '.join(COMPARED)}"
    raw = _raw(case, mapping)
    if raw is None:
        yield "got a text of CSV, whose header is not known; state csv.columns, or the record by its keys"
        return
    events, codes = _made(raw, mapping)
    expected = (case.quarantine,) if isinstance(case.quarantine, str) else (case.quarantine or ())
    if codes != sorted(expected):
        yield f"got {_listed(codes)} in quarantine, expected {_listed(sorted(expected))}"
    stated = case.events or ()
    if len(events) != len(stated):
        made = ", ".join(str(event["event_type"]) for event in events)
        yield f"got {len(events)} events{f' ({made})' if made else ''}, expected {len(stated)}"
    for n, (event, wanted) in enumerate(zip(events, stated, strict=False)):
        for name, value in wanted.items():
            yield from _difference(name, event[name], value, f" (event {n})" if len(stated) > 1 else "")


def _listed(codes: list[str]) -> str:
    return ", ".join(codes) or "nothing"


def _raw(case: Case, mapping: Mapping) -> pl.DataFrame | None:
    """The test's record as a source would yield it."""
    payload, attributes = case.text, None
    if mapping.format == "csv" or mapping.csv is not None:
        layout = mapping.csv or CsvFormat()
        layout = msgspec.structs.replace(layout, delimiter=layout.delimiter or ",")
        header = list(layout.columns)
        if case.record is not None:
            header = list(case.record)
            payload = (" " if layout.delimiter == BLANKS else layout.delimiter).join(
                _quoted(value, layout) for value in case.record.values()
            )
        elif not header:
            return None
        attributes = encode_json(form_of(layout, header)).decode()
    elif case.record is not None:
        payload = encode_json(case.record).decode()
    row = {
        "payload": (payload or "").encode(),
        "source": mapping.source,
        "position": "test:1",
        "attributes": attributes,
    }
    return tag_input(pl.DataFrame([row], schema=RAW_SCHEMA), "test")


def _quoted(value: Any, layout: CsvFormat) -> str:
    text = "" if value is None else text_of(value) if isinstance(value, str | int | float) else _encoded(value)
    text, quote = text.replace(layout.escape, layout.escape * 2) if layout.escape else text, layout.quote
    return f"{quote}{text.replace(quote, quote * 2)}{quote}" if quote else text


def _encoded(value: Any) -> str:
    return encode_json(value).decode()


def _made(raw: pl.DataFrame, mapping: Mapping) -> tuple[list[dict[str, Any]], list[str]]:
    """(the events in their order, the codes of what is rejected, sorted), as the graph would have them."""
    parsed, unparsed = parse(raw, mapping, mapping.source)
    valid, invalid = Validator()(parsed)
    events, timeless = settle_event_time(valid)
    codes = pl.concat([unparsed, invalid, timeless])["code"].sort().to_list()
    columns = {name: events[name].to_list() for name in COMPARED}
    return [{name: values[at] for name, values in columns.items()} for at in range(events.height)], codes


def _difference(name: str, got: Any, wanted: Any, which: str) -> Iterator[str]:
    """What differs, if something does: times by the moment, numbers by the value, JSON by what it says."""
    if EVENT_SCHEMA[name] == TIME and wanted is not None:
        moment = read_times(pl.Series([wanted if isinstance(wanted, str) else text_of(wanted)]))[0]
        if moment is None:
            yield f"got {name} {wanted!r}, allowed a time such as 2026-03-01T12:00:00Z"
        elif got != moment:
            yield f"got {name} {'nothing' if got is None else got.isoformat()}, expected {wanted}{which}"
        return
    if name in _JSON and got is not None and not isinstance(wanted, str):
        got_value, wanted = decode_object(got.encode()), _exact(wanted)
    else:
        got_value = got
    if isinstance(got_value, Decimal | int | float) and not isinstance(got_value, bool):
        same = not isinstance(wanted, str | bool | type(None)) and Decimal(str(got_value)) == Decimal(str(wanted))
    elif isinstance(got_value, str) and isinstance(wanted, int | float):
        same = got_value == text_of(wanted)
    else:
        same = got_value == wanted and isinstance(got_value, bool) == isinstance(wanted, bool)
    if not same:
        yield f"got {name} {_shown(got)}, expected {_shown(wanted)}{which}"


def _exact(value: Any) -> Any:
    """A JSON value with its numbers as records have them."""
    return decode_object(encode_json({"": value}))[""]


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    text = repr(value) if isinstance(value, str) else msgspec.json.encode(value).decode()
    return " ".join(text.split()) if len(text) <= 80 else f"{text[:77]}..."
