"""A command of `audience` in a process of its own, which ends with this one.

Its standard input is a pipe of which this process alone holds the other end, so that even SIGKILL of this one ends it.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

# Ends with its parent: the pipe is at its end when nobody holds the other one.
CHILD = """
import os, runpy, signal, sys, threading
def watch(pipe):
    while os.read(pipe, 1): pass
    os.kill(os.getpid(), signal.SIGTERM)
pipe = os.dup(0)
os.set_inheritable(pipe, False)
null = os.open(os.devnull, os.O_RDONLY)
os.dup2(null, 0)
threading.Thread(target=watch, args=(pipe,), daemon=True).start()
runpy.run_module("pipelines.cli", run_name="__main__", alter_sys=True)
"""
LAST_LINES = 1.0  # seconds for what it said last


class Child:
    """A command that runs."""

    def __init__(self, process: subprocess.Popen[bytes], lines: threading.Thread):
        self._process, self._lines = process, lines

    def status(self) -> int | None:
        """Its exit status, of which a negative one is a signal; None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait for its end, and for what it said last: its exit status."""
        status = self._process.wait()
        self._lines.join(LAST_LINES)
        return status

    def terminate(self) -> None:
        """Ask it to end."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def end(self, seconds: float) -> None:
        """Wait so long for its end, then kill it and what it started."""
        try:
            self._process.wait(max(seconds, 0.1))
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # the group that it alone began
            self._process.wait()
        self._lines.join(LAST_LINES)
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()


def start(words: Sequence[str], say: Callable[[str], None], name: str, nice: int = 0) -> Child:
    """Start a command by its words; `nice` is how far it stands back for others, 0 to 19."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for this process, which then ends the others in order
    )
    if nice:
        with suppress(OSError):  # it has ended already
            os.setpriority(os.PRIO_PROCESS, process.pid, nice)

    def show() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if text := line.decode(errors="replace").rstrip():
                say(text)

    lines = threading.Thread(target=show, name=name, daemon=True)
    lines.start()
    return Child(process, lines)


def how_it_ended(status: int) -> str:
    """An exit status in words."""
    return f"by signal {-status}" if status < 0 else f"with exit status {status}"
