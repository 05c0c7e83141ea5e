"""Recompute: rebuild days from stored events, including quarantined late events.

The run reads the stored events of the days and of a day of margin on both sides, and the records of these days that
were quarantined as too late. All of them go through the one graph, and the days are rewritten with every active metric:
this is also how a new metric gets its history. Raw files are not read: to apply a fixed mapping to records that passed,
run a backfill.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from pipelines.assemble import NATIVE_SOURCE, Opened, open_run
from pipelines.audience import build
from pipelines.batch.days import days_with_events, with_neighbors, with_stored
from pipelines.batch.next_steps import written_lines
from pipelines.batch.replay import needed_mappings
from pipelines.batch.summary import Summary
from pipelines.runners.in_process import run_bounded, worker_count
from pipelines.settings.mappings import read_mappings
from pipelines.settings.resolve import Settings
from pipelines.sources.quarantined import ReadSelected, Selected, select, unbooked
from pipelines.system.progress import Watch
from pipelines.warehouse import books
from pipelines.warehouse.file_sinks import read_confirmed
from pipelines.warehouse.losses import report_lines
from pipelines.warehouse.tables import EVENTS
from transforms.days import Days


def recompute(settings: Settings, beam_options: Sequence[str] = ()) -> Summary:
    """Run the graph over stored events and quarantined late events, and commit the days."""
    started = time.monotonic()
    mappings = read_mappings(settings)
    with open_run(settings) as into:
        warehouse, run = into.warehouse, into.run
        days = Days(settings.start, settings.end, warehouse.time_zone) if settings.start and settings.end else None
        discarded = run.discard(into.derived, days.listed() if days else sorted(days_with_events(warehouse)))
        late = _too_late(into, days)
        near = sorted(day for day in days_with_events(warehouse) if days is None or days.near(day))
        run.may_write(day for day in near if days is None or days.start <= day < days.end)
        job = replace(
            into.job,
            source=ReadSelected(late, NATIVE_SOURCE, [mapping.source for mapping in mappings]),
            mappings=needed_mappings(late, mappings),
            days=days,
            accept_late=True,
        )
        job = with_neighbors(job, into, days.listed() if days else None)
        stored = warehouse.files(EVENTS.name, near)
        workers = worker_count(settings.workers, sum(file.stat().st_size for file in stored))
        with Watch(run.staging, 0).saying("recomputing"):
            run_bounded(lambda pipeline: build(pipeline, with_stored(job, warehouse, near)), workers, beam_options)
        entries = read_confirmed(run.staging)
        written = {entry.day for entry in entries if entry.table == EVENTS.name and entry.day}
        replaced = written | {day for day in near if days is None or days.start <= day < days.end}
        counts = books.commit(run, entries, sorted(replaced), into.derived, job.launch, None, [unbooked(late)])
    span = f" [{days.start}, {days.end})" if days else ""
    return Summary(
        f"stored events{span}",
        counts,
        sorted(replaced),
        time.monotonic() - started,
        report_lines(discarded),
        wrote=written_lines(entries),
    )


def _too_late(into: Opened, days: Days | None) -> Selected:
    where = "stage = 'late'"
    if days is not None:
        where += f" AND DATE(event_time, '{days.zone}') >= DATE '{days.start}'"
        where += f" AND DATE(event_time, '{days.zone}') < DATE '{days.end}'"
    return select(into.warehouse, into.run.staging / "late.parquet", where)
