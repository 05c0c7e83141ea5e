"""Faults of a stream on Prism: whatever is killed, stopped or delivered again, nothing is lost and nothing is double.

STREAM_KILLS   how often the process is killed at a random moment (default 6 in CI, else 2); STREAM_SEED chooses the
               moments
"""

import contextlib
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

import polars as pl
import pytest

from pipelines.sources.pubsub.client import EMULATOR
from pipelines.system.disk import write_atomically
from tests.integration.records import Records
from tests.integration.streams import (
    BAD,
    EVENTS,
    LONG,
    RECEIVED,
    TRUSTED,
    assert_nothing_lost_or_double,
    drained,
    send,
    until_all_is_there,
    until_balanced,
    until_read,
)
from tests.servers.needed import LIMIT, wait_until
from tests.servers.pubsub import Queue
from tests.servers.stream import A_QUERY, Stream, ask, publish, streaming

KILLS = int(os.environ.get("STREAM_KILLS", "6" if os.environ.get("CI") == "true" else "2"))
SEED = int(os.environ.get("STREAM_SEED", "7"))
BOOKS = ("received", "events", "duplicates", "quarantined")


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


def test_killed_at_random_moments_its_runner_dies_a_person_stops_it_twice_and_all_is_delivered_once_more(
    records, queue, prism, tmp_path
):
    parts, number = KILLS + 4, KILLS
    kill_at_random(records, parts, queue, prism, tmp_path)
    # What this run alone reads and has in the audit counts; the next ones know it from what is stored.
    with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
        until_read(stream, [line for part in range(number) for line in records.part(part, parts)])
        before = landed_files(stream)
        send(queue, records.part(number, parts))
        stream.until(lambda: landed_files(stream) - before, LONG)
        os.kill(prism_of(stream), signal.SIGKILL)
        assert stream.process.wait(LIMIT) == 2
    assert "restart to resume: unprocessed records are read again" in only_error(stream)
    for part, ending in ((number + 1, signal.SIGTERM), (number + 2, signal.SIGINT)):
        before = landed_files(stream)
        send(queue, records.part(part, parts))
        with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
            stream.until(lambda before=before, stream=stream: landed_files(stream) - before, LONG)
            assert stream.end(ending) == 0, stream.said()
    waiting = re.findall(r"([\d,]+) landed records are not reconciled yet: the next", stream.said())
    with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
        send(queue, records.part(number + 3, parts))
        publish(queue, [b""], [datetime.now(UTC).isoformat()])  # an attribute is all that it has
        until_all_is_there(stream, records)
        again = re.findall(r"([\d,]+) landed records are not reconciled yet: they are read again", stream.said())
        assert again[-len(waiting) :] == waiting
        delivered_once_more(queue, stream, len(records.lines) + 1)
        drained(stream)
    assert "Traceback" not in stream.said()
    assert_nothing_lost_or_double(stream.warehouse, records.batch, BAD)


def kill_at_random(records: Records, parts: int, queue, prism: str, folder: Path) -> None:
    """Kill streams of a part each: soon after a commit, and while one starts, or resumes, or has just begun to read."""
    rand, took = random.Random(SEED), 8.0
    print(f"STREAM_SEED={SEED}")
    for kill in range(KILLS):
        send(queue, records.part(kill, parts))
        begun = time.monotonic()
        with streaming(queue, prism, folder, *TRUSTED) as stream:
            seen = ask(stream.warehouse, EVENTS) or 0
            if kill % 2 == 0:
                stream.until_counted(EVENTS, seen + rand.randint(1, len(records.lines) // parts // 3), LONG)
                took = time.monotonic() - begun
                moment = time.monotonic() + rand.uniform(0.0, 1.0)
            else:
                moment = begun + rand.uniform(0.0, 1.2) * took
            stream.until(lambda moment=moment: time.monotonic() >= moment, LONG)
            assert stream.end(signal.SIGKILL) == -signal.SIGKILL


def books(warehouse: Path) -> dict[str, int]:
    """The sums of the audit counts."""
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
    # What was nacked, or never acknowledged, by a run before may come now as well.
    assert more["events"] == more["quarantined"] == 0
    assert more["received"] == more["duplicates"] >= messages


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


def test_the_queue_and_the_warehouse_go_and_come_back_and_the_wall_clock_jumps_while_it_runs(
    records, pubsub_emulator, queue, prism, tmp_path, monkeypatch
):
    clock, startup = tmp_path / "clock", tmp_path / "startup"
    startup.mkdir()
    (startup / "sitecustomize.py").write_text(JUMPING.format(clock=str(clock)))
    monkeypatch.setenv("PYTHONPATH", str(startup))
    write_atomically(clock, b"0")
    with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
        for number, jump in enumerate((b"0", b"3600", b"-3600", b"0")):
            write_atomically(clock, jump)
            send_until_landed(queue, stream, records.part(number, 7))
        first, second, third = (records.part(number, 7) for number in (4, 5, 6))
        before = landed_files(stream)
        send(queue, first)
        stream.until(lambda: landed_files(stream) - before, LONG)
        pubsub_emulator.kill()  # it keeps nothing: what has not landed is published again
        pubsub_emulator.start()
        queue.make()
        send_until_landed(queue, stream, not_landed(stream, first) + second)
        in_the_way = stream.warehouse / "manifest.json.tmp"  # where the next one is written
        in_the_way.mkdir()
        send(queue, third)
        stream.until(lambda: '"problem": "' in stream.said(), LONG)
        stream.until(lambda: not not_landed(stream, third), LONG, every=A_QUERY)
        in_the_way.rmdir()
        # What was to be shown soon by the clock that was ahead is shown an hour late, or by the drain.
        stream.until_counted(EVENTS, ask(records.batch, EVENTS), LONG)
        drained(stream)
    assert "Traceback" not in stream.said()
    assert ask(stream.warehouse, RECEIVED) >= len(records.lines)
    assert_nothing_lost_or_double(stream.warehouse, records.batch, BAD)


def send_until_landed(queue, stream: Stream, lines: list[bytes]) -> None:
    send(queue, lines)
    stream.until(lambda: not not_landed(stream, lines), LONG, every=A_QUERY)


def not_landed(stream: Stream, lines: list[bytes]) -> list[bytes]:
    """Those of the lines that are in no landed file."""
    landed = [pl.read_parquet(file, columns=["payload"]) for file in landed_files(stream)]
    left = Counter(lines) - Counter(line for block in landed for line in block["payload"])
    return list(left.elements())


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
        status = until_ended(stream, small_disk / "filler")
        (small_disk / "filler").unlink()
        assert status == 2, stream.said()
    assert "cannot be written" in only_error(stream)
    with streaming(queue, prism, tmp_path, *TRUSTED) as stream:
        until_all_is_there(stream, records)
        drained(stream)
    assert_nothing_lost_or_double(stream.warehouse, records.batch, BAD)
