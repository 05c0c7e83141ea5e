"""Events of a kind, each once, as the view `events_unique` has them: without comparing all events of the days.

The view compares every event with its copies, whatever is asked of it. Here the events of the kind are found first, and
compared are the copies of their ids alone: a question about a few events costs a look at the ids of the days.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipelines.insight.shape import Inputs
from pipelines.warehouse.conditions import moment

if TYPE_CHECKING:
    import polars as pl

MARGIN = timedelta(days=3)  # before and after the span: it has the local days beside its first and its last one
BESIDE = 1  # days before and after its own where a copy of an event counts as one
KEYS = ("source", "event_id", "event_time", "received_time", "input")


def unique_events(inputs: Inputs, columns: Sequence[str], since: datetime, end: datetime, where: str) -> "pl.DataFrame":
    """The events of a span that match, each once, in the order of their time, source and id.

    columns  of the table `events`, more than KEYS: all of them are in the answer, `event_time` in UTC
    where    SQL that BigQuery and DuckDB share, over the table's columns
    """
    import polars as pl

    from transforms.insight.copies import first_copies

    named = ", ".join(dict.fromkeys([*KEYS, *columns]))
    within = f"event_time >= {moment(since)} AND event_time < {moment(end)}"
    near = f"event_time >= {moment(since - MARGIN)} AND event_time < {moment(end + MARGIN)}"
    matching = f"COALESCE({where}, FALSE)"
    found = inputs.ask(
        f"SELECT {named}, {matching} AND {within} AS is_wanted FROM events "
        f"WHERE {near} AND event_id IN (SELECT event_id FROM events WHERE {within} AND {matching})"
    )
    times = [pl.col(name).cast(pl.Datetime("us", "UTC")) for name in ("event_time", "received_time")]
    copies = found.with_columns(*times, pl.col("is_wanted").cast(pl.Boolean))
    wanted = first_copies(copies, inputs.time_zone).filter("is_wanted").drop("is_wanted")
    return wanted.sort("event_time", "source", "event_id")
