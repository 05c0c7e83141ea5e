"""The one graph: from raw records to events, metrics, quarantine and audit counts. Read it top to bottom.

    python -m pipelines --input 'events/*.jsonl.gz' --warehouse warehouse
    python -m pipelines --input_subscription projects/my-project/subscriptions/events --warehouse warehouse

Streaming and batch differ in five places: the source at the head (on Dataflow with a step that gathers its blocks), the
second rule on lateness, which of several duplicates is kept (deduplicate.py), when the windows fire, and how the sink
writes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

import apache_beam as beam
import polars as pl

from pipelines.warehouse.sink import Sink
from pipelines.warehouse.tables import EVENTS, QUARANTINE, SESSIONS
from transforms.aggregate import Aggregate
from transforms.days import Days, KeepDays
from transforms.deduplicate import Deduplicate
from transforms.lateness import Lateness, allowed_lateness
from transforms.mapping import Mapping
from transforms.metrics.aggregations import BooksAggregation, MetricAggregation
from transforms.publication import Firing, Launch
from transforms.quarantine import LeaveQuarantine, Quarantine
from transforms.records.match import Match
from transforms.redelivered import KeepFirstRefusal
from transforms.sessions.sessions import EVERYTHING, STEPS, Sessions, TargetDays
from transforms.settle import Rules, Settle
from transforms.shuffle_files import join
from transforms.validate import NULL_IDS, Validator

AUDIT = BooksAggregation()


@dataclass(frozen=True)
class Job:
    """A run: the source, the sink, and the rules between them, resolved from the options."""

    source: beam.PTransform  # PBegin -> PCollection[RAW_SCHEMA block]
    sink: Sink
    input: str | None  # name of the input, to which quarantine and audit counts belong; None: each record has its own
    launch: Launch
    metrics: tuple[MetricAggregation, ...]
    mappings: tuple[Mapping, ...] = ()
    source_attribute: str | None = None  # of messages that name their source, which chooses their mapping
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
    gather: beam.PTransform | None = None  # PCollection[RAW_SCHEMA block] -> the same in larger blocks
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


def unsharded(job: Job) -> Job:
    """Return the same with one shard a step: where one process takes all shards, they only make its elements many."""
    return replace(job, shards=1, metrics=tuple(what.unsharded() for what in job.metrics))


class Settled(NamedTuple):
    """The head of the graph: events in time, records of a replay that passed, rejected records, and audit entries."""

    events: beam.PCollection
    replayed: beam.PCollection
    rejected: beam.PCollection
    books: beam.PCollection


def settle(pipeline: beam.Pipeline, job: Job) -> Settled:
    """Read, parse, validate and date records: the rules that depend only on a record's own fields."""
    near = job.days.widened() if job.days else None
    validate = Validator(job.null_ids, job.bots)
    rules = Rules(job.mappings, job.input, validate, _lateness(job), near, not job.streaming, job.source_attribute)
    raw = pipeline | "Read" >> job.source
    if job.gather is not None:
        raw = raw | "Gather" >> job.gather
    made = raw | "Settle" >> Settle(rules)
    events = made.passed
    if job.limit is not None:
        events = events | "Limit the days" >> beam.Map(job.limit).with_output_types(pl.DataFrame)
    return Settled(events, made.replayed, made.rejected, made.books)


def build(pipeline: beam.Pipeline, job: Job) -> None:
    """Add the whole graph to a pipeline."""
    head = settle(pipeline, job)

    unique = _with_stored(head.events, job) | "Deduplicate" >> Deduplicate(
        window=job.dedup_window, shards=job.shards, firing=job.firing, spill_folder=job.spill_folder
    )
    books = [head.books, unique.books]
    kept = unique.passed
    if job.days is not None:
        kept, outside = kept | "Keep the days" >> KeepDays(job.days)
        books.append(outside)
    events = kept | "Write events" >> job.sink.write(EVENTS, "events")

    # Events that the warehouse refuses are quarantined like other rejected records.
    rejected = [head.rejected, events.refused] if job.sink.refuses else [head.rejected]
    joined = join(rejected, "Join rejected", job.spill_folder)
    refused = _once(joined | "Quarantine" >> Quarantine(job.launch.version), job)
    quarantined = refused.passed | "Write quarantine" >> job.sink.write(QUARANTINE, "quarantined")
    books += [events.books, *refused.books, quarantined.books]

    left = (
        [
            head.replayed
            | "Leave quarantine" >> LeaveQuarantine(job.launch.version)
            | "Record replayed" >> job.sink.write(QUARANTINE)
        ]
        if job.input is None
        else []
    )

    rows = kept | "Aggregate" >> Aggregate(job.metrics, job.launch, job.firing, job.spill_folder)
    counted = tuple(books) | "Count audit" >> Aggregate([AUDIT], job.launch, job.firing, job.spill_folder)
    published = [
        found[what.name] | f"Write {what.name}" >> job.sink.write(job.sink.table(what.name))
        for found, members in ((rows, job.metrics), (counted, [AUDIT]))
        for what in members
    ]
    published.append(_sessions(kept, job) | "Write sessions" >> job.sink.write(SESSIONS))
    if not job.streaming:
        written = [events, quarantined, *left, *published]
        files = [table.files for table in written] | "Join written files" >> beam.Flatten()
        files | "Confirm" >> job.sink.confirm()


def _lateness(job: Job) -> Lateness:
    return Lateness(
        None if job.accept_late else job.max_lateness,
        stream=allowed_lateness(job.max_lateness) if job.streaming else None,
        # Quarantined records of other days stay in quarantine.
        days=job.days if job.input is None and not job.streaming else None,
        clock=job.clock,
    )


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
