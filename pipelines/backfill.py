"""Backfill: files into the days of a warehouse, whole days at a time, all at once or not at all.

A day without rows is written. A day that has rows is touched only by `--replace` (the input is complete for the named
days) or `--add` (the day's stored events join the input, and the day is written anew); else the run is refused with
the days and their row counts. Quarantine and books belong to their input: a run of the same input replaces them.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

from pipelines.audience import Job, build
from pipelines.bounded import (
    NATIVE_SOURCE,
    Opened,
    Summary,
    days_found,
    days_with_events,
    opened,
    with_beside,
    with_stored,
)
from pipelines.config import read_mapping
from pipelines.launch import run_bounded, worker_count
from pipelines.options import Settings
from pipelines.progress import Watch
from pipelines.sources.files import CsvFormat, FileInput, ReadFiles, check_inputs
from pipelines.sources.identity import content_digest
from pipelines.warehouse import books
from pipelines.warehouse.sink import confirmed
from pipelines.warehouse.tables import EVENTS
from pipelines.warehouse.warehouse import Warehouse
from transforms.errors import WarehouseError
from transforms.in_range import Days
from transforms.mapping import Mapping, required_columns


def backfill(settings: Settings, beam_options: Sequence[str] = ()) -> Summary:
    """Run the graph over files and commit what it wrote."""
    started = time.monotonic()
    mapping = read_mapping(settings.mapping[0]) if settings.mapping else None
    files, form, csv = _inputs(settings, mapping)
    with opened(settings, create=True) as into:
        warehouse, run = into.warehouse, into.run
        days = Days(settings.start, settings.end, warehouse.time_zone) if settings.start and settings.end else None
        _refuse(settings, warehouse, days, None)
        run.may_write(_replaced_days(settings, []))
        name = mapping.source if mapping else NATIVE_SOURCE
        watch = Watch(run.staging, sum(file.size for file in files))
        job = replace(
            into.job,
            source=ReadFiles(settings.input, name, form, csv, notes=watch.notes),
            input=input_name(files, days),
            source_name=name,
            mappings=(mapping,) if mapping else (),
            days=days,
        )
        workers = worker_count(settings.workers, sum(file.size for file in files))
        with watch.saying("finding the days"):
            touched = _days_touched(job, into, workers, beam_options)
        _refuse(settings, warehouse, days, sorted(touched or ()))
        added = sorted(days_with_events(warehouse) & touched) if settings.add and touched else []
        run.may_write(added)
        job = with_beside(job, into, touched)
        if added:
            job = with_stored(job, warehouse, added)
        run_bounded(lambda pipeline: build(pipeline, job), workers, beam_options, watch)
        entries = confirmed(run.staging)
        written = sorted({entry.day for entry in entries if entry.table == EVENTS.name and entry.day})
        _refuse(settings, warehouse, days, written)
        days_anew = _replaced_days(settings, added)
        with watch.saying("committing"):
            counts = books.commit(run, entries, days_anew, into.derived, job.launch, job.input)
    return Summary(str(job.input), counts, written, time.monotonic() - started)


def _inputs(settings: Settings, mapping: Mapping | None) -> tuple[list[FileInput], str, CsvFormat]:
    form, csv = settings.format, CsvFormat()
    if mapping is not None:
        form = mapping.format if form == "auto" and mapping.format else form
        csv = mapping.csv or csv
    needed = required_columns(mapping) if mapping else ()
    return check_inputs(settings.input, form, csv, needed), form, csv


def input_name(files: Sequence[FileInput], days: Days | None) -> str:
    """What a run reads, by content: the same files are the same input wherever they lie, a changed file is another."""
    names = [file.path.rsplit("/", 1)[-1] for file in files]
    shown = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    asked = f" [{days.start}, {days.end})" if days else ""
    return f"{shown} #{content_digest([file.path for file in files])}{asked}"


def _refuse(settings: Settings, warehouse: Warehouse, days: Days | None, written: list[date] | None) -> None:
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
            f"{warehouse.name} already has rows for {shown}{more}: nothing was changed; give --add to add to them,"
            f" or --replace --start {touched[0]} --end {end} if the input is complete for those days"
        )


def _days_touched(job: Job, into: Opened, workers: int, beam_options: Sequence[str]) -> set[date] | None:
    """The days that the run may write: of the range, else those that a first pass over the input finds; None for
    every day of a warehouse that has none yet, where nobody asks."""
    if job.days is not None:
        return set(job.days.listed())
    return days_found(job, into, workers, beam_options) if days_with_events(into.warehouse) else None


def _replaced_days(settings: Settings, added: list[date]) -> list[date]:
    if settings.add:
        return added
    if settings.replace and settings.start and settings.end:
        return Days(settings.start, settings.end).listed()
    return []
