"""The demo of a stream: a queue, simulated events that happen now, and the warehouse that the stream writes.

It starts Google's Pub/Sub emulator and `audience run` as child processes, publishes at a steady rate, waits until the
audit counts include every message, drains the stream, and compares the warehouse with the simulator's ledger. The
warehouse is a new folder, or a new dataset in BigQuery (in its emulator, if the environment names one).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from pipelines.apps.demo import emulators
from pipelines.apps.demo.emulators import PROJECT, ended
from pipelines.apps.demo.files import answer, prepare_folder
from pipelines.apps.simulator.faults import faults
from pipelines.apps.simulator.ledger import Ledger, expectations, unmet
from pipelines.apps.simulator.live import Live
from pipelines.apps.simulator.output import paced
from pipelines.apps.simulator.topic import Line, publish_batches
from pipelines.batch.summary import program
from pipelines.runners import choose as runners
from pipelines.settings.resolve import Place
from pipelines.sources.pubsub.client import EMULATOR, PubSub
from pipelines.system import terminal
from pipelines.system.terminal import say
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.open import open_warehouse
from transforms.errors import AudienceError, OptionError, RunnerError

TOPIC, SUBSCRIPTION = f"projects/{PROJECT}/topics/events", f"projects/{PROJECT}/subscriptions/events"
AUDIENCE = (sys.executable, "-m", "pipelines.cli")
SEED = 7
TICK_SECONDS = 0.2  # messages due within it are published together
START_SECONDS, BOOKS_SECONDS, DRAIN_SECONDS, END_SECONDS = 90.0, 180.0, 180.0, 30.0
QUESTIONS = (
    (
        "Audit counts of the last minutes: every message is in exactly one place",
        "SELECT bucket_start, SUM(received) AS received, SUM(events) AS events, SUM(duplicates) AS duplicates,"
        " SUM(conflicts) AS conflicts, SUM(quarantined) AS quarantined, SUM(balance) AS balance"
        " FROM quality_1m_current GROUP BY bucket_start ORDER BY bucket_start",
    ),
    (
        "Why messages are in quarantine",
        "SELECT stage, code, SUM(records) AS records FROM quarantine_by_code"
        " GROUP BY ALL ORDER BY records DESC, code LIMIT 6",
    ),
    (
        "Activity of the last minutes (older minutes hold late events)",
        "SELECT bucket_start, SUM(events) AS events, SUM(events) FILTER (event_type = 'page_view') AS views,"
        " SUM(events) FILTER (event_type = 'purchase') AS purchases, COUNT(DISTINCT channel) AS channels"
        " FROM activity_1m_current GROUP BY bucket_start ORDER BY bucket_start DESC LIMIT 5",
    ),
    (
        "Engagement by channel",
        "SELECT channel, SUM(events) AS events, SUM(views) AS views, SUM(clicks) AS clicks, SUM(likes) AS likes,"
        " SUM(shares) AS shares FROM engagement_by_channel GROUP BY channel ORDER BY events DESC",
    ),
    (
        "Firings of activity_1m: early while a minute is open, on time at its end, then late",
        "SELECT firing, COUNT(*) AS published, MIN(emitted_time) AS earliest, MAX(emitted_time) AS latest"
        " FROM activity_1m GROUP BY firing ORDER BY earliest",
    ),
)


class Target(NamedTuple):
    """The warehouse that the demo streams to, and the options that name it on a command line."""

    place: Place
    words: list[str]  # of every command
    home: Path
    forgets: bool = False

    def open(self) -> AbstractContextManager[Warehouse]:
        """Open the warehouse for queries."""
        return open_warehouse(*self.place)


def stream_demo(folder: str, rate: float, minutes: float, prism: str | None = None, dataset: str | None = None) -> int:
    """Replace `folder` and stream into it; 1 if the warehouse differs from what was published, else 0.

    rate     messages a second
    prism    the Prism binary, if it is not the one of `make prism`
    dataset  project.dataset to create as the warehouse; else the warehouse is a folder in `folder`
    Errors: AudienceError if a part is missing or does not start.
    """
    runner = runners.choose(runners.PRISM, prism)
    emulator = emulators.pubsub_emulator(Path(folder) / "emulator.log")
    target = _choose_target(Path(folder), dataset)
    with _interrupt_once(), emulator:
        _say(f"Pub/Sub emulator at {emulator.host} (log: {terminal.shown(str(emulator.log))})")
        pubsub = PubSub(emulator.host)
        pubsub.make_topic(TOPIC)
        pubsub.make_subscription(SUBSCRIPTION, TOPIC, ack_deadline_seconds=10)
        live = Live(int(rate * minutes * 60), SEED, faults(invalid_source=0.0))  # each name is one more source
        (target.home / "ledger.json").write_bytes(msgspec.json.format(msgspec.json.encode(live.ledger), indent=2))
        with _run_stream(target, emulator.host, str(runner.program)) as process:
            _publish(live, pubsub, rate, target, process)
            _drain(live.ledger, target, process)
        pubsub.close()
    with target.open() as warehouse:
        answer(warehouse, QUESTIONS)
        status = _compare(live.ledger, warehouse)
    if target.forgets:
        print(f"\nThe warehouse is {target.words[1]} in the emulator, which loses it when it ends.")
        return status
    place = terminal.option(target.words[0].removeprefix("--"), target.words[1])
    print(f"\nThe warehouse is {terminal.shown(target.words[1])}, with the tables and views that a backfill writes:\n")
    print(f'  {program()} query {place} "SELECT * FROM content_1h_current ORDER BY views DESC LIMIT 5"')
    print(f"  {program()} run {place} --input_subscription projects/PROJECT/subscriptions/NAME")
    return status


def _choose_target(folder: Path, dataset: str | None) -> Target:
    """The target; the folder is replaced. Errors: OptionError for a dataset that exists."""
    if dataset is None:
        home = prepare_folder(folder)
        return Target(Place(None, str(home / "warehouse")), ["--warehouse", str(home / "warehouse")], home)
    from pipelines.warehouse.bigquery import clients as bigquery_clients  # which imports Google's clients
    from pipelines.warehouse.bigquery.warehouse import BigQueryWarehouse

    if BigQueryWarehouse.exists(dataset):
        raise OptionError(f"--dataset: got {dataset!r}, which exists; allowed: a new one, which the demo creates")
    home = prepare_folder(folder)
    words = ["--dataset", dataset, "--landing", str(home / "landing")]
    return Target(Place(dataset, None), words, home, forgets=bigquery_clients.REST in os.environ)


@contextmanager
def _interrupt_once() -> Iterator[None]:
    """Interrupt at the first SIGINT or SIGTERM, and ignore further ones while everything is being stopped."""

    def interrupt(number, frame):
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _run_stream(target: Target, host: str, prism: str) -> Iterator[subprocess.Popen]:
    """Run `audience run`, which shows its status line on this terminal; stop it at the end if it is still running."""
    words = ["--input_subscription", SUBSCRIPTION, *target.words, "--prism_location", prism]
    process = subprocess.Popen(
        [*AUDIENCE, "run", *words],
        env=os.environ | {EMULATOR: host},
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this process, which then stops the other
    )
    try:
        yield process
    finally:
        ended(process, END_SECONDS)


def _publish(live: Live, pubsub: PubSub, rate: float, target: Target, process: subprocess.Popen) -> None:
    """Publish one message and, after it was read, the others at a steady rate."""
    publish_batches(pubsub, TOPIC, [live.lines(0, 1, time.time())])
    if not _wait_until(lambda: any(target.home.rglob("landing/*.parquet")), process, START_SECONDS):
        raise RunnerError(f"the stream has read nothing in {START_SECONDS:.0f} s; look in {target.home} for its log")
    say(f"publishing {len(live):,} messages, {rate:,.0f} a second")
    per_tick = rate * TICK_SECONDS

    def batches() -> Iterator[list[Line]]:
        ticks = int((len(live) - 1) / per_tick) + 1
        for due in paced(range(ticks), 1 / TICK_SECONDS):
            first, last = 1 + int(due[0] * per_tick), 1 + int((due[-1] + 1) * per_tick)
            _check_running(process)
            yield live.lines(first, last - first, time.time())

    publish_batches(pubsub, TOPIC, batches())


def _drain(ledger: Ledger, target: Target, process: subprocess.Popen) -> None:
    """Wait until the audit counts include everything published, and drain the stream."""
    say("all messages are published; waiting until the audit counts include them")
    if not _wait_until(lambda: _count_received(target) >= ledger.lines, process, BOOKS_SECONDS):
        _say(f"not within {BOOKS_SECONDS:.0f} s; the comparison lists what is missing")
    words = ["stop", "--drain", *target.words, "--wait", f"{DRAIN_SECONDS:.0f}"]
    with subprocess.Popen([*AUDIENCE, *words], stderr=subprocess.PIPE, text=True, start_new_session=True) as stop:
        assert stop.stderr is not None
        try:
            for line in stop.stderr:
                _say(line.rstrip("\n"))
        finally:
            ended(stop)
    if stop.returncode:
        raise RunnerError("the stream was not drained; see the line above")
    if process.wait(END_SECONDS):
        raise RunnerError(f"the stream ended with exit status {process.returncode}")


def _wait_until(condition: Callable[[], bool], process: subprocess.Popen, seconds: float) -> bool:
    """Wait until a condition holds; False if it does not in time. Errors: RunnerError if the stream ends."""
    end = time.monotonic() + seconds
    while not condition():
        _check_running(process)
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def _check_running(process: subprocess.Popen) -> None:
    if process.poll() is not None:
        raise RunnerError(f"the stream ended with exit status {process.returncode}; see its own line above")


def _count_received(target: Target) -> int:
    with suppress(AudienceError), target.open() as warehouse:
        return pl.concat(warehouse.ask("SELECT SUM(received) FROM quality_1m_current")).item() or 0
    return 0


def _compare(ledger: Ledger, warehouse: Warehouse) -> int:
    """Print the numbers in which the warehouse differs from the ledger; 1 if there are any, else 0."""
    wrong = unmet(ledger, warehouse)
    every = len(expectations(ledger))
    print("\nThe ledger of what was published, compared with the warehouse\n")
    print(f"  published    {ledger.lines:,} messages")
    print(
        f"  to be events {ledger.accepted:,}, duplicates {ledger.repeats + ledger.conflicts:,},"
        f" in quarantine {sum(ledger.quarantined.values()):,}"
    )
    print(f"  met          {every - len(wrong)} of {every} numbers: types, times, ids, codes, audit counts")
    for line in wrong:
        print(f"  NOT MET      {line}")
    return 1 if wrong else 0


def _say(text: str) -> None:
    if terminal.draws():  # the stream may just have drawn its status line
        terminal.erase()
    say(text)
