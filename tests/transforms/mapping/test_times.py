"""Times of a mapping: zones that a record does not state, patterns that mean what they say, and forms of ISO 8601."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.mapping.test_mapping import mapped, mapping, refusal
from transforms.records.zones import localize

LOCAL_TIMES = st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1)).map(lambda at: at.replace(fold=0))
ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe"]


def utc(*parts) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def read(form: str, *inputs) -> list[datetime | None]:
    """The times of records {v: input}; an absent v for `...`."""
    passed, _ = mapped(mapping(f"event_time: {form}"), *({} if at is ... else {"v": at} for at in inputs))
    return passed["client_time"].to_list()


def test_a_local_clock_is_read_in_the_stated_zone_on_both_days_of_a_change():
    times = read(
        "{path: v, time_zone: Europe/Berlin}",
        *("2026-03-01 23:30:00", "2026-03-28 23:59:59", "2026-03-29 02:30:00", "2026-10-25 02:30:00"),
        *("2026-07-01T22:45:00", "2026-07-01T22:45:00Z", "2026-07-01T22:45:00-04:00", ..., "soon"),
    )
    assert times == [
        *(utc(2026, 3, 1, 22, 30), utc(2026, 3, 28, 22, 59, 59), utc(2026, 3, 29, 1, 30), utc(2026, 10, 25, 0, 30)),
        *(utc(2026, 7, 1, 20, 45), utc(2026, 7, 1, 22, 45), utc(2026, 7, 2, 2, 45), None, None),
    ]


@pytest.mark.parametrize(("unit", "of"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_an_epoch_of_a_local_clock_is_read_in_its_zone(unit, of):
    local = int(utc(2026, 7, 1, 22, 45).timestamp()) * of
    assert read(f"{{path: v, time: {unit}, time_zone: Europe/Berlin}}", local) == [utc(2026, 7, 1, 20, 45)]
    assert read(f"{{path: v, time: {unit}}}", local) == [utc(2026, 7, 1, 22, 45)]


def test_a_zone_of_the_record_is_read_beside_its_time():
    spec = mapping("event_time: {path: t, time: '%d.%m.%Y %H:%M', time_zone: {path: tz, default: '+02:00'}}")
    zones = ["Europe/Berlin", "america/new_york", "+0530", "UTC-3", "Z", "Mars/Base", None]
    passed, _ = mapped(spec, *({"t": "01.07.2026 12:00"} | ({"tz": zone} if zone else {}) for zone in zones))
    hours = [at and at.hour + at.minute / 60 for at in passed["client_time"]]
    assert hours == [10, 16, 6.5, 15, 12, None, 10]
    assert passed["client_time_given"].all()


@given(
    st.lists(LOCAL_TIMES, min_size=1, max_size=30),
    st.lists(st.sampled_from(ZONES), min_size=1, max_size=30),
)
def test_gaps_and_folds_are_read_as_python_does(times, zones):
    zones = [zones[at % len(zones)] for at in range(len(times))]
    read = localize(pl.Series(times, dtype=pl.Datetime("us")), pl.Series(zones))
    assert read.to_list() == [
        (at - at.replace(tzinfo=ZoneInfo(zone)).utcoffset()).replace(tzinfo=UTC)
        for at, zone in zip(times, zones, strict=True)
    ]


@pytest.mark.parametrize("zone", ZONES)
def test_each_quarter_of_an_hour_around_a_change_is_read_as_python_does(zone):
    times = [
        datetime(year, 1, 1) + timedelta(minutes=15) * step for year in (2011, 2026) for step in range(4 * 24 * 366)
    ]
    read = localize(pl.Series(times, dtype=pl.Datetime("us")), zone)
    own = ZoneInfo(zone)
    assert read.dt.replace_time_zone(None).to_list() == [at - at.replace(tzinfo=own).utcoffset() for at in times]


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("%Y-%m-%d %H:%M:%S.%f", "2026-03-01 10:00:00.500000", utc(2026, 3, 1, 10, 0, 0, 500_000)),
        ("%Y-%m-%d %H:%M:%S.%f", "2026-03-01 10:00:00.25", utc(2026, 3, 1, 10, 0, 0, 250_000)),
        ("%Y-%m-%d %H:%M:%S,%f", "2026-03-01 10:00:00,123", utc(2026, 3, 1, 10, 0, 0, 123_000)),
        ("%Y-%m-%dT%H:%M:%S.%fZ", "2026-03-01T10:00:00.123456789Z", utc(2026, 3, 1, 10, 0, 0, 123_456)),
        ("%Y%m%d%H%M%S%3f", "20260301100000123", utc(2026, 3, 1, 10, 0, 0, 123_000)),
        ("%Y-%m-%d %H:%M:%S %Z", "2026-07-01 10:00:00 EDT", utc(2026, 7, 1, 14)),
        ("%Y-%m-%d %H:%M:%S %Z", "2026-01-01 10:00:00 EST", utc(2026, 1, 1, 15)),
        ("%a %b %d %H:%M:%S %Z %Y", "Wed Jul 01 10:00:00 CEST 2026", utc(2026, 7, 1, 8)),
        ("%Y-%m-%d %H:%M:%S %Z", "2026-01-01 10:00:00 IST", None),  # of India, of Israel or of Ireland
        ("%Y-%m-%d %H:%M:%S%z", "2026-03-01 10:00:00+01", utc(2026, 3, 1, 9)),
        ("%Y-%m-%d %H:%M:%S%z", "2026-03-01 10:00:00-0330", utc(2026, 3, 1, 13, 30)),
        ("%Y-%m-%d %H:%M:%S%z", "2026-03-01 10:00:00Z", utc(2026, 3, 1, 10)),
        ("%m/%d/%y %I:%M %p", "03/01/26 10:00 PM", utc(2026, 3, 1, 22)),
        ("%d.%m.%Y", "01.03.1999", utc(1999, 3, 1)),
    ],
)
def test_a_pattern_means_what_python_says(pattern, text, expected):
    assert read(f"{{path: v, time: {pattern!r}}}", text) == [expected]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("time: '%Y%m%d%H%M%S%f'", "%f has no point before it; write %3f, %6f or %9f"),
        ("time: '%Y-%m-%d %H:%M %Z %z'", "it states two zones; write one of %z and %Z"),
        ("time: '%Y-%m-%d %I:%M'", "Please either specify both 12-hour directive and meridiem"),
        ("time: '%m/%Y'", "it reads '02/2001' as 2001-02-01T00:00:00"),
        ("time: '%H:%M'", "it reads '04:05' as 0001-01-01T04:05:00"),
        ("time: '%Y-%m-%d %H:%M:%S %z', time_zone: Europe/Berlin", "allowed for times that state no zone"),
        ("time: '%Y-%m-%dT%H:%M:%SZ', time_zone: Europe/Berlin", "allowed for times that state no zone"),
        ("time_zone: Europe/Berlinn", "got 'Europe/Berlinn', allowed a name such as Europe/Berlin, an offset"),
        ("time_zone: '+25:00'", "got '+25:00', allowed a name such as"),
        ("time_zone: {path: tz, default: nowhere}", "got 'nowhere', allowed a name such as"),
    ],
)
def test_a_form_or_zone_that_reads_something_else_is_refused(field, message):
    told = refusal(f"source: s\nfields: {{event_type: {{const: a}}, event_time: {{path: t, {field}}}}}")
    assert message in told and told.startswith("m.yaml: $.fields.event_time.time")


def test_a_zone_is_for_times_alone():
    told = refusal("source: s\nfields: {event_type: {path: t, time_zone: UTC}}")
    assert "$.fields.event_type.time_zone: got 'UTC', allowed for event_time, sent_time, received_time only" in told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T10:00Z", utc(2026, 3, 1, 10)),
        ("2026-03-01 10:00", utc(2026, 3, 1, 10)),
        ("2026-03-01 10:00:00,123", utc(2026, 3, 1, 10, 0, 0, 123_000)),
        ("2026-03-01 10:00:00.123456789+02:00", utc(2026, 3, 1, 8, 0, 0, 123_456)),
        ("2026-03-01 10:00:00+01", utc(2026, 3, 1, 9)),
        ("2026-03-01 10:00:00 +0100", utc(2026, 3, 1, 9)),
        ("2026-03-01 10:00:00.5 UTC", utc(2026, 3, 1, 10, 0, 0, 500_000)),
        ("2026-03-01T10:00:00+01:00[Europe/Berlin]", utc(2026, 3, 1, 9)),
        ("2026-07-01T10:00:00[Europe/Berlin]", utc(2026, 7, 1, 8)),
        ("1999-12-31T23:59:59-03:30", utc(2000, 1, 1, 3, 29, 59)),
        ("2026-02-30T10:00Z", None),
        ("2026-03-01T25:00Z", None),
        ("2026-03-01T10:00:00[Mars/Base]", None),
        ("2026-03-01", None),
    ],
)
def test_forms_of_iso_8601(text, expected):
    assert read("{path: v}", text, "2026-03-01T00:00:00Z") == [expected, utc(2026, 3, 1)]


def test_nanoseconds_since_1970():
    times = read("{path: v, time: ns}", 1_687_271_672_869_542_123, "1687271672869542123", -1)
    assert times == [utc(2023, 6, 20, 14, 34, 32, 869_542)] * 2 + [None]
