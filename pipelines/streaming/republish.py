"""Publish again what the last run of a stream may have stored and not published (warehouse/outputs.py).

A row is published after it was stored. A topic that takes nothing for ten minutes stops the stream; so what was stored
earlier than that before the last sign of life was published.
"""

from datetime import datetime, timedelta

import polars as pl

from pipelines.sources.pubsub.publish import LIMIT_SECONDS
from pipelines.warehouse.conditions import moment
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.outputs import Outputs
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE, polars_schema

REACH = timedelta(seconds=LIMIT_SECONDS) + timedelta(minutes=5)
WRITTEN = {EVENTS.name: "received_time", QUARANTINE.name: "failed_time"}  # else emitted_time


def publish_again(warehouse: Warehouse, outputs: Outputs) -> int:
    """Publish the rows of the end of the last run, and return how many; none if there was no run."""
    (last,) = pl.concat(warehouse.ask(f"SELECT MAX(emitted_time) AS last FROM {QUALITY_1M.name}"))["last"]
    if last is None:
        return 0
    since: datetime = last - REACH
    rows = 0
    for name in sorted(outputs.tables):
        table = warehouse.table(name)
        listed = ", ".join(f"`{column.name}`" for column in table.columns)
        at = f"`{WRITTEN.get(name, 'emitted_time')}` >= {moment(since)}"
        for part in warehouse.ask(f"SELECT {listed} FROM `{name}` WHERE {at}"):
            outputs.publish(table, part.cast(polars_schema(table)))  # type: ignore[arg-type]
            rows += len(part)
    return rows
