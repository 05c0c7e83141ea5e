"""Which minutes are settled, as the audit counts tell that are committed so far."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.warehouse.conditions import in_minutes
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.local.settled import SettledMinutes
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import QUALITY_1M, polars_schema
from transforms.block import TIME
from transforms.quality import COUNTS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def books(*rows: tuple[int, str, str, int, int, dict]) -> pl.DataFrame:
    """Rows of (minute after noon, input, source, generation, revision, counts)."""
    made = [
        {
            **dict.fromkeys(COUNTS, 0),
            "bucket_start": NOON + n * MINUTE,
            "input": input,
            "source": source,
            "generation": generation,
            "revision": revision,
            **counts,
        }
        for n, input, source, generation, revision, counts in rows
    ]
    return pl.DataFrame(made, schema_overrides=polars_schema(QUALITY_1M)).with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in polars_schema(QUALITY_1M).items() if name not in made[0]
    )


@pytest.fixture
def warehouse(tmp_path):
    return LocalWarehouse.open(tmp_path / "w", create=True)


def commit(warehouse, rows: pl.DataFrame) -> None:
    with warehouse.writer() as run:
        rows = rows.select(list(polars_schema(QUALITY_1M)))
        run.commit([write_file(run.staging, "quality_1m", NOON.date(), rows)])


def settled(minutes: SettledMinutes) -> list[tuple[str, int, int]]:
    """[(input, minute after noon, received)]"""
    return [(input, (at - NOON) // MINUTE, received) for input, at, received in minutes.received().rows()]


def test_a_minute_is_settled_when_its_sources_balance_together(warehouse):
    minutes = SettledMinutes(warehouse, ["q"])
    assert settled(minutes) == []
    minutes.add(books((0, "q", "a", 1, 1, {"received": 5}), (1, "q", "a", 1, 1, {"received": 2, "events": 2})))
    assert settled(minutes) == [("q", 1, 2)]
    minutes.add(books((0, "q", "b", 1, 1, {"received": -2, "quarantined": 3, "exploded": 1})))
    assert settled(minutes) == [("q", 1, 2)], "1 record of 3 is still under way"
    minutes.add(books((0, "q", "a", 1, 2, {"received": 5, "events": 1})))
    assert settled(minutes) == [("q", 0, 3), ("q", 1, 2)]


def test_the_row_of_the_highest_generation_and_revision_counts_whatever_the_order(warehouse):
    rows = books(
        (0, "q", "a", 2, 1, {"received": 4, "events": 4}),
        (0, "q", "a", 1, 9, {"received": 9, "events": 9}),
        (0, "q", "a", 2, 0, {"received": 1}),
    )
    minutes = SettledMinutes(warehouse, ["q"])
    for n in range(3):
        minutes.add(rows[n : n + 1])
    assert settled(minutes) == [("q", 0, 4)]


def test_what_is_stored_is_read_and_parts_of_the_input_are_its_own(warehouse):
    whole = {"received": 1, "events": 1}
    inputs = ("q", "q@1", "q@2", "queue", "other")
    commit(warehouse, books(*((0, input, "a", 1, 1, whole) for input in inputs)))
    minutes = SettledMinutes(warehouse, ["q"])
    minutes.add(books((1, "queue", "a", 1, 1, whole), (1, "q@2", "a", 1, 1, whole)))
    assert settled(minutes) == [("q", 0, 1), ("q@1", 0, 1), ("q@2", 0, 1), ("q@2", 1, 1)]
    assert settled(SettledMinutes(warehouse, ["q"], since=NOON + timedelta(days=1))) == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=12))
def test_the_ranges_hold_the_times_of_the_minutes_and_no_others(chosen):
    times = [NOON + timedelta(seconds=20 * n) for n in range(33)]
    rows = pl.DataFrame({"input": ["a", "b"]}).join(pl.DataFrame({"at": times}, schema={"at": TIME}), how="cross")
    minutes = pl.DataFrame(
        [(input, NOON + n * MINUTE) for input, n in chosen],
        schema={"input": pl.String, "bucket_start": TIME},
        orient="row",
    )
    found = rows.filter(in_minutes(minutes, "at")).rows()
    assert set(found) == {(i, at) for i, at in rows.rows() if (i, (at - NOON) // MINUTE) in set(chosen)}
