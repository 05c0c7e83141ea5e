"""Stream: a queue into a warehouse, as long as it runs.

The process that a person starts is also the runner's worker, and the one that keeps what must not be lost while the
runner has its state in memory: what was read and is not in the books (stream_local.py, stream_bigquery.py).

Stopped   SIGTERM or Ctrl-C: the graph is cancelled. Nothing is closed early, nothing that was acknowledged is lost: the
          next start reads again what landed and is not in the books.
Drained   `audience stop --drain`: the readers end, every window closes with what it holds, and the run ends by itself.
Died      whatever was killed: as stopped.
"""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import apache_beam as beam
import msgspec
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState

from pipelines.audience import Job, build
from pipelines.batch.days import Opened, mappings_of, opened
from pipelines.runners import choose as runners
from pipelines.runners.choose import Choice
from pipelines.runners.in_process import cause
from pipelines.runners.private_sockets import private_sockets
from pipelines.runners.quiet import quiet
from pipelines.settings.resolve import Settings
from pipelines.sources.landing import Again, Landing
from pipelines.sources.pubsub import leases as pubsub_leases
from pipelines.sources.pubsub.beam_reader import ReadPubSubThroughBeam
from pipelines.sources.pubsub.check import check_subscription, temporary_subscription
from pipelines.sources.pubsub.reader import close_all
from pipelines.sources.pubsub.source import LandAt, Reading, ReadPubSub
from pipelines.streaming.status_line import Liveness
from pipelines.streaming.stop import ABOUT, DRAIN, About
from pipelines.system.disk import write_atomically
from pipelines.system.terminal import shown
from pipelines.warehouse.write_stats import Figures
from transforms.errors import AudienceError, RunnerError
from transforms.lateness import MARGIN, allowed_lateness

LOOK_SECONDS = 0.2
CANCEL_SECONDS = 20.0
END_SECONDS = 5.0  # for the process of a runner that no longer answers


class Ended(NamedTuple):
    """How a stream ended: `drained`, or stopped with so many records landed that the next start reads again."""

    drained: bool
    rows: dict[str, int]  # table -> rows committed
    waiting: int
    seconds: float


def stream(settings: Settings, choice: Choice, beam_options: Sequence[str], say: Callable[[str], None]) -> Ended:
    """Run the graph until it is stopped or drained. Errors: AudienceError, RunnerError if the runner ends of itself."""
    started = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(quiet())
        subscription = _subscription(settings, stack)
        into = stack.enter_context(opened(settings, create=True, streaming=True))
        keeping = _kept(into, settings, subscription)
        if choice.prism is None and keeping.landing.files():
            raise RunnerError(
                f"records of a run before wait in {keeping.landing.folder}, and {choice.name} does not read them "
                f"again; {runners.MEND}, or move them away: they are lost then"
            )
        kept = stack.enter_context(keeping)
        ending = stack.enter_context(Ending(kept.folder / DRAIN))
        about = About(os.getpid(), subscription, settings.config, choice.prism is not None, into.warehouse.time_zone)
        write_atomically(kept.folder / ABOUT, msgspec.json.encode(about))
        mappings, name = mappings_of(settings)
        reading = _reading(settings, subscription, name, into.run.id, kept, ending)
        job = replace(
            into.job,
            source=_source(reading, choice),
            input=subscription,
            source_name=name,
            mappings=mappings,
            seeds=kept.seeds,
        )
        runner = _on(choice, into.run.staging, stack)
        result = _start(job, [*beam_options, *runner.options, "--streaming"])
        say(shown(f"reading {subscription} into {into.warehouse.name}; {choice.said}"))
        if mended := _mended(kept, reading.again, settings):
            say(mended)
        kept.start()
        try:
            with Liveness(kept.figures, pubsub_leases.snapshot):
                _watch(result, runner, ending, lambda: kept.retire(into.run.id))
        finally:
            _cancel(result)
            close_all()
            kept.stop()
            pubsub_leases.flush()
        kept.retire(open_run=None)
        return Ended(ending.draining, kept.figures().rows, kept.waiting, time.monotonic() - started)


class Keeping(AbstractContextManager["Kept"], Protocol):
    """What becomes a `Kept`."""

    landing: Landing


class Kept(Protocol):
    """What a stream keeps on this machine, between `with` and its end; one for each kind of warehouse.

    folder   where it keeps it
    seeds    the folder of what the steps of the graph start from
    waiting  how many records landed and are not in the books
    events   stored ones, of windows that are still open, that seeds were made of
    """

    folder: Path
    landing: Landing
    seeds: str
    waiting: int
    events: int

    def again(self) -> list[Again]:
        """What the readers are to read first."""

    def start(self) -> None:
        """The graph runs: see to what it writes, until `stop`."""

    def stop(self) -> None:
        """End that; what is noted still becomes readable."""

    def figures(self) -> Figures:
        """How the writing stands now."""

    def retire(self, open_run: str | None) -> None:
        """Remove what landed and is in the books, if it is time; None: at once, the stream has ended."""


def _kept(into: Opened, settings: Settings, subscription: str) -> Keeping:
    if settings.dataset is None:
        from pipelines.streaming.recovery.local import KeptLocally

        return KeptLocally(into, subscription)
    from pipelines.streaming.recovery.bigquery import KeptForBigQuery  # which imports Google's clients

    return KeptForBigQuery(into, settings, subscription)


