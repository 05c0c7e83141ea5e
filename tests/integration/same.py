"""Whether two warehouses hold the same, but for when and by which run it was written; what is lost or double if not."""

from pathlib import Path

import polars as pl

from pipelines.warehouse.local import LocalWarehouse

METRICS = ("activity_1m", "content_1h", "campaign_1h", "user_days", "sessions")
STAMPS = {"firing", "generation", "revision", "emitted_time", "failed_time", "pipeline_version", "position", "input"}
UNBALANCED = "SELECT count(*) FROM quality_1m_current WHERE balance <> 0"


def rows(warehouse: Path, sql: str) -> pl.DataFrame:
    """The rows of a query in a certain order, without what tells the run."""
    frame = LocalWarehouse.open(warehouse).connect().sql(sql).pl()
    kept = sorted(set(frame.columns) - STAMPS)
    return frame.select(kept).sort([name for name in kept if not frame.schema[name].is_nested()])


def assert_same(one: Path, other: Path, sql: str) -> None:
    """Fails where a query gives different rows, or none."""
    first, second = rows(one, sql), rows(other, sql)
    assert first.height > 0
    assert first.equals(second), f"{sql}: {first.height} and {second.height} rows"


def lost_and_double(one: Path, other: Path, table: str) -> tuple[int, int]:
    """How many events of `other` are missing in `one`, and how many it has above them."""
    sql = f"SELECT source, event_id, event_time, count(*) AS n FROM {table} GROUP BY ALL"
    both = rows(one, sql).join(rows(other, sql), on=["source", "event_id", "event_time"], how="full", coalesce=True)
    above = pl.col("n").fill_null(0).cast(pl.Int64) - pl.col("n_right").fill_null(0).cast(pl.Int64)
    lost, double = both.select((-above.clip(upper_bound=0)).sum(), above.clip(lower_bound=0).sum().alias("double")).row(
        0
    )
    return lost, double
