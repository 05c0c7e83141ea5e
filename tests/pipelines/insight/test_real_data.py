"""Series, forecasts, trends and anomalies of real data, each number by SQL over the files as they were published."""

from datetime import UTC, datetime, timedelta
from statistics import median

import duckdb
import polars as pl
import pytest

from pipelines.insight.anomalies import compute as anomalies
from pipelines.insight.forecasts import known_between, rows
from pipelines.insight.series import read_series
from pipelines.insight.shape import Inputs
from pipelines.insight.trends import compute
from pipelines.settings.config import read_config
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.metric_tables import table_of
from pipelines.warehouse.sink import by_day, shaped
from pipelines.warehouse.tables import EVENTS, TABLES
from tests.support.real_data import real_set
from tests.support.rows import write
from transforms.insight.forecast.plans import DAYS

ORDERS_UNTIL = datetime(2011, 2, 28, 12, tzinfo=UTC)
# Of each set: its files, the SQL of its events (time, kind, person, channel, category, value), and until when.
SETS = {
    "retail-orders": (
        "*.parquet",
        "SELECT timezone('UTC', strptime(InvoiceDate, '%m/%d/%y %H:%M')) AS event_time, 'purchase' AS event_type, "
        "CustomerID::VARCHAR AS user_id, Country AS channel, NULL AS category, Quantity * UnitPrice AS value "
        f"FROM read_parquet('{{}}') WHERE timezone('UTC', strptime(InvoiceDate, '%m/%d/%y %H:%M')) < '{ORDERS_UNTIL}'",
        ORDERS_UNTIL,
    ),
    "wikipedia-edits": (
        "*.gz",
        'SELECT "time"::TIMESTAMPTZ AS event_time, \'edit\' AS event_type, "user" AS user_id, channel, '
        "namespace AS category, delta AS value FROM read_json_auto('{}') WHERE \"time\" < '2015-09-12 12:00'",
        datetime(2015, 9, 12, 12, tzinfo=UTC),
    ),
    "github-events": (
        "2015-02-22-2[12]*.gz",
        "SELECT dt::TIMESTAMPTZ AS event_time, type AS event_type, actor AS user_id, 'git' AS channel, "
        "type AS category, 1 AS value FROM read_json_auto('{}')",
        datetime(2015, 2, 22, 23, tzinfo=UTC),
    ),
}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """name -> (a warehouse of the events of the set, a connection with them as `raw`)."""

    def load(name: str) -> tuple[LocalWarehouse, duckdb.DuckDBPyConnection]:
        files, sql, _ = SETS[name]
        raw = duckdb.connect()
        raw.execute("SET TimeZone = 'UTC'")
        raw.execute(f"CREATE TABLE raw AS {sql.format(real_set(name) / files)}")
        found = raw.sql("SELECT *, event_time AS received_time FROM raw").pl()
        found = found.with_row_index("at").with_columns(
            event_id=pl.col("at").cast(pl.String), source=pl.lit(name), input=pl.lit("file:1"), currency=pl.lit("GBP")
        )
        blank = [pl.lit(None).alias(each.name) for each in EVENTS.columns if each.name not in found.columns]
        events = shaped(found.with_columns(blank), EVENTS)
        made = LocalWarehouse.open(tmp_path_factory.mktemp(name) / "w", time_zone="UTC", create=True)
        with made.writer() as run:
            run.declare(TABLES)
            parts = by_day(events, EVENTS.partition, "UTC")
            run.commit(write_file(run.folder, "events", day, part) for day, part in parts)
        return made, raw

    return load


