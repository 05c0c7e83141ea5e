"""What is stored of answers: by which a refresh knows that it has nothing to write, and what it replaces."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from io import BytesIO
from typing import NamedTuple

import polars as pl

from pipelines.insight.shape import Pass
from pipelines.settings.config import Configuration
from pipelines.version import VERSION
from pipelines.warehouse import staged
from pipelines.warehouse.answers import AS_OF, REFRESHES
from pipelines.warehouse.conditions import WithoutSpan, moment
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.tables import Table, polars_schema


class Content(NamedTuple):
    """Answers of a table as of a time: `content` a hash of the rows, `state` of what was read, where that is known."""

    rows: int
    content: str
    state: str | None = None


def state_of(warehouse: Warehouse, configuration: Configuration, passes: Sequence[Pass]) -> str | None:
    """A hash of what a refresh reads and how; None where nobody can say whether rows came in."""
    version = warehouse.version()
    if version is None:
        return None
    names = [each.name for each in passes]
    return _hashed(repr((version, configuration, names, VERSION)).encode())


def stored_contents(answers: Warehouse, as_of: datetime) -> dict[str, Content]:
    """The answers as of a time, by table."""
    if REFRESHES.name not in answers.tables():
        return {}
    asked = f"SELECT table_name, row_count, content, state FROM refreshes WHERE {AS_OF} = {moment(as_of)}"
    found = pl.concat(answers.ask(asked))
    columns = (found[name].to_list() for name in ("table_name", "row_count", "content", "state"))
    return {name: Content(*stored) for name, *stored in zip(*columns, strict=True)}


def contents(tables: Mapping[str, Table], entries: Iterable[FileEntry]) -> dict[str, Content]:
    """What is staged of each table."""
    paths: dict[str, list[str]] = {name: [] for name in tables}
    for entry in entries:
        paths[entry.table].append(entry.path)
    return {name: _content(table, paths[name]) for name, table in tables.items()}


def _content(table: Table, paths: Sequence[str]) -> Content:
    if not paths:
        return Content(0, _hashed(b""))
    rows = staged.scan(paths, list(polars_schema(table))).collect().sort(table.key, nulls_last=True).rechunk()
    written = BytesIO()
    rows.write_ipc(written)
    return Content(rows.height, _hashed(written.getbuffer()))


def days_of(answers: Warehouse, table: str, goes: WithoutSpan) -> list[date]:
    """The days of a table with rows that go."""
    if table not in answers.tables():
        return []
    day = f"DATE(`{answers.table(table).partition}`, '{answers.time_zone}')"
    found = pl.concat(answers.ask(f"SELECT DISTINCT {day} AS day FROM `{table}` WHERE NOT ({goes.sql()})"))
    return sorted(found["day"])


def _hashed(content: bytes | memoryview) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
