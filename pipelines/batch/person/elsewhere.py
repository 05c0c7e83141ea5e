"""Describe where copies of erased data may remain, and for how long: places that no command reaches.

list_copies(warehouse) -> lines; for BigQuery with the dataset's time travel, for queues with what the audit counts name
"""

from pathlib import Path

import polars as pl

from pipelines.batch.person.logs import inputs_of, logs_of
from pipelines.insight.sync.run import FOLDER
from pipelines.insight.sync.state import MEMBERS_FILE
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.tables import QUALITY_1M

MOST_NAMED = 5  # listed at most
_SUBSCRIPTION = "^projects/[^/]+/subscriptions/"
_KAFKA, _KINESIS = "^kafka:[^@]*@", "^arn:[^:@]+:kinesis:[^@]*@"


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
    lines.append(
        "topics that a stream publishes to (--output_topic, --output_kafka): rows for the retention of theirs, and "
        "whatever their consumers keep"
    )
    if pairs := _synced(warehouse):
        lines.append(
            f"targets of `audience sync`{_named(pairs)}: until the next sync of each has sent the removal; then sync/ "
            "forgets the person too; files that it wrote stay until you delete them"
        )
    if logs := [each for each in inputs_of(warehouse) if Path(each).resolve() not in logs_of(warehouse)]:
        lines.append(
            f"write-ahead log{_named(logs)}, which is not on this machine: entries until they are read; *.torn and "
            "*.damaged until you delete them; run the same there, or name its folder with --log"
        )
    if topics := _inputs(warehouse, _KAFKA):
        lines.append(
            f"Kafka{_named(topics)}: messages until the retention of their topic, 7 days by default; without a limit "
            "in a compacted topic, until a tombstone of the same key"
        )
    if streams := _inputs(warehouse, _KINESIS):
        lines.append(
            f"Kinesis{_named(streams)}: records for the retention of the stream: 24 hours by default, at most 365 days"
        )
    return lines


def _synced(warehouse: Warehouse) -> list[str]:
    """The segments and targets that the warehouse keeps a state for."""
    place = warehouse.local_path
    return [] if place is None else sorted(each.parent.name for each in place.glob(f"{FOLDER}/*/{MEMBERS_FILE}"))


def _named(inputs: list[str]) -> str:
    return f" ({', '.join(inputs[:MOST_NAMED])}{', ...' if len(inputs) > MOST_NAMED else ''})" if inputs else ""


def _inputs(warehouse: Warehouse, pattern: str) -> list[str]:
    """Return the queues of this form that the warehouse was fed from, without the segment after the @."""
    counted = warehouse.scan(QUALITY_1M.name, columns=["input"]).filter(pl.col("input").str.contains(pattern))
    return sorted(counted.select(pl.col("input").str.split("@").list.first()).unique().collect()["input"])
