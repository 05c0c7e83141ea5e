"""A server that a test or the demo starts: a process that says on one line of its standard output that it is ready."""

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.servers.needed import LIMIT

ROOT = Path(__file__).parents[2]


class ServerMissing(Exception):
    """A server is not installed; the message says what to run."""


@contextlib.contextmanager
def running(command: Sequence[str | Path], deadline: float = LIMIT) -> Iterator[str]:
    """Run a server; gives the first line that it prints of JSON, and stops this one process at the end.

    A server that ends before it is ready, or is not ready at the deadline, is a RuntimeError with what it logged.
    """
    with tempfile.TemporaryFile() as log:
        # In a session of its own, so that Ctrl-C ends it when its user has finished with it and not before.
        process = subprocess.Popen(
            [*map(str, command)],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            env=_environ(),
            start_new_session=True,
        )
        assert process.stdout is not None
        late = threading.Timer(deadline, process.kill)
        late.start()
        try:
            line = next((line.decode() for line in process.stdout if line.startswith(b"{")), "")
            late.cancel()
            if not line:
                process.wait()
                log.seek(0)
                told = log.read().decode(errors="replace")[-2000:]
                raise RuntimeError(f"{command[-1]} did not start within {deadline} s: {told}")
            yield line
        finally:
            late.cancel()
            process.terminate()
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def _environ() -> dict[str, str]:
    """Without what would turn the server's own clients to another server."""
    return {name: value for name, value in os.environ.items() if not name.endswith("EMULATOR_HOST")}
