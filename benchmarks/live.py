"""The live page's benchmark: what it loads, what 100 open pages cost, and how long an event takes to the screen.

    python -m benchmarks.live                    paint and pages: a minute
    python -m benchmarks.live --stream           and event to pixel, while a stream of 10,000 events/s runs (make prism)
    python -m benchmarks.live --stream --write   to RESULTS-live.md

On this machine alone: `audience live` over a warehouse into which this program commits twice a second, or into which
`audience run` streams a log. Paint is Chromium's first contentful paint of a page that it has never seen. Pages are
streams that are read; what they cost is the processor time of the server with 101 of them less that with 1.

Event to pixel: each frame in which the newest event of the page changed is noted. An event that happened at a moment is
on the screen with the first frame whose newest event is no older. It shows no network, and no clock of another machine.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

from benchmarks.machine import describe, measure_speed
from benchmarks.stream_publisher import bodies

RESULTS = Path(__file__).parent / "RESULTS-live.md"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PAINTS, PAGES, SECONDS = 15, 100, 20.0
RATE, WARM_SECONDS, STREAM_SECONDS = 10_000, 20.0, 60.0
GOALS = {"paint": 300.0, "bytes": 150_000, "pages": 5.0, "pixel": 2.5}
NOTE = """() => {
    window.frames_noted = [];
    let last = "";
    const look = () => {
        const shown = document.querySelector('[data-question=now] time');
        if (shown && shown.dateTime && shown.dateTime !== last) {
            last = shown.dateTime;
            window.frames_noted.push([Date.now() / 1000, Date.parse(last) / 1000]);
        }
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""


@contextmanager
def chromium() -> Iterator[Any]:
    """Chromium without a window."""
    from shutil import which

    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(which, BROWSERS)), None)
    if path is None:
        raise SystemExit(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with sync_playwright() as player:
        # In a container the user may lack the rights that the sandbox needs; the page is our own.
        browser = player.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def running(command: list[str], said: Path) -> Iterator[subprocess.Popen]:
    """A command of `audience`, ended by SIGINT."""
    with open(said, "wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "pipelines.cli", *command], stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@contextmanager
def served(warehouse: Path, found: list[subprocess.Popen] | None = None) -> Iterator[str]:
    """The address of the page of a warehouse; its process is appended to `found`."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with running(
        ["live", "--warehouse", str(warehouse), "--port", str(port)], warehouse.parent / "live.txt"
    ) as process:
        if found is not None:
            found.append(process)
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit((warehouse.parent / "live.txt").read_text())
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"


def measure_paint(browser: Any, url: str) -> tuple[list[float], int]:
    """(milliseconds to the first contentful paint of each new page, bytes that one transfers)."""
    paints, sent = [], 0
    for _ in range(PAINTS):
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("[data-question=now] data[value]")
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        kinds = "['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))"
        sent = page.evaluate(
            f"{kinds}.filter(e => !e.name.endsWith('/events')).reduce((n, e) => n + e.transferSize, 0)"
        )
        context.close()
    return paints, sent


def open_streams(url: str, count: int, stack: ExitStack, stop: threading.Event) -> None:
    """Viewers that read all they are sent, in one thread of this process."""
    import selectors

    reading = stack.enter_context(closing(selectors.DefaultSelector()))
    host = url.removeprefix("http://").rstrip("/")
    name, port = host.split(":")
    for _ in range(count):
        viewer = stack.enter_context(closing(socket.create_connection((name, int(port)))))
        viewer.sendall(f"GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        reading.register(viewer, selectors.EVENT_READ)

    def read() -> None:
        while not stop.is_set():
            for key, _ in reading.select(0.1):
                key.fileobj.recv(1 << 16)  # type: ignore[union-attr]

    reader = threading.Thread(target=read)
    reader.start()
    stack.callback(reader.join)
    stack.callback(stop.set)


def measure_pages(url: str, process: subprocess.Popen) -> dict[int, float]:
    """Percent of a core that the server takes with so many viewers, while commits go on."""
    server, found = psutil.Process(process.pid), {}
    for count in (1, 1 + PAGES):
        with ExitStack() as stack:
            open_streams(url, count, stack, threading.Event())
            time.sleep(3.0)
            before, begun = sum(server.cpu_times()[:2]), time.monotonic()
            time.sleep(SECONDS)
            found[count] = 100 * (sum(server.cpu_times()[:2]) - before) / (time.monotonic() - begun)
    return found


@contextmanager
def committing(warehouse: Path) -> Iterator[None]:
    """Commits of a hundred events twice a second, all of them now."""
    from pipelines.settings.config import read_config
    from pipelines.warehouse.day_files import write_file
    from pipelines.warehouse.local.warehouse import LocalWarehouse
    from pipelines.warehouse.metric_tables import table_of
    from pipelines.warehouse.sink import by_day
    from pipelines.warehouse.tables import EVENTS, TABLES

    stop, opened = threading.Event(), LocalWarehouse.open(warehouse, create=True)
    config = read_config(None)

    def commit() -> None:
        chance = random.Random(5)
        with opened.writer() as run:
            run.declare([*TABLES, *map(table_of, config.metrics)], config.funnel)
            run.commit([])
            while not stop.wait(0.5):
                rows = _rows(chance)
                parts = by_day(rows, EVENTS.partition, "UTC")
                run.commit([write_file(run.staging, EVENTS.name, day, part) for day, part in parts])

    writer = threading.Thread(target=commit)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


def _rows(chance: random.Random) -> Any:
    import polars as pl

    from pipelines.warehouse.sink import shaped
    from pipelines.warehouse.tables import EVENTS, polars_schema

    now, count = datetime.now(UTC), 100
    columns: dict[str, list] = {name: [None] * count for name in polars_schema(EVENTS)}
    columns |= {
        "event_id": [f"{chance.getrandbits(64):x}" for _ in range(count)],
        "event_type": ["page_view"] * count,
        "event_time": [now - timedelta(milliseconds=n) for n in range(count)],
        "received_time": [now] * count,
        "source": ["bench"] * count,
        "user_id": [f"u{chance.randrange(5000)}" for _ in range(count)],
        "content_id": [f"c{chance.randrange(200)}" for _ in range(count)],
    }
    return shaped(pl.DataFrame(columns, schema=polars_schema(EVENTS)), EVENTS)


def publish(log: Path, rate: int, seconds: float) -> int:
    """Append events to a log at a rate; each happens at the moment it is appended. Returns how many there were."""
    from pipelines.sources.log.frames import Entry
    from pipelines.sources.log.writer import LogWriter

    kinds, sent, waiting = bodies(), 0, list[Future]()
    with closing(LogWriter(log, most_bytes=10 << 30)) as writer:
        begun = time.time()
        while (passed := time.time() - begun) < seconds:
            now = datetime.now(UTC)
            stamp = f"{now:%Y-%m-%dT%H:%M:%S.%f}Z"
            entries = []
            for number in range(sent, int(passed * rate)):
                head = f'{{"event_id": "{begun:.0f}-{number}", "event_time": "{stamp}", '.encode()
                body = head + kinds[number % len(kinds)]
                entries.append(Entry(f"{number}", int(now.timestamp() * 1e6), "events", body, {}))
            sent += len(entries)
            waiting += [writer.append(entries)] if entries else []
            time.sleep(0.02)
        for each in waiting:
            each.result()
    return sent


def measure_pixel(scratch: Path, browser: Any, rate: int) -> dict[str, float]:
    """Seconds from events to the screen while a stream of so many events/s runs into the warehouse."""
    log, warehouse = scratch / "log", scratch / "stream"
    log.mkdir()
    run = ["run", "--runner=DirectRunner", "--input_log", str(log), "--warehouse", str(warehouse)]
    publisher = threading.Thread(target=publish, args=(log, rate, WARM_SECONDS + STREAM_SECONDS + 20))
    with running(run, scratch / "run.txt"):
        publisher.start()
        while not (warehouse / "manifest.json").exists():
            time.sleep(0.2)
        with served(warehouse) as url:
            page = browser.new_page()
            page.goto(url)
            page.wait_for_selector("[data-question=now] data[value]", timeout=60_000)
            time.sleep(WARM_SECONDS)
            page.evaluate(NOTE)
            time.sleep(STREAM_SECONDS)
            frames = page.evaluate("window.frames_noted")
            rows = page.evaluate("document.querySelector('[data-key=\"now.people\"]').value")
        publisher.join()
    return {**lags(frames), "people": float(rows), "frames": len(frames)}


def lags(frames: list[list[float]]) -> dict[str, float]:
    """Of an event every 10 ms: seconds until the first frame whose newest event is no older."""
    newest = [at for _, at in frames]
    if len(newest) < 2:
        raise SystemExit("the page stood still: the stream does not run, or cannot keep up on this machine")
    moments = [newest[0] + n / 100 for n in range(1, int((newest[-1] - newest[0]) * 100))]
    seconds = [frames[bisect_left(newest, moment)][0] - moment for moment in moments]
    return {"half": median(seconds), "p95": quantiles(seconds, n=20)[-1], "most": max(seconds)}


def main() -> None:
    """Measure, print, and with --write keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--rate", type=int, default=RATE)
    parser.add_argument("--write", action="store_true")
    values = parser.parse_args()
    speed = measure_speed()
    lines: list[str] = []

    def note(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    note(f"load of the machine before: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
    note(describe(speed))
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        scratch = Path(name)
        with committing(scratch / "small"):
            while not (scratch / "small" / "manifest.json").exists():
                time.sleep(0.1)
            processes: list[subprocess.Popen] = []
            with served(scratch / "small", processes) as url:
                time.sleep(3.0)
                paints, sent = measure_paint(browser, url)
                note(
                    f"first paint: half within {median(paints):.0f} ms, 95 % within "
                    f"{quantiles(paints, n=20)[-1]:.0f} ms (goal {GOALS['paint']:.0f}); "
                    f"{sent / 1e3:.0f} kB are loaded (goal {GOALS['bytes'] / 1e3:.0f})"
                )
                cost = measure_pages(url, processes[0])
                note(
                    f"100 more open pages: {cost[1 + PAGES] - cost[1]:.1f} % of a core (goal {GOALS['pages']:.0f}); "
                    f"one page, two commits and a tick a second: {cost[1]:.1f} %"
                )
        if values.stream:
            pixel = measure_pixel(scratch, browser, values.rate)
            note(
                f"event to pixel at {values.rate:,} events/s: half within {pixel['half']:.2f} s, 95 % within "
                f"{pixel['p95']:.2f} s (goal {GOALS['pixel']}), all within {pixel['most']:.2f} s; "
                f"{pixel['frames']:.0f} frames"
            )
    if values.write:
        listed = "\n".join(f"- {line}" for line in lines)
        command = f"python -m benchmarks.live {' '.join(sys.argv[1:])}"
        head = f"# The live page\n\n`{command}`, {datetime.now(UTC):%Y-%m-%d}.\n\n"
        RESULTS.write_text(f"{head}{listed}\n")


if __name__ == "__main__":
    main()
