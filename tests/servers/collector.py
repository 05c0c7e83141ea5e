"""`audience collect` as a person starts it: a process on a free port of loopback, and HTTP to it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.sources.log.folder import segments
from pipelines.sources.log.frames import Entry, read_frames
from tests.servers.needed import LIMIT, wait_until

ROOT = Path(__file__).parents[2]
START_SECONDS = (
    180  # to its first answer, where the clients of Pub/Sub are imported too, on a machine that others share
)
START = """
import importlib, json, sys, time
changed = json.loads(sys.argv.pop(1))
if changed["without"]:
    sys.modules[changed["without"]] = None
if seconds := changed["clock"]:
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)
for name, value in changed["limits"].items():
    module, _, constant = name.rpartition(".")
    assert hasattr(importlib.import_module(module), constant)
    setattr(importlib.import_module(module), constant, value)
from pipelines.cli import main
sys.exit(main())
"""


class Reply(NamedTuple):
    """An answer as a client reads it; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Collecting:
    """A collector that runs; `log` is the folder of its log, `said` what it has printed."""

    def __init__(self, process: subprocess.Popen, host: str, port: int, log: Path, said: Path):
        self.process, self.host, self.port, self.log, self._said = process, host, port, log, said

    @contextmanager
    def connect(self) -> Iterator[http.client.HTTPConnection]:
        """A connection of its own."""
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=LIMIT)) as connection:
            yield connection

    def ask(self, path: str = "/v1/events", body: bytes | None = None, method: str = "", **headers: str) -> Reply:
        """Send a request, a POST where there is a body; `_` in the name of a header stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with self.connect() as connection:
            return ask(connection, path, body, method, named)

    def said(self) -> str:
        """What it has printed so far."""
        return self._said.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the end: its exit status."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT)

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics."""
        lines = [line for line in self.ask("/metrics").body.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def ask(
    connection: http.client.HTTPConnection,
    path: str,
    body: bytes | None,
    method: str = "",
    headers: Mapping[str, str] = {},
) -> Reply:
    """Send a request over a connection."""
    connection.request(method or ("GET" if body is None else "POST"), path, body, dict(headers))
    answer = connection.getresponse()
    return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def entries_of(log: Path) -> list[Entry]:
    """All entries of a log, in order; of a torn last frame nothing, as its writer cuts it away."""
    return [entry for path in segments(log).values() for entry in read_frames(path.read_bytes()).entries]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def collecting(
    folder: Path,
    *options: str,
    without: str = "",
    host: str = "127.0.0.1",
    port: int = 0,
    clock: float = 0.0,
    limits: Mapping[str, float] = {},
    environment: Mapping[str, str] = {},
) -> Iterator[Collecting]:
    """Run a collector into `folder`/log, ready to be asked.

    without   a module that it cannot import
    clock     seconds by which its clock differs from the machine's
    limits    constants of its modules by their full names, e.g. a time that a test does not wait for
    """
    port, said, log = port or free_port(), folder / "said.txt", folder / "log"
    changed = json.dumps({"without": without, "clock": clock, "limits": dict(limits)})
    command = [sys.executable, "-c", START, changed, "collect", "--log", str(log)]
    with open(said, "ab") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port), *options],
            stdout=out,
            stderr=out,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment),
        )
    made = Collecting(process, host, port, log, said)

    def answers() -> bool:
        assert process.poll() is None, f"ended with {process.returncode}: {made.said()}"
        try:
            return made.ask("/healthz").status == 200
        except OSError:
            return False

    try:
        wait_until(answers, START_SECONDS, "the collector answers")
        yield made
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
