"""Quiet: an error of Beam's worker in this process is told once, in one line, and not by each of its threads.

The worker sends what a bundle raised to the runner, and prints it as well; what the runner says of it is logged once
more. The worker's threads lose their runner when it is killed or cancelled, and each would tell so with a traceback.
"""

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import grpc


class WithoutWorkers:
    """A text stream that takes nothing from the threads of Beam's worker."""

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> int:
        """Write, unless a thread of the worker asks for it."""
        if type(threading.current_thread()).__module__.startswith("apache_beam."):
            return len(text)
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While `with` lasts stderr takes nothing of Beam's worker, and no log what the runner says. The worker's threads
    stay quiet when they lose their runner, for as long as the process lives: some end later."""
    before = threading.excepthook

    def told(raised: threading.ExceptHookArgs) -> None:
        if not issubclass(raised.exc_type, grpc.RpcError):
            before(raised)

    def is_ours(record: logging.LogRecord) -> bool:
        return False  # Beam alone logs to the root logger itself

    threading.excepthook = told
    root = logging.getLogger()
    root.addFilter(is_ours)
    try:
        with contextlib.redirect_stderr(WithoutWorkers(sys.stderr)):
            yield
    finally:
        root.removeFilter(is_ours)
