"""Measure the collector over HTTP beside two servers of the same kind, in one run.

    python -m benchmarks.collector [--seconds N] [--rounds N] [--folder DIR] [--write] [--only FORM]

echo       Granian alone: reads a body and answers (http_servers.py); nobody can be faster with this server
sync       appends each body to a file and syncs it before it answers: durable, one sync for each request
collector  `audience collect`, whose answer waits for the sync too

One process sends (http_clients.py), each server has its turn in each round, and the medians of the rounds count. A rate
is given twice: of the clock, which two processes share with whatever else the machine does, and of the server's own
processor time, in events for each second of it: what a core would take that has nothing else to do. `at 20,000/s` sends
batches of 100 at that rate, due at fixed times, for the time of an acknowledgement without a queue of the clients' own.
`--write` keeps the result in results/collector.json and RESULTS-collector.md.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from benchmarks.http_clients import Answers, closed, paced, request_of
from benchmarks.machine import describe, measure_speed
from pipelines.runners.choose import free_port

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = Path(__file__).parent / "results/collector.json", Path(__file__).parent / "RESULTS-collector.md"
SERVERS = ("echo", "sync", "collector")
EVENTS = 240_000  # different ids before one comes again: more than the collector remembers
GOAL, GOAL_MS = 20_000, 50


class Form(NamedTuple):
    """What is sent: the dialect, events of a request, connections, and events/s where the rate is fixed."""

    name: str
    dialect: str
    events: int
    connections: int
    rate: int | None = None


FORMS = (
    Form("batches of 100", "native", 100, 16),
    Form("batches of 100, Segment", "segment", 100, 16),
    Form("single events", "native", 1, 64),
    Form("batches of 100 at 20,000/s", "native", 100, 64, GOAL),
)


class Measured(NamedTuple):
    """Of one server and one form: events/s of the clock, of its processor time, and ms until an answer."""

    rate: float
    core_rate: float
    median: float
    last: float


def native(number: int) -> bytes:
    """An event of 250 bytes."""
    return (
        b'{"event_id":"0190f3c2-%012d","event_type":"page_view","event_time":"2026-03-01T10:00:00.123Z",'
        b'"user_id":"u-%07d","session_id":"s-%07d","content_id":"c-%d","channel":"web","country":"DE",'
        b'"device":"mobile","properties":{"position":%d,"variant":"b"}}'
    ) % (number, number % 50_000, number % 90_000, number % 5_000, number % 20)


def segment(number: int) -> bytes:
    """An event as Segment's Python client sends it, 480 bytes."""
    return (
        b'{"integrations":{},"anonymousId":null,"properties":{"product_id":"c-%d","price":79.9,"currency":"EUR"},'
        b'"timestamp":"2026-03-01T10:00:00.123456+00:00","context":{"library":{"name":"analytics-python",'
        b'"version":"2.4.0"},"ip":"203.0.113.77","page":{"url":"https://shop.example/boots?utm_campaign=spring",'
        b'"path":"/boots","referrer":"https://search.example/"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64)"},'
        b'"userId":"u-%07d","type":"track","event":"Product Added","messageId":"0190f3c2-%012d"}'
    ) % (number % 5_000, number % 50_000, number)


def requests_of(form: Form) -> list[bytes]:
    """The requests of a form, so many that the collector has forgotten an id when it comes again."""
    if form.dialect == "segment":
        head, tail, path, event = b'{"sentAt":"2026-03-01T10:00:01Z","batch":[', b"]}", "/v1/batch", segment
    else:
        head, tail, path, event = b"[", b"]", "/v1/events", native
    bodies = (head + b",".join(map(event, range(at, at + form.events))) + tail for at in range(0, EVENTS, form.events))
    return [request_of(path, body) for body in bodies]


