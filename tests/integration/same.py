"""Whether two warehouses hold the same, but for when and by which run it was written; what is lost or double if not."""

import json
from contextlib import closing
from pathlib import Path

import polars as pl

from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.local.duckdb_connection import ask
from pipelines.warehouse.local.warehouse import LocalWarehouse

METRICS = ("activity_1m", "content_1h", "campaign_1h", "user_days", "sessions")
STAMPS = {"firing", "generation", "revision", "emitted_time", "failed_time", "pipeline_version", "position", "input"}
UNBALANCED = "SELECT count(*) FROM quality_1m_current WHERE balance <> 0"


def rows(warehouse: Path, sql: str) -> pl.DataFrame:
    """The rows of a query in a certain order, without what tells the run."""
    answer = ask(LocalWarehouse.open(warehouse), sql)
    with closing(answer.connection):
        assert answer.rows is not None, sql
        frame = answer.rows.pl()
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


def rows_of(warehouse: Warehouse, sql: str) -> pl.DataFrame:
    """The rows of a query, in an order of their own, without what differs from run to run."""
    found = pl.concat(warehouse.ask(sql), how="vertical_relaxed")
    # A sketch's bytes depend on the order of the events; what it estimates is a column beside it.
    left = [name for name in found.columns if name not in STAMPS and not name.endswith("_sketch")]
    texts = {name: found[name].map_elements(_normal, pl.String) for name in ("properties", "extra") if name in left}
    nested = [name for name in left if found.schema[name].is_nested()]
    found = found.with_columns(**texts).with_columns(pl.col(nested).list.eval(pl.element().struct.json_encode()))
    return found.select(sorted(left)).sort(sorted(set(left) - set(nested)))


def _normal(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


COMPUTED = ("day", "person")  # beside the stored columns of `events` where a warehouse is a folder


def assert_alike(one: Warehouse, other: Warehouse, sql: str) -> None:
    """The same of two warehouses of any kind, in BigQuery's SQL."""
    first, second = rows_of(one, sql), rows_of(other, sql)
    assert first.height > 0
    second = second.drop(name for name in COMPUTED if name in second.columns and name not in first.columns)
    second = second.cast(first.schema)
    assert first.equals(second), f"{sql}: {first.height} and {second.height} rows, {_apart(first, second)}"


def _apart(first: pl.DataFrame, second: pl.DataFrame) -> str:
    """The first row in which two frames differ, its columns that do: what to look for when a test fails once."""
    for one, other in zip(first.iter_rows(named=True), second.iter_rows(named=True), strict=False):
        if one != other:
            unlike = {name: (one[name], other[name]) for name in one if one[name] != other[name]}
            return f"the first that differ: {one}, in {unlike}"
    return "one is the beginning of the other"
