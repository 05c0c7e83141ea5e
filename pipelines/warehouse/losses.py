"""Losses: damaged files that a run puts others in the place of, and what the books then say of the rows they held.

    run.discard(tables, days) -> Discarded      the run ignores them, and its next commit removes them
    settled(run, discarded, changes, input)     BOOKS_SCHEMA entries that a run makes for other inputs
    report_lines(discarded)                     what a person reads of them

Rows of a damaged file cannot be counted. What the books say of their minutes, less what the readable files have, is
what is gone: an event, or a record that waited in quarantine, is then `replaced`. Where a file of the books is gone,
its minutes are entered again from what the tables have: `received` is what was found, and what left no row (duplicates,
what was out of range) is counted no more. The balance stays 0, and the tables agree with the books.
"""

from datetime import date

import polars as pl

from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE
from pipelines.warehouse.warehouse import Discarded, WarehouseRun
from transforms import quality
from transforms.block import day_of, empty

KEYS = ["bucket_start", "source", "input"]
_ANSWERS = {EVENTS.name: "events", QUARANTINE.name: "quarantined"}


_SAID = {
    EVENTS.name: "; the input took their place; those of other inputs are replaced in the books, where there are any",
    QUARANTINE.name: "; those of other inputs are replaced in the books, where there are any",
    QUALITY_1M.name: "; of these minutes duplicates and what was out of range are counted no more",
}


def report_lines(discarded: Discarded) -> list[str]:
    """What is lost, and what the audit counts then say: a line a file."""
    return [
        f"{file.path} was damaged ({file.what}): its {file.rows:,} rows of {file.table}, day {file.day}, are gone"
        + _SAID.get(file.table, "; the day was computed again")
        for file in discarded.files
    ]


def settled(run: WarehouseRun, discarded: Discarded, changed: pl.DataFrame, input: str | None) -> pl.DataFrame:
    """The entries that a run makes in the books of other inputs than its own, with what the lost rows ask for."""
    lost = [_lost(run, table, discarded.rows(table), input) for table in _ANSWERS if discarded.rows(table)]
    days = discarded.days(QUALITY_1M.name)
    if not days:
        return quality.merge([changed, *lost])
    fresh = _entered_again(run, days, input, discarded.landed)
    known = pl.concat([_books(run, None).select(KEYS), fresh.select(KEYS)])
    ours = _is_of(run, days)
    # Of a minute that has no books, none can be moved.
    kept = [changed.filter(~ours), changed.filter(ours).join(known, on=KEYS, how="semi", nulls_equal=True)]
    return quality.merge([*kept, *lost, fresh])


def _lost(run: WarehouseRun, table: str, rows: int, input: str | None) -> pl.DataFrame:
    """Entries that move what the books have and the files of a table no longer do to `replaced`."""
    answer = _ANSWERS[table]
    told = _books(run, input).select(*KEYS, pl.col(answer).alias("told"))
    both = told.join(_found(run, table, input), on=KEYS, how="left", nulls_equal=True)
    gone = both.select(*KEYS, (pl.col("told") - pl.col("found").fill_null(0)).alias("replaced"))
    gone = gone.filter(pl.col("replaced") > 0)
    if gone["replaced"].sum() > rows:  # the books differed before: what is of this file cannot be told
        return empty(quality.BOOKS_SCHEMA)
    return quality.entries(gone.with_columns((-pl.col("replaced")).alias(answer)))


def _entered_again(run: WarehouseRun, days: list[date], input: str | None, landed: bool) -> pl.DataFrame:
    """Entries of minutes whose books are gone, from the rows of events and of quarantine that there are."""
    parts = [quality.entries(_found(run, table, input).rename({"found": answer})) for table, answer in _ANSWERS.items()]
    merged = quality.merge(parts).with_columns(received=pl.col("events") + pl.col("quarantined"))
    fresh = merged.filter(_is_of(run, days)).join(_books(run, None).select(KEYS), on=KEYS, how="anti", nulls_equal=True)
    if landed:  # what a stream is to read again its own start books
        fresh = fresh.filter(~pl.col("input").str.contains("@"))
    return fresh


def _is_of(run: WarehouseRun, days: list[date]) -> pl.Expr:
    return day_of(pl.col("bucket_start"), run.warehouse.time_zone).is_in(days).fill_null(False)


def _books(run: WarehouseRun, input: str | None) -> pl.DataFrame:
    """The current books of all inputs but `input`."""
    rows = run.warehouse.scan(QUALITY_1M.name)
    if input is not None:
        rows = rows.filter(pl.col("input") != input)
    return rows.sort("generation", "revision").unique(KEYS, keep="last", maintain_order=True).collect()


def _found(run: WarehouseRun, table: str, input: str | None) -> pl.DataFrame:
    """(*KEYS, found): the rows of events, or the open records of quarantine, that the readable files have."""
    rows = run.warehouse.scan(table)
    if input is not None:
        rows = rows.filter(pl.col("input") != input)
    if table == QUARANTINE.name:
        latest = rows.sort("attempt").unique(["input", "quarantine_id"], keep="last", maintain_order=True)
        passed = rows.filter(pl.col("code").is_null()).select("input", "quarantine_id").unique()
        rows = latest.join(passed, on=["input", "quarantine_id"], how="anti")
    minute = pl.col("received_time").dt.truncate("1m").alias("bucket_start")
    counted = rows.group_by(minute, "source", "input").agg(pl.len().cast(pl.Int64).alias("found"))
    return counted.collect()
