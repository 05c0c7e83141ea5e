from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from transforms.block import PARSED_SCHEMA
from transforms.event_time import settle_event_time
from transforms.lateness import Lateness

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SINCE_1970 = (datetime(1970, 1, 1, tzinfo=UTC) - NOON).total_seconds()  # an unset clock, seconds from noon


def at(seconds: float | None) -> datetime | None:
    return None if seconds is None else NOON + timedelta(seconds=seconds)


def parsed(client, received=0.0, sent=None, given=True, clock="client", received_given=True) -> pl.DataFrame:
    """One row; times in seconds from noon."""
    row = {
        "client_time": at(client),
        "client_time_given": given,
        "received_time": at(received),
        "sent_time": at(sent),
        "clock": clock,
        "received_given": received_given,
    }
    return pl.DataFrame([row], schema={**PARSED_SCHEMA, "received_given": pl.Boolean, "warnings": pl.String})


@pytest.mark.parametrize(
    ("row", "seconds", "source"),
    [
        (parsed(-5), -5, "client"),
        (parsed(-90_000), -90_000, "client"),
        (parsed(None, given=False), 0, "received_missing"),
        (parsed(None, given=True), 0, "received_invalid"),
        (parsed(3_600), 3_600, "client"),
        (parsed(3_601), 0, "future_clamped"),
        (parsed(500, sent=60), 500, "client"),
        (parsed(500, sent=61), 439, "skew_corrected"),
        (parsed(9_000, sent=7_200), 1_800, "skew_corrected"),
        (parsed(20_000, sent=7_200), 0, "future_clamped"),
        (parsed(-5, sent=-500), -5, "client"),
        (parsed(SINCE_1970, sent=100), 0, "received_invalid"),
        (parsed(SINCE_1970, sent=100, clock="trusted"), SINCE_1970, "trusted"),
        (parsed(SINCE_1970 + 100, sent=100), SINCE_1970, "skew_corrected"),
        (parsed(9_000, sent=9_999, clock="trusted"), 9_000, "trusted"),
        (parsed(7, received=7, sent=500, received_given=False), 7, "client"),
    ],
)
def test_the_rules_in_their_order(row, seconds, source):
    settled, rejected = settle_event_time(row)
    assert rejected.is_empty()
    assert settled.select("event_time", "time_source").row(0) == (at(seconds), source)


def test_a_record_with_no_time_at_all_is_quarantined():
    settled, rejected = settle_event_time(parsed(None, received=None, given=False))
    assert settled.is_empty()
    assert rejected.select("stage", "code").row(0) == ("event_time", "no_time")


def settled_block(event, received) -> pl.DataFrame:
    return settle_event_time(parsed(event, received))[0]


def test_exactly_the_limit_is_in_time_and_a_microsecond_more_is_late():
    day = timedelta(days=1)
    for received, late in ((86_400, False), (86_400.000001, True)):
        passed, rejected = Lateness(day)(settled_block(0, received))
        assert (passed.is_empty(), rejected.height) == (late, int(late))
    assert rejected.select("stage", "code").row(0) == ("late", "too_late")


def test_a_stream_sets_aside_what_its_windows_may_no_longer_take():
    lateness = timedelta(days=3)
    clock = (NOON + lateness - timedelta(hours=1)).timestamp()
    for seconds, late in ((0, False), (-0.000001, True)):
        passed, rejected = Lateness(None, stream=lateness, clock=lambda: clock)(settled_block(seconds, 0))
        assert (passed.is_empty(), rejected.height) == (late, int(late))
    assert rejected["code"].to_list() == ["too_late_for_stream"]
