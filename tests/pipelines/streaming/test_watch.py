"""A stream that no longer goes on ends by itself, with one line that says why."""

import threading
import time
from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState

from pipelines.runners.choose import Started, prism_at
from pipelines.runners.quiet import Failure, quiet
from pipelines.sources.queue import Backlog, Snapshot
from pipelines.streaming import watch as watching
from pipelines.streaming.watch import RESTART, Watched, cancel, watch, within
from transforms.errors import RunnerError, WarehouseError

FULL = "/w/landing/1.parquet cannot be written: No space left on device; free space"


def run(state=lambda: PipelineState.RUNNING, failure=None, asked=None, begun=0.0) -> Watched:
    """A run whose runner answers with a state."""

    class Result:
        state = property(lambda self: answer())

    answer = state
    queue = SimpleNamespace(snapshot=lambda: Snapshot(0, Backlog(0, 0, None), None, asked))
    return Watched(Result(), Started([]), queue, SimpleNamespace(failure=failure), begun)


class Ending:
    """Asks for the end once the stream has been looked at often enough."""

    def __init__(self, looks: int = 3, draining: bool = False):
        self.looks, self.draining, self.stopping = looks, draining, threading.Event()

    def look(self) -> None:
        self.looks -= 1
        if not self.looks:
            self.stopping.set()


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.001)


def watched(run: Watched, ending: Ending | None = None) -> None:
    ending = ending or Ending()
    watch(run, ending, ending.look)


class Full(beam.DoFn):
    """A step that cannot write; its error is raised as a panic of a library is, or as our own."""

    def __init__(self, panics: bool):
        self.panics = panics

    def process(self, element):
        raise (Panic if self.panics else WarehouseError)(FULL)


class Panic(BaseException):
    """As Polars raises it: no Exception."""


@pytest.mark.parametrize(
    ("panics", "error", "said"),
    [(False, WarehouseError, FULL), (True, RunnerError, f"the graph failed: .*Panic: {FULL}.*; {RESTART}")],
)
def test_a_bundle_that_failed_ends_the_stream_where_its_runner_does_not(
    panics, error, said, prism, tmp_path, monkeypatch
):
    monkeypatch.setattr(watching, "FAILED_SECONDS", 0.0)
    with quiet() as workers, prism_at(prism, tmp_path / "prism.log") as (endpoint, _):
        options = ["--runner=PrismRunner", f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK"]
        pipeline = beam.Pipeline(options=PipelineOptions(options))
        pipeline | beam.Create([1]) | "Write" >> beam.ParDo(Full(panics))
        with pytest.raises(RuntimeError):
            pipeline.run().wait_until_finish()
    with pytest.raises(error, match=said):
        watched(run(failure=workers.failure))


def test_a_bundle_that_failed_a_moment_ago_leaves_the_end_to_the_runner():
    watched(run(failure=Failure("ValueError: a mistake", time.monotonic())))
    with pytest.raises(RunnerError, match=f"^the graph failed: ValueError: a mistake; {RESTART}$"):
        watched(run(failure=Failure("Traceback\n  in process_bundle\nValueError: a mistake\n", time.monotonic() - 11)))


def test_a_runner_that_asks_for_nothing_ends_the_stream_unless_it_drains_or_has_just_begun():
    now = time.monotonic()
    watched(run(asked=None))
    watched(run(asked=now - 290))
    watched(run(asked=now - 310, begun=now))
    watched(run(asked=now - 310), Ending(draining=True))
    with pytest.raises(RunnerError, match=f"^the runner has asked for no records for 300 s; {RESTART}$"):
        watched(run(asked=now - 310))


def test_a_runner_that_does_not_answer_ends_the_stream_and_holds_up_no_end(monkeypatch):
    monkeypatch.setattr(watching, "ANSWER_SECONDS", 0.01)
    monkeypatch.setattr(watching, "CANCEL_SECONDS", 0.01)
    never = threading.Event()
    with pytest.raises(RunnerError, match=f"^the runner does not answer; {RESTART}$"):
        watched(run(never.wait))
    cancel(run(never.wait).result)
    never.set()


def test_an_answer_in_time_is_given_and_an_error_raised():
    assert within(5.0, lambda: 7) == 7
    with pytest.raises(ValueError, match="a mistake"):
        within(5.0, lambda: int("a mistake"))
