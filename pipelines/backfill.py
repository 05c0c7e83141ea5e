"""Backfill: files into the days of a local warehouse, whole days at a time, all at once or not at all.

A day without rows is written. A day that has rows is touched only by `--replace` (the input is complete for the named
days) or `--add` (the day's stored events join the input, and the day is written anew); else the run is refused with
the days and their row counts. Quarantine and books belong to their input: a run of the same input replaces them.
"""

import time
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import polars as pl

from pipelines.audience import Job, build, settle
from pipelines.config import read_config, read_mapping
from pipelines.launch import run_bounded, worker_count
from pipelines.options import Settings
from pipelines.sources.files import CsvFormat, FileInput, ReadFiles, check_inputs
from pipelines.sources.identity import content_digest
from pipelines.sources.stored import ReadStored
from pipelines.version import VERSION
from pipelines.warehouse import books
from pipelines.warehouse.local import LocalWarehouse
from pipelines.warehouse.sink import LocalSink, confirmed
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE, Column, Table, metric_table
from transforms.aggregate import Launch, MetricAggregation
from transforms.block import day_of
from transforms.errors import WarehouseError
from transforms.in_range import Days
from transforms.mapping import Mapping, required_columns
from transforms.metrics import MetricSpec

NATIVE_SOURCE = "events"


class Summary(NamedTuple):
    """What a run did: counts of its books, the days it wrote, and how long it took."""

    input: str
    counts: dict[str, int]
    days: list[date]
    seconds: float


def backfill(settings: Settings, beam_options: Sequence[str] = ()) -> Summary:
    """Run the graph over files and commit what it wrote."""
    started = time.monotonic()
    metrics, quality = read_config(settings.config)
    mapping = read_mapping(settings.mapping) if settings.mapping else None
    files, form, csv = _inputs(settings, mapping)
    warehouse = LocalWarehouse.open(settings.warehouse, time_zone=settings.time_zone, create=True)
    days = Days(settings.start, settings.end, warehouse.time_zone) if settings.start and settings.end else None
    tables = {table.name: table for table in (EVENTS, QUARANTINE, QUALITY_1M, *map(table_of, metrics))}
    with warehouse.writer() as run:
        run.declare(tables.values())
        _refuse(settings, warehouse, days, None)
        job = Job(
            source=ReadFiles(settings.input, source_name(mapping), form, csv),
            sink=LocalSink(str(run.staging), tables, warehouse.time_zone),
            input=input_name(files, days),
            launch=Launch(settings.generation or time.time_ns() // 1000, VERSION),
            metrics=tuple(MetricAggregation(spec, warehouse.time_zone) for spec in metrics),
            source_name=source_name(mapping),
            mappings=(mapping,) if mapping else (),
            days=days,
            null_ids=quality.null_ids,
            bots=quality.bots,
            max_lateness=settings.max_lateness,
            dedup_window=settings.dedup_window,
            shards=settings.shards,
            spill_folder=str(_made(run.staging / "spill")),
        )
        workers = worker_count(settings.workers, sum(file.size for file in files))
        added = _days_to_add(settings, warehouse, job, run, workers, beam_options)
        if added:
            job = _with_stored(job, warehouse, added)
        run_bounded(lambda pipeline: build(pipeline, job), workers, beam_options)
        entries = confirmed(run.staging)
        written = sorted({entry.day for entry in entries if entry.table == EVENTS.name and entry.day})
        _refuse(settings, warehouse, days, written)
        replaced = _replaced_days(settings, added)
        counts = books.commit(run, entries, replaced, [spec.name for spec in metrics], job.input, job.launch)
    return Summary(job.input, counts, written, time.monotonic() - started)


def source_name(mapping: Mapping | None) -> str:
    """The name of the source whose records state none."""
    return mapping.source if mapping else NATIVE_SOURCE


def _inputs(settings: Settings, mapping: Mapping | None) -> tuple[list[FileInput], str, CsvFormat]:
    form, csv = settings.format, CsvFormat()
    if mapping is not None:
        form = mapping.format if form == "auto" and mapping.format else form
        csv = mapping.csv or csv
    needed = required_columns(mapping) if mapping else ()
    return check_inputs(settings.input, form, csv, needed), form, csv


def table_of(spec: MetricSpec) -> Table:
    """The declaration of a metric's table."""
    return metric_table(
        spec.name, spec.description, spec.dimensions, [_declared(*made) for made in spec.measure_columns()]
    )


def _declared(name, type, mode, description, fields) -> Column:
    return Column(name, type, mode, description, tuple(_declared(*inner) for inner in fields))


def input_name(files: Sequence[FileInput], days: Days | None) -> str:
    """What a run reads, by content: the same files are the same input wherever they lie, a changed file is another."""
    names = [file.path.rsplit("/", 1)[-1] for file in files]
    shown = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    asked = f" [{days.start}, {days.end})" if days else ""
    return f"{shown} #{content_digest([file.path for file in files])}{asked}"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _refuse(settings: Settings, warehouse: LocalWarehouse, days: Days | None, written: list[date] | None) -> None:
    """Refuse to touch days that have rows unless the run may; before it (`written` None) and once it knows its days."""
    if settings.replace or settings.add:
        return
    rows = warehouse.rows_by_day(EVENTS.name)
    if written is not None:
        touched = [day for day in written if rows.get(day)]
    elif days is not None:
        touched = [day for day in sorted(filter(None, rows)) if days.start <= day < days.end and rows[day]]
    else:
        touched = []
    if touched:
        shown = ", ".join(f"{day} ({rows[day]:,} rows)" for day in touched[:5])
        more = f" and {len(touched) - 5} more days" if len(touched) > 5 else ""
        end = touched[-1] + timedelta(days=1)
        raise WarehouseError(
            f"{warehouse.folder} already has rows for {shown}{more}: nothing was changed; give --add to add to them,"
            f" or --replace --start {touched[0]} --end {end} if the input is complete for those days"
        )


def _days_to_add(settings, warehouse, job, run, workers, beam_options) -> list[date]:
    """The days with rows that `--add` touches: of the range, else those that a first pass over the input finds."""
    if not settings.add:
        return []
    stored = {day for day, rows in warehouse.rows_by_day(EVENTS.name).items() if rows and day}
    if job.days is not None:
        return sorted(day for day in stored if job.days.start <= day < job.days.end)
    folder = _made(run.staging / "days")
    first_pass = replace(job, source=copy(job.source))  # Beam binds a transform to the pipeline it was applied to
    zone = warehouse.time_zone
    run_bounded(lambda pipeline: _note_days(pipeline, first_pass, zone, str(folder)), workers, beam_options)
    return sorted(stored & {date.fromisoformat(noted.name) for noted in folder.iterdir()})


def _note_days(pipeline: beam.Pipeline, job: Job, zone: str, folder: str) -> None:
    settle(pipeline, job).events | "Note the days" >> beam.Map(_touch_days, zone, folder)


def _touch_days(events: pl.DataFrame, zone: str, folder: str) -> None:
    for day in events.select(day_of(pl.col("event_time"), zone).unique()).to_series():
        (Path(folder) / day.isoformat()).touch()


def _with_stored(job: Job, warehouse: LocalWarehouse, days: list[date]) -> Job:
    return replace(job, stored=ReadStored([str(file) for file in warehouse.files(EVENTS.name, days)], job.input))


def _replaced_days(settings: Settings, added: list[date]) -> list[date]:
    if settings.add:
        return added
    if settings.replace and settings.start and settings.end:
        return [settings.start + timedelta(days=n) for n in range((settings.end - settings.start).days)]
    return []
