"""The row of each person, joined of what was counted, and the segment that follows from it.

The first segment that fits:

    new         first seen within 7 days
    regular     seen within 7 days, and on at least 4 days of 28
    occasional  seen within 28 days
    dormant     seen within 90 days
    lost        all others
"""

from collections.abc import Mapping
from datetime import datetime

import polars as pl

DAY_SECONDS = 86_400.0
SEGMENTS = ("new", "regular", "occasional", "dormant", "lost")


def profiles(
    counted: pl.DataFrame,
    visited: pl.DataFrame,
    channels: pl.DataFrame,
    hours: pl.DataFrame,
    interests: Mapping[str, pl.DataFrame],
    as_of: datetime,
) -> pl.DataFrame:
    """A row for each row of `counted`, which has one for each person.

    counted    person, is_user, first_seen, last_seen, events, events_1d, events_7d, events_28d, active_days_28d
    visited    person, sessions_28d, engaged_sessions_28d, session_seconds_28d
    others     person, place, key: of `interests`, by dimension, the key of place 1 counts
    """
    firsts = {
        "channel": channels,
        "hour": hours,
        "category": interests["category"],
        "content_id": interests["content"],
    }
    found = counted.join(visited, on="person", how="left", maintain_order="left")
    for name, keys in firsts.items():
        first = keys.filter(pl.col("place") == 1).select("person", pl.col("key").alias(name))
        found = found.join(first, on="person", how="left", maintain_order="left")
    now = pl.lit(as_of, pl.Datetime("us", "UTC"))
    age = (now - pl.col("first_seen")).dt.total_microseconds() / 1e6 / DAY_SECONDS
    recency = (now - pl.col("last_seen")).dt.total_microseconds() / 1e6 / DAY_SECONDS
    return found.with_columns(
        pl.col("sessions_28d", "engaged_sessions_28d").fill_null(0),
        recency_days=recency,
        segment=segment(age, recency, pl.col("active_days_28d")),
    )


def segment(age: pl.Expr, recency: pl.Expr, active_days: pl.Expr) -> pl.Expr:
    """The segment by days since the first and the last event, and active days of 28."""
    rules = (age <= 7, (recency <= 7) & (active_days >= 4), recency <= 28, recency <= 90, pl.lit(True))
    return pl.coalesce(pl.when(rule).then(pl.lit(name)) for rule, name in zip(rules, SEGMENTS, strict=True))
