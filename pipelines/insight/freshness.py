"""Freshness: how long ago each source was heard of last, beside the longest time that it is silent otherwise.

The minutes are those of `quality_1m`, of the time at which records were received. A source is as silent as never in the
7 days before its last record where `silent_seconds` is above `longest_gap_seconds`.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipelines.insight.shape import Inputs, Pass
from pipelines.insight.tables import FRESHNESS
from pipelines.warehouse.conditions import moment

if TYPE_CHECKING:
    import polars as pl

USUAL = timedelta(days=7)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def compute(inputs: Inputs) -> "dict[str, pl.DataFrame]":
    """One row for each source that was heard of before `as_of`."""
    import polars as pl

    last = inputs.ask(
        "SELECT source, MAX(bucket_end) AS last_received FROM quality_1m_current "
        f"WHERE received > 0 AND bucket_end <= {moment(inputs.as_of)} GROUP BY source"
    ).cast({"last_received": pl.Datetime("us", "UTC")})
    if last.is_empty():
        return {FRESHNESS.name: last}
    first = last["last_received"].min()
    assert isinstance(first, datetime), "there is a source"
    minutes = inputs.ask(
        "SELECT source, bucket_start, bucket_end, SUM(received) AS received, SUM(quarantined) AS quarantined "
        f"FROM quality_1m_current WHERE received > 0 AND bucket_start >= {moment(first - USUAL)} "
        f"AND bucket_end <= {moment(inputs.as_of)} GROUP BY source, bucket_start, bucket_end"
    )
    return {FRESHNESS.name: _rows(last, minutes, inputs.as_of)}


def _rows(last: "pl.DataFrame", minutes: "pl.DataFrame", as_of: datetime) -> "pl.DataFrame":
    import polars as pl

    times = pl.col("bucket_start", "bucket_end").cast(pl.Datetime("us", "UTC"))
    minutes = minutes.with_columns(times).sort("source", "bucket_start").join(last, on="source")
    usual = minutes.filter(pl.col("bucket_start") >= pl.col("last_received") - USUAL)
    gap = (pl.col("bucket_start") - pl.col("bucket_end").shift(1)).over("source").dt.total_seconds()
    gaps = usual.with_columns(gap=gap).group_by("source").agg(longest_gap_seconds=pl.col("gap").max())

    def counted(column: str, since: timedelta) -> pl.Expr:
        return pl.col(column).filter(pl.col("bucket_start") >= as_of - since).sum().cast(pl.Int64)

    counts = minutes.group_by("source").agg(
        received_1h=counted("received", HOUR),
        received_24h=counted("received", DAY),
        quarantined_24h=counted("quarantined", DAY),
    )
    silent = (pl.lit(as_of, pl.Datetime("us", "UTC")) - pl.col("last_received")).dt.total_seconds()
    rows = last.join(gaps, on="source").join(counts, on="source").sort("source")
    return rows.with_columns(silent_seconds=silent)


PASS = Pass("freshness", (FRESHNESS,), compute)
