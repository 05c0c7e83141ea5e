"""Report an error of Beam's in-process worker once, in one line, instead of once per thread.

The worker sends the error of a bundle to the runner and also prints it, and the runner logs it again. When the runner
is killed or cancelled, each of the worker's threads would print a traceback. What it prints is also how this process
knows that a bundle failed where the runner does not end the job.
"""

import contextlib
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc

_OF_A_BUNDLE = re.compile(r", in process_bundle$", re.MULTILINE)  # not of a request about one, which may fail alone


class Failure(NamedTuple):
    """A bundle that failed: its traceback, and when that was by the monotonic clock."""

    traceback: str
    at: float


class WithoutWorkers:
    """A text stream that ignores output from the threads of Beam's worker.

    failure  the first bundle that failed; None until one does
    """

    def __init__(self, stream: Any):
        self.stream = stream
        self.failure: Failure | None = None

    def write(self, text: str) -> int:
        """Write, unless called from a thread of the worker."""
        if type(threading.current_thread()).__module__.startswith("apache_beam."):
            if self.failure is None and _OF_A_BUNDLE.search(text):
                self.failure = Failure(text, time.monotonic())
            return len(text)
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _tells_of_a_lost_peer(raised: threading.ExceptHookArgs) -> bool:
    """Whether an exception that ended a thread says that a connection is gone: an error of a call, or gRPC's own thread
    that watches a channel, which another closes."""
    return issubclass(raised.exc_type, grpc.RpcError) or "Channel closed" in str(raised.exc_value)


@contextlib.contextmanager
def quiet() -> Iterator[WithoutWorkers]:
    """Within the context, drop what the runner logs, and know the first failure of a bundle. The worker's threads stay
    silent for the rest of the process: some end later, and say that they have lost their runner."""
    before = threading.excepthook

    def report(raised: threading.ExceptHookArgs) -> None:
        if not _tells_of_a_lost_peer(raised):
            before(raised)

    def is_ours(record: logging.LogRecord) -> bool:
        return False  # only Beam logs to the root logger itself

    threading.excepthook = report
    sys.stderr = stderr = WithoutWorkers(getattr(sys.stderr, "stream", sys.stderr))
    root = logging.getLogger()
    root.addFilter(is_ours)
    try:
        yield stderr
    finally:
        root.removeFilter(is_ours)
