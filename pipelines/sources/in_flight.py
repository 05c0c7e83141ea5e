"""In flight: whether the steps of the graph are through with the blocks that the readers of this process handed on.

The runner's worker is this process (streaming/stream.py), and each bundle that it processes is work that a block or a
timer caused. A runner has the next bundle some milliseconds after the one before it, so the steps are through once no
bundle has been under way for QUIET_SECONDS. Finalizing tells less: Prism finalizes the bundle of a reader before any
step behind it has begun.

    watch_steps()   counts the bundles of this process for the length of a context
    STEPS           what readers ask: `reading` and `handed_on` say what the bundle does that the calling thread is in

Where nothing is counted, as where the workers are other processes, the steps are always through.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from apache_beam.runners.worker.sdk_worker import SdkWorker

QUIET_SECONDS = 0.05


class Steps:
    """The bundles of this process that are under way. Any thread may call any method; times by the monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self._changed = threading.Condition()
        self._watched = 0
        self._working: set[int] = set()  # threads whose bundle is work, and not a reader that looks for some
        self._reading: set[int] = set()
        self._handing: set[int] = set()  # threads whose bundle has a block that the runner does not have yet
        self._quiet_since = clock()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count for the length of a context."""
        with self._changed:
            self._watched += 1
        try:
            yield
        finally:
            with self._changed:
                self._watched -= 1
                self._changed.notify_all()

    @contextmanager
    def bundle(self) -> Iterator[None]:
        """A bundle, which the calling thread processes."""
        thread = threading.get_ident()
        with self._changed:
            self._working.add(thread)
        try:
            yield
        finally:
            with self._changed:
                self._reading.discard(thread)
                self._handing.discard(thread)
                self._end(thread)

    def reading(self) -> None:
        """The bundle of this thread looks for a block, and is no work."""
        thread = threading.get_ident()
        with self._changed:
            if thread in self._working:
                self._reading.add(thread)
                self._end(thread)

    def handed_on(self) -> None:
        """The bundle of this thread has a block: the steps that the runner fused with the reader begin."""
        thread = threading.get_ident()
        with self._changed:
            if thread in self._reading:
                self._reading.discard(thread)
                self._working.add(thread)
                self._handing.add(thread)

    def are_through(self, wait_seconds: float = 0.0) -> bool:
        """Whether the steps are through with what was handed on; waits for it a while, but not in a bundle whose own
        block waits for its end."""
        end = self.clock() + wait_seconds
        with self._changed:
            if self._watched and threading.get_ident() in self._handing:
                return False
            while True:
                if not self._watched:
                    return True
                now = self.clock()
                left = self._quiet_since + QUIET_SECONDS - now
                if not self._working and left <= 0:
                    return True
                if now >= end:
                    return False
                self._changed.wait(min(end - now, left if not self._working else end - now))

    def _end(self, thread: int) -> None:
        if thread in self._working:
            self._working.discard(thread)
            if not self._working:
                self._quiet_since = self.clock()
                self._changed.notify_all()


STEPS = Steps()


@contextmanager
def watch_steps() -> Iterator[None]:
    """Count the bundles that Beam's worker processes in this process, for the length of a context."""
    process = SdkWorker.process_bundle

    def process_bundle(self, request, instruction_id):
        with STEPS.bundle():
            return process(self, request, instruction_id)

    SdkWorker.process_bundle = process_bundle
    try:
        with STEPS.watched():
            yield
    finally:
        SdkWorker.process_bundle = process
