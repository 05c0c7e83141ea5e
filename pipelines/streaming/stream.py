"""Stream: read a queue into a warehouse until stopped.

The process that a person starts is the runner's worker too. While the runner keeps its state in memory, this process
also keeps what must survive a crash: the records that were read and are not reconciled yet (recovery/local.py,
recovery/bigquery.py).

Stopped   SIGTERM or Ctrl-C: the graph is cancelled. No window is closed early, and no acknowledged record is lost: the
          next start reads again what landed and is not reconciled.
Drained   `audience stop --drain`: the readers end, every window closes with what it holds, and the run ends.
Crashed   whichever process was killed: as stopped.
Stuck     by a runner that does not go on (watch.py): the run ends by itself, as stopped.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import apache_beam as beam
import msgspec
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.assemble import Opened, mappings_of, open_run
from pipelines.audience import Job, build, unsharded
from pipelines.runners import choose as runners
from pipelines.runners.choose import Runner
from pipelines.runners.quiet import quiet
from pipelines.settings.resolve import Settings
from pipelines.sources.in_flight import watch_steps
from pipelines.sources.landing import Again, LandAt, Landing
from pipelines.sources.queue import Queue
from pipelines.sources.queues import choose_queue
from pipelines.streaming.drained import Completeness
from pipelines.streaming.recovery.local import LocalRecovery
from pipelines.streaming.refreshing import Refreshing
from pipelines.streaming.republish import publish_again
from pipelines.streaming.status_line import Liveness
from pipelines.streaming.stop import ABOUT, DRAIN, About
from pipelines.streaming.watch import Watched, cancel, watch
from pipelines.system.disk import write_atomically
from pipelines.system.terminal import shown
from pipelines.warehouse.write_stats import Figures
from transforms.errors import RunnerError
from transforms.lateness import MARGIN, allowed_lateness


class Ended(NamedTuple):
    """How a stream ended: `drained`, or stopped with so many records landed that the next start reads again."""

    drained: bool
    rows: dict[str, int]  # table -> rows committed
    waiting: int
    seconds: float


def stream(settings: Settings, runner: Runner, beam_options: Sequence[str], say: Callable[[str], None]) -> Ended:
    """Run the graph until it is stopped or drained. Errors: AudienceError; RunnerError if the runner exits."""
    begun = time.monotonic()
    with ExitStack() as stack:
        workers = stack.enter_context(quiet())
        stack.enter_context(watch_steps())
        queue = stack.enter_context(choose_queue(settings._asdict()).open())
        into = stack.enter_context(open_run(settings, create=True, streaming=True))
        if runner.runs_here and not settings.shards:
            into = into._replace(job=unsharded(into.job))
        recovery = recovery_of(into, settings, queue.input, runner)
        _refuse_landed(recovery.landing, runner)
        stack.enter_context(recovery.open())
        if into.outputs:
            publish_again(into.warehouse, into.outputs)
        ending = stack.enter_context(Ending(recovery.folder / DRAIN))
        about = About(os.getpid(), queue.input, settings.config, runner.can_drain, into.warehouse.time_zone)
        write_atomically(recovery.folder / ABOUT, msgspec.json.encode(about))
        again = recovery.again()
        job = _job(into, settings, _Head(queue, runner, recovery, again, ending))
        started = stack.enter_context(runner.start(into.run.staging))
        result = _start(job, [*beam_options, *started.options, "--streaming"])
        say(shown(f"reading {queue.input} into {into.warehouse.name}; {runner.said}"))
        if recovered := _describe(recovery, again, settings):
            say(recovered)
        recovery.start()
        try:
            with Liveness(recovery.figures, queue.snapshot), Refreshing(settings, say):
                is_drained = None if runner.ends_drained else Completeness(queue, into.warehouse)
                watched = Watched(result, started, queue, workers, time.monotonic(), is_drained)
                watch(watched, ending, lambda: recovery.retire(into.run.id))
                if ending.draining:
                    started.drained()
        finally:
            cancel(result)
            queue.close()
            recovery.stop()
            queue.flush()
        recovery.retire(open_run=None)
        return Ended(ending.draining, recovery.figures().rows, recovery.waiting, time.monotonic() - begun)


class Recovery(Protocol):
    """What a stream keeps on this machine, and rebuilds when it starts; one for each kind of warehouse.

    folder   where it keeps it
    landing  the records that were read and are not reconciled yet
    After `open`:
    seeds    the folder of the state that the steps of the graph start from; None: the runner has it
    waiting  how many records landed and are not reconciled
    events   how many stored events of open windows that state was rebuilt from
    """

    folder: Path
    landing: Landing
    seeds: str | None
    waiting: int
    events: int

    def open(self) -> AbstractContextManager[Any]:
        """Rebuild what the runner lost, and hold what the run needs until the context ends."""

    def again(self) -> list[Again]:
        """The landed files that the readers are to read first."""

    def start(self) -> None:
        """The graph runs: see to its writes until `stop`."""

    def stop(self) -> None:
        """End that; what is noted still becomes readable."""

    def figures(self) -> Figures:
        """How the writes stand now."""

    def retire(self, open_run: str | None) -> None:
        """Remove what landed and is reconciled, if it is time; None: at once, the stream has ended."""


def _recover_bigquery(into: Opened, settings: Settings, input: str, rebuilds: bool) -> Recovery:
    from pipelines.streaming.recovery.bigquery import BigQueryRecovery  # which imports Google's clients

    return BigQueryRecovery(into, settings, input, rebuilds)


RECOVERIES: dict[str, Callable[[Opened, Settings, str, bool], Recovery]] = {  # by the kind of the warehouse
    "local": LocalRecovery,
    "bigquery": _recover_bigquery,
}


def recovery_of(into: Opened, settings: Settings, input: str, runner: Runner) -> Recovery:
    """The recovery of a stream into this warehouse; it rebuilds the state that the runner does not keep."""
    return RECOVERIES[into.warehouse.kind](into, settings, input, not runner.state_is_durable)


def _refuse_landed(landing: Landing, runner: Runner) -> None:
    """Errors: RunnerError for records of a previous run that this runner would not read again."""
    if not runner.lands and landing.files():
        raise RunnerError(
            f"records of a previous run wait in {landing.folder}, and {runner.name} does not read them again; "
            f"{runners.GET_PRISM}, or move them away: they are lost then"
        )


def _describe(recovery: Recovery, again: Sequence[Again], settings: Settings) -> str:
    """What the start recovered, for a person; empty if there was nothing."""
    parts = []
    if recovery.waiting:
        parts.append(f"{recovery.waiting:,} landed records are not reconciled yet: they are read again")
    days = {datetime.fromtimestamp(minute / 1_000_000, UTC).date() for each in again for minute in each.minutes}
    kept_for = allowed_lateness(settings.max_lateness) - MARGIN
    if days and datetime.combine(min(days), datetime.min.time(), UTC) < datetime.now(UTC) - kept_for:
        parts.append(
            "some may be of windows that a stream no longer keeps: they go to quarantine as too_late_for_stream; when "
            f"it has ended `audience recompute --start {min(days)} --end {max(days) + timedelta(days=1)}` takes them in"
        )
    if recovery.events:
        parts.append(f"the state of the open windows is rebuilt from {recovery.events:,} stored events")
    return "; ".join(parts)


class _Head(NamedTuple):
    """What decides how the graph reads."""

    queue: Queue
    runner: Runner
    recovery: Recovery
    again: Sequence[Again]
    ending: "Ending"


def _job(into: Opened, settings: Settings, head: _Head) -> Job:
    mappings, source_name = mappings_of(settings)
    return replace(
        into.job,
        source=_source(head, source_name, into.run.id),
        input=head.queue.input,
        mappings=mappings,
        source_attribute=settings.source_attribute,
        seeds=head.recovery.seeds,
    )


def _source(head: _Head, source_name: str, run: str) -> beam.PTransform:
    if head.runner.reads_itself:
        return head.queue.read_by_runner(source=source_name)
    landing = LandAt(str(head.recovery.landing.folder), head.queue.input, run) if head.runner.lands else None
    return head.queue.read(
        source=source_name, landing=landing, again=head.again, drain_file=str(head.ending.drain_file)
    )


def _start(job: Job, options: list[str]) -> Any:
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # a runner's errors become one line
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    build(pipeline, job)
    return pipeline.run()


class Ending:
    """How a run learns that it must end: a signal stops it, a file drains it."""

    def __init__(self, drain_file: Path):
        self.drain_file = drain_file
        self.stopping = threading.Event()
        self._before: dict[int, Any] = {}

    @property
    def draining(self) -> bool:
        return self.drain_file.exists()

    def __enter__(self) -> "Ending":
        self.drain_file.unlink(missing_ok=True)  # of a previous run
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self.drain_file.unlink(missing_ok=True)

    def _stop(self, number, frame) -> None:
        if self.stopping.is_set():
            signal.signal(number, self._before[number])  # the third one ends the process
        self.stopping.set()
