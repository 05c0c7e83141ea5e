"""Matrices of series: every bucket, in local days and hours, whatever the order of the rows."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from transforms.insight.series import SERIES_SCHEMA, buckets_between, dense, slots, with_whole

START = datetime(2026, 3, 29, tzinfo=UTC)


def frame(*rows) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SERIES_SCHEMA, orient="row")


def hour(number: int) -> datetime:
    return START + timedelta(hours=number)


def test_dense_has_a_row_a_series_sorted_and_zero_where_nothing_was():
    given = frame(("b", "web", hour(2), 7.0), ("a", "web", hour(0), 1.0), ("a", None, hour(1), 3.0))
    found = dense(given, "1h", START, hour(3))
    assert found.keys.equals(pl.DataFrame({"metric": ["a", "a", "b"], "channel": [None, "web", "web"]}))
    assert found.values.tolist() == [[0, 3, 0], [1, 0, 0], [0, 0, 7]]
    assert found.buckets.to_list() == [hour(0), hour(1), hour(2)]


def test_dense_adds_rows_of_one_bucket_and_leaves_out_what_is_outside():
    given = frame(("a", None, hour(1), 3.0), ("a", None, hour(1), 4.0), ("a", None, hour(3), 9.0))
    given = pl.concat([given, frame(("z", None, hour(-1), 1.0), ("z", None, hour(0) + timedelta(minutes=1), 1.0))])
    found = dense(given, "1h", START, hour(3))
    assert found.values.tolist() == [[0, 7, 0]]
    assert found.keys["metric"].to_list() == ["a"]


def test_the_order_of_rows_decides_nothing():
    rows = [("a", channel, hour(at), 0.1 * at + 1e9) for channel in ("x", "y", None) for at in (0, 1, 1, 2, 2, 2)]
    one, other = (with_whole(frame(*each)) for each in (rows, rows[::-1]))
    assert one.equals(other)
    assert dense(one, "1h", START, hour(3)).values.tolist() == dense(other, "1h", START, hour(3)).values.tolist()


def test_the_whole_is_all_channels_and_what_has_none():
    given = frame(("a", "web", hour(0), 1.0), ("a", "app", hour(0), 2.0), ("a", None, hour(0), 4.0))
    assert with_whole(given).rows() == [
        ("a", None, hour(0), 7.0),
        ("a", "app", hour(0), 2.0),
        ("a", "web", hour(0), 1.0),
    ]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Asia/Kolkata", date(2026, 3, 29), 24),
        ("Asia/Beirut", date(2026, 3, 29), 23),  # which begins at one o'clock
        ("America/Havana", date(2026, 11, 1), 25),  # whose first hour comes twice
    ],
)
def test_days_begin_at_local_midnight(zone, day, hours):
    begin = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    found = buckets_between("1d", begin - timedelta(days=1), begin + timedelta(days=2), zone).to_list()
    assert begin in found
    assert found[found.index(begin) + 1] - begin == timedelta(hours=hours)


def test_an_hour_has_the_place_that_a_local_clock_says():
    # In Berlin, Sunday 29 March 2026 has no third hour.
    buckets = buckets_between("1h", START - timedelta(hours=1), hour(3), "Europe/Berlin")
    assert slots(buckets, "hour of day", "Europe/Berlin").tolist() == [0, 1, 3, 4]
    assert slots(buckets, "hour of week", "Europe/Berlin").tolist() == [144, 145, 147, 148]
    assert slots(buckets, "day of week", "Europe/Berlin").tolist() == [6, 6, 6, 6]
    assert slots(buckets, "day of week", "UTC").tolist() == [5, 6, 6, 6]
