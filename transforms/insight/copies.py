"""Copies of an event: which one counts."""

import polars as pl

from transforms.block import day_of


def first_copies(rows: pl.DataFrame, zone: str) -> pl.DataFrame:
    """The rows that count: of each source and id the copy received first, of its day and the days beside it.

    rows  `source`, `event_id`, `event_time`, `received_time`, `input` and others; days are those of the zone

    An id that returns later than on the next day counts again.
    """
    day = day_of(pl.col("event_time"), zone)
    marked = rows.select("source", "event_id", "event_time", "received_time", "input", day=day).with_row_index("at")
    compared = pl.concat(
        marked.with_columns(pl.col("day").dt.offset_by(f"{far}d"), is_own=pl.lit(far == 0)) for far in (-1, 0, 1)
    )
    order = ["received_time", "event_time", "input", "at"]
    first = compared.sort(order, nulls_last=True).unique(["day", "source", "event_id"], keep="first")
    return rows[first.filter("is_own")["at"].sort()]
