"""Event time: determine when an event happened, from the record's own fields only. A part of the step settle.py.

    PARSED_SCHEMA block, received_given -> the same with event_time and time_source; rejected (no_time)

The rules, in this order (`time_source` states which one applied; all raw times are kept):
    trusted           the mapping states that the source's clock is right
    received_missing  the record has no time of its own: use the received time
    received_invalid  the record has a time that is unreadable, or before 1970 once it is shifted: use the received time
    future_clamped    later than received + 1 h: use the received time
    skew_corrected    `sent_time` is more than 60 s after the received time: the clock is provably fast, shift by that
    client            otherwise: use the client's time unchanged
`received - (sent - original)` is not applied in general: it would turn the time of transit into event time and reorder
events (PostHog's issue 98250, Sentry Relay's MINIMUM_CLOCK_DRIFT).
"""

from datetime import timedelta

import polars as pl

from transforms.block import REJECTED_SCHEMA, TIME, empty
from transforms.json_objects import errors_json
from transforms.records.times import FIRST, YEARS
from transforms.stage import rejections

PROVABLE_SKEW = timedelta(seconds=60)
FUTURE = timedelta(hours=1)
# Not `pl.lit(FIRST)`, which starts the threads of Polars when this module is imported: a fork would not have them.
_FIRST = pl.lit(int(FIRST.timestamp()) * 1_000_000).cast(TIME)
_NO_TIME = errors_json(
    "$.event_time",
    "no_time",
    f"neither an event time nor a received time that can be read, in the years {YEARS}",
)


def settle_event_time(block: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Add `event_time` and `time_source`; a record with no time at all is rejected."""
    timeless = block["received_time"].is_null()
    rejected = empty(REJECTED_SCHEMA)
    if timeless.any():
        rejected = rejections(block.filter(timeless), "event_time", "no_time", _NO_TIME)
        block = block.filter(~timeless)
    return block.with_columns(DATES), rejected


def _columns() -> list[pl.Expr]:
    client, sent, received = pl.col("client_time"), pl.col("sent_time"), pl.col("received_time")
    skew = sent - received
    fast = (skew > PROVABLE_SKEW).fill_null(False) & pl.col("received_given")
    corrected = pl.when(fast).then(client - skew).otherwise(client)
    no_client = client.is_null()
    trusted = pl.col("clock") == "trusted"
    clamped = corrected > received + FUTURE
    unset = fast & (corrected < _FIRST)
    source = (
        pl.when(no_client & pl.col("client_time_given"))
        .then(pl.lit("received_invalid"))
        .when(no_client)
        .then(pl.lit("received_missing"))
        .when(trusted)
        .then(pl.lit("trusted"))
        .when(unset)
        .then(pl.lit("received_invalid"))
        .when(clamped)
        .then(pl.lit("future_clamped"))
        .when(fast)
        .then(pl.lit("skew_corrected"))
        .otherwise(pl.lit("client"))
    )
    time = pl.when(no_client).then(received).when(trusted).then(client).when(clamped | unset).then(received)
    return [time.otherwise(corrected).alias("event_time"), source.alias("time_source")]


DATES = _columns()  # `event_time` and `time_source` of records that have a received time
DATED = pl.col("received_time").is_not_null().all()  # whether all records of a block have a time
