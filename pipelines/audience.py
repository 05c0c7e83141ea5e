"""The one graph: from raw records to events, metrics, quarantine and the books. Read it top to bottom.

    python -m pipelines.audience --input 'events/*.jsonl.gz' --warehouse warehouse
    python -m pipelines.audience --input_subscription projects/my-project/subscriptions/events --warehouse warehouse

Streaming and batch differ in three places only: the source at the head, when the windows fire, and how the sink writes.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import apache_beam as beam
import polars as pl

from pipelines.warehouse.sink import Sink
from pipelines.warehouse.tables import EVENTS, QUARANTINE, SESSIONS
from transforms.aggregate import Aggregate, Aggregation, BooksAggregation, Launch
from transforms.block import entered
from transforms.deduplicate import Deduplicate
from transforms.event_time import settle_event_time
from transforms.in_range import Days, KeepDays, as_events, in_days
from transforms.lateness import allowed_lateness, never_late, too_late, too_late_for_stream
from transforms.mapping import Mapping
from transforms.match import Match
from transforms.parse import Parse
from transforms.quality import CountOutcome
from transforms.quarantine import LeaveQuarantine, Quarantine
from transforms.redelivered import KeepFirstRefusal
from transforms.sessions import EVERYTHING, STEPS, Sessions, Written
from transforms.spill import join
from transforms.stage import Sift, in_turn
from transforms.validate import NULL_IDS, validator


@dataclass(frozen=True)
class Job:
    """What a run is: the source, the sink, and the rules between them, resolved from the options."""

    source: beam.PTransform  # PBegin -> PCollection[RAW_SCHEMA block]
    sink: Sink
    input: str | None  # the name of what is read: whose quarantine and books these are; None: each record knows its own
    launch: Launch
    metrics: tuple[Aggregation, ...]
    source_name: str = "events"  # for records that state none
    mappings: tuple[Mapping, ...] = ()
    streaming: bool = False
    days: Days | None = None
    limit: Callable[[pl.DataFrame], pl.DataFrame] | None = None  # lets blocks of events pass, or refuses their days
    stored: beam.PTransform | None = None  # PBegin -> PCollection[FLOW_SCHEMA block] of the days that are added to
    written: Written = EVERYTHING
    beside: beam.PTransform | None = None  # likewise of the days beside those, for sessions that reach over midnight
    reach: beam.PTransform | None = None  # PBegin -> PCollection[REACH_SCHEMA frame], such sessions as they stand
    funnel: tuple[str, ...] = STEPS  # event types, in order
    early: timedelta | None = None  # how often a stream shows open sessions; None: when they are over
    null_ids: tuple[str, ...] = NULL_IDS
    bots: tuple[Match, ...] = ()
    max_lateness: timedelta = timedelta(days=1)
    accept_late: bool = False
    dedup_window: timedelta = timedelta(days=1)
    shards: int = 4
    spill_folder: str | None = None
    seeds: str | None = None  # what the state of a stream starts from, see transforms/seeds.py
    clock: Callable[[], float] = time.time  # seconds; decides when, and what a stream is too late for


class Settled(NamedTuple):
    """The head of the graph: records in time, the events they are, what was rejected on the way, and the entries for
    the books."""

    passed: beam.PCollection
    events: beam.PCollection
    rejected: list[beam.PCollection]
    books: list[beam.PCollection]


def settle(pipeline: beam.Pipeline, job: Job) -> Settled:
    """Read, parse, validate and date: every rule that a record's own fields decide."""
    records = pipeline | "Read" >> job.source
    if job.input is not None:
        records = records | "Enter under the input" >> beam.Map(entered, job.input).with_output_types(pl.DataFrame)
    received = records | "Count what is received" >> beam.ParDo(CountOutcome("received")).with_output_types(
        pl.DataFrame
    )
    parsed = records | "Parse and map" >> Parse(job.mappings, job.source_name)
    valid = parsed.passed | "Validate" >> Sift(validator(job.null_ids, job.bots))
    timed = valid.passed | "Settle event time" >> Sift(settle_event_time)
    in_time = timed.passed | "Set aside what is too late" >> Sift(_lateness(job))
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
        job.dedup_window, job.shards, job.streaming, allowed_lateness(job.max_lateness), job.spill_folder, job.seeds
    )
    kept = unique.passed | "Keep the days" >> KeepDays(job.days)
    events = kept.passed | "Write events" >> job.sink.write(EVENTS, "events")

    # What the warehouse refuses of the events is rejected like the rest; its own rows, of which none may be, are not.
    rejected = [*head.rejected, events.refused] if job.sink.refuses else head.rejected
    joined = join(rejected, "Join rejected", job.spill_folder)
    refused = _once(joined | "Quarantine" >> Quarantine(job.launch.version), job)
    quarantined = refused.passed | "Write quarantine" >> job.sink.write(QUARANTINE, "quarantined")

    left = (
        [
            head.passed
            | "Leave quarantine" >> LeaveQuarantine(job.launch.version)
            | "Write what left" >> job.sink.write(QUARANTINE)
        ]
        if job.input is None
        else []
    )

    books = [*head.books, unique.books, kept.books, events.books, *refused.books, quarantined.books]
    aggregations: list[tuple[Aggregation, beam.PCollection]] = [
        *((metric, kept.passed) for metric in job.metrics),
        (BooksAggregation(), books | "Join the books" >> beam.Flatten()),
    ]
    published = [
        (blocks | f"Aggregate {what.name}" >> _aggregate(what, job))
        | f"Write {what.name}" >> job.sink.write(job.sink.table(what.name))
        for what, blocks in aggregations
    ]
    published.append(_sessions(kept.passed, job) | "Write sessions" >> job.sink.write(SESSIONS))
    if not job.streaming:
        written = [events, quarantined, *left, *published]
        files = [table.files for table in written] | "Join what was written" >> beam.Flatten()
        files | "Confirm" >> job.sink.confirm()


