"""A terminal for stderr, and what stands on it."""

import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def on_a_terminal(command: list[str], **environment: str) -> tuple[str, int]:
    """(all that the terminal was sent, exit status) of a command whose stderr is one."""
    master, slave = pty.openpty()
    running = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=slave, env=os.environ | {"TERM": "xterm"} | environment
    )
    os.close(slave)
    sent = _all_of(master)
    running.communicate()
    return sent.decode(), running.returncode


def with_a_terminal(run: Callable[[], int], **environment: str) -> tuple[str, int]:
    """The same of a function of this process."""
    master, slave = pty.openpty()
    sent: list[bytes] = []
    reader = threading.Thread(target=lambda: sent.append(_all_of(master)))
    reader.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ({"TERM": "xterm"} | environment).items():
            patch.setenv(name, value)
        with open(slave, "w", encoding="utf-8") as stderr:
            patch.setattr(sys, "stderr", stderr)
            status = run()
    reader.join()
    return sent[0].decode(), status


def _all_of(master: int) -> bytes:
    sent = b""
    while True:
        try:
            data = os.read(master, 1 << 16)
        except OSError:  # how Linux tells that the other side was closed
            break
        if not data:
            break
        sent += data
    os.close(master)
    return sent


def screen(sent: str) -> list[str]:
    """What stands on the terminal at the end."""
    lines = []
    for line in sent.replace("\r\n", "\n").split("\n"):
        # Each line drawn begins with a return and ends by erasing what is right of it.
        lines.append(re.split("\r|\x1b\\[K", line)[-1])
    return lines
