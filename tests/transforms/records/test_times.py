"""Times as Python reads them: whatever a record states is that moment, floored to a microsecond, or no time at all.

The years 1970 to 2200 are read; what is before or after them is refused, never shifted.
"""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_FLOOR, Context, Decimal
from zoneinfo import ZoneInfo, available_timezones

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.test_records import block_of
from tests.transforms.mapping.test_mapping import mapping
from transforms.block import TIME
from transforms.deduplicate import fingerprint
from transforms.event_time import settle_event_time
from transforms.mapping.functions import to_time
from transforms.parse import parse
from transforms.records.iso_times import read_iso_times
from transforms.records.native import parse_native
from transforms.records.times import END, EPOCH_UNITS, FIRST
from transforms.records.zones import localize, zone_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WIDE = Context(prec=60, rounding=ROUND_FLOOR)
OFFSETS = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
# Of each side of both ends, and anywhere.
NAIVE = st.one_of(
    st.datetimes(datetime(1969, 12, 30), datetime(1970, 1, 3)),
    st.datetimes(datetime(2200, 12, 30), datetime(2201, 1, 3)),
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 28)),
)
# Monrovia was 44 minutes and 30 seconds behind until 1972, Apia skipped a day, Lord Howe changes by half an hour.
ZONES = (
    *("Africa/Monrovia", "America/New_York", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe"),
    *("Europe/Amsterdam", "Europe/Berlin", "Europe/London", "Pacific/Apia", "Pacific/Kiritimati"),
)


def in_range(moment: datetime) -> datetime | None:
    return moment.astimezone(UTC) if FIRST <= moment < END else None


@given(st.lists(st.tuples(NAIVE, OFFSETS), min_size=1, max_size=20), st.sampled_from("T "))
@example([(datetime(1969, 12, 31, 23, 59, 59, 500_000), UTC)], "T")
@example([(datetime(1971, 6, 1), timezone(-timedelta(minutes=44, seconds=30)))], "T")
def test_a_text_of_iso_8601_is_read_as_python_reads_it_or_refused(stated, between):
    moments = [naive.replace(tzinfo=offset) for naive, offset in stated]
    texts = [moment.isoformat(between) for moment in moments]
    assert [datetime.fromisoformat(text) for text in texts] == moments
    assert read_iso_times(pl.Series(texts)).to_list() == list(map(in_range, moments))


@pytest.mark.parametrize(
    ("pattern", "step"),
    [
        ("%Y-%m-%d %H:%M:%S.%f", timedelta(microseconds=1)),
        ("%d/%m/%Y %H:%M:%S", timedelta(seconds=1)),
        ("%m/%d/%Y %I:%M %p", timedelta(minutes=1)),
        ("%d.%m.%Y", timedelta(days=1)),
    ],
)
@given(times=st.lists(NAIVE, min_size=1, max_size=20))
@example(times=[datetime(1969, 12, 31, 23, 59, 59, 500_000), datetime(1899, 12, 30), datetime(1, 1, 3)])
def test_a_pattern_is_read_as_python_reads_it_or_refused(pattern, step, times):
    years = pattern.replace("%Y", "{:04}")
    texts = [time.strftime(years).format(time.year) for time in times]
    expected = [in_range(datetime.strptime(text, pattern).replace(tzinfo=UTC)) for text in texts]
    assert to_time(pl.Series(texts), pattern).to_list() == expected


@pytest.mark.parametrize("pattern", ["%d.%m.%y %H:%M", "%D %H:%M"])
def test_a_year_of_two_digits_is_that_of_python_or_refused(pattern):
    times = [datetime(year, 12, 30, 23, 59) for year in range(1969, 2069)]
    texts = [time.strftime(pattern) for time in times]
    assert [datetime.strptime(text, pattern.replace("%D", "%m/%d/%y")) for text in texts] == times
    assert to_time(pl.Series(texts), pattern).to_list() == [in_range(time.replace(tzinfo=UTC)) for time in times]


COUNTS = st.one_of(
    st.integers(-(10**10), 10**10).map(Decimal),
    st.decimals(-(10**10), 10**10, places=7),
    st.decimals(-2, 2, places=12),
    st.decimals(1_700_000_000, 1_700_000_001, places=11),
    st.decimals(7_289_654_398, 7_289_654_402, places=10),
)


@pytest.mark.parametrize("unit", EPOCH_UNITS)
@pytest.mark.parametrize("spelled", [str, "{:f}".format, "{:e}".format])
@given(seconds=st.lists(COUNTS, min_size=1, max_size=20))
@example(seconds=[Decimal("-0.5"), Decimal("-1e-10"), Decimal("1700000000.9999999995"), Decimal("-1")])
def test_an_epoch_is_floored_to_a_microsecond_or_refused(unit, spelled, seconds):
    if unit == "ns":
        seconds, spelled = [WIDE.quantize(count, Decimal("1e-9")) for count in seconds], "{:f}".format
    texts = [spelled(WIDE.multiply(count, EPOCH_UNITS[unit]).normalize()) for count in seconds]
    micros = [int(WIDE.quantize(count * 1_000_000, Decimal(1))) for count in seconds]
    expected = [in_range(EPOCH + timedelta(microseconds=count)) for count in micros]
    assert to_time(pl.Series(texts, dtype=pl.String), unit).to_list() == expected


@given(st.lists(st.tuples(NAIVE, st.sampled_from(ZONES)), min_size=1, max_size=20))
@example([(datetime(1971, 12, 31, 23, 59, 59), "Africa/Monrovia"), (datetime(1936, 1, 1), "Europe/Amsterdam")])
@example([(datetime(2099, 12, 31, 23, 59), "Europe/Berlin"), (datetime(2100, 7, 1), "Europe/Berlin")])
def test_a_local_time_of_a_zone_is_read_as_python_reads_it_or_refused(stated):
    times = [time.replace(fold=0) for time, _ in stated]
    moments = [time.replace(tzinfo=ZoneInfo(zone)) for time, (_, zone) in zip(times, stated, strict=True)]
    texts, zones = [time.isoformat(" ") for time in times], pl.Series([zone for _, zone in stated])
    assert read_iso_times(pl.Series(texts), zones).to_list() == [
        None if time.year >= 2100 else in_range(moment) for time, moment in zip(times, moments, strict=True)
    ]


def test_every_zone_that_python_lists_is_read_or_is_none_and_ends_no_run():
    noon = pl.Series([datetime(2026, 3, 1, 12)], dtype=pl.Datetime("us"))
    unknown = [name for name in available_timezones() if zone_of(name) is None]
    assert set(unknown) <= {"Factory", "localtime"}
    assert localize(noon, "localtime").to_list() == localize(noon, "Factory").to_list() == [None]
    read = localize(pl.concat([noon, noon]), pl.Series(["Factory", "Asia/Tokyo"]))
    assert read.to_list() == [None, datetime(2026, 3, 1, 3, tzinfo=UTC)]


# Whole records


OLD = ("1969-12-31T23:59:59.5Z", "1899-12-30T00:00:00Z", "0001-01-01T00:00:00Z", "2201-01-01T00:00:00Z")


def native(**fields) -> bytes:
    return json.dumps({"event_id": "a", "event_type": "x"} | fields).encode()


@pytest.mark.parametrize("time", OLD)
@pytest.mark.parametrize("spec", [None, mapping("event_time: {path: event_time}")])
def test_a_time_that_is_out_of_range_is_in_extra_as_it_came(time, spec):
    block = block_of([native(event_time=time), native(event_time="2026-03-01T10:00:00Z")], None)
    passed, rejected = parse(block, spec, "events")
    assert rejected.is_empty()
    assert passed["client_time"].to_list() == [None, datetime(2026, 3, 1, 10, tzinfo=UTC)]
    assert passed["client_time_given"].all()
    assert [(json.loads(text or "{}")).get("event_time") for text in passed["extra"]] == [time, None]


def test_a_record_whose_only_time_is_out_of_range_is_quarantined_with_the_range():
    block = block_of([native(event_time=OLD[0], received_time=OLD[1])], None)
    passed, _ = parse(block, None, "events")
    settled, rejected = settle_event_time(passed)
    assert settled.is_empty() and rejected["code"].to_list() == ["no_time"]
    assert "1970 to 2200" in rejected["errors"][0]
    assert rejected["payload"].to_list() == block["payload"].to_list()


def test_a_time_of_csv_is_read_or_is_in_extra_as_it_came():
    texts = [*OLD, "1971-06-01 12:00:00-00:44:30", "2026-03-01 12:00:00.0000019", "2026-03-01 12:00:00,000001"]
    attributes = json.dumps({"format": "csv", "header": ["k", "event_time"], "delimiter": ";", "quote": '"'})
    block = block_of([f"a;{text}".encode() for text in texts], attributes)
    passed, rejected = parse(block, mapping("event_time: {path: event_time}, content_id: {path: k}"), "events")
    late = NOON.replace(microsecond=1)
    assert rejected.is_empty()
    assert passed["client_time"].to_list() == [None] * 4 + [datetime(1971, 6, 1, 12, 44, 30, tzinfo=UTC), late, late]
    lost = [text and json.loads(text)["event_time"] for text in passed["extra"]]
    assert lost == [*OLD, None, texts[5], None]


@pytest.mark.parametrize("sent", [None, "path: sent_time", "coalesce: [{path: at}, {path: sent_time}]"])
def test_a_second_delivery_that_states_other_times_of_travel_is_the_same_event(sent):
    spec = sent and mapping(f"event_time: {{path: event_time}}, sent_time: {{{sent}}}")
    noon = "2026-03-01T12:00:00Z"
    times = "soon", "2026-03-01T12:00:00.123456789Z", "2026-03-01T12:00:01.5Z", "1969-12-31T23:59:59Z"
    block = block_of([native(event_time=noon, at=noon, sent_time=time) for time in times], None)
    passed, _ = parse(block.with_columns(received_time=pl.lit(NOON).cast(TIME)), spec, "events")
    settled, _ = settle_event_time(passed)
    assert not settled["extra"].str.contains("sent_time").any()
    assert len(set(fingerprint(settled).tolist())) == 1


def test_a_lost_time_stands_beside_the_unknown_fields():
    block = block_of([native(event_time="soon", sent_time="-1", b=1.5), native(event_time="", a=1)], None)
    passed, _ = parse_native(block, "events")
    assert list(map(json.loads, passed["extra"])) == [{"b": 1.5, "event_time": "soon"}, {"a": 1}]


@pytest.mark.parametrize("spec", [None, mapping("event_time: {path: event_time}")])
def test_a_time_that_is_finer_than_a_microsecond_is_cut_off_and_in_extra_as_it_came(spec):
    texts = ["2026-03-01T12:00:00.000001999Z", "2026-03-01T12:00:00.000001000Z", "2026-03-01T14:00:00.0000010001+02:00"]
    passed, _ = parse(block_of([native(event_time=text) for text in texts], None), spec, "events")
    assert passed["client_time"].to_list() == [NOON.replace(microsecond=1)] * 3
    assert [json.loads(text or "{}").get("event_time") for text in passed["extra"]] == [texts[0], None, texts[2]]
