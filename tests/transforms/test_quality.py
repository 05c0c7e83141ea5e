from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms import quality
from transforms.block import TIME
from transforms.quality import BOOKS_SCHEMA, COUNTS, add_up, count, entries, entries_of, frame_of, merge
from transforms.settle import moved

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCHEMA = {"source": pl.String, "received_time": TIME, "input": pl.String, "part": pl.Int64}


def settled(*rows: tuple[str, float | None]) -> pl.DataFrame:
    """Rows of (source, seconds after noon received), of the input `f`."""
    times = [(source, None if at is None else NOON + timedelta(seconds=at), "f", 0) for source, at in rows]
    return pl.DataFrame(times, schema=SCHEMA, orient="row")


def told(books: pl.DataFrame, outcome: str) -> list[tuple]:
    """(minute after noon or None, source, count) in order."""
    rows = merge([books]).select("bucket_start", "source", outcome).rows()
    return [(at and (at - NOON) // timedelta(minutes=1), source, n) for at, source, n in rows]


@pytest.mark.parametrize("outcome", COUNTS)
def test_rows_are_counted_by_minute_source_and_input_as_one_outcome_alone(outcome):
    block = pl.concat([settled(("shop", 0), ("shop", 59.9), ("shop", 60), ("app", 1)), settled(("shop", None))])
    books = count(block, outcome)
    assert books.schema == BOOKS_SCHEMA
    assert told(books, outcome) == [(None, "shop", 1), (0, "app", 1), (0, "shop", 2), (1, "shop", 1)]
    assert books.select(name for name in COUNTS if name != outcome).sum().row(0) == (0,) * (len(COUNTS) - 1)


def test_each_row_counts_under_its_own_input():
    block = settled(("shop", 0), ("shop", 1)).with_columns(input=pl.Series(["f", "g"]))
    assert sorted(count(block, "events")["input"]) == ["f", "g"]


def test_nothing_counts_as_no_entries():
    assert count(settled(), "events").schema == BOOKS_SCHEMA
    assert merge([]).equals(merge([count(settled(), "events")]))
    assert entries(count(settled(("a", 0)), "events")).columns == list(BOOKS_SCHEMA)


def test_a_file_record_moves_from_no_minute_to_the_one_it_tells():
    block = settled(("shop", 0), ("events", 61), ("events", None))
    read = count(settled(("events", None), ("events", None), ("events", None)), "received")
    found = frame_of(moved(block, "events", False))
    assert told(found, "received") == [(None, "events", -2), (0, "shop", 1), (1, "events", 1)]
    assert told(merge([read, found]), "received") == [(None, "events", 1), (0, "shop", 1), (1, "events", 1)]


def test_a_queue_record_keeps_its_minute_and_moves_to_its_source():
    found = frame_of(moved(settled(("shop", 0), ("events", 61)), "events", True))
    assert told(found, "received") == [(0, "events", -1), (0, "shop", 1), (1, "events", 0)]


def test_the_parts_of_a_record_behind_its_first_were_never_received():
    block = settled(("shop", 0), ("shop", 0), ("shop", 61)).with_columns(part=pl.Series([0, 1, 2]))
    read = count(settled(("events", None)), "received")
    found = merge([read, frame_of(moved(block, "events", False))])
    assert told(found, "received") == [(None, "events", 0), (0, "shop", 1), (1, "shop", 0)]
    assert told(found, "exploded") == [(None, "events", 0), (0, "shop", 1), (1, "shop", 1)]


def test_many_rows_are_counted_as_few_are(monkeypatch):
    block = pl.concat([settled(("shop", 0), ("shop", 60), ("app", 1), ("shop", None))] * 3)
    few = sorted(map(str, entries_of(block, "events")))
    monkeypatch.setattr(quality, "FEW_ROWS", 0)
    assert sorted(map(str, entries_of(block, "events"))) == few


def test_entries_that_cancel_are_left_out():
    found = moved(settled(("events", 0), ("shop", 0)), "events", True)
    noon = int(NOON.timestamp()) * 1_000_000
    assert sorted(add_up(found)) == [(noon, "events", "f", "received", -1), (noon, "shop", "f", "received", 1)]


ROWS = st.lists(st.tuples(st.sampled_from(["events", "shop"]), st.sampled_from([None, 0, 59, 60, 200])), max_size=8)


@given(ROWS, st.booleans())
def test_moving_an_entry_neither_makes_nor_loses_a_record(rows, queue):
    found = frame_of(moved(settled(*rows), "events", queue))
    assert found.select(COUNTS).sum().row(0) == (0,) * len(COUNTS)


@given(st.lists(st.tuples(ROWS, st.sampled_from(COUNTS)), max_size=5), st.randoms(use_true_random=False))
def test_entries_add_up_in_any_order_and_grouping(drawn, random):
    parts = [count(settled(*rows), outcome) for rows, outcome in drawn]
    whole = merge(parts)
    assert sum(whole.select(COUNTS).sum().row(0)) == sum(len(rows) for rows, _ in drawn)
    random.shuffle(parts)
    cut = random.randint(0, len(parts))
    assert merge([merge(parts[:cut]), merge(parts[cut:])]).equals(whole, null_equal=True)
