"""The one graph: from raw records to events, metrics, quarantine and audit counts. Read it top to bottom.

    python -m pipelines --input 'events/*.jsonl.gz' --warehouse warehouse
    python -m pipelines --input_subscription projects/my-project/subscriptions/events --warehouse warehouse

Streaming and batch differ in five places: the source at the head, the second rule on lateness, which of several
duplicates is kept (deduplicate.py), when the windows fire, and how the sink writes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import apache_beam as beam
import polars as pl

from pipelines.warehouse.sink import Sink
from pipelines.warehouse.tables import EVENTS, QUARANTINE, SESSIONS
from transforms.aggregate import Aggregate, Aggregation, BooksAggregation
from transforms.block import tag_input
from transforms.days import Days, KeepDays, as_events, reject_outside
from transforms.deduplicate import Deduplicate
from transforms.event_time import settle_event_time
from transforms.lateness import allowed_lateness, never_late, too_late, too_late_for_stream
from transforms.mapping import Mapping
from transforms.parse import Parse
from transforms.publication import Firing, Launch
from transforms.quality import CountOutcome
from transforms.quarantine import LeaveQuarantine, Quarantine
from transforms.records.match import Match
from transforms.redelivered import KeepFirstRefusal
from transforms.sessions.sessions import EVERYTHING, STEPS, Sessions, TargetDays
from transforms.shuffle_files import join
from transforms.stage import FilterRecords, compose
from transforms.validate import NULL_IDS, validator
from transforms.windows import FOLD


@dataclass(frozen=True)
class Job:
    """A run: the source, the sink, and the rules between them, resolved from the options."""

    source: beam.PTransform  # PBegin -> PCollection[RAW_SCHEMA block]
    sink: Sink
    input: str | None  # name of the input, to which quarantine and audit counts belong; None: each record has its own
    launch: Launch
    metrics: tuple[Aggregation, ...]
    source_name: str = "events"  # for records that do not state one
    mappings: tuple[Mapping, ...] = ()
    streaming: bool = False
    days: Days | None = None
    limit: Callable[[pl.DataFrame], pl.DataFrame] | None = None  # passes blocks of events, or refuses their days
    stored: beam.PTransform | None = None  # PBegin -> PCollection[FLOW_SCHEMA block] of the days that are merged into
    target_days: TargetDays = EVERYTHING
    neighbor_events: beam.PTransform | None = None  # the same of the days next to those, for sessions across midnight
    spanning_sessions: beam.PTransform | None = None  # PBegin -> PCollection[SPANNING_SCHEMA frame], as stored
    funnel: tuple[str, ...] = STEPS  # event types, in order
    early: timedelta | None = None  # how often a stream publishes open sessions; None: only closed ones
    null_ids: tuple[str, ...] = NULL_IDS
    bots: tuple[Match, ...] = ()
    max_lateness: timedelta = timedelta(days=1)
    accept_late: bool = False
    dedup_window: timedelta = timedelta(days=1)
    shards: int = 4
    spill_folder: str | None = None
    seeds: str | None = None  # folder of the restored state of a stream, see transforms/restored_state.py
    clock: Callable[[], float] = time.time  # seconds; decides when a stream fires, and which events are too late

    @property
    def firing(self) -> Firing:
        """When the steps emit."""
        return Firing(
            streaming=self.streaming,
            lateness=allowed_lateness(self.max_lateness),
            early=self.early,
            clock=self.clock,
            restored=self.seeds,
        )


class Settled(NamedTuple):
    """The head of the graph: records in time, their events, the rejected records, and audit entries."""

    passed: beam.PCollection
    events: beam.PCollection
    rejected: list[beam.PCollection]
    books: list[beam.PCollection]


def settle(pipeline: beam.Pipeline, job: Job) -> Settled:
    """Read, parse, validate and date records: the rules that depend only on a record's own fields."""
    records = pipeline | "Read" >> job.source
    if job.input is not None:
        records = records | "Tag with input" >> beam.Map(tag_input, job.input).with_output_types(pl.DataFrame)
    received = records | "Count received" >> beam.ParDo(CountOutcome("received")).with_output_types(pl.DataFrame)
    parsed = records | "Parse and map" >> Parse(job.mappings, job.source_name)
    valid = parsed.passed | "Validate" >> FilterRecords(validator(job.null_ids, job.bots))
    timed = valid.passed | "Settle event time" >> FilterRecords(settle_event_time)
    in_time = timed.passed | "Reject late events" >> FilterRecords(_lateness(job))
    near = in_time.passed | "Keep the days and their margin" >> _KeepNear(job)
    rejected = [stage.rejected for stage in (parsed, valid, timed, in_time)]
    events = near.passed
    if job.limit is not None:
        events = events | "Limit the days" >> beam.Map(job.limit).with_output_types(pl.DataFrame)
    return Settled(in_time.passed, events, rejected, [received, parsed.books, near.books])


