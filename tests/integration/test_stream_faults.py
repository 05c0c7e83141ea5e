"""Faults of a stream on Prism: whatever is killed, stopped or delivered again, nothing is lost and nothing is double.

STREAM_KILLS   how often the process is killed at a random moment (default 10 in CI, else 2); STREAM_SEED chooses the
               moments
"""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from pipelines.apps.simulator.simulate import faults, simulate
from pipelines.batch.backfill import backfill
from pipelines.batch.recompute import recompute
from pipelines.settings.resolve import resolve
from pipelines.sources.landing import Landing
from pipelines.sources.pubsub.client import EMULATOR
from pipelines.system.disk import write_atomically
from pipelines.warehouse.local.settled import SettledMinutes
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.integration.same import METRICS, UNBALANCED, assert_same, lost_and_double
from tests.servers.needed import wait_until
from tests.servers.pubsub import Queue
from tests.servers.stream import A_QUERY, Stream, ask, drain, publish, received_times, streaming
from transforms.errors import SourceError
from transforms.lateness import MARGIN, allowed_lateness

KILLS = int(os.environ.get("STREAM_KILLS", "10" if os.environ.get("CI") == "true" else "2"))
SEED = int(os.environ.get("STREAM_SEED", "7"))
TRUSTED = ("--timestamp_attribute", "received_time")
LONG = 180.0  # seconds that a condition may take on a machine that does much else
RECEIVED = "SELECT sum(received) FROM quality_1m_current"
# What is bad may stand in quarantine once for each time that it was delivered.
BAD = "SELECT DISTINCT source, stage, code, errors, payload FROM quarantine WHERE octet_length(payload) > 0"
BOOKS = ("received", "events", "duplicates", "quarantined")
EVENTS = "SELECT count(*) FROM events"


class Records(NamedTuple):
    """Lines with every fault that a queue and a file decide alike, and the warehouse of their backfill."""

    lines: list[bytes]
    batch: Path

    def part(self, number: int, parts: int) -> list[bytes]:
        return self.lines[number::parts]


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Records:
    """1,000 events of the day before yesterday, 60 % of them of one person and one content, and one of 9.5 MB."""
    folder = tmp_path_factory.mktemp("records")
    start = datetime.now(UTC).date() - timedelta(days=2)
    given = faults("many", no_time=0.0, conflicts=0.0, missing_id=0.0, huge_lines=0.0, hot_key=0.6)
    simulate(1_000, 11, folder / "events.jsonl", days=1, start=start, faults=given)
    huge = event("huge", datetime(start.year, start.month, start.day, 12, tzinfo=UTC), text="x" * 9_500_000)
    with (folder / "events.jsonl").open("ab") as file:
        file.write(huge + b"\n")
    return Records((folder / "events.jsonl").read_bytes().splitlines(), backfilled(folder))


def event(name: str, moment: datetime, **properties: str) -> bytes:
    """An event that was received when it happened."""
    told = {"event_id": name, "event_type": "page_view", "user_id": "ann", "content_id": "home"}
    time = moment.isoformat()
    more = {"campaign": "spring", "properties": properties, "event_time": time, "received_time": time}
    return json.dumps(told | more).encode()


def backfilled(folder: Path) -> Path:
    """The warehouse of a backfill of the records in a folder."""
    backfill(resolve({"input": [str(folder / "events.jsonl")], "warehouse": str(folder / "batch"), "workers": "1"}))
    return folder / "batch"


def send(queue, lines: list[bytes]) -> None:
    publish(queue, lines, received_times(lines))


def until_all_is_there(stream: Stream, records: Records) -> None:
    """Wait until all that a backfill writes is written, in balance."""
    for count in (EVENTS, f"SELECT count(*) FROM ({BAD})"):
        stream.until_counted(count, ask(records.batch, count), LONG)
    stream.until_counted(RECEIVED, len(records.lines), LONG)
    until_balanced(stream)


