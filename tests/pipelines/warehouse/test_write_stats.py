"""The figures of a stream's writing: rows, latency, quarantine share, and what is wrong."""

from datetime import UTC, datetime, timedelta

import polars as pl

from pipelines.warehouse.write_stats import Tally

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def received(*seconds_ago: float) -> pl.DataFrame:
    return pl.DataFrame({"received_time": [NOW - timedelta(seconds=each) for each in seconds_ago]})


def test_latency_is_from_the_received_time_of_events_until_they_are_written():
    tally = Tally(clock=NOW.timestamp)
    tally.add_written("events", received(*[1.0] * 90, *[2.0] * 10))
    tally.add_written("activity_1m", pl.DataFrame({"bucket_start": [NOW] * 3}))
    figures = tally.figures()
    assert figures.rows == {"events": 100, "activity_1m": 3}
    assert (figures.latency_p50, figures.latency_p99) == (1.0, 2.0)
    assert figures.committed == NOW.timestamp()


def test_the_share_of_quarantine_is_of_events_and_quarantine_alone():
    tally = Tally(clock=NOW.timestamp)
    assert tally.figures().quarantine_share is None
    tally.add_written("events", received(1.0, 1.0, 1.0))
    tally.add_written("quarantine", received(1.0))
    tally.add_written("activity_1m", pl.DataFrame({"bucket_start": [NOW] * 50}))
    assert tally.figures().quarantine_share == 0.25


def test_what_is_wrong_is_told_until_rows_are_written_again():
    tally = Tally(clock=NOW.timestamp)
    tally.failed("BigQuery does not take rows")
    assert tally.figures().problem == "BigQuery does not take rows"
    tally.add_written("events", received(1.0))
    assert tally.figures().problem is None
    tally.clear()
    assert (tally.figures().rows, tally.figures().latency_p50) == ({}, None)