def _lateness(job: Job):
    rule = never_late if job.accept_late else too_late(job.max_lateness)
    if job.streaming:
        return in_turn(rule, too_late_for_stream(allowed_lateness(job.max_lateness), job.clock))
    if job.input is None and job.days:  # what came out of quarantine and is of other days stays there
        return in_turn(rule, in_days(job.days))
    return rule


class _Refused(NamedTuple):
    """Rows for quarantine, each refusal once, and the entries for the books of the others."""

    passed: beam.PCollection
    books: list[beam.PCollection]


def _once(rows, job: Job) -> _Refused:
    if not job.streaming:
        return _Refused(rows, [])
    first = rows | "Keep the first refusal" >> KeepFirstRefusal(
        job.dedup_window, job.shards, allowed_lateness(job.max_lateness), job.seeds, job.clock
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
    if job.beside is not None:
        inputs["beside"] = events.pipeline | "Read events beside" >> job.beside
    if job.reach is not None:
        inputs["reach"] = events.pipeline | "Read sessions that reach in" >> job.reach
    return inputs | "Sessions" >> Sessions(
        job.launch,
        job.funnel,
        job.shards,
        job.streaming,
        allowed_lateness(job.max_lateness),
        job.early,
        job.written,
        job.spill_folder,
        job.seeds,
        job.clock,
    )


def _aggregate(what: Aggregation, job: Job) -> Aggregate:
    return Aggregate(what, job.launch, job.streaming, allowed_lateness(job.max_lateness), job.clock, job.seeds)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the graph as the options say, as long as a queue lasts or over files; the exit status is 2 for a mistake that
    a person can mend."""
    from pipelines.cli import main as command

    words = list(sys.argv[1:] if argv is None else argv)
    queue = any(word.partition("=")[0] in ("--input_subscription", "--input_topic") for word in words)
    return command(["run" if queue else "backfill", *words])


if __name__ == "__main__":
    sys.exit(main())
