"""Trends of a warehouse: counts equal to SQL over its raw events, bounded, and the same as of any later time."""

from datetime import UTC, datetime, timedelta

import duckdb
import polars as pl
import pytest

from pipelines.apps.simulator.simulate import simulate
from pipelines.batch.backfill import backfill
from pipelines.insight.shape import Inputs
from pipelines.insight.tables import TRENDS_1H, TRENDS_10M
from pipelines.insight.trends import DIMENSIONS, compute
from pipelines.settings.config import Configuration, read_config
from pipelines.settings.resolve import resolve
from pipelines.warehouse.local.warehouse import LocalWarehouse
from transforms.insight.settings import Insight, Trends

AS_OF = datetime(2026, 3, 8, 20, 47, tzinfo=UTC)
LENGTHS = {TRENDS_10M.name: 10, TRENDS_1H.name: 60}  # minutes


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> LocalWarehouse:
    folder = tmp_path_factory.mktemp("trends")
    simulate(12_000, 3, folder / "events.jsonl", days=9)
    backfill(resolve({"input": [str(folder / "events.jsonl")], "warehouse": str(folder / "warehouse"), "workers": "1"}))
    return LocalWarehouse.open(folder / "warehouse")


def computed(warehouse: LocalWarehouse, as_of: datetime, **keys) -> dict[str, pl.DataFrame]:
    configuration: Configuration = read_config(None)._replace(insight=Insight(trends=Trends(**keys)))
    with warehouse.asking() as ask:
        return compute(Inputs(ask, as_of, "UTC", warehouse.names(), configuration))


def raw(warehouse: LocalWarehouse, minutes: int, column: str | None) -> dict:
    """By key and bucket of the last day: events and persons, by SQL over the warehouse's files."""
    files = f"{warehouse.folder}/**/*.parquet"
    key = column or "NULL"
    end = AS_OF - timedelta(minutes=AS_OF.minute % minutes)
    rows = duckdb.sql(
        f"SET TimeZone = 'UTC'; SELECT {key}, time_bucket(INTERVAL {minutes} MINUTE, event_time) AS bucket, "
        "COUNT(*), COUNT(DISTINCT coalesce(user_id, anonymous_id)) "
        f"FROM read_parquet('{files}', union_by_name = true, filename = true) "
        f"WHERE filename LIKE '%/events/%' AND ({column or 'event_id'}) IS NOT NULL "
        f"AND event_time >= TIMESTAMPTZ '{end - timedelta(hours=24)}' AND event_time < TIMESTAMPTZ '{end}' GROUP BY ALL"
    ).fetchall()
    return {(key, bucket.astimezone(UTC)): (count, persons) for key, bucket, count, persons in rows}


@pytest.mark.parametrize("table", LENGTHS)
def test_counts_and_persons_are_those_of_the_raw_events_and_what_is_folded_adds_up(warehouse, table):
    found = computed(warehouse, AS_OF, min_count=4)[table]
    for dimension, column in DIMENSIONS.items():
        expected = raw(warehouse, LENGTHS[table], column)
        rows = found.filter(pl.col("dimension") == dimension)
        own = rows.filter(pl.col("folded_keys") == 0)
        assert own.height or dimension in ("content", "campaign")
        for key, start, count, persons in own.select("key", "bucket_start", "count", "persons").iter_rows():
            there = expected.get((key, start), (0, 0))
            assert (count, persons) == (there[0], there[1] if there[0] >= 4 else 0), (dimension, key, start)
        assert rows["count"].sum() == sum(count for count, _ in expected.values()), dimension


def test_what_is_as_of_a_later_time_is_the_same_and_a_rerun_is_equal(warehouse):
    early, late = computed(warehouse, AS_OF), computed(warehouse, AS_OF + timedelta(hours=7))
    for table, rows in computed(warehouse, AS_OF).items():
        assert rows.equals(early[table])
        both = late[table].filter(pl.col("bucket_start") < AS_OF.replace(minute=0))
        assert both.height > 20
        since = both["bucket_start"].min()
        assert both.equals(early[table].filter(pl.col("bucket_start").is_between(since, both["bucket_start"].max())))


def test_keys_beyond_the_limit_are_folded_and_the_largest_is_kept(warehouse):
    all_keys, one = (computed(warehouse, AS_OF, max_keys=most, min_count=1)["trends_1h"] for most in (500, 1))
    content = one.filter((pl.col("dimension") == "content") & (pl.col("folded_keys") == 0))
    assert content["key"].n_unique() == 1
    for dimension in DIMENSIONS:
        sums = [each.filter(pl.col("dimension") == dimension)["count"].sum() for each in (all_keys, one)]
        assert sums[0] == sums[1]