def until_balanced(stream: Stream) -> None:
    """Wait until all that landed is in the books, and they are balanced."""
    stream.until(lambda: is_settled(stream) and ask(stream.warehouse, UNBALANCED) == 0, LONG, "books", A_QUERY)


def is_settled(stream: Stream) -> bool:
    name = json.loads((stream.warehouse / "stream.json").read_text())["input"]
    try:
        counted = SettledMinutes(LocalWarehouse.open(stream.warehouse), [name]).received()
        return Landing(stream.warehouse / "landing").undone(counted).is_empty()
    except SourceError:  # one was retired since the folder was listed
        return False


def drained(stream: Stream) -> None:
    drain(stream.warehouse)
    assert stream.process.wait(LONG) == 0, stream.said()


def assert_nothing_lost_or_double(warehouse: Path, batch: Path, *also: str) -> None:
    """The rows of a backfill, and those of the queries `also`."""
    counts = {table: lost_and_double(warehouse, batch, table) for table in ("events", "events_unique")}
    assert counts == {"events": (0, 0), "events_unique": (0, 0)}
    for sql in (
        "SELECT * EXCLUDE (received_time, sent_time) FROM events",
        *(f"SELECT * FROM {metric}_current" for metric in METRICS),
        *also,
    ):
        assert_same(warehouse, batch, sql)
    assert ask(warehouse, UNBALANCED) == 0
    assert not list((warehouse / "landing").glob("*.parquet"))


def test_killed_at_random_moments_of_its_start_and_of_its_work(records, queue, prism, tmp_path):
    rand, took = random.Random(SEED), 8.0
    for kill in range(KILLS):
        send(queue, records.part(kill, KILLS + 1))
        begun = time.monotonic()
        with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
            seen = ask(stream.warehouse, EVENTS) or 0
            if kill % 2 == 0:  # soon after a commit
                stream.until_counted(EVENTS, seen + 1, LONG)
                took = time.monotonic() - begun
                moment = time.monotonic() + rand.uniform(0.0, 1.0)
            else:  # while it starts, or resumes, or has just begun to read
                moment = begun + rand.uniform(0.0, 1.2) * took
            stream.until(lambda moment=moment: time.monotonic() >= moment, LONG)
            assert stream.end(signal.SIGKILL) == -signal.SIGKILL
    with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
        send(queue, records.part(KILLS, KILLS + 1))
        until_all_is_there(stream, records)
        drained(stream)
    assert_nothing_lost_or_double(stream.warehouse, records.batch, BAD)


def only_error(stream: Stream) -> str:
    """The one line, beside how it does, that a stream says of what ended it."""
    assert "Traceback" not in stream.said()
    (error,) = (line for line in stream.said().splitlines() if line.startswith("error:"))
    return error


def prism_of(stream: Stream) -> int:
    """The process id of the runner that a stream started."""
    for path in Path(f"/proc/{stream.process.pid}/task").glob("*/children"):
        for pid in path.read_text().split():
            if b"--job_socket" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    raise AssertionError(f"no runner: {stream.said()}")


def landed_files(stream: Stream) -> set[Path]:
    return set((stream.warehouse / "landing").glob("*.parquet"))


@pytest.fixture
def queue(pubsub_emulator, monkeypatch) -> Iterator[Queue]:
    """A topic and a subscription that keeps what is acknowledged."""
    monkeypatch.setenv(EMULATOR, pubsub_emulator.host)
    made = Queue(pubsub_emulator.host, retain_acked_messages=True)
    yield made
    made.pubsub.close()


