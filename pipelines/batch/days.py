"""The days that a batch run writes, and what it reads of the warehouse beside its input: stored events, neighbor days,
sessions that span midnight.
"""

from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import replace
from datetime import date, timedelta

import apache_beam as beam
import polars as pl

from pipelines.assemble import Opened, make_folder
from pipelines.audience import Job, settle
from pipelines.batch.day_limit import NoteDays
from pipelines.runners.in_process import run_bounded
from pipelines.sources.stored import ReadReach, ReadStored, as_reach
from pipelines.warehouse.conditions import begin, runs_of
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.tables import (
    EVENTS,
    SESSIONS,
)
from transforms.days import MARGIN
from transforms.sessions.sessions import TargetDays
from transforms.sessions.summaries import GAP


def with_stored(job: Job, warehouse: Warehouse, days: Sequence[date]) -> Job:
    """Return the job with the stored events of these days in addition to its source."""
    return replace(job, stored=ReadStored([str(file) for file in warehouse.files(EVENTS.name, days)], job.input))


def with_neighbors(job: Job, into: Opened, days: Collection[date] | None) -> Job:
    """Return the job that writes these days (None: all days of the warehouse), and the sessions that span their ends:
    it gets the stored events of the neighbor days, and the stored sessions near the ends."""
    job = replace(job, target_days=TargetDays(days, into.warehouse.time_zone))
    around = neighbor_days(into.warehouse, days)
    if not around or days is None:
        return job
    job = replace(
        job, neighbor_events=ReadStored([str(file) for file in into.warehouse.files(EVENTS.name, around)], None)
    )
    if SESSIONS.name not in into.warehouse.tables():
        return job
    path = into.run.staging / "reach.parquet"
    as_reach(pl.concat(into.warehouse.ask(spanning_sql(days, into.warehouse.time_zone)))).write_parquet(path)
    return replace(job, spanning_sessions=ReadReach(str(path)))


def neighbor_days(warehouse: Warehouse, days: Collection[date] | None) -> list[date]:
    """Return the neighbor days with events: those next to the days that are written."""
    beside = {day + side for day in days or () for side in (-MARGIN, MARGIN)} - set(days or ())
    return sorted(beside & days_with_events(warehouse)) if beside else []


def spanning_sql(days: Collection[date], zone: str) -> str:
    """Return BigQuery SQL for the sessions near or across the ends of the days, in rows for `as_reach`."""
    ranges = []
    for first, last in runs_of(days):
        start, end, near = begin(first, zone), begin(last, zone), f"INTERVAL {GAP // timedelta(minutes=1)} MINUTE"
        ranges.append(
            # Sessions that start up to a day before can be rebuilt; the bound also limits the partitions that are read.
            f"(session_start >= {begin(first - MARGIN, zone)} AND session_start < TIMESTAMP_ADD({end}, {near})"
            f" AND session_end > TIMESTAMP_SUB({start}, {near})"
            f" AND (session_start < {start} OR session_end >= {end}))"
        )
    return (
        f"SELECT anonymous_id, user_id, session_start, session_end FROM {SESSIONS.name}_current "
        f"WHERE {' OR '.join(ranges)}"
    )


def days_with_events(warehouse: Warehouse) -> set[date]:
    """Return the days on which the warehouse has events."""
    return {day for day, rows in warehouse.rows_by_day(EVENTS.name).items() if rows and day}


def days_found(job: Job, opened: Opened, workers: int, beam_options: Sequence[str]) -> set[date]:
    """Return the days of the events in the source of the job, in a first pass over it."""
    folder = make_folder(opened.run.staging / "days")
    first_pass = replace(job, source=copy(job.source))  # Beam binds a transform to the pipeline it was applied to
    note = NoteDays(folder, opened.warehouse.time_zone)
    run_bounded(lambda pipeline: _note_days(pipeline, first_pass, note), workers, beam_options)
    return note.noted()


def _note_days(pipeline: beam.Pipeline, job: Job, note: NoteDays) -> None:
    settle(pipeline, job).events | "Collect days" >> beam.Map(note)