@contextmanager
def running(server: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Run a server: its process and its port."""
    port = free_port()
    own = ["-m", "pipelines.cli", "collect", "--log", str(folder / "log"), "--log_gigabytes", "100"]
    rival = ["-m", "benchmarks.http_servers", server, "--file", str(folder / "bodies")]
    command = [sys.executable, *(own if server == "collector" else rival), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port, process)
            yield process.pid, port
        finally:
            process.terminate()


def wait_for_port(port: int, process: subprocess.Popen, seconds: float = 30.0) -> None:
    """Wait until a server takes connections. Errors: RuntimeError if it ends before, or takes too long."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("a server did not start; run its command by hand")


def processor_seconds(pid: int) -> float:
    """Of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(server: str, form: Form, requests: list[bytes], seconds: float, folder: Path | None) -> Measured:
    """One form against one server."""
    with tempfile.TemporaryDirectory(dir=folder) as made, running(server, Path(made)) as (pid, port):
        send = closed if form.rate is None else partial(paced, every=form.events / form.rate)
        send(port, requests, form.connections, 0.5)
        before = processor_seconds(pid)
        answers: Answers = send(port, requests, form.connections, seconds)
        used = processor_seconds(pid) - before
    took = sorted(answers.took)
    events = len(took) * form.events
    share = answers.seconds / (answers.seconds + 0.5)  # the processor time has the first half second too
    return Measured(
        events / answers.seconds, events / (used * share), took[len(took) // 2], took[len(took) * 99 // 100]
    )


def median_of(rounds: list[Measured]) -> Measured:
    """The median of each figure."""
    return Measured(*(statistics.median(figures) for figures in zip(*rounds, strict=True)))


def rows_of(form: Form, found: dict[str, Measured]) -> list[str]:
    """The lines of a table, one for each server."""
    echo = found["echo"]
    return [
        f"| {form.name} | {server} | {one.rate:,.0f} | {one.core_rate:,.0f} | {1e6 / one.core_rate:.1f} "
        f"| {one.core_rate / echo.core_rate:.2f} | {one.median:.2f} | {one.last:.2f} |"
        for server, one in found.items()
    ]


HEAD = """| sent | server | events/s | events/s a core | us an event | of echo's | median ms | 99 % ms |
|---|---|---:|---:|---:|---:|---:|---:|"""


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each form, server and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="decides the disk; default: the system's own")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", help="forms whose name has this in it")
    parser.add_argument("--server", choices=SERVERS, action="append", help="those alone (echo is always measured)")
    asked = parser.parse_args()
    servers = [name for name in SERVERS if name == "echo" or name in (asked.server or SERVERS)]
    speed, lines, kept = measure_speed(), [HEAD], {}
    print(describe(speed), HEAD, sep="\n")
    for form in (form for form in FORMS if asked.only in form.name):
        requests, rounds = requests_of(form), {server: [] for server in servers}
        for _ in range(asked.rounds):
            for server in servers:
                rounds[server].append(measure(server, form, requests, asked.seconds, asked.folder))
        found = {server: median_of(each) for server, each in rounds.items()}
        kept[form.name] = {server: {k: round(v, 2) for k, v in one._asdict().items()} for server, one in found.items()}
        lines += rows_of(form, found)
        print("\n".join(rows_of(form, found)), flush=True)
    if asked.write:
        machine = {"machine_python_seconds": speed.python_seconds, "machine_polars_seconds": speed.polars_seconds}
        RESULTS.write_text(json.dumps(kept | machine, indent=2) + "\n")
        PAGE.write_text(page(lines, describe(speed), asked))


def page(lines: list[str], speed: str, asked: argparse.Namespace) -> str:
    """The page of results."""
    names = ("granian", "starlette", "msgspec")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"""# Results of the collector

`python -m benchmarks.collector --seconds {asked.seconds:g} --rounds {asked.rounds} --write`: medians of the rounds.
The collector and `sync` write to one disk, `echo` to none. Criterion: at least {GOAL:,} events/s a core in batches of
100, acknowledged within {GOAL_MS} ms at 99 %.

{chr(10).join(lines)}

{platform.machine()}, {os.cpu_count()} cores, which the sender and other programs shared;
Python {platform.python_version()}, {versions}. {speed.capitalize()}.
"""


if __name__ == "__main__":
    main()
