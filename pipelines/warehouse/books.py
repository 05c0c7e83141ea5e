"""The audit counts at a commit: what the days, quarantine and quality rows of a run replace.

Events and metric rows belong to days. Quarantine and quality rows belong to the input that they count: a run of the
same input replaces them. What a run does to the records of other inputs moves their counts, so that the counts say
where every record is now: an event that it takes out of a day goes from `events` to `replaced`, a record that it takes
out of quarantine goes from `quarantined` to where it ends.
"""

import time
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import polars as pl

from pipelines.warehouse.conditions import Without
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.interface import Discarded, WarehouseRun
from pipelines.warehouse.losses import correct_for_losses
from pipelines.warehouse.sink import by_day, shaped
from pipelines.warehouse.staged import scan, write_file
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE
from transforms import quality
from transforms.block import day_of, empty
from transforms.publication import Launch, stamp_rows
from transforms.windows import to_micros

KEYS = ["bucket_start", "source", "input"]
# What makes one delivery of an event: a stored one that is gone from a day was taken out.
_DELIVERY = ["source", "event_id", "input", "received_time", "client_time"]
_HASHED = {f"_hash_{seed}": pl.struct(_DELIVERY).hash(seed) for seed in (1, 2)}


class Rest(NamedTuple):
    """Days of a table that lose rows, and which of their rows stay."""

    table: str
    days: set[date | None]
    keep: Without


def commit(
    run: WarehouseRun,
    entries: list[FileEntry],
    days: Sequence[date],
    derived: Sequence[str],
    launch: Launch,
    input: str | None,
    moved: Sequence[pl.DataFrame] = (),
    rest: Sequence[Rest] = (),
    discarded: Discarded | None = None,
) -> dict[str, int]:
    """Swap everything in at once, `days` of events and of tables derived from them replaced; return the sums of the
    run's audit counts.

    input  whose quarantine and audit counts the run replaces; None: its records are those of other inputs, whose
           quarantine it appends to and whose counts it moves
    moved  BOOKS_SCHEMA entries to add to the audit counts of other inputs
    rest   of other tables the days that lose rows
    discarded  damaged files that go, whatever they held
    """
    own = _own_counts(entries)
    changes = [*moved, *_taken_out(run, entries, days, input)]
    if input is None:
        entries = [entry for entry in entries if entry.table != QUALITY_1M.name]
        changes.append(own)
    else:
        others = Without(("input",), frozenset([input]))
        days_of_input = run.warehouse.days_with
        rest = [
            Rest(table.name, days_of_input(table.name, "input", input), others) for table in (QUARANTINE, QUALITY_1M)
        ]
    changed = quality.merge(changes)
    if discarded and discarded.files:
        changed = correct_for_losses(run, discarded, changed, input)
    counts = own.select(pl.col(quality.COUNTS).sum()).row(0, named=True)  # nothing may fail behind the commit
    replaced: dict[str, set[date | None]] = {name: set(days) for name in (EVENTS.name, *derived)}
    run.commit(
        entries + _corrections(run, changed, launch),
        replace_days=replaced | {each.table: each.days for each in rest},
        keep={each.table: each.keep for each in rest},
    )
    return counts


def _own_counts(entries: list[FileEntry]) -> pl.DataFrame:
    """The entries of the run itself, BOOKS_SCHEMA."""
    paths = [entry.path for entry in entries if entry.table == QUALITY_1M.name]
    if not paths:
        return empty(quality.BOOKS_SCHEMA)
    return scan(paths, list(quality.BOOKS_SCHEMA)).collect()


def _taken_out(
    run: WarehouseRun, entries: list[FileEntry], days: Sequence[date], input: str | None
) -> list[pl.DataFrame]:
    """Entries for the events of other inputs that the days lose: from `events` to `replaced`."""
    if not days:
        return []
    before = run.warehouse.scan(EVENTS.name, days, _DELIVERY)
    if input is not None:
        before = before.filter(pl.col("input") != input)
    paths = [entry.path for entry in entries if entry.table == EVENTS.name]
    if paths:
        # By 128 bits: of a long day the deliveries themselves would not fit a worker.
        after = scan(paths, [delivery.alias(name) for name, delivery in _HASHED.items()])
        before = before.with_columns(**_HASHED).join(after, on=list(_HASHED), how="anti")
    lost = before.select("source", "input", "received_time").collect(engine="streaming")
    return [quality.count(lost, "replaced"), quality.count(lost, "events").with_columns(-pl.col("events"))]


def _corrections(run: WarehouseRun, changes: pl.DataFrame, launch: Launch) -> list[FileEntry]:
    """Quality rows of this generation: the current ones of the keys that change, with the changes."""
    changes = changes.filter(pl.any_horizontal(pl.col(quality.COUNTS) != 0))
    if changes.is_empty():
        return []
    days = changes.select(day_of(pl.col(QUALITY_1M.partition), run.warehouse.time_zone).unique()).to_series()
    current = (
        run.warehouse.scan(QUALITY_1M.name, days)
        .sort("generation", "revision")
        .collect()
        .unique(KEYS, keep="last", maintain_order=True)
        .join(changes, on=KEYS, how="semi", nulls_equal=True)
    )
    rows = quality.merge([current.select(list(quality.BOOKS_SCHEMA)), changes])
    rows = rows.with_columns(bucket_end=pl.col("bucket_start") + quality.MINUTE)
    # Above every row that is corrected, also where launches were given generations by hand.
    now = time.time()
    launch = launch._replace(generation=max([launch.generation, *current["generation"]]))
    revision = max([to_micros(now), *(current["revision"] + 1)])
    rows = shaped(stamp_rows(rows, "on_time", revision, now, launch), QUALITY_1M)
    parts = by_day(rows, QUALITY_1M.partition, run.warehouse.time_zone)
    return [write_file(run.folder, QUALITY_1M.name, day, part, synced=False) for day, part in parts]
