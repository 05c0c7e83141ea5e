"""Describe where copies of erased data may remain, and for how long: places that no command reaches.

list_copies(warehouse) -> lines; for BigQuery with the dataset's time travel, for Pub/Sub with the subscriptions in the
audit counts
"""

import polars as pl

from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import QUALITY_1M

FAIL_SAFE_DAYS = 7  # in BigQuery, after its time travel
TIME_TRAVEL_HOURS = 168  # default of a dataset
SUBSCRIPTIONS = 5  # listed at most


def list_copies(warehouse: Warehouse) -> list[str]:
    """Return what keeps copies, a line each."""
    lines = ["input files, exports, backups and snapshots: until you delete them"]
    if not isinstance(warehouse, LocalWarehouse):
        hours = _time_travel_hours(warehouse)
        lines += [
            f"BigQuery: time travel keeps deleted rows for {hours / 24:g} days, then the fail-safe for another "
            f"{FAIL_SAFE_DAYS} days, which cannot be shortened",
            "the landing folder of a stream into BigQuery (--landing): until the stream has written what landed",
        ]
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


def _time_travel_hours(warehouse: Warehouse) -> int:
    from pipelines.warehouse.bigquery.dataset import PATIENCE  # which imports Google's clients
    from pipelines.warehouse.bigquery.errors import told
    from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse

    assert isinstance(warehouse, BigQueryWarehouse)
    with told(warehouse.name, "read its time travel"):
        dataset = warehouse.client.get_dataset(warehouse.dataset, retry=PATIENCE)
    return int(dataset.max_time_travel_hours or TIME_TRAVEL_HOURS)


def _subscriptions(warehouse: Warehouse) -> list[str]:
    """Return the subscriptions that the warehouse was fed from, without the segment after the @."""
    inputs = warehouse.scan(QUALITY_1M.name, columns=["input"]).select(pl.col("input").str.split("@").list.first())
    read = inputs.filter(pl.col("input").str.contains("^projects/[^/]+/subscriptions/")).unique().collect()
    return sorted(read["input"])
