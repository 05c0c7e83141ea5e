"""Conditions on rows mean the same in Polars and in SQL."""

from datetime import UTC, date, datetime, timedelta

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.warehouse.conditions import Without, in_days, literal, runs_of
from pipelines.warehouse.dialect import to_duckdb
from transforms.block import day_of

TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=5)
FIRST = date(2026, 3, 25)  # the clocks of Europe/Berlin change on the 29th
DAYS = st.sets(st.none() | st.integers(0, 9).map(lambda n: FIRST + timedelta(days=n)), max_size=8)
TIMES = st.none() | st.datetimes(datetime(2026, 3, 24), datetime(2026, 4, 5)).map(lambda at: at.replace(tzinfo=UTC))


def those(frame: pl.DataFrame, condition: str) -> list[bool]:
    """Which rows the SQL takes."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("frame", frame)
        return [row[0] for row in connection.execute(to_duckdb(f"SELECT {condition} FROM frame")).fetchall()]


@settings(deadline=None)
@given(TEXTS)
def test_a_literal_is_the_text(text):
    with duckdb.connect() as connection:
        assert connection.execute(to_duckdb(f"SELECT {literal(text)}")).fetchone() == (text,)


def test_rows_without_values_are_the_same_rows_in_both():
    texts = ["a", "it's", 'say "so"', "back\\slash", "line\nend", "", None]
    frame = pl.DataFrame({"one": texts, "two": [*texts[1:], None]})
    for values in (["a"], ["it's", "line\nend"], [""], ["back\\slash", 'say "so"'], ["nobody"]):
        without = Without(("one", "two"), frozenset(values))
        expected = [not (one in values or two in values) for one, two in frame.iter_rows()]
        assert frame.select(stay=without.polars())["stay"].to_list() == expected
        assert those(frame, without.sql()) == expected


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
@settings(deadline=None)
@given(DAYS, st.lists(TIMES, min_size=1))
def test_days_in_sql_are_the_days_of_the_warehouse(zone, days, times):
    frame = pl.DataFrame({"at": times}, schema={"at": pl.Datetime("us", "UTC")})
    theirs = frame.select(day=day_of(pl.col("at"), zone))["day"].to_list()
    assert [bool(each) for each in those(frame, in_days("at", days, zone))] == [day in days for day in theirs]


def test_a_day_begins_at_its_first_moment():
    at = datetime(2026, 3, 28, 23, 0, tzinfo=UTC)
    frame = pl.DataFrame({"at": [at - timedelta(microseconds=1), at]})
    assert those(frame, in_days("at", [date(2026, 3, 29)], "Europe/Berlin")) == [False, True]


def test_days_in_a_row_are_one_range():
    days = [date(2026, 3, 1), date(2026, 3, 3), None, date(2026, 3, 2), date(2026, 3, 5)]
    assert list(runs_of(days)) == [(date(2026, 3, 1), date(2026, 3, 4)), (date(2026, 3, 5), date(2026, 3, 6))]
    assert list(runs_of([None])) == []
