"""Whether the steps are through is known by the bundles of the worker in this process."""

import threading

import apache_beam as beam
import pytest

from pipelines.sources import in_flight
from pipelines.sources.in_flight import QUIET_SECONDS, STEPS, Steps, watch_steps
from tests.servers.needed import LIMIT


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def steps(clock):
    made = Steps(clock)
    clock.now += QUIET_SECONDS
    with made.watched():
        yield made


class Bundle:
    """A bundle in a thread of its own, as the worker of a runner has it; it does what it is asked to."""

    def __init__(self, steps: Steps):
        self.steps, self.todo, self.done = steps, threading.Semaphore(0), threading.Semaphore(0)
        self.asked: list = []
        self.answer = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.done.acquire()

    def _run(self) -> None:
        with self.steps.bundle():
            self.done.release()
            while True:
                self.todo.acquire()
                if not self.asked:
                    break
                self.answer = self.asked.pop()()
                self.done.release()

    def ask(self, what):
        self.asked.append(what)
        self.todo.release()
        self.done.acquire()
        return self.answer

    def end(self) -> None:
        self.todo.release()
        self.thread.join()


def test_steps_are_through_once_no_bundle_has_been_under_way_for_a_while(steps, clock):
    assert steps.are_through()
    one, other = Bundle(steps), Bundle(steps)
    one.end()
    clock.now += 9.0
    assert not steps.are_through()
    other.end()
    assert not steps.are_through()
    clock.now += QUIET_SECONDS * 0.9
    assert not steps.are_through()
    clock.now += QUIET_SECONDS * 0.2
    assert steps.are_through()


def test_a_reader_that_looks_for_a_block_is_no_work_and_what_runs_behind_its_block_is(steps, clock):
    reader = Bundle(steps)
    reader.ask(steps.reading)
    clock.now += 1.0
    assert steps.are_through()
    assert reader.ask(steps.are_through)
    reader.ask(steps.handed_on)
    clock.now += 1.0
    assert not steps.are_through()
    reader.ask(steps.reading)
    clock.now += 1.0
    assert steps.are_through()
    assert not reader.ask(steps.are_through), "its block waits for the end of this bundle"
    reader.end()
    again = Bundle(steps)
    clock.now += 1.0
    again.ask(steps.reading)
    clock.now += 1.0
    assert again.ask(steps.are_through)
    again.end()


def test_who_waits_is_woken_when_the_last_bundle_ends():
    steps = Steps()
    with steps.watched():
        work, answers = Bundle(steps), []
        waiting = threading.Thread(target=lambda: answers.append(steps.are_through(LIMIT)))
        waiting.start()
        work.end()
        waiting.join(LIMIT)
        assert answers == [True]


def test_what_nobody_watches_is_through(clock):
    steps = Steps(clock)
    work = Bundle(steps)
    assert steps.are_through()
    with steps.watched():
        assert not steps.are_through()
    assert steps.are_through()
    work.end()


SEEN: list[bool] = []  # by a worker that is this process


class Look(beam.DoFn):
    """Keeps whether the steps are through, as seen from inside a bundle."""

    def process(self, element):
        SEEN.append(STEPS.are_through())


def test_a_bundle_of_beams_worker_is_counted_while_it_runs(monkeypatch):
    monkeypatch.setattr(in_flight, "QUIET_SECONDS", 0.0)
    before = in_flight.SdkWorker.process_bundle
    with watch_steps(), beam.Pipeline("FnApiRunner") as pipeline:
        pipeline | beam.Create([1]) | "Look" >> beam.ParDo(Look())
    assert in_flight.SdkWorker.process_bundle is before
    assert SEEN == [False]
