"""Losses: damaged files that a run replaces, and what the audit counts then say of the rows they held.

    run.discard(tables, days) -> Discarded      the run ignores them, and its next commit removes them
    correct_for_losses(run, discarded, ...)     BOOKS_SCHEMA entries that a run makes for other inputs
    report_lines(discarded)                     what a person reads of them

Rows of a damaged file cannot be counted. What the audit counts of their minutes say, less what the readable files have,
is lost: an event, or a record that waited in quarantine, is then `replaced`. Where a file of audit counts is lost, its
minutes are counted again from what the tables have: `received` is what was found, and what left no row (duplicates,
what was out of range) is no longer counted. The balance stays 0, and the counts reconcile with the tables.
"""

from datetime import date

import polars as pl

from pipelines.warehouse.interface import Discarded, WarehouseRun
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE
from transforms import quality
from transforms.block import day_of, empty

KEYS = ["bucket_start", "source", "input"]
_ANSWERS = {EVENTS.name: "events", QUARANTINE.name: "quarantined"}


_SAID = {
    EVENTS.name: "; the input took their place; those of other inputs are counted as replaced, where there are any",
    QUARANTINE.name: "; those of other inputs are counted as replaced, where there are any",
    QUALITY_1M.name: "; of these minutes duplicates and what was out of range are counted no more",
}


def report_lines(discarded: Discarded) -> list[str]:
    """What is lost, and what the audit counts then say: a line a file."""
    return [
        f"{file.path} was damaged ({file.what}): its {file.rows:,} rows of {file.table}, day {file.day}, are gone"
        + _SAID.get(file.table, "; the day was computed again")
        for file in discarded.files
    ]


def correct_for_losses(
    run: WarehouseRun, discarded: Discarded, changed: pl.DataFrame, input: str | None
) -> pl.DataFrame:
    """The audit entries that a run makes for other inputs than its own, with those for the lost rows."""
    lost = [_lost(run, table, discarded.rows(table), input) for table in _ANSWERS if discarded.rows(table)]
    days = discarded.days(QUALITY_1M.name)
    if not days:
        return quality.merge([changed, *lost])
    fresh = _entered_again(run, days, input, discarded.landed)
    known = pl.concat([_audit_counts(run, None).select(KEYS), fresh.select(KEYS)])
    ours = _is_of(run, days)
    # A minute without audit counts has none to move.
    kept = [changed.filter(~ours), changed.filter(ours).join(known, on=KEYS, how="semi", nulls_equal=True)]
    return quality.merge([*kept, *lost, fresh])


def _lost(run: WarehouseRun, table: str, rows: int, input: str | None) -> pl.DataFrame:
    """Entries that move to `replaced` what was counted and is no longer in the files of a table."""
    answer = _ANSWERS[table]
    counted = _audit_counts(run, input).select(*KEYS, pl.col(answer).alias("counted"))
    both = counted.join(_found(run, table, input), on=KEYS, how="left", nulls_equal=True)
    gone = both.select(*KEYS, (pl.col("counted") - pl.col("found").fill_null(0)).alias("replaced"))
    gone = gone.filter(pl.col("replaced") > 0)
    if gone["replaced"].sum() > rows:  # the counts did not reconcile before: the share of this file is unknown
        return empty(quality.BOOKS_SCHEMA)
    return quality.entries(gone.with_columns((-pl.col("replaced")).alias(answer)))


def _entered_again(run: WarehouseRun, days: list[date], input: str | None, landed: bool) -> pl.DataFrame:
    """Entries of minutes whose audit counts are lost, from the rows of events and quarantine that exist."""
    parts = [quality.entries(_found(run, table, input).rename({"found": answer})) for table, answer in _ANSWERS.items()]
    merged = quality.merge(parts).with_columns(received=pl.col("events") + pl.col("quarantined"))
    fresh = merged.filter(_is_of(run, days)).join(
        _audit_counts(run, None).select(KEYS), on=KEYS, how="anti", nulls_equal=True
    )
    if landed:  # the start of the stream counts what it reads again
        fresh = fresh.filter(~pl.col("input").str.contains("@"))
    return fresh


def _is_of(run: WarehouseRun, days: list[date]) -> pl.Expr:
    return day_of(pl.col("bucket_start"), run.warehouse.time_zone).is_in(days).fill_null(False)


def _audit_counts(run: WarehouseRun, input: str | None) -> pl.DataFrame:
    """The current audit counts of all inputs but `input`."""
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
