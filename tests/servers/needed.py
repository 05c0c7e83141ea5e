"""What a test needs and a machine may lack: a test without it is skipped and says what to install; in CI it fails."""

import os
import time
from collections.abc import Callable

import pytest

PATIENCE = 4.0 if "PYTEST_XDIST_WORKER" in os.environ else 1.0  # where tests share the machine with other tests
# Seconds until an answer, a thread or a process is given up, far more than any takes: a server that gets no processor
# accepts nobody, and connections wait in the kernel.
LIMIT = 180.0 * PATIENCE


def missing(what: str) -> None:
    """End the test: skipped with what to do, or failed where CI is to prove it."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def wait_until(condition: Callable[[], object], seconds: float = 30.0, what: str = "", every: float = 0.01) -> None:
    """Wait for a condition, looked at `every` so many seconds; fails the test when it does not hold in time."""
    seconds *= PATIENCE
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what or condition}"
        time.sleep(every)
