"""Resume, of refusals: the state of the step that keeps one refusal of a message (transforms/redelivered.py).

It reads the rows of `quarantine` of the stream's own input that were received since its first open window began, and of
these only the columns that identify them. Where rows of minutes that are read again cannot be deleted, `claim` has the
step keep the same deliveries again.
"""

from datetime import datetime, timedelta

import polars as pl

from pipelines.streaming.recovery.restore_rows import blocks
from pipelines.warehouse.conditions import days_from, of_input
from pipelines.warehouse.interface import Restorable
from pipelines.warehouse.tables import QUARANTINE
from transforms import redelivered
from transforms import restored_state as seeds
from transforms.block import TIME

COLUMNS = ("quarantine_id", "input", "received_time")


def ids(warehouse: Restorable, input: str, since: datetime) -> pl.LazyFrame:
    """COLUMNS of what is in quarantine, or was, of a stream's input."""
    rows = warehouse.scan(QUARANTINE.name, days_from(warehouse, QUARANTINE.name, since), COLUMNS)
    return rows.filter(of_input(input) & (pl.col("received_time") >= pl.lit(since, TIME)))


def write_seeds(refused: pl.LazyFrame, window: timedelta, shards: int, folder: str) -> None:
    """Write the state that the step starts from: the refusals (COLUMNS) that it had."""
    for block in blocks(refused):
        for (number, shard), piece in redelivered.split_refusals(block, window, shards):
            entries = redelivered.seen_entries(piece).tobytes()
            seeds.add_seen(folder, seeds.Place(number, shard), entries, redelivered.NAME)


def claim(rows: pl.LazyFrame, window: timedelta, shards: int, folder: str) -> None:
    """Write the claims of stored refusals (COLUMNS) whose records are read again, where their rows stay."""
    for block in blocks(rows):
        for (number, shard), piece in redelivered.split_refusals(block, window, shards):
            claims = redelivered.claim_entries(piece).tobytes()
            seeds.add_claims(folder, seeds.Place(number, shard), claims, redelivered.NAME)
