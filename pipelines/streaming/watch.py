"""Watch a stream that runs: until it is asked to stop or ends, or until it no longer goes on.

A runner may lose what it has to do, and a stream would stay up that reads nothing and that nobody restarts. So it ends:

    FAILED_SECONDS  after a bundle failed in this process, where the runner has not ended the job
    ASKED_SECONDS   after the runner last asked a reader for records
    ANSWER_SECONDS  after a question that the runner has not answered
"""

import queue as queues
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from apache_beam.runners.runner import PipelineState

from pipelines.runners.choose import Started
from pipelines.runners.in_process import cause
from pipelines.runners.quiet import WithoutWorkers
from pipelines.sources.queue import Queue
from transforms.errors import AudienceError, RunnerError

LOOK_SECONDS, DRAIN_LOOK_SECONDS = 1.0, 0.2  # a drain ends as soon as the runner is done
CANCEL_SECONDS = 20.0
END_SECONDS = 5.0  # for the process of a runner that no longer answers
FAILED_SECONDS, ASKED_SECONDS, ANSWER_SECONDS = 10.0, 300.0, 60.0
RESTART = "restart to resume: unprocessed records are read again"


class Ending(Protocol):
    """How a run learns that it must end."""

    stopping: threading.Event

    @property
    def draining(self) -> bool:
        """Whether its windows are to close."""


class Watched(NamedTuple):
    """A run and what shows whether it goes on; `begun` by the monotonic clock."""

    result: Any
    runner: Started
    queue: Queue
    workers: WithoutWorkers
    begun: float
    is_drained: Callable[[], bool] | None = None  # of a runner whose job does not end when its windows are closed


def watch(run: Watched, ending: Ending, retire: Callable[[], None]) -> None:
    """Wait until the run is asked to stop, or has ended. Errors: AudienceError if it should not have, or is stuck."""
    while not ending.stopping.wait(DRAIN_LOOK_SECONDS if ending.draining else LOOK_SECONDS):
        if status := run.runner.exit_status():
            raise RunnerError(f"the runner exited ({status}); {RESTART}")
        state = _ask_state(run)
        if state == PipelineState.DONE and ending.draining:
            return
        if ending.draining and run.is_drained is not None and run.is_drained():
            return
        if PipelineState.is_terminal(state):
            raise _find_cause(run.result, state)
        _refuse_stuck(run, ending.draining)
        retire()


def _ask_state(run: Watched) -> str:
    try:
        return within(ANSWER_SECONDS, lambda: run.result.state)
    except Exception as problem:
        if status := run.runner.exit_status(END_SECONDS):
            raise RunnerError(f"the runner exited ({status}); {RESTART}") from problem
        raise RunnerError(f"the runner does not answer; {RESTART}") from problem


def _refuse_stuck(run: Watched, draining: bool) -> None:
    """Errors: what made a bundle fail, RunnerError for a runner that no longer asks for records."""
    now, failure, asked = time.monotonic(), run.workers.failure, run.queue.snapshot().asked
    if failure is not None and now - failure.at >= FAILED_SECONDS:
        found = cause(RuntimeError(failure.traceback))
        last = failure.traceback.strip().splitlines()[-1]
        raise found if isinstance(found, AudienceError) else RunnerError(f"the graph failed: {last}; {RESTART}")
    if asked is not None and now - max(asked, run.begun) >= ASKED_SECONDS and not draining:
        raise RunnerError(f"the runner has asked for no records for {ASKED_SECONDS:.0f} s; {RESTART}")


def _find_cause(result: Any, state: str) -> Exception:
    """Why a run ended that should not have."""
    try:
        result.wait_until_finish(1_000)
    except Exception as problem:
        if isinstance(found := cause(problem), AudienceError):
            return found
    return RunnerError(f"the graph ended as {state}; {RESTART}")


def cancel(result: Any) -> None:
    with suppress(Exception):  # a runner that exited has nothing to cancel, and one that is stuck does not answer
        within(CANCEL_SECONDS, lambda: _cancel_and_wait(result))


def _cancel_and_wait(result: Any) -> None:
    if not PipelineState.is_terminal(result.state):
        result.cancel()
        result.wait_until_finish(int(CANCEL_SECONDS * 1000))


def within(seconds: float, ask: Callable[[], Any]) -> Any:
    """The answer of a runner. Raises what `ask` raises, or TimeoutError; its thread is left to itself then."""
    answers: queues.SimpleQueue[tuple[Any, Exception | None]] = queues.SimpleQueue()

    def put() -> None:
        try:
            answers.put((ask(), None))
        except Exception as problem:
            answers.put((None, problem))

    threading.Thread(target=put, name="ask the runner", daemon=True).start()
    try:
        answer, problem = answers.get(timeout=seconds)
    except queues.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if problem is not None:
        raise problem
    return answer
