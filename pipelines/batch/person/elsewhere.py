"""Where copies of what was erased may still be, and for how long: what no command of ours reaches.

elsewhere(warehouse) -> lines; of BigQuery with the hours that the dataset states, of Pub/Sub with the subscriptions
that the books name
"""

import polars as pl

from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.tables import QUALITY_1M

SUBSCRIPTIONS = 5  # that are named


def elsewhere(warehouse: Warehouse) -> list[str]:
    """What keeps copies, a line each."""
    lines = ["files that were read, exports, backups and snapshots: until you delete them"]
    lines += warehouse.retention()
    named = _subscriptions(warehouse)
    which = f" ({', '.join(named[:SUBSCRIPTIONS])}{', ...' if len(named) > SUBSCRIPTIONS else ''})" if named else ""
    lines.append(
        f"Pub/Sub{which}: a message that is not acknowledged, or is retained, for the retention of the subscription "
        "and of the topic: 7 days by default, at most 31"
    )
    lines.append(
        "Pub/Sub, dead-letter topic: its subscription keeps messages for its own retention, 31 days as templates/"
        "terraform makes it; `gcloud pubsub subscriptions seek SUBSCRIPTION --time=NOW` discards them"
    )
    return lines


def _subscriptions(warehouse: Warehouse) -> list[str]:
    """The subscriptions that the warehouse was read from, without the segment behind the @."""
    inputs = warehouse.scan(QUALITY_1M.name, columns=["input"]).select(pl.col("input").str.split("@").list.first())
    read = inputs.filter(pl.col("input").str.contains("^projects/[^/]+/subscriptions/")).unique().collect()
    return sorted(read["input"])
