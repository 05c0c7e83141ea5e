"""Refresh: run the passes as of a time, as one batch run of Beam, and commit their rows once.

Each pass is an element: a worker opens the warehouse by its name, and asks it what the pass wants to know. Rows go to
staged files as in every batch run. What is equal to the stored rows as of the same time is not written again; where
nothing that is read has changed, nothing is computed.

The lock of the answers is held from before the first question: what a refresh shows is never older than an erasure
that removed them before it began.

    refresh         the whole of it, on this machine
    choose_time, declare, build, commit     its parts, of which a job on a cluster is made (dataflow/refresh.py)
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import apache_beam as beam
import polars as pl
from apache_beam.pvalue import TaggedOutput

from pipelines.insight.days import asking
from pipelines.insight.moment import newest_closed, refuse_time
from pipelines.insight.passes import PASSES, pass_named
from pipelines.insight.place import answers_of
from pipelines.insight.predict.folder import pinned
from pipelines.insight.shape import Pass
from pipelines.insight.stored import Content, contents, days_of, state_of, stored_contents
from pipelines.runners.in_process import run_bounded
from pipelines.settings.config import Configuration
from pipelines.settings.resolve import Place
from pipelines.version import VERSION
from pipelines.warehouse.answers import AS_OF, REFRESHES, is_answer
from pipelines.warehouse.conditions import Without, WithoutSpan, midnight
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.file_sinks import FileSink, read_confirmed
from pipelines.warehouse.interface import Warehouse, WarehouseRun
from pipelines.warehouse.open import open_warehouse
from pipelines.warehouse.sink import by_day, shaped
from pipelines.warehouse.staged import write_file
from pipelines.warehouse.tables import Table, polars_schema
from transforms.block import day_of
from transforms.errors import WarehouseError
from transforms.windows import TIME

MICROSECOND, EPOCH = timedelta(microseconds=1), datetime(1970, 1, 1, tzinfo=UTC)


class Answered(NamedTuple):
    """A table of answers: how many rows it has as of the time, and whether they were written now."""

    table: str
    rows: int
    is_new: bool


class Refreshed(NamedTuple):
    """What a refresh did. `stated`: the time was asked for, and not the newest closed bucket."""

    as_of: datetime
    stated: bool
    answers: list[Answered]


def refresh(
    place: Place,
    configuration: Configuration,
    as_of: datetime | None = None,
    passes: Sequence[Pass] = PASSES,
    beam_options: Sequence[str] = (),
) -> Refreshed:
    """Bring the answers of a warehouse up to date as of a time; None: the end of the newest closed bucket it knows.

    Errors: OptionError for a time of the future or before the first event, or a model that cannot be read;
    WarehouseError while another refresh of it runs, or if it cannot be read or written.
    """
    configuration = pinned(place, configuration)
    with open_warehouse(*place) as warehouse, answers_of(warehouse) as answers:
        found = choose_time(warehouse, as_of, passes)
        with answers.writer(of_answers=True) as run:
            state = state_of(warehouse, configuration, passes)
            known = stored_contents(answers, found)
            wanted = {table.name for each in passes for table in each.tables}
            if state is not None and {name for name, each in known.items() if each.state == state} >= wanted:
                done = [Answered(name, known[name].rows, False) for name in sorted(wanted)]
                return Refreshed(found, as_of is not None, done)
            sink = FileSink(str(run.staging), declare(run, passes), answers.time_zone)
            task = Task(place, configuration, found)
            run_bounded(lambda pipeline: build(pipeline, task, passes, sink), 1, beam_options)
            computed = Computed(found, state, known, read_confirmed(run.staging))
            return Refreshed(found, as_of is not None, commit(answers, run, computed, passes))


class Task(NamedTuple):
    """What a worker needs to know of a refresh."""

    place: Place
    configuration: Configuration
    as_of: datetime


class Computed(NamedTuple):
    """What a refresh has computed, and what was stored as of the same time."""

    as_of: datetime
    state: str | None
    known: dict[str, Content]
    entries: list[FileEntry]


def choose_time(warehouse: Warehouse, as_of: datetime | None, passes: Sequence[Pass] = PASSES) -> datetime:
    """The time of a refresh, in UTC; None: the end of the newest closed bucket. Errors: as of `refresh`."""
    _refuse_taken(warehouse, passes)
    return newest_closed(warehouse) if as_of is None else refuse_time(warehouse, as_of)


def _refuse_taken(warehouse: Warehouse, passes: Sequence[Pass]) -> None:
    there = warehouse.tables()
    for table in (REFRESHES, *(table for each in passes for table in each.tables)):
        if table.name in there and not is_answer(there[table.name]):
            raise WarehouseError(
                f"table {table.name}: a metric has this name, and a refresh writes a table of it; give the metric "
                "another name"
            )


def declare(run: WarehouseRun, passes: Sequence[Pass] = PASSES) -> dict[str, Table]:
    """Declare the tables of the passes, and return them by name. Errors: WarehouseError for one of another schema."""
    tables = {table.name: table for each in passes for table in each.tables}
    run.declare([*tables.values(), REFRESHES])
    return tables


def build(pipeline: beam.Pipeline, task: Task, passes: Sequence[Pass], sink: FileSink) -> None:
    """Add to a pipeline what computes the passes and writes their rows to files; `sink` has their tables."""
    tables = sink.tables
    steps = {name: step for each in passes for name, step in each.steps(task.configuration).items()}
    computing = beam.ParDo(_Compute(task, {each.name: each for each in passes if each not in PASSES}))
    computing = computing.with_output_types(pl.DataFrame, **dict.fromkeys([*tables, *steps], pl.DataFrame))
    found = (
        pipeline
        | "Name the passes" >> beam.Create([each.name for each in passes])
        | "Compute answers" >> computing.with_outputs(*tables, *steps)
    )
    rows = {name: [found[name]] for name in tables}
    for name, step in steps.items():
        whole = beam.Map(_whole, step.table, task.as_of).with_output_types(pl.DataFrame)
        rows[step.table.name].append(found[name] | f"Run {name}" >> step.transform | f"State {name}" >> whole)
    files = [_together(name, rows[name]) | f"Write {name}" >> sink.write(table) for name, table in tables.items()]
    [each.files for each in files] | "Gather files" >> beam.Flatten() | "Confirm" >> sink.confirm()


def _together(name: str, rows: list[beam.PCollection]) -> beam.PCollection:
    return rows[0] if len(rows) == 1 else rows | f"Gather {name}" >> beam.Flatten()


class _Compute(beam.DoFn):
    """The name of a pass -> its rows, to the output of each of its tables, and of each of its steps."""

    def __init__(self, task: Task, others: dict[str, Pass]):
        self.task, self.others = task, others  # `others`: passes that are not among PASSES

    def process(self, name):
        wanted = self.others.get(name) or pass_named(name)
        task = self.task
        with open_warehouse(*task.place) as warehouse, asking(warehouse, task.as_of, task.configuration) as inputs:
            found = wanted.compute(inputs)
        for table in wanted.tables:
            rows = found.get(table.name)
            if rows is not None and not rows.is_empty():
                yield TaggedOutput(table.name, _whole(rows, table, self.task.as_of))
        for step_name, step in wanted.steps(self.task.configuration).items():
            for part in found[step_name].iter_slices(step.rows) if step_name in found else ():
                yield TaggedOutput(step_name, part)


def _whole(rows: pl.DataFrame, table: Table, as_of: datetime) -> pl.DataFrame:
    """The rows with all columns of the table, in the order of its key."""
    stated = rows.with_columns(pl.lit(as_of, TIME).alias(AS_OF), pipeline_version=pl.lit(VERSION))
    return shaped(stated, table).sort(table.key, maintain_order=True)


def commit(
    answers: Warehouse, run: WarehouseRun, computed: Computed, passes: Sequence[Pass] = PASSES
) -> list[Answered]:
    """Commit what differs from what is stored, and the note of the refresh with it; nothing if nothing differs."""
    tables = {table.name: table for each in passes for table in each.tables}
    made = {
        name: content._replace(state=computed.state) for name, content in contents(tables, computed.entries).items()
    }
    is_new = {
        name: name not in computed.known or computed.known[name].content != content.content
        for name, content in made.items()
    }
    if any(is_new.values()):
        spans = {
            table.name: _span(computed.as_of, answers.time_zone, each.keeps) for each in passes for table in each.tables
        }
        keep: dict[str, Without] = {name: span for name, span in spans.items() if is_new[name]}
        keep[REFRESHES.name] = WithoutSpan((AS_OF,), frozenset(), computed.as_of, computed.as_of)
        gone = {name: days_of(answers, name, span) for name, span in keep.items() if isinstance(span, WithoutSpan)}
        entries = [entry for entry in computed.entries if is_new[entry.table]]
        run.commit([*entries, *_noted(run, made, computed.as_of, answers.time_zone)], gone, keep)
    return [Answered(name, content.rows, is_new[name]) for name, content in sorted(made.items())]


def _span(as_of: datetime, zone: str, keeps: str) -> WithoutSpan:
    """Which rows stay: those as of a later time, and of an earlier one what the pass keeps."""
    day = pl.select(day_of(pl.lit(as_of - MICROSECOND, TIME), zone)).item()
    start = {"all": as_of, "day": midnight(day, zone) + MICROSECOND, "none": EPOCH}[keeps]
    return WithoutSpan((AS_OF,), frozenset(), start, as_of)


def _noted(run: WarehouseRun, made: dict[str, Content], as_of: datetime, zone: str) -> list[FileEntry]:
    rows = pl.DataFrame(
        {
            AS_OF: [as_of] * len(made),
            "table_name": list(made),
            "row_count": [content.rows for content in made.values()],
            "content": [content.content for content in made.values()],
            "state": [content.state for content in made.values()],
            "pipeline_version": [VERSION] * len(made),
        },
        schema=polars_schema(REFRESHES),
    )
    return [write_file(run.folder, REFRESHES.name, day, part) for day, part in by_day(rows, AS_OF, zone)]
