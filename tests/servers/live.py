"""`audience live` as a person starts it: a process on a free port of loopback, its answers and its streams."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.servers.collector import ROOT, START_SECONDS, Reply, ask, free_port
from tests.servers.needed import LIMIT, wait_until

START = """
import sys
sys.modules[sys.argv.pop(1)] = None
from pipelines.cli import main
sys.exit(main())
"""


class Event:
    """A server-sent event."""

    def __init__(self, text: str):
        fields = dict(line.split(": ", 1) for line in text.split("\n") if ": " in line and not line.startswith(":"))
        self.kind, self.id = fields.get("event", ""), fields.get("id", "")
        self.value: Any = json.loads(fields["data"]) if "data" in fields else None


class Serving:
    """A live page that runs; `said` is what it has printed."""

    def __init__(self, process: subprocess.Popen, host: str, port: int, said: Path):
        self.process, self.host, self.port, self._said = process, host, port, said
        self.url = f"http://{host}:{port}/"

    def ask(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """Send a request; `_` in the name of a header stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=LIMIT)) as connection:
            return ask(connection, path, None, method, named)

    @contextmanager
    def stream(self, **headers: str) -> Iterator[Iterator[Event]]:
        """The events of a viewer, one after the other, without those that say nothing."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=LIMIT)) as connection:
            connection.request("GET", "/events", headers=named)
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("content-type")) == (200, "text/event-stream")
            yield (event for event in _events(answer) if event.kind)

    def said(self) -> str:
        """What it has printed so far."""
        return self._said.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the end: its exit status."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT)


def _events(answer: http.client.HTTPResponse) -> Iterator[Event]:
    lines: list[str] = []
    while line := answer.readline():
        if line != b"\n":
            lines.append(line.decode().rstrip("\n"))
        elif lines:
            yield Event("\n".join(lines))
            lines = []


@contextmanager
def serving(folder: Path, *options: str, without: str = "", host: str = "127.0.0.1") -> Iterator[Serving]:
    """Run `audience live` with these options, ready to be asked; `without` names a module that it cannot import."""
    port, said = free_port(), folder / "said.txt"
    command = [sys.executable, "-c", START, without or "none", "live", "--port", str(port), *options]
    with open(said, "ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
    made = Serving(process, host, port, said)

    def answers() -> bool:
        assert process.poll() is None, f"ended with {process.returncode}: {made.said()}"
        try:
            return made.ask("/healthz").status == 200
        except OSError:
            return False

    try:
        wait_until(answers, START_SECONDS, "the page answers")
        yield made
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
