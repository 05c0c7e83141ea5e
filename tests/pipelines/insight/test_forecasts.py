"""The pass `forecasts` of a local warehouse: its series as a plain query of the raw events has them, and its rows."""

from datetime import UTC, date, datetime, timedelta

import duckdb
import polars as pl
import pytest

from pipelines.apps.simulator.simulate import simulate
from pipelines.batch.backfill import backfill
from pipelines.insight.clock import smallest_part
from pipelines.insight.forecasts import PASS, compute, known_between
from pipelines.insight.passes import PASSES
from pipelines.insight.series import read_series
from pipelines.insight.shape import Inputs
from pipelines.settings.config import read_config
from pipelines.settings.resolve import resolve
from pipelines.warehouse.local.warehouse import LocalWarehouse
from transforms.insight.series import SERIES_SCHEMA

ZONE = "America/New_York"  # whose clocks change on 8 March 2026
T = datetime(2026, 3, 18, 9, 40, tzinfo=UTC)
DAYS, EVENTS = 21, 3000


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> LocalWarehouse:
    folder = tmp_path_factory.mktemp("forecasts")
    simulate(EVENTS, 5, folder / "events.jsonl", days=DAYS, start=date(2026, 3, 1))
    given = {"input": [str(folder / "events.jsonl")], "warehouse": str(folder / "warehouse"), "workers": "1"}
    backfill(resolve(given | {"time_zone": ZONE}))
    return LocalWarehouse.open(folder / "warehouse")


def inputs(warehouse, ask, as_of=T) -> Inputs:
    return Inputs(ask, as_of, warehouse.time_zone, warehouse.names(), read_config(None))


@pytest.fixture(scope="module")
def found(warehouse) -> dict[str, pl.DataFrame]:
    with warehouse.asking() as ask:
        return compute(inputs(warehouse, ask))


ORACLE = """
WITH counted AS (
  SELECT metric, channel, value,
    date_trunc('{unit}', moment AT TIME ZONE '{zone}') AT TIME ZONE '{zone}' AS bucket_start
  FROM ({events})
  WHERE moment < '{end:%Y-%m-%d %H:%M}+00'::TIMESTAMPTZ
)
SELECT metric, channel, bucket_start, sum(value)::DOUBLE AS value FROM counted WHERE channel IS NOT NULL GROUP BY ALL
UNION ALL
SELECT metric, NULL, bucket_start, sum(value)::DOUBLE FROM counted GROUP BY ALL
"""
OF_EVENTS = """
SELECT 'events' AS metric, channel, event_time AS moment, 1 AS value FROM '{events}'
UNION ALL SELECT 'events:' || event_type, channel, event_time, 1 FROM '{events}'
UNION ALL SELECT 'purchases', channel, event_time, 1 FROM '{events}'
  WHERE event_type = 'purchase' AND is_bot IS NOT TRUE
UNION ALL SELECT 'revenue:' || coalesce(currency, 'unknown'), channel, event_time, value FROM '{events}'
  WHERE event_type = 'purchase' AND is_bot IS NOT TRUE AND value IS NOT NULL
UNION ALL SELECT 'sessions', channel, session_start, 1 FROM '{sessions}'
  WHERE NOT is_bot AND NOT is_long AND NOT is_tombstone
"""


@pytest.mark.parametrize(("every", "unit"), [("1h", "hour"), ("1d", "day")])
def test_series_are_those_of_a_plain_query_of_events_and_sessions(warehouse, tmp_path, every, unit):
    for name in ("events", "sessions"):
        warehouse.scan(name).sink_parquet(tmp_path / f"{name}.parquet")
    with warehouse.asking() as ask:
        given = inputs(warehouse, ask)
        since, end = known_between(given, every)
        ours = read_series(given, every, since, end)
    places = {name: str(tmp_path / f"{name}.parquet") for name in ("events", "sessions")}
    sql = ORACLE.format(unit=unit, zone=ZONE, end=end, events=OF_EVENTS.format(**places))
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    theirs = pl.DataFrame(connection.sql(sql).fetchall(), schema=SERIES_SCHEMA, orient="row")
    keys = ["metric", "channel", "bucket_start"]
    theirs = theirs.sort(keys)
    assert ours.select(keys).equals(theirs.select(keys))
    assert (ours["value"] - theirs["value"]).abs().max() < 1e-6
    assert ours.height > 100 and {"events", "events:click", "sessions", "purchases"} <= set(ours["metric"])


