"""Records as a queue delivers them."""

from datetime import UTC, datetime, timedelta

import polars as pl

from transforms.block import RAW_SCHEMA

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def block(*seconds: int) -> pl.DataFrame:
    """A RAW_SCHEMA block of records received that many seconds after noon."""
    times = [NOON + timedelta(seconds=second) for second in seconds]
    return pl.DataFrame(
        {
            "payload": [f"{second}".encode() for second in seconds],
            "received_time": times,
            "source": ["events"] * len(seconds),
            "position": [f"{second}" for second in seconds],
            "attributes": [None] * len(seconds),
        },
        schema=RAW_SCHEMA,
    )
