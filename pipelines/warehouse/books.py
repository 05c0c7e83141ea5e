"""The books at a commit: what a run's days, quarantine and quality rows put in the place of what was there.

Events and metric rows belong to days. Quarantine and quality rows belong to the input that they tell of: a run of the
same input replaces them. The events of another input that this run takes out of a day move, in that input's books,
from `events` to `replaced`: books say where every record is now.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from pipelines.warehouse.local import FileEntry, write_file
from pipelines.warehouse.sink import by_day, shaped
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE, Table
from pipelines.warehouse.writer import Run
from transforms import quality
from transforms.aggregate import Launch, stamped
from transforms.block import day_of, empty

KEYS = ["bucket_start", "source", "input"]


def commit(
    run: Run, entries: list[FileEntry], days: Sequence[date], metrics: Sequence[str], input: str, launch: Launch
) -> dict[str, int]:
    """Swap everything in at once, `days` of events and `metrics` replaced; return the sums of the books of `input`."""
    counts = _sums(entries)
    correction = _correction(run, _taken_out(run, entries, days, input), input, launch)
    mine = {table.name: _days_with(run, table, input) for table in (QUARANTINE, QUALITY_1M)}
    others = pl.col("input") != input
    run.commit(
        entries + correction,
        replace_days={**{name: set(days) for name in (EVENTS.name, *metrics)}, **mine},
        keep=dict.fromkeys(mine, others),
    )
    return counts


def _sums(entries: list[FileEntry]) -> dict[str, int]:
    paths = [entry.path for entry in entries if entry.table == QUALITY_1M.name]
    if not paths:
        return dict.fromkeys(quality.COUNTS, 0)
    return pl.scan_parquet(paths).select(pl.col(quality.COUNTS).sum()).collect().row(0, named=True)


def _days_with(run: Run, table: Table, input: str) -> set[date | None]:
    """The days in which `input` has rows."""
    day = day_of(pl.col(table.partition), run.warehouse.time_zone)
    found = run.warehouse.scan(table.name).filter(pl.col("input") == input).select(day.unique())
    return set(found.collect().to_series())


def _taken_out(run: Run, entries: list[FileEntry], days: Sequence[date], input: str) -> pl.DataFrame:
    """(bucket_start, source, input, replaced) of the events of other inputs that the days lose."""
    if not days:
        return empty(quality.BOOKS_SCHEMA)
    before = run.warehouse.scan(EVENTS.name, days)
    after = [pl.scan_parquet(entry.path) for entry in entries if entry.table == EVENTS.name]
    counted = [
        quality.count(
            part.filter(pl.col("input") != input).select("received_time", "source", "input").collect(), "replaced"
        ).with_columns(pl.col("replaced") * sign)
        for sign, part in [(1, before), *((-1, part) for part in after)]
    ]
    return quality.merge(counted).filter(pl.col("replaced") != 0)


def _correction(run: Run, taken_out: pl.DataFrame, input: str, launch: Launch) -> list[FileEntry]:
    """Quality rows of this generation that say, for other inputs, which of their events were taken out."""
    if taken_out.is_empty():
        return []
    current = (
        run.warehouse.scan(QUALITY_1M.name)
        .filter(pl.col("input") != input)
        .sort("generation", "revision")
        .collect()
        .unique(KEYS, keep="last", maintain_order=True)
    )
    moved = current.join(taken_out.select(*KEYS, moved="replaced"), on=KEYS, nulls_equal=True)
    moved = moved.with_columns(events=pl.col("events") - pl.col("moved"), replaced=pl.col("replaced") + pl.col("moved"))
    now = launch.generation / 1_000_000
    rows = shaped(stamped(moved, "on_time", launch.generation, now, launch), QUALITY_1M)
    parts = by_day(rows, QUALITY_1M.partition, run.warehouse.time_zone)
    return [write_file(run.staging, QUALITY_1M.name, day, part) for day, part in parts]
