"""Stop: what a drain closes early is said before, a stop waits for the end, and what cannot be is one line."""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from pipelines.settings.config import read_config
from pipelines.streaming.stop import ABOUT, DRAIN, About, closed_early, is_written, running, stop
from pipelines.system.disk import LOCK
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.servers.needed import LIMIT
from transforms.errors import WarehouseError

INPUT = "projects/demo-project/subscriptions/events"
# Writes the warehouse as a stream does: holds its lock until it is asked to end, or until it is drained.
HOLDS = """
import fcntl, os, signal, sys, time
lock, drain, deaf = open(sys.argv[1], "a"), sys.argv[2], sys.argv[3] == "deaf"
signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else signal.SIG_DFL)
fcntl.flock(lock, fcntl.LOCK_EX)
lock.truncate(0)
lock.write(str(os.getpid()))
lock.flush()
print("holds", flush=True)
while not os.path.exists(drain):
    time.sleep(0.01)
"""


@pytest.fixture
def warehouse(tmp_path) -> Path:
    LocalWarehouse.open(tmp_path / "w", "Europe/London", create=True)
    return tmp_path / "w"


@contextmanager
def a_stream(folder: Path, can_drain: bool = True, deaf: bool = False) -> Iterator[subprocess.Popen]:
    words = [str(folder / LOCK), str(folder / DRAIN), "deaf" if deaf else "hears"]
    process = subprocess.Popen([sys.executable, "-c", HOLDS, *words], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout, ExitStack() as stack:
        stack.callback(process.wait)
        stack.callback(process.kill)
        assert process.stdout.readline() == b"holds\n"
        (folder / ABOUT).write_bytes(msgspec.json.encode(About(process.pid, INPUT, None, can_drain, "UTC")))
        yield process


def test_what_a_drain_closes_early_is_told_by_metric_in_the_time_of_the_warehouse():
    metrics = read_config(None).metrics
    said = closed_early(metrics, "Europe/London", "wh", datetime(2026, 7, 1, 21, 29, 30, tzinfo=UTC))
    assert said == [
        "draining: every bucket that is open is published as it stands",
        "  activity_1m    2026-07-01 22:29 closes seconds early",
        "  content_1h     2026-07-01 22:00 closes 30 min early",
        "  campaign_1h    2026-07-01 22:00 closes 30 min early",
        "  user_days      2026-07-01 00:00 closes 1 h 30 min early",
        "for events that come later: restart, which resumes from what is stored, or rebuild the day with "
        "`audience recompute --warehouse wh --start 2026-07-01 --end 2026-07-02`",
    ]


def test_the_day_is_that_of_the_warehouse_and_not_of_utc():
    metrics = read_config(None).metrics
    said = closed_early(metrics, "Asia/Tokyo", "wh", datetime(2026, 3, 1, 16, 0, tzinfo=UTC))
    assert "  user_days      2026-03-02 00:00 closes 23 h 00 min early" in said
    assert "--start 2026-03-02 --end 2026-03-03`" in said[-1]


def test_a_warehouse_that_no_stream_writes_has_nothing_to_stop(warehouse):
    (warehouse / ABOUT).write_bytes(msgspec.json.encode(About(1, INPUT, None, True, "UTC")))  # left by a kill
    assert running(warehouse) is None
    with pytest.raises(WarehouseError, match=f"no stream writes {warehouse}; start one with `audience run --warehouse"):
        stop(str(warehouse), False, 1.0, print)


def test_a_backfill_that_writes_is_no_stream(warehouse):
    with open(warehouse / LOCK, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_written(warehouse)
        with pytest.raises(WarehouseError, match="no stream writes"):
            stop(str(warehouse), False, 1.0, print)


def test_a_stop_asks_the_process_and_waits_until_it_has_ended(warehouse):
    said: list[str] = []
    with a_stream(warehouse) as process:
        stop(str(warehouse), False, LIMIT, said.append)
        assert process.wait(LIMIT) == -15
    assert said == [f"stopped: {INPUT}"]
    assert not (warehouse / DRAIN).exists()


def test_a_drain_says_what_it_closes_before_it_asks(warehouse):
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if len(said) == 1:
            assert not (warehouse / DRAIN).exists()

    with a_stream(warehouse) as process:
        stop(str(warehouse), True, LIMIT, say, datetime(2026, 3, 1, 10, 0, tzinfo=UTC))
        assert process.wait(LIMIT) == 0
    assert said[0].startswith("draining: every bucket that is open is published as it stands\n  activity_1m")
    assert said[1:] == [f"drained: {INPUT}"]


def test_a_runner_that_cannot_drain_is_named_and_goes_on(warehouse):
    with a_stream(warehouse, can_drain=False) as process:
        with pytest.raises(WarehouseError, match="runs on a runner that cannot be drained; stop it without --drain"):
            stop(str(warehouse), True, 1.0, print)
        assert process.poll() is None
        assert not (warehouse / DRAIN).exists()


def test_a_stream_that_does_not_end_in_time_is_told_with_its_process(warehouse):
    with (
        a_stream(warehouse, deaf=True) as process,
        pytest.raises(WarehouseError, match=f"process {process.pid} still writes .* after 0 s; look at its stderr"),
    ):
        stop(str(warehouse), False, 0.3, print)


def test_what_a_killed_stream_left_is_not_taken_for_the_backfill_that_writes_now(warehouse):
    with a_stream(warehouse) as process:
        (warehouse / ABOUT).write_bytes(msgspec.json.encode(About(process.pid + 1, INPUT, None, True, "UTC")))
        assert running(warehouse) is None
        with pytest.raises(WarehouseError, match="no stream writes"):
            stop(str(warehouse), False, 1.0, print)