def test_the_runner_dies_a_person_stops_it_twice_and_all_is_delivered_once_more(records, queue, prism, tmp_path):
    settled = records.part(0, 5)  # read by this run alone: the next ones know it from what is stored
    send(queue, settled)
    with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
        stream.until_counted(RECEIVED, len(settled), LONG)
        until_balanced(stream)
        before = landed_files(stream)
        send(queue, records.part(1, 5))
        stream.until(lambda: landed_files(stream) - before, LONG)
        os.kill(prism_of(stream), signal.SIGKILL)
        assert stream.process.wait(LONG) == 2
    assert "restart to resume: unprocessed records are read again" in only_error(stream)
    for part, number in ((2, signal.SIGTERM), (3, signal.SIGINT)):
        before = landed_files(stream)
        send(queue, records.part(part, 5))
        with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
            stream.until(lambda before=before, stream=stream: landed_files(stream) - before, LONG)
            assert stream.end(number, LONG) == 0, stream.said()
    waiting = re.findall(r"([\d,]+) landed records are not reconciled yet", stream.said())
    with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
        send(queue, records.part(4, 5))
        publish(queue, [b""], [datetime.now(UTC).isoformat()])  # an attribute is all that it has
        until_all_is_there(stream, records)
        again = re.findall(r"([\d,]+) landed records are not reconciled yet: they are read again", stream.said())
        assert again[-len(waiting) :] == waiting
        delivered_once_more(queue, stream, len(records.lines) + 1)
        drained(stream)
    assert "Traceback" not in stream.said()
    assert_nothing_lost_or_double(stream.warehouse, records.batch, BAD)


def books(warehouse: Path) -> dict[str, int]:
    """The sums of the books."""
    said = ", ".join(f"sum({name})" for name in BOOKS)
    return dict(zip(BOOKS, ask(warehouse, f"SELECT [{said}] FROM quality_1m_current"), strict=True))


def delivered_once_more(queue, stream: Stream, messages: int) -> None:
    """Have the queue deliver all again: each is received, and is a duplicate, also of what was refused."""
    before = books(stream.warehouse)
    queue.deliver_again(datetime.now(UTC) - timedelta(hours=1))
    stream.until_counted(RECEIVED, before["received"] + messages, LONG)
    until_balanced(stream)
    after = books(stream.warehouse)
    more = {name: after[name] - before[name] for name in BOOKS}
    # What was given back, or never acknowledged, by a run before may come now as well.
    assert more["events"] == more["quarantined"] == 0
    assert more["received"] == more["duplicates"] >= messages


def test_the_queue_and_the_warehouse_go_and_come_back_while_it_runs(records, pubsub_emulator, queue, prism, tmp_path):
    first, second, third = (records.part(number, 3) for number in range(3))
    with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
        send(queue, first)
        stream.until(lambda: landed_files(stream), LONG)
        pubsub_emulator.kill()  # it keeps nothing: what has not landed is published again
        pubsub_emulator.start()
        queue.make()
        send(queue, not_landed(stream, first) + second)
        stream.until(lambda: not not_landed(stream, first + second), LONG)
        in_the_way = stream.warehouse / "manifest.json.tmp"  # where the next one is written
        in_the_way.mkdir()
        send(queue, third)
        stream.until(lambda: '"problem": "' in stream.said(), LONG)
        in_the_way.rmdir()
        until_all_is_there(stream, records)
        drained(stream)
    assert "Traceback" not in stream.said()
    assert_nothing_lost_or_double(stream.warehouse, records.batch)


def not_landed(stream: Stream, lines: list[bytes]) -> list[bytes]:
    """Those of the lines that are in no landed file."""
    landed = [pl.read_parquet(file, columns=["payload"]) for file in landed_files(stream)]
    left = Counter(lines) - Counter(line for block in landed for line in block["payload"])
    return list(left.elements())