def test_rows_are_in_the_declared_columns_and_keys(found):
    assert PASS in PASSES
    for table in PASS.tables:
        columns = [each.name for each in table.columns if each.name not in ("as_of", "pipeline_version")]
        rows = found[table.name]
        assert rows.columns == columns
        assert not rows.select(table.key[1:]).is_duplicated().any()
        required = [each.name for each in table.columns if each.mode == "REQUIRED" and each.name in columns]
        assert rows.select(required).null_count().sum_horizontal().item() == 0
        assert (rows["expected"] >= 0).all()


def test_hours_and_days_ahead_begin_when_the_last_one_is_over(found):
    hours, days = (found[table.name].filter(pl.col("channel").is_null(), metric="events") for table in PASS.tables)
    assert hours["bucket_start"].to_list() == [T.replace(minute=0) + timedelta(hours=n) for n in range(48)]
    assert days["bucket_start"].to_list() == [
        datetime(2026, 3, 18, 4, tzinfo=UTC) + timedelta(days=n) for n in range(28)
    ]
    assert days["bucket_end"].to_list()[:-1] == days["bucket_start"].to_list()[1:]


@pytest.mark.parametrize(("metric", "back"), [("events:click", 24), ("events:sensor_reading", 168)])
def test_the_seasonal_naive_is_of_the_day_or_the_week_before_whichever_was_nearer(metric, back, warehouse, found):
    hours = found["forecasts_1h"].filter(pl.col("channel").is_null(), metric=metric)
    with warehouse.asking() as ask:
        given = inputs(warehouse, ask)
        series = read_series(given, "1h", *known_between(given, "1h"))
    known = dict(series.filter(pl.col("channel").is_null(), metric=metric).select("bucket_start", "value").rows())
    end, hour = T.replace(minute=0), timedelta(hours=1)
    over = [end - n * hour for n in range(1, int((end - min(known)) / hour) - 167)]  # from the second week on
    off = {hours: sum(abs(known.get(at, 0) - known.get(at - hours * hour, 0)) for at in over) for hours in (24, 168)}
    assert back == min(off, key=off.get)
    expected = [known.get(end + (n % back - back) * hour, 0) for n in range(48)]
    assert hours["seasonal_naive"].to_list() == expected and sum(expected) > 0


def test_what_comes_after_the_time_changes_nothing_and_a_rerun_is_equal(warehouse, found):
    with warehouse.asking() as ask:
        later = "TIMESTAMP '2026-03-18 09:00:00+00:00'"

        def asked(sql: str) -> pl.DataFrame:
            """Answers of a warehouse without what came later."""
            for view, time in (
                ("activity_1m_current", "bucket_start"),
                ("visits", "session_start"),
                ("events_unique", "event_time"),
            ):
                sql = sql.replace(f"FROM {view} ", f"FROM (SELECT * FROM {view} WHERE {time} < {later}) AS {view} ")
            return ask(sql)

        again = compute(inputs(warehouse, asked))
    for name, rows in found.items():
        assert rows.equals(again[name])


def test_without_the_metric_of_activity_there_are_no_series_of_events(warehouse):
    with warehouse.asking() as ask:
        given = inputs(warehouse, ask)
        given = given._replace(names=given.names - {"activity_1m", "activity_1m_current"})
        names = set(read_series(given, "1d", *known_between(given, "1d"))["metric"])
    assert "sessions" in names and not any(name.startswith("events") for name in names)


@pytest.mark.parametrize(
    ("zone", "minutes"),
    [("UTC", 60), ("Europe/Berlin", 60), ("Asia/Kolkata", 15), ("Asia/Kathmandu", 15), ("Australia/Lord_Howe", 15)],
)
def test_a_local_day_may_begin_within_an_hour(zone, minutes):
    assert smallest_part(zone, T - timedelta(days=200), T) == minutes
