"""Collector, stream and page together, each a process of its own: what `audience live --collect` runs.

    run_together(parts, say, on_ready)   start each part once the one before it is ready; wait for a signal or an end

A part gets SIGTERM when this process ends, whatever ends it (system/child.py). Its lines are shown with its name before
them.
"""

import http.client
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from pipelines.system.child import Child, how_it_ended, start
from transforms.errors import RunnerError

START_SECONDS = 120.0  # to the first answer: a stream starts its runner and its workers
END_SECONDS = 60.0  # in which a part has to end by itself; a stream finishes what it has read
LOOK_SECONDS = 0.1


class Part(NamedTuple):
    """A command of `audience` by its words, and whether it is ready: then the next one is started."""

    name: str
    words: Sequence[str]
    is_ready: Callable[[], bool]


class _Running(NamedTuple):
    part: Part
    child: Child


def run_together(parts: Sequence[Part], say: Callable[[str], None], on_ready: Callable[[], None]) -> None:
    """Run the parts until SIGINT, SIGTERM or SIGHUP. Errors: RunnerError if one ends, or is not ready in time;
    then the others were ended too."""
    running: list[_Running] = []
    with _stopped() as stopped:
        try:
            for part in parts:
                running.append(_start(part, say))
                if not _until_ready(running, stopped):
                    return
            on_ready()
            while not stopped.wait(LOOK_SECONDS):
                _check(running)
        finally:
            _end(running)


@contextmanager
def _stopped() -> Iterator[threading.Event]:
    """An event that is set by the first signal that stops a program; the later ones change nothing."""
    stopped = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(part: Part, say: Callable[[str], None]) -> _Running:
    def show(text: str) -> None:
        if not text.startswith("next: "):  # what a person would start next is started here
            say(f"{part.name}: {text}")

    return _Running(part, start(part.words, show, part.name))


def _until_ready(running: Sequence[_Running], stopped: threading.Event) -> bool:
    """Wait for the last one; False if a signal came before. Errors: RunnerError."""
    end = time.monotonic() + START_SECONDS
    while not running[-1].part.is_ready():
        _check(running)
        if stopped.wait(LOOK_SECONDS):
            return False
        if time.monotonic() > end:
            name = running[-1].part.name
            raise RunnerError(f"the {name} is not ready after {START_SECONDS:.0f} s; see its lines above")
    return True


def _check(running: Sequence[_Running]) -> None:
    for one in running:
        if one.child.status() is not None:
            how = how_it_ended(one.child.wait())
            raise RunnerError(f"the {one.part.name} ended {how}; the other parts were ended too; start again to resume")


def _end(running: Sequence[_Running]) -> None:
    """End the parts from the last to the first, so that each one's source goes on until it has ended; what was answered
    by the collector stays in its log."""
    for one in reversed(running):
        one.child.terminate()
    end = time.monotonic() + END_SECONDS
    for one in running:
        one.child.end(end - time.monotonic())


def answers(port: int, path: str) -> bool:
    """Whether a server on loopback answers a path with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
