"""Rows by day: whichever way they are split, each row is in the part of its day, once."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from pipelines.warehouse import sink
from pipelines.warehouse.sink import FEW_DAYS, MANY_ROWS, by_day
from transforms.block import TIME

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("days", [1, FEW_DAYS - 1, FEW_DAYS + 1])
@pytest.mark.parametrize("height", [20, MANY_ROWS])
@pytest.mark.parametrize("has_unknown", [False, True], ids=["all known", "some unknown"])
def test_each_row_is_in_the_part_of_its_day(days, height, has_unknown):
    times = [None if has_unknown and row % 9 == 0 else NOON + timedelta(days=row * 7 % days) for row in range(height)]
    rows = pl.DataFrame({"at": pl.Series(times, dtype=TIME), "row": range(height)})
    parts = dict(by_day(rows, "at", "America/New_York"))
    expected: dict[date | None, list[int]] = {}
    for row, time in enumerate(times):
        expected.setdefault(time and time.date(), []).append(row)
    assert {day: part["row"].to_list() for day, part in parts.items()} == expected
    assert all(part.columns == rows.columns for part in parts.values())


def test_large_blocks_of_few_days_are_not_partitioned(monkeypatch):
    monkeypatch.setattr(sink, "FEW_DAYS", 0)
    rows = pl.DataFrame({"at": pl.Series([NOON, NOON + timedelta(days=1)] * MANY_ROWS, dtype=TIME)})
    partitioned = {day: part.height for day, part in by_day(rows, "at", "UTC")}
    monkeypatch.undo()
    assert {day: part.height for day, part in by_day(rows, "at", "UTC")} == partitioned
