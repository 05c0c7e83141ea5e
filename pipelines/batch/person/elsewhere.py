"""Describe where copies of erased data may remain, and for how long: places that no command reaches.

list_copies(warehouse) -> lines; for BigQuery with the dataset's time travel, for Pub/Sub and write-ahead logs with what
the audit counts name
"""

import polars as pl

from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.tables import QUALITY_1M

MOST_NAMED = 5  # listed at most
_SUBSCRIPTION, _LOG = "^projects/[^/]+/subscriptions/", "^/[^@]*@"  # a file has no part behind an @


def list_copies(warehouse: Warehouse) -> list[str]:
    """Return what keeps copies, a line each."""
    lines = ["input files, exports, backups and snapshots: until you delete them"]
    lines += warehouse.retention()
    lines.append(
        f"Pub/Sub{_named(_inputs(warehouse, _SUBSCRIPTION))}: unacknowledged or retained messages, for the retention "
        "of the subscription and of the topic: 7 days by default, at most 31"
    )
    lines.append(
        "Pub/Sub dead-letter topic: its subscription keeps messages for its own retention (31 days in templates/"
        "terraform); `gcloud pubsub subscriptions seek SUBSCRIPTION --time=NOW` discards them"
    )
    if logs := _inputs(warehouse, _LOG):
        lines.append(
            f"write-ahead log{_named(logs)}: entries until they are read; *.torn and *.damaged until you delete them"
        )
    return lines


def _named(inputs: list[str]) -> str:
    return f" ({', '.join(inputs[:MOST_NAMED])}{', ...' if len(inputs) > MOST_NAMED else ''})" if inputs else ""


def _inputs(warehouse: Warehouse, pattern: str) -> list[str]:
    """Return the queues of this form that the warehouse was fed from, without the segment after the @."""
    counted = warehouse.scan(QUALITY_1M.name, columns=["input"]).filter(pl.col("input").str.contains(pattern))
    return sorted(counted.select(pl.col("input").str.split("@").list.first()).unique().collect()["input"])
