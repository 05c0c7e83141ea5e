"""Bounded SQL: a question over the views of a warehouse, with each table that they read cut to the rows of a window.

    WITH events AS (SELECT * FROM events WHERE event_time >= @recent AND event_time <= @now),
         <each view> AS (<its text>)
    SELECT ...

The text is whole: typed into `audience query` (or into BigQuery) it gives the numbers of the page, and reads no more.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import NamedTuple

from pipelines.apps.live.question import Question
from pipelines.apps.live.questions import QUESTIONS
from pipelines.apps.live.times import literals
from pipelines.warehouse import views
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.tables import Table

_PARAMETER = re.compile(r"[@$]([a-z_]+)\b")


class Prepared(NamedTuple):
    """A question in the SQL of one warehouse: `sql` with parameters `@name`."""

    question: Question
    sql: str

    def filled(self, times: Mapping[str, datetime | date], is_duckdb: bool) -> str:
        """The SQL of one tick."""
        known = literals(times, is_duckdb)
        return _PARAMETER.sub(lambda found: known.get(found[1], found[0]), self.sql)


def prepare(warehouse: Warehouse) -> list[Prepared]:
    """The questions that the warehouse can answer: one whose table or view it lacks is left out."""
    tables = warehouse.tables()
    texts, local = warehouse.view_texts(), warehouse.local_path is not None
    found = []
    for question in QUESTIONS:
        read = views.read_by(question.views, texts, tables, warehouse.time_zone) | set(question.views)
        if read <= tables.keys() | texts.keys() and read & tables.keys() <= question.since.keys():
            places = {name: name if local else f"`{warehouse.name}.{name}`" for name in sorted(read & tables.keys())}
            parts = [_bounded(tables[name], place, question) for name, place in places.items()]
            parts += [
                f"{name} AS (\n{_translated(_stripped(text), local)}\n)" for name, text in texts.items() if name in read
            ]
            found.append(Prepared(question, f"WITH {', '.join(parts)}\n{_translated(question.sql, local)}"))
    return found


def _bounded(table: Table, place: str, question: Question) -> str:
    at, only = table.partition, question.only.get(table.name)
    where = f"{at} >= @{question.since[table.name]} AND {at} <= @{question.until}" + (f" AND {only}" if only else "")
    return f"{table.name} AS (SELECT * FROM {place} WHERE {where})"


def _stripped(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip()


def _translated(sql: str, local: bool) -> str:
    if not local:
        return sql
    from pipelines.warehouse.dialect import to_duckdb  # imports the SQL parser

    return to_duckdb(sql)
