"""An index of the newest answers about persons, in memory: the rows of one person in microseconds.

    read_index(warehouse)        the newest answers of a folder
    index.rows(person, names)    table -> the rows of a person, as `<table>_latest` has them

Persons are sorted once, and a person is found by halving. The rows of a table are in the order of persons, with the
place of the first row of each in place of its name. Texts that repeat, such as names of contents, are numbers into a
list, and whole numbers are as short as they can be: benchmarks/RESULTS-serving.md says what a million persons take.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from pipelines.insight.profile_tables import (
    RECOMMENDATIONS,
    USER_ATTRIBUTES,
    USER_INTERESTS,
    USER_PROFILES,
    USER_VALUES,
)
from pipelines.warehouse.answers import AS_OF, REFRESHES
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import Table

PERSON = "person"
TABLES = (USER_PROFILES, USER_INTERESTS, USER_VALUES, USER_ATTRIBUTES, RECOMMENDATIONS)
_LEFT_OUT = (AS_OF, "pipeline_version", PERSON)
_MANY = ("text",)  # texts that need not repeat

Row = dict[str, Any]


class _Rows(NamedTuple):
    """The rows of a table: those of person n are from starts[n] to starts[n + 1]."""

    starts: np.ndarray
    rows: pl.DataFrame


class Index:
    """The newest answers about persons.

    as_of   table -> the time of its newest refresh, UTC; a table that no refresh has computed is absent
    others  rows of `recommendations` for whoever has none
    """

    def __init__(self, as_of: Mapping[str, datetime], tables: Mapping[str, pl.DataFrame]):
        """`tables`: table -> its newest rows, with `person`, in the order of persons."""
        self.as_of = dict(as_of)
        own = {name: rows.filter(pl.col(PERSON).is_not_null()) for name, rows in tables.items()}
        persons = [rows[PERSON].unique() for rows in own.values()] or [pl.Series(PERSON, [], pl.String)]
        self._persons = pl.concat(persons).unique().sort().rechunk()
        self._rows = {name: _aligned(self._persons, rows) for name, rows in own.items()}
        others = tables.get(RECOMMENDATIONS.name)
        nobody = [] if others is None else others.filter(pl.col(PERSON).is_null()).drop(PERSON).sort("place").to_dicts()
        self.others: list[Row] = nobody

    def __len__(self) -> int:
        """How many persons it has."""
        return len(self._persons)

    def rows(self, person: str, names: Iterable[str]) -> dict[str, list[Row]] | None:
        """table of `names` -> the rows of a person, without the columns that are the same for all, where it has any;
        None for a person that no table has."""
        at = place_of(person, self._persons)
        if at is None:
            return None
        found: dict[str, list[Row]] = {}
        for name in self._rows.keys() & names:
            part = self._rows[name]
            start, end = int(part.starts[at]), int(part.starts[at + 1])
            if start < end:
                found[name] = part.rows.slice(start, end - start).to_dicts()
        return found


def place_of(person: str, persons: pl.Series) -> int | None:
    """Where a person is in a sorted column of persons; None: it is not there."""
    at = bisect_left(persons, person)
    return at if at < len(persons) and persons[at] == person else None


def _aligned(persons: pl.Series, rows: pl.DataFrame) -> _Rows:
    counts = persons.to_frame().join(rows.group_by(PERSON).len(), on=PERSON, how="left", maintain_order="left")
    starts = np.concatenate(([0], counts["len"].fill_null(0).to_numpy().cumsum())).astype(np.int64)
    return _Rows(starts, rows.drop(PERSON).rechunk())


def read_index(warehouse: LocalWarehouse) -> Index:
    """The newest answers of a folder; without a refresh an index of nobody. Errors: WarehouseError, or what a file that
    a commit replaces meanwhile raises: then read again."""
    there = warehouse.tables()
    if REFRESHES.name not in there:
        return Index({}, {})
    noted = warehouse.scan(REFRESHES.name, columns=["table_name", AS_OF]).group_by("table_name").max().collect()
    newest = dict(zip(noted["table_name"], noted[AS_OF], strict=True))
    as_of = {table.name: newest[table.name] for table in TABLES if table.name in newest and table.name in there}
    return Index(
        as_of, {table.name: _newest(warehouse, table, as_of[table.name]) for table in TABLES if table.name in as_of}
    )


def _newest(warehouse: LocalWarehouse, table: Table, as_of: datetime) -> pl.DataFrame:
    """The rows of a table as of a time, small, in the order of persons."""
    texts = [
        column.name for column in table.columns if column.type == "STRING" and column.name not in (*_LEFT_OUT, *_MANY)
    ]
    names = [column.name for column in table.columns if column.name == PERSON or column.name not in _LEFT_OUT]
    scan = warehouse.scan(table.name).filter(pl.col(AS_OF) == as_of).select(names)
    rows = scan.with_columns(pl.col(texts).cast(pl.Categorical)).collect()
    if not rows[PERSON].is_sorted():
        rows = rows.sort(PERSON, maintain_order=True)
    whole = [column.name for column in table.columns if column.type == "INT64"]
    return rows.with_columns(rows[name].shrink_dtype() for name in whole)
