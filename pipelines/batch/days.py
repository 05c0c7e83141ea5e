"""The parts that backfill, recompute and replay share, from the open warehouse to the commit.

A run reads, builds the one graph and stages its rows; one atomic commit publishes them. The runs differ in what they
read, which days they rewrite, and to which input their audit counts belong.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import polars as pl

from pipelines.audience import Job, settle
from pipelines.batch.day_limit import NoteDays
from pipelines.runners.in_process import run_bounded
from pipelines.settings.config import Quality, read_config, read_mapping
from pipelines.settings.resolve import Settings
from pipelines.sources.stored import ReadReach, ReadStored, as_reach
from pipelines.version import VERSION
from pipelines.warehouse.conditions import begin, runs_of
from pipelines.warehouse.file_sinks import FileSink
from pipelines.warehouse.interface import Warehouse, WarehouseRun
from pipelines.warehouse.local.notes import note_files
from pipelines.warehouse.metric_tables import tables_of
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.sink import Sink
from pipelines.warehouse.tables import (
    ERASURES,
    EVENTS,
    SESSIONS,
    Table,
)
from transforms.aggregate import Launch, MetricAggregation
from transforms.days import MARGIN
from transforms.lateness import allowed_lateness
from transforms.mapping import Mapping
from transforms.metrics.spec import MetricSpec
from transforms.sessions.sessions import TargetDays
from transforms.sessions.summaries import GAP

NATIVE_SOURCE = "events"  # the source of native records that do not state one


class Opened(NamedTuple):
    """A warehouse with the one run that writes to it, and the active metrics."""

    warehouse: Warehouse
    run: WarehouseRun
    metrics: tuple[MetricSpec, ...]
    job: Job  # without a source: each kind of run fills in its own

    @property
    def derived(self) -> list[str]:
        """The tables derived from events, by day."""
        return [*(spec.name for spec in self.metrics), SESSIONS.name]


@contextmanager
def opened(settings: Settings, create: bool = False, streaming: bool = False) -> Iterator[Opened]:
    """Open the warehouse for writing and declare the tables of this run."""
    metrics, quality, _ = read_config(settings.config)
    tables = tables_of(metrics)
    with warehouse_of(settings, create) as warehouse, warehouse.writer() as run:
        run.declare([*tables.values(), ERASURES], read_config(settings.config).funnel)
        sink = _sink(settings, warehouse, run, tables, streaming)
        job = new_job(settings, metrics, quality, sink, warehouse.time_zone, streaming)
        job = replace(job, spill_folder=None if streaming else str(made(run.staging / "spill")))
        yield Opened(warehouse, run, metrics, job)


def new_job(
    settings: Settings, metrics: Sequence[MetricSpec], quality: Quality, sink: Sink, time_zone: str, streaming: bool
) -> Job:
    """Return the job that the options describe, without its source."""
    return Job(
        source=beam.Create([]).with_output_types(pl.DataFrame),
        sink=sink,
        input=None,
        launch=Launch(settings.generation or time.time_ns() // 1000, VERSION),
        metrics=tuple(MetricAggregation(spec, time_zone, settings.early_firing) for spec in metrics),
        source_name=NATIVE_SOURCE,
        null_ids=quality.null_ids,
        bots=quality.bots,
        max_lateness=settings.max_lateness,
        accept_late=settings.accept_late,
        dedup_window=settings.dedup_window,
        shards=settings.shards,
        streaming=streaming,
        early=settings.early_firing,
        funnel=read_config(settings.config).funnel.steps,
    )


def mappings_of(settings: Settings) -> tuple[tuple[Mapping, ...], str]:
    """Return the mappings of a stream, and the source of records that do not state one."""
    mappings = tuple(map(read_mapping, settings.mapping))
    return mappings, mappings[0].source if mappings else NATIVE_SOURCE


def _sink(
    settings: Settings, warehouse: Warehouse, run: WarehouseRun, tables: dict[str, Table], streaming: bool
) -> Sink:
    if streaming and settings.dataset:
        from pipelines.warehouse.bigquery.stream.sink import BigQueryStreamSink  # which imports Google's clients

        return BigQueryStreamSink(warehouse.name, tables, settings.write_method)
    return FileSink(str(run.staging), tables, warehouse.time_zone, note=note_files if streaming else None)


def warehouse_of(settings: Settings, create: bool = False) -> AbstractContextManager[Warehouse]:
    """Open the warehouse of the options for the duration of the context."""
    # The last window of a day closes `allowed_lateness` after the day; its last rows arrive a little later.
    settled_after = None if settings.no_active_stream else allowed_lateness(settings.max_lateness) + timedelta(hours=2)
    return open_warehouse(
        settings.dataset,
        settings.warehouse,
        settings.time_zone,
        create,
        settings.partition_expiration,
        settled_after,
        settings.group,
    )


def made(folder: Path) -> Path:
    """Create the folder, and return it."""
    folder.mkdir(parents=True)
    return folder


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
    folder = made(opened.run.staging / "days")
    first_pass = replace(job, source=copy(job.source))  # Beam binds a transform to the pipeline it was applied to
    note = NoteDays(folder, opened.warehouse.time_zone)
    run_bounded(lambda pipeline: _note_days(pipeline, first_pass, note), workers, beam_options)
    return note.noted()


def _note_days(pipeline: beam.Pipeline, job: Job, note: NoteDays) -> None:
    settle(pipeline, job).events | "Collect days" >> beam.Map(note)