def build(pipeline: beam.Pipeline, job: Job) -> None:
    """Add the whole graph to a pipeline."""
    head = settle(pipeline, job)

    unique = _with_stored(head.events, job) | "Deduplicate" >> Deduplicate(
        window=job.dedup_window, shards=job.shards, firing=job.firing, spill_folder=job.spill_folder
    )
    kept = unique.passed | "Keep the days" >> KeepDays(job.days)
    events = kept.passed | "Write events" >> job.sink.write(EVENTS, "events")

    # Events that the warehouse refuses are quarantined like other rejected records.
    rejected = [*head.rejected, events.refused] if job.sink.refuses else head.rejected
    joined = join(rejected, "Join rejected", job.spill_folder)
    refused = _once(joined | "Quarantine" >> Quarantine(job.launch.version), job)
    quarantined = refused.passed | "Write quarantine" >> job.sink.write(QUARANTINE, "quarantined")

    left = (
        [
            head.passed
            | "Leave quarantine" >> LeaveQuarantine(job.launch.version)
            | "Record replayed" >> job.sink.write(QUARANTINE)
        ]
        if job.input is None
        else []
    )

    books = [*head.books, unique.books, kept.books, events.books, *refused.books, quarantined.books]
    aggregations: list[tuple[Aggregation, beam.PCollection]] = [
        *((metric, kept.passed) for metric in job.metrics),
        (BooksAggregation(), books | "Join audit counts" >> beam.Flatten()),
    ]
    published = [
        (blocks | f"Aggregate {what.name}" >> Aggregate(what, job.launch, job.firing, FOLD if job.spill_folder else 0))
        | f"Write {what.name}" >> job.sink.write(job.sink.table(what.name))
        for what, blocks in aggregations
    ]
    published.append(_sessions(kept.passed, job) | "Write sessions" >> job.sink.write(SESSIONS))
    if not job.streaming:
        written = [events, quarantined, *left, *published]
        files = [table.files for table in written] | "Join written files" >> beam.Flatten()
        files | "Confirm" >> job.sink.confirm()


def _lateness(job: Job):
    rule = never_late if job.accept_late else too_late(job.max_lateness)
    if job.streaming:
        return compose(rule, too_late_for_stream(allowed_lateness(job.max_lateness), job.clock))
    if job.input is None and job.days:  # quarantined records of other days stay in quarantine
        return compose(rule, reject_outside(job.days))
    return rule


class _Refused(NamedTuple):
    """Rows for quarantine, each refusal once, and audit entries for the others."""

    passed: beam.PCollection
    books: list[beam.PCollection]


def _once(rows, job: Job) -> _Refused:
    if not job.streaming:
        return _Refused(rows, [])
    first = rows | "Keep the first refusal" >> KeepFirstRefusal(
        window=job.dedup_window, shards=job.shards, firing=job.firing
    )
    return _Refused(first.passed, [first.books])


class _KeepNear(beam.PTransform):
    def __init__(self, job: Job):
        super().__init__()
        self.job = job

    def expand(self, blocks):
        days = self.job.days.widened() if self.job.days else None
        events = blocks | "Make events" >> beam.Map(as_events).with_output_types(pl.DataFrame)
        return events | "Keep near days" >> KeepDays(days)


def _with_stored(events, job: Job):
    if job.stored is None:
        return events
    stored = events.pipeline | "Read stored events" >> job.stored
    return join([events, stored], "Join stored events", job.spill_folder)


def _sessions(events, job: Job):
    inputs = {"events": events}
    if job.neighbor_events is not None:
        inputs["neighbor_events"] = events.pipeline | "Read neighbor days" >> job.neighbor_events
    if job.spanning_sessions is not None:
        inputs["spanning_sessions"] = events.pipeline | "Read spanning sessions" >> job.spanning_sessions
    return inputs | "Sessions" >> Sessions(
        job.launch,
        firing=job.firing,
        steps=job.funnel,
        shards=job.shards,
        target_days=job.target_days,
        spill_folder=job.spill_folder,
    )