def _mended(kept: Kept, again: Sequence[Again], settings: Settings) -> str:
    """What the start mended, for a person; empty if there was nothing."""
    told = []
    if kept.waiting:
        told.append(f"{kept.waiting:,} records landed and are not in the books: they are read again")
    days = {datetime.fromtimestamp(minute / 1_000_000, UTC).date() for each in again for minute in each.minutes}
    kept_for = allowed_lateness(settings.max_lateness) - MARGIN
    if days and datetime.combine(min(days), datetime.min.time(), UTC) < datetime.now(UTC) - kept_for:
        told.append(
            "some may be of windows that a stream keeps no longer: they go to quarantine as too_late_for_stream; when "
            f"it has ended `audience recompute --start {min(days)} --end {max(days) + timedelta(days=1)}` takes them in"
        )
    if kept.events:
        told.append(f"the state of the open windows is made anew from {kept.events:,} stored events")
    return "; ".join(told)


def _subscription(settings: Settings, stack: ExitStack) -> str:
    """What is read, looked at before anything starts; of a topic, one that lives as long as `stack`."""
    if settings.input_topic:
        return stack.enter_context(temporary_subscription(settings.input_topic))
    check_subscription(str(settings.input_subscription))
    return str(settings.input_subscription)


def _reading(settings: Settings, subscription: str, name: str, run: str, kept: Kept, ending: "Ending") -> Reading:
    return Reading(
        subscription=subscription,
        source=name,
        readers=settings.readers,
        timestamp_attribute=settings.timestamp_attribute,
        expected_delay=settings.expected_delay.total_seconds(),
        block_seconds=settings.batch_delay.total_seconds(),
        landing=LandAt(str(kept.landing.folder), subscription, run),
        again=tuple(kept.again()),
        drain_file=str(ending.drain_file),
    )


def _source(reading: Reading, choice: Choice) -> beam.PTransform:
    if choice.prism:
        return ReadPubSub(reading)
    return ReadPubSubThroughBeam(
        reading.subscription, source=reading.source, timestamp_attribute=reading.timestamp_attribute
    )


class _Runner(NamedTuple):
    """A runner that is ready: Beam's options for it, and its process where it has one of its own."""

    options: list[str]
    process: subprocess.Popen | None = None

    def ended(self, seconds: float = 0.0) -> str:
        """How its process ended, within so many seconds; empty while it lives."""
        status = None
        with suppress(subprocess.TimeoutExpired):
            status = self.process.wait(seconds) if self.process else None
        if status is None:
            return ""
        return f"killed by signal {-status}" if status < 0 else f"ended with exit status {status}"


def _on(choice: Choice, staging: Path, stack: ExitStack) -> _Runner:
    """The runner, started; it ends with `stack`."""
    if choice.prism is None:
        stack.enter_context(private_sockets())
        return _Runner([f"--runner={choice.name}"])
    endpoint, process = stack.enter_context(runners.prism_at(choice.prism, staging / "prism.log"))
    options = [
        f"--runner={choice.name}",
        f"--job_endpoint={endpoint}",
        "--environment_type=LOOPBACK",
        runners.PRISM_WORK_ROUND,
    ]
    return _Runner(options, process)


def _start(job: Job, options: list[str]) -> Any:
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # a runner's errors are told in one line
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    build(pipeline, job)
    return pipeline.run()


def _watch(result: Any, runner: _Runner, ending: "Ending", retire: Callable[[], None]) -> None:
    """Until the run is asked to stop, or has ended; RunnerError if it should not have."""
    while not ending.stopping.wait(LOOK_SECONDS):
        if ended := runner.ended():
            raise RunnerError(f"the runner is gone ({ended}); start again: what landed is read again")
        try:
            state = result.state
        except Exception as problem:
            how = runner.ended(END_SECONDS) or "it does not answer"
            raise RunnerError(f"the runner is gone ({how}); start again: what landed is read again") from problem
        if state == PipelineState.DONE and ending.draining:
            return
        if PipelineState.is_terminal(state):
            raise _why(result, state)
        retire()


def _why(result: Any, state: str) -> Exception:
    """Why a run ended that should not have."""
    try:
        result.wait_until_finish(1_000)
    except Exception as problem:
        if isinstance(found := cause(problem), AudienceError):
            return found
    return RunnerError(f"the graph ended as {state}; start again: what landed is read again")


def _cancel(result: Any) -> None:
    with suppress(Exception):  # a runner that is gone has nothing to cancel
        if not PipelineState.is_terminal(result.state):
            result.cancel()
            result.wait_until_finish(int(CANCEL_SECONDS * 1000))


class Ending:
    """How a run learns that it is to end: signals stop it, a file drains it."""

    def __init__(self, drain_file: Path):
        self.drain_file = drain_file
        self.stopping = threading.Event()
        self._before: dict[int, Any] = {}

    @property
    def draining(self) -> bool:
        return self.drain_file.exists()

    def __enter__(self) -> "Ending":
        self.drain_file.unlink(missing_ok=True)  # of a run before
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self.drain_file.unlink(missing_ok=True)

    def _stop(self, number, frame) -> None:
        if self.stopping.is_set():
            signal.signal(number, self._before[number])  # the third time it is meant
        self.stopping.set()
