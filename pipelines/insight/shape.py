"""The shape of a pass: what it may read, and what it makes of it.

A refresh as of T computes rows from what is stored at or before T. So that a rerun as of the same T over the same rows
gives equal rows, a pass uses no clock and no random seed, and the order of what it reads decides nothing.

The rows of a refresh take the place of those that are as of the same T, and of those of an earlier T of the same day:
of each past day the answers of its last refresh stay. So a pass answers for at least the last 24 hours, if what it
says is about the past. A pass that keeps "all" keeps those of each T, and one that keeps "none" those of
the newest T alone.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from pipelines.warehouse.tables import Table

if TYPE_CHECKING:
    import apache_beam as beam
    import polars as pl

    from pipelines.settings.config import Configuration
    from pipelines.warehouse.local.kept_days import KeptDays


class Inputs(NamedTuple):
    """What a pass may read.

    ask            the answer to SQL that BigQuery and DuckDB share, over the warehouse's tables and views, in UTC
    as_of          UTC; no bucket that ends and no event that happens after it may matter
    time_zone      of the warehouse: it cuts days
    names          tables and views that may be asked: a warehouse may be without a metric
    configuration  what the options' configuration file says
    kept           what a local warehouse keeps of each day, see days.py; None: everything is asked
    """

    ask: "Callable[[str], pl.DataFrame]"
    as_of: datetime
    time_zone: str
    names: Collection[str]
    configuration: "Configuration"
    kept: "KeptDays | None" = None


class Step(NamedTuple):
    """What makes rows of a table of the rows that a pass computes: PCollection[frames] -> PCollection[frames].

    rows  of a frame, at most
    """

    table: Table
    transform: "beam.PTransform"
    rows: int


def no_steps(configuration: "Configuration") -> dict[str, Step]:
    """None: what a pass computes is what it writes."""
    return {}


class Pass(NamedTuple):
    """A pass.

    name       of all of its answers, such as "forecasts"
    tables     what it writes, from tables.py; each with the REQUIRED columns `as_of` (TIMESTAMP) and `pipeline_version`
    compute    Inputs -> rows by the name of a table, in its columns; a table without rows, and the columns `as_of` and
               `pipeline_version`, may be left out. It runs on a worker, where its module may be imported for the first
               time
    keeps      which answers of an earlier time stay: of each other day the last ("day"), "all", or "none"
    steps      by name, of which `compute` returns rows as of a table
    """

    name: str
    tables: tuple[Table, ...]
    compute: "Callable[[Inputs], dict[str, pl.DataFrame]]"
    keeps: Literal["day", "all", "none"] = "day"
    steps: "Callable[[Configuration], dict[str, Step]]" = no_steps
