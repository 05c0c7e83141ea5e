"""A question in SQL, and its answer as text."""

import base64
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain, islice
from typing import Any

import duckdb
import msgspec
import polars as pl

from pipelines.csv_line import csv_line
from pipelines.terminal import shown
from pipelines.warehouse import damage
from pipelines.warehouse.duckdb_connection import Answer, ask, ask_unlocked
from pipelines.warehouse.local import LocalWarehouse
from pipelines.warehouse.views import quoted
from pipelines.warehouse.warehouse import Warehouse
from transforms.errors import OptionError

BATCH_ROWS = 50_000
TABLE_ROWS = 1_000  # what the table form shows: widths need all of its rows in memory
LEAST_TEXT = 8  # characters that a shortened text column keeps
NOT_IN_ARROW = re.compile(r"\b(INTERVAL|UUID|MAP|UNION|ENUM|TIME|BIT|BIGNUM|VARIANT|GEOMETRY|\"NULL\")\b")


@dataclass
class Result:
    """An answer. `columns` are its names, made unique; `batches` (once) its rows, as they are computed."""

    columns: list[str]
    batches: Iterator[pl.DataFrame]

    def frame(self) -> pl.DataFrame:
        """All rows in one frame; a column of a type that Polars lacks (INTERVAL, UUID, ...) is text."""
        parts = list(self.batches)
        return pl.concat(parts) if parts else pl.DataFrame()


def run_query(warehouse: Warehouse, sql: str, dialect: str = "duckdb", unsafe: bool = False) -> Result:
    """Ask one question of the tables and views as of now; `dialect` is that of `sql`, duckdb or bigquery.

    unsafe  of a local warehouse: any statements, with all that DuckDB can reach

    Raises, now or while batches are read, OptionError with the database's words and the tables and views, and
    WarehouseError for a damaged file of a table that is named.
    """
    if not sql.strip():
        raise OptionError("query: it is empty; ask for example 'SELECT * FROM quality_summary'")
    if not sql.isascii() and any(0xD800 <= ord(c) <= 0xDFFF for c in sql):  # how Python carries such bytes of a shell
        raise OptionError(f"query: got {sql.encode(errors='backslashreplace').decode()}; allowed: UTF-8")
    if not isinstance(warehouse, LocalWarehouse):
        check_read_only(sql)
        parts = warehouse.ask(sql)
        first = next(parts)
        return Result(first.columns, chain([first], parts))
    translated = _translated(sql, warehouse) if dialect == "bigquery" else sql
    try:
        answer = (ask_unlocked if unsafe else ask)(warehouse, translated)
        relation = answer.rows
        if relation is None:  # a statement without rows, as SET
            return Result([], iter(()))
        names = _unique(relation.columns)
        kinds = [str(kind).replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMP") for kind in relation.types]
        chosen = (
            f"{f'CAST(#{n} AS VARCHAR)' if NOT_IN_ARROW.search(kind) else f'#{n}'} AS {quoted(name)}"
            for n, (name, kind) in enumerate(zip(names, kinds, strict=True), 1)
        )
        rows = relation.project(", ".join(chosen))
        return Result(names, _batches(answer._replace(rows=rows), warehouse))
    except duckdb.Error as error:
        raise _refused(str(error), warehouse) from error


def check_read_only(sql: str) -> None:
    """Raise OptionError for what BigQuery would not only read: whoever asks may be allowed to do more."""
    from sqlglot.errors import SqlglotError

    from pipelines.warehouse.dialect import is_query

    try:
        why = None if is_query(sql) else "it is no SELECT"
    except SqlglotError as error:
        why = str(error).strip().splitlines()[0]
    if why:
        raise OptionError(f"query: {why}; allowed with --dataset: one SELECT; for more, use the bq command")


def _translated(sql: str, warehouse: LocalWarehouse) -> str:
    from sqlglot.errors import ParseError, SqlglotError  # which takes its time, and only BigQuery's SQL needs it

    from pipelines.warehouse.dialect import to_duckdb

    try:
        return to_duckdb(sql)
    except ParseError as error:
        if not error.errors:
            raise _refused(str(error), warehouse) from error
        first = error.errors[0]
        why = f"{first['description'].split(' <Token')[0]} (line {first['line']}, column {first['col']})"
        raise _refused(why, warehouse) from error
    except SqlglotError as error:
        raise _refused(str(error), warehouse) from error


def render(result: Result, how: str = "table", width: int | None = None) -> Iterator[str]:
    """The answer as lines without their line end.

    table  aligned, numbers to the right, NULL empty, bytes as `<12 bytes>`, at most 1,000 rows; fits `width`
           characters, or the terminal if the output is one
    csv    a header, then all rows; NULL empty, an empty text "", bytes in base64; a text may hold line ends
    json   a JSON object a row, decimals exact, bytes in base64, NaN and infinity null; what is not seen as \\u escapes
    """
    if how == "table":
        if width is None and sys.stdout.isatty():
            width = shutil.get_terminal_size().columns
        return _table(result, width)
    return {"csv": _csv, "json": _json}[how](result)


def _batches(answer: Answer, warehouse: LocalWarehouse) -> Iterator[pl.DataFrame]:
    """The rows, once; the connection lives until they are read."""
    rows = answer.rows
    assert rows is not None, "only of an answer that has rows"
    try:
        with damage.named(warehouse, answer.files):
            reader = answer.connection.run(lambda: rows.to_arrow_reader(BATCH_ROWS))
            yield pl.DataFrame(reader.schema.empty_table())
            while (batch := answer.connection.run(lambda: next(reader, None))) is not None:
                yield pl.DataFrame(batch)
    except (duckdb.Error, OSError) as error:  # Arrow hands on an error of DuckDB's as an OSError
        raise _refused(str(error), warehouse) from error
    finally:
        answer.connection.close()


def _refused(why: str, warehouse: LocalWarehouse) -> OptionError:
    tables = warehouse.tables()
    views = sorted(warehouse.names() - tables.keys())
    said = why.strip().splitlines()[0]
    if said.startswith("Permission Error"):
        return OptionError(f"query: {said}; a query reads the warehouse and nothing else (--unsafe allows more)")
    return OptionError(f"query: {said}; tables are {', '.join(sorted(tables))}; views are {', '.join(views)}")


def _unique(names: list[str]) -> list[str]:
    """Names as DuckDB compares them, without case: of two equal ones the second gets a number."""
    made: list[str] = []
    for name in names:
        taken = {each.lower() for each in made}
        fresh = (f"{name}_{n}" if n else name for n in range(len(names)))
        made.append(next(each for each in fresh if each.lower() not in taken))
    return made


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
        values = zip(result.columns, map(_plain, row), strict=True)
        yield shown(encoder.encode(dict(values)).decode())


def _plain(value: Any) -> Any:
    """A value as JSON has it; whole numbers beyond 64 bits go as exact decimals."""
    if isinstance(value, Decimal):
        return Decimal(_digits(value))
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        return Decimal(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
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
        return msgspec.json.Encoder(decimal_format="number").encode(_plain(value)).decode()
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
