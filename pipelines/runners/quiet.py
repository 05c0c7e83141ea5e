"""Report an error of Beam's in-process worker once, in one line, instead of once per thread.

The worker sends the error of a bundle to the runner and also prints it, and the runner logs it again. When the runner
is killed or cancelled, each of the worker's threads would print a traceback.
"""

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import grpc


class WithoutWorkers:
    """A text stream that ignores output from the threads of Beam's worker."""

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> int:
        """Write, unless called from a thread of the worker."""
        if type(threading.current_thread()).__module__.startswith("apache_beam."):
            return len(text)
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the context, drop what Beam's worker writes to stderr and what the runner logs. For the rest of the
    process, the worker's threads stay silent when they lose their runner: some end later."""
    before = threading.excepthook

    def report(raised: threading.ExceptHookArgs) -> None:
        if not issubclass(raised.exc_type, grpc.RpcError):
            before(raised)

    def is_ours(record: logging.LogRecord) -> bool:
        return False  # only Beam logs to the root logger itself

    threading.excepthook = report
    root = logging.getLogger()
    root.addFilter(is_ours)
    try:
        with contextlib.redirect_stderr(WithoutWorkers(sys.stderr)):
            yield
    finally:
        root.removeFilter(is_ours)
