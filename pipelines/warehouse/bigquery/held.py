"""Held generations: metric rows that a dataset stores and its `_current` views do not show yet.

    label audience_held    the generations of streams that were started with --held, joined by _

While one stream replaces another, the new one writes next to the old one. Its rows have a higher generation, so each
would win at once, though it may lack what the old stream has counted already. Held, they stay invisible until the old
stream has ended and the new one has counted at least as much; then `release` shows all of them. The audit counts are
not held: their key has the input, and the new stream reads a subscription of its own.
"""

from collections.abc import Sequence

import polars as pl

from pipelines.warehouse.bigquery.dataset import Dataset
from pipelines.warehouse.bigquery.errors import describe_error
from pipelines.warehouse.bigquery.labels import change_labels, read_labels
from pipelines.warehouse.bigquery.schema import HELD_LABEL, bring_views_up_to_date, held_in
from pipelines.warehouse.tables import SESSIONS, Table
from pipelines.warehouse.views import bigquery_views, is_held
from transforms.errors import WarehouseError

MOST_HELD = 3  # of 18 digits, in the 63 characters of a label


def held_generations(warehouse: Dataset) -> list[int]:
    """Return the generations whose rows the `_current` views leave out now."""
    return held_in(read_labels(warehouse))


def hold(warehouse: Dataset, generation: int) -> None:
    """Hide the rows of a generation, before the first of them is written. Errors: WarehouseError."""
    held = held_generations(warehouse)
    if len(held) >= MOST_HELD and generation not in held:
        raise WarehouseError(
            f"{warehouse.name}: the rows of {len(held)} launches are held; allowed: {MOST_HELD}; show them with "
            f"`audience deploy release {warehouse.option}`, and start again"
        )
    _note(warehouse, sorted({*held, generation}))


def release(warehouse: Dataset, force: bool = False) -> int | None:
    """Show the rows of the newest held generation, and return it; None if there is none.

    Older ones stay hidden: they are of launches that failed or were started again, and a stream that starts publishes
    every open bucket whose stored events differ from what is shown. Nothing is changed, and WarehouseError raised, if
    a `_current` view would show less then than it does now, unless `force`.
    """
    if not (held := held_generations(warehouse)):
        return None
    if not force and (less := find_smaller(warehouse)):
        shown = ", ".join(f"{count:,} of {table}_current" for table, count in sorted(less.items()))
        raise WarehouseError(
            f"{warehouse.name}: nothing was released, since rows would show less than now: {shown}; wait until the "
            "new stream has read what the old one had, or release with --force, and `audience recompute` the days"
        )
    _note(warehouse, held[:-1])
    return held[-1]


def _note(warehouse: Dataset, held: Sequence[int]) -> None:
    # The label first: were the views first, a run that declares its tables in between would undo the change.
    change_labels(warehouse, {HELD_LABEL: "_".join(map(str, held))})
    tables = warehouse.tables().values()
    names = {f"{table.name}_current" for table in tables if is_held(table)}
    views = [(name, sql) for name, sql in bigquery_views(tables, warehouse.time_zone, None, held) if name in names]
    with describe_error(warehouse.name, "change its views"):
        bring_views_up_to_date(warehouse, views, all=False)


def find_smaller(warehouse: Dataset) -> dict[str, int]:
    """Return by table how many rows of its `_current` view a release would replace by smaller ones.

    Compared is every whole-number measure of each key; of sessions, which late events join, the events of all.
    """
    held = held_generations(warehouse)
    found: dict[str, int] = {}
    for table in warehouse.tables().values() if held else ():
        if is_held(table):
            count = pl.concat(warehouse.ask(_smaller_sql(table, held))).item()
            found |= {table.name: count} if count else {}
    return found


def _smaller_sql(table: Table, held: Sequence[int]) -> str:
    key = [] if table.name == SESSIONS.name else [f"`{name}`" for name in table.key]
    measures = ["`events`"] if table.name == SESSIONS.name else _measures(table)
    if not measures:
        return "SELECT 0 AS n"
    name, columns = f"{table.name}_current", ", ".join([*key, *measures])
    shown, later = (dict(bigquery_views([table], "UTC", None, hidden))[name] for hidden in (held, held[:-1]))
    both = f"SELECT {columns}, 0 AS side FROM (\n{shown}\n) UNION ALL SELECT {columns}, 1 FROM (\n{later}\n)"
    less = " OR ".join(f"SUM(IF(side = 1, {each}, 0)) < SUM(IF(side = 0, {each}, 0))" for each in measures)
    grouped = f"GROUP BY {', '.join(key)}" if key else ""
    return f"SELECT COUNTIF(is_less) AS n FROM (SELECT {less} AS is_less FROM ({both}) {grouped})"


def _measures(table: Table) -> list[str]:
    stamps = {*table.key, "generation", "revision"}
    return [f"`{each.name}`" for each in table.columns if each.type == "INT64" and each.name not in stamps]
