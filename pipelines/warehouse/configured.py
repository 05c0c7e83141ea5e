"""A warehouse as a question with a configuration file sees it: with its funnel and look-back, and under its metrics
and time zone.

What a run computed stays as it was: a file whose metrics or time zone are others than the warehouse's is refused, and
funnel and look-back, which are computed when they are asked, are the file's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.settings.attribution import Attribution
from pipelines.settings.file import ConfigFile, read_document
from pipelines.settings.resolve import effective, place_of
from pipelines.settings.values import NAMED, value_of
from pipelines.system.terminal import option
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.tables import Table
from transforms.errors import ConfigError
from transforms.sessions.funnel import Funnel


class _Asked(ConfigFile, frozen=True, forbid_unknown_fields=True):
    """The file as written; its metrics are read where it states any."""

    funnel: Funnel | None = None
    attribution: Attribution | None = None


@contextmanager
def open_asked(values: dict[str, Any]) -> Iterator[Warehouse]:
    """The warehouse that options name, as their configuration file, if they name one, wants it asked.

    Errors: ConfigError, WarehouseError if the warehouse was written under another configuration.
    """
    path = values.get("config")
    if path is None:
        with open_warehouse(*place_of(values)) as warehouse:
            yield warehouse
        return
    stated = read_document(path, _Asked)
    zone = value_of(NAMED["time_zone"], effective({"config": path})["time_zone"])
    with open_warehouse(*place_of(values), zone) as warehouse:
        if any(stated.metrics.values()):
            _check_metrics(path, stated, warehouse)
        if stated.funnel is not None:
            warehouse.use_funnel(stated.funnel)
        if stated.attribution is not None:
            warehouse.use_attribution(stated.attribution)
        yield warehouse


def _check_metrics(path: str, stated: _Asked, warehouse: Warehouse) -> None:
    """Raise ConfigError for a metric of the file that the warehouse does not hold as the file defines it."""
    from pipelines.settings.config import read_config  # which imports Beam
    from pipelines.warehouse.metric_tables import table_of

    there = warehouse.tables()
    for spec in read_config(path).metrics:
        if stated.metrics.get(spec.name) is not None:
            why = _difference(table_of(spec), there.get(spec.name))
            if why:
                again = f"audience recompute {option('config', path)} {warehouse.option}"
                raise ConfigError(
                    f"{path}: .metrics.{spec.name}: {why} in {warehouse.name}, which was written under another "
                    f"configuration; compute it with `{again}`, or leave --config out"
                )


def _difference(wanted: Table, found: Table | None) -> str | None:
    if found is None:
        return "there is no such table"
    if wanted.key != found.key:
        return f"its rows are by {', '.join(found.key[1:]) or 'time alone'}, not by {', '.join(wanted.key[1:])}"
    columns = {column.name: column for column in found.columns}
    for column in wanted.columns:
        there = columns.get(column.name)
        if there is None:
            return f"there is no column {column.name!r}"
        if there.description != column.description:
            return f"{column.name!r} counts {there.description!r}, not {column.description!r},"
    return None
