"""A question in SQL, and its answer as text."""

import base64
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec

from pipelines.system.csv_line import csv_line
from pipelines.system.terminal import shown
from pipelines.warehouse.interface import Result

TABLE_ROWS = 1_000  # what the table form shows: widths need all of its rows in memory
LEAST_TEXT = 8  # characters that a shortened text column keeps


def render(result: Result, how: str = "table", width: int | None = None) -> Iterator[str]:
    """The answer as lines without their line end.

    table  aligned, numbers to the right, NULL empty, bytes as `<12 bytes>`, at most 1,000 rows; fits `width`
           characters, or the terminal if the output is one
    csv    a header, then all rows; NULL empty, an empty text "", bytes in base64; a text may hold line ends
    json   a JSON object a row, decimals exact, bytes in base64, NaN and infinity null; what is not seen as \\u escapes

    Times have their offset from UTC, Z for none.
    """
    if how == "table":
        if width is None and sys.stdout.isatty():
            width = shutil.get_terminal_size().columns
        return _table(result, width)
    return {"csv": _csv, "json": _json}[how](result)


def _rows(result: Result) -> Iterator[tuple]:
    for batch in result.batches:
        yield from batch.iter_rows()


def _csv(result: Result) -> Iterator[str]:
    if result.columns:
        yield csv_line(result.columns)
    for row in _rows(result):
        yield csv_line(None if value is None else _text(value) for value in row)


def _json(result: Result) -> Iterator[str]:
    encoder = msgspec.json.Encoder(decimal_format="number")
    for row in _rows(result):
        values = zip(result.columns, map(plain, row), strict=True)
        yield shown(encoder.encode(dict(values)).decode())


def plain(value: Any) -> Any:
    """A value as JSON has it; whole numbers beyond 64 bits go as exact decimals."""
    if isinstance(value, Decimal):
        return Decimal(_digits(value))
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        return Decimal(value)
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else _text(value)


def _text(value: Any) -> str:
    """A value as CSV has it; NULL is empty."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return _digits(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, list | dict):
        return msgspec.json.Encoder(decimal_format="number").encode(plain(value)).decode()
    return str(value)


def _digits(value: Decimal) -> str:
    """All digits, no exponent, no zeros at the end: 12.500000000 is 12.5."""
    digits = format(value, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _cell(value: Any) -> str:
    """A value as the table form has it: one line, six decimals of a float."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, float) and 1e-4 <= abs(value) < 1e15:
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return shown(_text(value))


def _table(result: Result, width: int | None) -> Iterator[str]:
    if not result.columns:
        return
    rows = list(islice(_rows(result), TABLE_ROWS + 1))
    more = len(rows) > TABLE_ROWS
    rows = rows[:TABLE_ROWS]
    right = [any(_is_number(row[n]) for row in rows) for n in range(len(result.columns))]
    names = list(map(shown, result.columns))
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(_columns_of, column)) for column in zip(names, *cells, strict=True)]
    widths = widths if width is None else _fitted(widths, right, names, width)
    yield _line(names, widths, right)
    yield "  ".join("-" * n for n in widths)
    for row in cells:
        yield _line(row, widths, right)
    if not rows:
        yield "(no rows)"
    if result.time_zone != "UTC" and any(isinstance(value, date) for row in rows for value in row):
        yield f"(days and times in {result.time_zone})"
    if more:
        yield f"(the first {TABLE_ROWS:,} rows; --csv and --json give all)"
    if hidden := names[len(widths) :]:
        yield f"(no room for {', '.join(hidden)}; name fewer columns, or use --csv or --json)"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _fitted(widths: list[int], right: list[bool], names: list[str], room: int) -> list[int]:
    """Widths that fit: the widest text is cut first, never a number; then the last columns are left out."""
    least = [
        each if number else min(each, max(LEAST_TEXT, _columns_of(name)))
        for each, number, name in zip(widths, right, names, strict=True)
    ]
    while len(least) > 1 and sum(least) + 2 * (len(least) - 1) > room:
        least.pop()
    widths = widths[: len(least)]
    room -= 2 * (len(least) - 1)
    while sum(widths) > room and widths != least:
        widest = max((n for n in range(len(widths)) if widths[n] > least[n]), key=lambda n: widths[n])
        widths[widest] -= 1
    return widths


def _line(cells: list[str], widths: list[int], right: list[bool]) -> str:
    parts = []
    for cell, width, number in zip(cells, widths, right, strict=False):
        if _columns_of(cell) > width:
            while _columns_of(cell) > width - 1:
                cell = cell[:-1]
            cell += "…"
        pad = " " * (width - _columns_of(cell))
        parts.append(pad + cell if number else cell + pad)
    return "  ".join(parts).rstrip()


def _columns_of(text: str) -> int:
    """How many columns of a terminal a text takes: East Asian wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    marks = sum(map(bool, map(unicodedata.combining, text)))
    return len(text) - marks + sum(unicodedata.east_asian_width(c) in "WF" for c in text)
