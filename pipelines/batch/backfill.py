"""Backfill files into the days of a warehouse: whole days, in one atomic commit.

A day without rows is written. A day that has rows is changed only by `--replace` (the input is complete for the named
days) or `--add` (the input is merged with the day's stored events, and the day is rewritten); otherwise the run fails
with the days and their row counts. Quarantine and audit counts belong to their input: another run of the same input
replaces them.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, NamedTuple

import apache_beam as beam

from pipelines.assemble import NATIVE_SOURCE, Opened, make_folder, open_run
from pipelines.audience import Job, build
from pipelines.batch.day_limit import NoteDays, refuse_spread
from pipelines.batch.days import days_found, days_with_events, with_neighbors, with_stored
from pipelines.batch.next_steps import written_lines
from pipelines.batch.refused import find_refused
from pipelines.batch.summary import Summary, late_of
from pipelines.runners.in_process import run_bounded, worker_count
from pipelines.settings.mappings import read_mappings
from pipelines.settings.resolve import Settings
from pipelines.sources.files.identity import State, check_unchanged, content_digest, states_of
from pipelines.sources.files.read import CsvFormat, FileInput, ReadFiles, check_inputs
from pipelines.sources.files.received import Received
from pipelines.sources.files.standard_input import NAME, spool
from pipelines.sources.kafka.queue import KafkaQueue
from pipelines.sources.queues import find_queue
from pipelines.system.progress import Notes, Watch
from pipelines.warehouse import books
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.file_sinks import read_confirmed
from pipelines.warehouse.interface import Discarded, Reader, Warehouse, WarehouseRun
from pipelines.warehouse.losses import report_lines
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE
from transforms.days import Days
from transforms.errors import WarehouseError
from transforms.mapping import Mapping, required_columns, states_zone
from transforms.publication import Launch

if TYPE_CHECKING:
    from pipelines.sources.kafka.bounded import Between


class Input(NamedTuple):
    """What is read: the files, their format and mapping; `states` is the state of the files when they were checked.
    `topics` is what is read in place of files, which may have several mappings."""

    mappings: tuple[Mapping, ...]
    files: list[FileInput]
    form: str
    csv: CsvFormat
    states: dict[str, State]
    topics: "Between | None" = None

    @property
    def bytes(self) -> int:
        """The size of all, as stored."""
        return sum(file.size for file in self.files) if self.topics is None else self.topics.bytes


class Ending(NamedTuple):
    """What a commit needs to know besides the written files.

    added      the days whose stored events were merged with the input
    discarded  damaged files of the replaced days
    """

    settings: Settings
    days: Days | None
    added: list[date]
    derived: list[str]
    launch: Launch
    input: str
    discarded: Discarded | None = None


def backfill(settings: Settings, beam_options: Sequence[str] = ()) -> Summary:
    """Run the graph over files and commit what it wrote."""
    started = time.monotonic()
    read = inspect_files(settings)
    with open_run(settings, create=True) as into:
        check_days(settings, into)
        if NAME in settings.input:
            read = inspect_files(settings, spool(into.run.staging))
        size = read.bytes
        tables = (EVENTS.name, QUARANTINE.name, QUALITY_1M.name, *into.derived)
        discarded = into.run.discard(tables, _replaced_days(settings, []) if settings.replace else ())
        watch = Watch(into.run.staging, size)
        received = Received(str(make_folder(into.run.staging / "received")))
        job = limit_job(job_of(settings, into, read, watch.notes, received), settings, into)
        workers = worker_count(settings.workers, size)
        with watch.saying("finding the days"):
            touched = _days_touched(job, into, workers, beam_options)
        received.forget()
        _refuse(settings, into.warehouse, job.days, sorted(touched or ()))
        added = sorted(days_with_events(into.warehouse) & touched) if settings.add and touched else []
        into.run.may_write(added)
        job = with_neighbors(job, into, touched)
        if added:
            job = with_stored(job, into.warehouse, added)
        run_bounded(lambda pipeline: build(pipeline, job), workers, beam_options, watch)
        check_unchanged(read.states)
        entries = read_confirmed(into.run.staging)
        with watch.saying("committing"):
            ending = ending_of(settings, into, job, added)._replace(discarded=discarded)
            late = late_of(entries, into.warehouse.time_zone)
            refused = find_refused(entries, received.by_file(), str(job.input))
            counts, written = commit(into.run, entries, ending)
    seconds = time.monotonic() - started
    wrote = written_lines(entries) if settings.add or settings.replace else ()
    lost, files = report_lines(discarded), len(read.files)
    return Summary(str(job.input), counts, written, seconds, lost, files, late, refused, wrote)


def inspect_files(settings: Settings, spooled: str | None = None) -> Input:
    """Return the files that a backfill is to read, each checked; standard input is one of them once it is `spooled`.

    Errors: ConfigError, SourceError.
    """
    mappings = read_mappings(settings)
    mapping = mappings[0] if mappings else None
    if settings.input_kafka is not None:
        return Input(mappings, [], "", CsvFormat(), {}, _topics_of(settings))
    form, csv = settings.format, CsvFormat()
    if mapping is not None:
        form = mapping.format if form == "auto" and mapping.format else form
        csv = mapping.csv or csv
    needed = required_columns(mapping) if mapping else ()
    named = [spooled if pattern == NAME else pattern for pattern in settings.input]
    encoding, records = (mapping.encoding, mapping.records) if mapping else ("", "")
    patterns = [pattern for pattern in named if pattern is not None]
    local_times = mapping is not None and states_zone(mapping)
    files = check_inputs(patterns, form, csv, needed, encoding, records, local_times)
    return Input(mappings, files, form, csv, states_of([file.path for file in files]))


def _topics_of(settings: Settings) -> "Between":
    queue = find_queue(settings._asdict())
    assert isinstance(queue, KafkaQueue)
    return queue.between(settings.stop_at)


def check_days(settings: Settings, into: Opened) -> None:
    """Refuse, before reading, days of the range that have rows or that a stream may still write."""
    _refuse(settings, into.warehouse, range_of(settings, into.warehouse), None)
    into.run.may_write(_replaced_days(settings, []))


def range_of(settings: Settings, warehouse: Warehouse) -> Days | None:
    """Return the days from --start to --end."""
    return Days(settings.start, settings.end, warehouse.time_zone) if settings.start and settings.end else None


def job_of(
    settings: Settings,
    into: Opened,
    read: Input,
    notes: Notes,
    received: Received = Received(),  # noqa: B008 (never changed)
) -> Job:
    """Return the job that reads exactly these files."""
    days = range_of(settings, into.warehouse)
    name = read.mappings[0].source if read.mappings else NATIVE_SOURCE
    source: beam.PTransform
    if read.topics is not None:
        from pipelines.sources.kafka.bounded import ReadBetween

        source, input = ReadBetween(read.topics, name, notes, received), _within(read.topics.input, days)
    else:
        source = ReadFiles(settings.input, name, read.form, read.csv, notes=notes, files=read.files, received=received)
        input = input_name(read.files, days)
    return replace(
        into.job,
        source=source,
        input=input,
        mappings=read.mappings,
        source_attribute=settings.source_attribute,
        days=days,
    )


def limit_job(job: Job, settings: Settings, into: Opened) -> Job:
    """Return the job with the limit on days: it fails while it reads if the events span more days than allowed."""
    folder = make_folder(into.run.staging / "limit")
    return replace(job, limit=NoteDays(folder, into.warehouse.time_zone, job.days, settings.max_days))


def ending_of(settings: Settings, into: Opened, job: Job, added: list[date]) -> Ending:
    """Return what the commit of a job needs to know."""
    return Ending(settings, job.days, added, into.derived, job.launch, str(job.input))


def commit(run: WarehouseRun, entries: list[FileEntry], ending: Ending) -> tuple[dict[str, int], list[date]]:
    """Commit what a run wrote; return (its summed audit counts, the days with events).

    Errors: WarehouseError for days with rows that the run may not change, SourceError for more days than the options
    allow; nothing was changed then.
    """
    written = sorted({entry.day for entry in entries if entry.table == EVENTS.name and entry.day})
    refuse_spread(written, ending.settings.max_days)
    _refuse(ending.settings, run.warehouse, ending.days, written)
    replaced = _replaced_days(ending.settings, ending.added)
    counts = books.commit(
        run, entries, replaced, ending.derived, ending.launch, ending.input, discarded=ending.discarded
    )
    return counts, written


def input_name(files: Sequence[FileInput], days: Days | None) -> str:
    """Name the input of a run by content: the same files are the same input wherever they are stored."""
    paths = list(dict.fromkeys(file.path for file in files))  # the files in a zip file have one
    names = [path.rsplit("/", 1)[-1] for path in paths]
    shown = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    return _within(f"{shown} #{content_digest(paths)}", days)


def _within(name: str, days: Days | None) -> str:
    return f"{name} [{days.start}, {days.end})" if days else name


def _refuse(settings: Settings, warehouse: Reader, days: Days | None, written: list[date] | None) -> None:
    """Refuse to change days that have rows unless the options allow it: before the run (`written` is None), and once
    its days are known."""
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
            f"{warehouse.name} already has rows for {shown}{more}: nothing was changed; give --add to merge into them,"
            f" or --replace --start {touched[0]} --end {end} to overwrite them, if the input is complete for those days"
        )


def _days_touched(job: Job, into: Opened, workers: int, beam_options: Sequence[str]) -> set[date] | None:
    """Return the days that the run may write: those of the range, else those that a first pass over the input finds;
    None means every day, if the warehouse is empty."""
    if job.days is not None:
        return set(job.days.listed())
    return days_found(job, into, workers, beam_options) if days_with_events(into.warehouse) else None


def _replaced_days(settings: Settings, added: list[date]) -> list[date]:
    if settings.add:
        return added
    if settings.replace and settings.start and settings.end:
        return Days(settings.start, settings.end).listed()
    return []
