"""Declarations: what a run says of its tables, beside what the warehouse says of them already."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import xxhash

from pipelines.warehouse.tables import Table, duckdb_type
from transforms.errors import WarehouseError


def shape(columns: Iterable[str]) -> str:
    """What files with the same columns have in common; types never change (`join_declarations`)."""
    return xxhash.xxh3_64_hexdigest("\n".join(sorted(columns)).encode())


def uniform_tables(before: Mapping[str, str], filled: Collection[str], added: Mapping[str, set[str]]) -> dict[str, str]:
    """The tables whose files all have one shape, and that shape.

    before  the same before a commit
    filled  the tables that had files then
    added   the shapes of the files that the commit adds, by table
    """
    found = {}
    for table in {*filled, *added}:
        shapes = added.get(table, set()) | ({before.get(table, "")} if table in filled else set())
        if len(shapes) == 1 and "" not in shapes:
            found[table] = min(shapes)
    return dict(sorted(found.items()))


def join_declarations(before: Table, table: Table, folder: Path) -> Table:
    """`table` with the columns that only `before` has, if rows of both can stand in one table."""
    types = {column.name: column for column in before.columns}
    for column in table.columns:
        was = types.pop(column.name, column)
        if duckdb_type(was) != duckdb_type(column):
            raise WarehouseError(
                f"table {table.name}: column {column.name!r} is {was.type} in {folder} and {column.type} "
                "in this run; give it another name, or use another --warehouse"
            )
    if before.key != table.key:
        raise WarehouseError(
            f"table {table.name}: its rows are identified by {', '.join(before.key)} in {folder} and by "
            f"{', '.join(table.key)} in this run; give the metric another name, or use another --warehouse"
        )
    lost = tuple(replace(column, mode=column.mode.replace("REQUIRED", "NULLABLE")) for column in types.values())
    return replace(table, columns=(*table.columns, *lost))