def test_what_waited_for_days_is_set_aside_and_a_quiet_source_closes_its_windows(queue, prism, tmp_path):
    lines, too_late = backlog(tmp_path)
    send(queue, lines)
    # No bucket is shown before it ends, so that what is shown is closed.
    with streaming(queue, prism, tmp_path, *TRUSTED, "--early_firing", "1h") as stream:
        stream.until_counted(RECEIVED, len(lines), LONG)
        until_balanced(stream)
        now = datetime.now(UTC) - timedelta(seconds=5)
        last = event("last", now)
        send(queue, [last])
        minute = f"TIMESTAMPTZ '{now:%Y-%m-%d %H:%M}:00+00'"
        closed = f"SELECT count(*) FROM activity_1m WHERE firing = 'on_time' AND bucket_start = {minute}"
        stream.until_counted(closed, 1, LONG)
        drained(stream)
    late = "SELECT count(*) FROM quarantine_open WHERE code = 'too_late_for_stream'"
    assert ask(stream.warehouse, late) == too_late > 0
    assert ask(stream.warehouse, EVENTS) == len(lines) + 1 - too_late
    recompute(resolve({"warehouse": str(stream.warehouse), "workers": "1"}, "recompute"))
    assert ask(stream.warehouse, late) == 0
    (tmp_path / "events.jsonl").write_bytes(b"\n".join([*lines, last]))
    assert_nothing_lost_or_double(stream.warehouse, backfilled(tmp_path))


def backlog(folder: Path) -> tuple[list[bytes], int]:
    """Events of the last four days, received when they happened, and how many of them no window takes any more."""
    now = datetime.now(UTC)
    oldest = now - allowed_lateness(timedelta(days=1)) + MARGIN
    moments = [now - timedelta(minutes=7 * n) for n in range(800)] + [
        now - timedelta(seconds=15 * n) for n in range(240)
    ]
    # None at the bound, which moves on while they are read.
    moments = [moment for moment in moments if abs(moment - oldest) > timedelta(minutes=20)]
    return [event(f"{n}", moment) for n, moment in enumerate(moments)], sum(moment < oldest for moment in moments)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 64 MB, for the warehouse alone."""
    folder = tmp_path / "warehouse"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Fill what is left of the disk."""
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))


def until_ended(stream: Stream, filler: Path) -> int:
    """Wait for the end of a stream whose disk stays full, also where it frees room by itself: its exit status."""

    def ended() -> bool:
        fill(filler)
        return stream.process.poll() is not None

    wait_until(ended, LONG, stream.said())
    return stream.process.wait()


def test_a_full_disk_ends_it_in_one_line_and_a_start_with_room_goes_on(records, queue, prism, small_disk, tmp_path):
    send(queue, records.part(0, 2))
    with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
        stream.until_counted(EVENTS, 1, LONG)
        fill(small_disk / "filler")
        send(queue, records.part(1, 2))
        status = stream.process.wait(LONG)
        (small_disk / "filler").unlink()
        assert status == 2, stream.said()
    assert "cannot be written" in only_error(stream)
    with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
        until_all_is_there(stream, records)
        drained(stream)
    assert_nothing_lost_or_double(stream.warehouse, records.batch, BAD)


# What gRPC reckons a deadline from it compares with the kernel's clock, which does not jump here.
JUMPING = """
import sys, time
real = time.time

def jumping():
    is_grpc = sys._getframe(1).f_globals.get("__name__", "").startswith("grpc")
    with open({clock!r}) as file:
        return real() + (0 if is_grpc else float(file.read()))

time.time = jumping
"""


def test_the_wall_clock_is_set_forth_and_back_by_an_hour_while_it_runs(records, queue, prism, tmp_path, monkeypatch):
    clock, startup = tmp_path / "clock", tmp_path / "startup"
    startup.mkdir()
    (startup / "sitecustomize.py").write_text(JUMPING.format(clock=str(clock)))
    monkeypatch.setenv("PYTHONPATH", str(startup))
    write_atomically(clock, b"0")
    with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
        for number, jump in enumerate((b"0", b"3600", b"-3600", b"0")):
            write_atomically(clock, jump)
            part = records.part(number, 4)
            send(queue, part)
            stream.until(lambda part=part: not not_landed(stream, part), LONG, every=A_QUERY)
        # What was to be shown soon by the clock that was ahead is shown an hour late, or by the drain.
        stream.until_counted(EVENTS, ask(records.batch, EVENTS), LONG)
        drained(stream)
    assert_nothing_lost_or_double(stream.warehouse, records.batch, BAD)