def test_series_and_naive_forecasts_of_orders_are_those_of_sql(real):
    warehouse, raw = real("retail-orders")
    with warehouse.asking() as ask:
        inputs = Inputs(ask, ORDERS_UNTIL, "UTC", warehouse.names() - {"activity_1m_current"}, read_config(None))
        series = read_series(inputs, "1d", *known_between(inputs, "1d"))
        told = rows(inputs, DAYS)
    expected = raw.sql(
        "SELECT channel, date_trunc('day', event_time) AS day, COUNT(*), SUM(value) FROM raw "
        "WHERE event_time < '2011-02-28' GROUP BY GROUPING SETS ((channel, day), (day))"
    ).fetchall()
    for metric, column in (("purchases", 2), ("revenue:GBP", 3)):
        theirs = {(row[0], row[1].date()): row[column] for row in expected}
        days = pl.col("bucket_start").dt.date()
        ours = {
            (channel, day): value
            for channel, day, value in series.filter(metric=metric).select("channel", days, "value").iter_rows()
        }
        assert ours.keys() == theirs.keys() and len(ours) > 150
        assert ours == pytest.approx(theirs, abs=1e-6)
        whole = told.filter(pl.col("channel").is_null(), metric=metric)
        starts = [day.date() for day in whole["bucket_start"].to_list()]
        week = [theirs.get((None, day - timedelta(days=7 * (1 + at // 7))), 0) for at, day in enumerate(starts)]
        assert len(starts) == 28 and starts[0] == ORDERS_UNTIL.date()
        assert whole["seasonal_naive"].to_list() == pytest.approx(week, abs=1e-6)


@pytest.mark.parametrize("name", ["wikipedia-edits", "github-events"])
def test_trends_of_edits_and_of_commits_are_those_of_sql(real, name):
    warehouse, raw = real(name)
    until = SETS[name][2]
    with warehouse.asking() as ask:
        inputs = Inputs(ask, until, "UTC", warehouse.names() - {"activity_1m_current"}, read_config(None))
        found = compute(inputs)["trends_10m"]
    least = inputs.configuration.insight.trends.min_count
    for dimension, column in (("whole", "NULL"), ("channel", "channel"), ("category", "category")):
        expected = raw.sql(
            f"SELECT {column}, time_bucket(INTERVAL 10 MINUTE, event_time), COUNT(*), COUNT(DISTINCT user_id) FROM raw "
            f"WHERE ({column} IS NOT NULL OR '{dimension}' = 'whole') GROUP BY ALL HAVING COUNT(*) >= {least}"
        ).fetchall()
        theirs = {(key, start.astimezone(UTC)): (count, people) for key, start, count, people in expected}
        own = found.filter(pl.col("dimension") == dimension, pl.col("folded_keys") == 0)
        large = own.filter(pl.col("count") >= least)
        ours = {
            (key, start): (count, people)
            for key, start, count, people in large.select("key", "bucket_start", "count", "persons").iter_rows()
        }
        assert ours == theirs and len(ours) > 5, dimension
    z = 2 * ((pl.col("count") + 0.375).sqrt() - (pl.col("expected") + 0.375).sqrt())
    assert found.filter(pl.col("z").is_not_null()).select((pl.col("z") - z).abs().max()).item() < 1e-4


HOUR = timedelta(hours=1)
DAY, WEEK = 24, 168  # hours
SILENCE = read_config(None).insight.anomalies.silence  # events missed from which on it is an anomaly


def expected_by_hand(values: list[float]) -> list[float]:
    """What docs say was to be expected of each hour since the first one of the warehouse: the median of the same hour
    of up to 4 weeks before (of up to 7 days, where 2 weeks are not known), times the level of the 3 days before."""
    usual, found = list[float](), list[float]()
    for hour in range(len(values)):
        step, most = (WEEK, 4) if hour >= 2 * WEEK else (DAY, 7)
        back = [values[hour - step * n] for n in range(1, most + 1) if hour - step * n >= 0]
        usual.append(median(back) if back else 0.0)
        before = range(max(hour - 3 * DAY, DAY), hour)
        level = sum(min(max(values[at], usual[at] / 2), 2 * usual[at] + 3) for at in before)
        whole = sum(usual[at] for at in before)
        found.append(usual[hour] * (level / whole if whole > 0 else 1.0))
    return found


def silences_by_hand(values: list[float]) -> dict[int, tuple[float, float, int]]:
    """hour -> (expected, events missed, first hour of those in a row) of the last 24 hours that are silent: a week
    after the first event, no event for longer than ever before, SILENCE or more expected. 48 hours are considered."""
    expected = expected_by_hand(values)
    first = next((at for at, value in enumerate(values) if value), len(values))
    silent: dict[int, tuple[float, float, int]] = {}
    last, longest = first, 0
    for hour in range(first, len(values)):
        if values[hour]:
            last, longest = hour, max(longest, hour - last - 1)
            continue
        missed = sum(expected[last + 1 : hour + 1])
        if hour >= first + WEEK and hour - last > longest and missed >= SILENCE:
            begun = silent[hour - 1][2] if hour - 1 in silent else max(hour, len(values) - 2 * DAY)
            silent[hour] = (expected[hour], missed, begun)
    return {hour: found for hour, found in silent.items() if hour >= len(values) - DAY}


def add_minutes(warehouse: LocalWarehouse, raw: duckdb.DuckDBPyConnection) -> None:
    """Add the metric activity_1m of the events, by SQL."""
    counted = raw.sql(
        "SELECT date_trunc('minute', event_time) AS bucket_start, bucket_start + INTERVAL 1 MINUTE AS bucket_end, "
        "event_type, channel, COUNT(*) AS events, 'on_time' AS firing, 1 AS generation, 1 AS revision, "
        "bucket_end AS emitted_time FROM raw GROUP BY ALL"
    )
    table = next(table_of(spec) for spec in read_config(None).metrics if spec.name == "activity_1m")
    write(warehouse, (table, counted.pl().to_dicts()), declared=[*TABLES, table])


@pytest.mark.parametrize(
    ("name", "until", "metrics"),
    [
        # Three hours of February are followed by none until April.
        ("github-events", datetime(2015, 3, 2, tzinfo=UTC), ("events", "events:PushEvent")),
        ("retail-orders", datetime(2011, 1, 3, 12, tzinfo=UTC), ("purchases", "events")),  # closed since 23 December
        ("wikipedia-edits", datetime(2015, 9, 12, 12, tzinfo=UTC), ("events",)),  # half a day: nothing can be judged
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_anomalies_of_real_series_are_those_of_sql_and_the_definition_by_hand(real, name, until, metrics):
    warehouse, raw = real(name)
    add_minutes(warehouse, raw)
    with warehouse.asking() as ask:
        told = anomalies(Inputs(ask, until, "UTC", warehouse.names(), read_config(None)))["anomalies_1h"]
    [(begun,)] = raw.sql("SELECT date_trunc('hour', MIN(event_time)) FROM raw").fetchall()
    hours = [begun.astimezone(UTC) + n * HOUR for n in range(int((until - begun) / HOUR))]
    kept, seen = 0, told.filter(pl.col("metric").is_in(metrics))
    assert set(seen["kind"].unique()) <= {"silence"}, "no series has events in half of its hours for a week"
    for metric in metrics:
        kind = metric.partition(":")[2]
        counted = raw.sql(
            "SELECT channel, date_trunc('hour', event_time) AS hour, COUNT(*) FROM raw WHERE event_time < $until "
            f"AND ('{kind}' = '' OR event_type = '{kind}') GROUP BY GROUPING SETS ((channel, hour), (hour))",
            params={"until": until},
        ).fetchall()
        for channel in {channel for channel, _, _ in counted}:
            of_hour = {hour.astimezone(UTC): count for one, hour, count in counted if one == channel}
            theirs = {
                hours[at]: (0.0, expected, missed, hours[since])
                for at, (expected, missed, since) in silences_by_hand([of_hour.get(hour, 0) for hour in hours]).items()
            }
            own = seen.filter(pl.col("metric") == metric, pl.col("channel").eq_missing(pl.lit(channel, pl.String)))
            columns = ("bucket_start", "value", "expected", "surprise", "since")
            ours = {row[0]: row[1:] for row in own.select(columns).iter_rows()}
            assert ours.keys() == theirs.keys(), (metric, channel)
            for hour, row in ours.items():
                assert row[:3] == pytest.approx(theirs[hour][:3], abs=1e-5) and row[3] == theirs[hour][3]
            kept += len(ours)
    assert kept == seen.height and (kept > 5 or name == "wikipedia-edits")
