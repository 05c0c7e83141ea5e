"""Describe where copies of erased data may remain, and for how long: places that no command reaches.

list_copies(warehouse) -> lines; for BigQuery with the dataset's time travel, for Pub/Sub with the subscriptions in the
audit counts
"""

import polars as pl

from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.tables import QUALITY_1M

SUBSCRIPTIONS = 5  # listed at most


def list_copies(warehouse: Warehouse) -> list[str]:
    """Return what keeps copies, a line each."""
    lines = ["input files, exports, backups and snapshots: until you delete them"]
    lines += warehouse.retention()
    named = _subscriptions(warehouse)
    which = f" ({', '.join(named[:SUBSCRIPTIONS])}{', ...' if len(named) > SUBSCRIPTIONS else ''})" if named else ""
    lines.append(
        f"Pub/Sub{which}: unacknowledged or retained messages, for the retention of the subscription and of the topic: "
        "7 days by default, at most 31"
    )
    lines.append(
        "Pub/Sub dead-letter topic: its subscription keeps messages for its own retention (31 days in templates/"
        "terraform); `gcloud pubsub subscriptions seek SUBSCRIPTION --time=NOW` discards them"
    )
    return lines


def _subscriptions(warehouse: Warehouse) -> list[str]:
    """Return the subscriptions that the warehouse was fed from, without the segment after the @."""
    inputs = warehouse.scan(QUALITY_1M.name, columns=["input"]).select(pl.col("input").str.split("@").list.first())
    read = inputs.filter(pl.col("input").str.contains("^projects/[^/]+/subscriptions/")).unique().collect()
    return sorted(read["input"])
