"""Simulated records that several tests stream, and the warehouse of their backfill: made once for a whole run.

What a stream costs on Prism is the number of its windows far more than of its events. The times of the records are
therefore gathered, in the same order: each stretch of 40 minutes of a day becomes one minute, and these minutes are 20
apart, from noon on, so that sessions are of several.
"""

import fcntl
import gzip
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pytest

from pipelines.apps.simulator.simulate import faults, simulate
from pipelines.batch.backfill import backfill
from pipelines.settings.resolve import resolve
from tests.support.real_data import real_set

GATHERED, APART, NOON = 40, 20, 12 * 60  # minutes that become one, minutes between two such, the first of them
# The day of this moment is over for 18 hours, and not too old for a stream whose clock is an hour ahead.
OLDEST = timedelta(hours=42)
TIME = re.compile(rb"T(\d\d):(\d\d):(\d\d)\.(\d{3})Z")


class Records(NamedTuple):
    """Lines with every fault that a queue and a file decide alike, and the warehouse of their backfill."""

    lines: list[bytes]
    batch: Path
    file: Path

    def part(self, number: int, parts: int) -> list[bytes]:
        return self.lines[number::parts]


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name`, filled by the first process of the run that asks for it."""
    base = factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, made = root / f"shared-{name}", root / f"shared-{name}.made"
    with (root / f"shared-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            folder.mkdir()  # fails where another process failed to fill it
            make(folder)
            made.touch()
    return folder


def gather(line: bytes) -> bytes:
    """A line with its times gathered."""
    return TIME.sub(_gather, line)


def _gather(found: re.Match) -> bytes:
    hour, minute, second, ms = map(int, found.groups())
    whole, part = divmod(hour * 60 + minute, GATHERED)
    hour, minute = divmod(NOON + whole * APART, 60)
    left = (part * 60_000 + second * 1_000 + ms) // GATHERED
    return b"T%02d:%02d:%02d.%03dZ" % (hour, minute, left // 1_000, left % 1_000)


def write_records(folder: Path, events: int, huge: int = 0, **rates: float) -> None:
    """Write `events.jsonl`: events of one whole day, and one of so many bytes; and its backfill, `batch`."""
    start = (datetime.now(UTC) - OLDEST).date()
    given = faults("many", no_time=0.0, conflicts=0.0, missing_id=0.0, huge_lines=0.0, **rates)
    simulate(events, 11, folder / "simulated.jsonl", days=1, start=start, faults=given)
    lines = [gather(line) for line in (folder / "simulated.jsonl").read_bytes().splitlines()]
    if huge:
        lines.append(event("huge", datetime(start.year, start.month, start.day, 12, tzinfo=UTC), text="x" * huge))
    (folder / "events.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    backfilled(folder)


def read_records(folder: Path) -> Records:
    file = folder / "events.jsonl"
    return Records(file.read_bytes().splitlines(), folder / "batch", file)


def backfilled(folder: Path) -> Path:
    """The warehouse of a backfill of the records in a folder."""
    backfill(resolve({"input": [str(folder / "events.jsonl")], "warehouse": str(folder / "batch"), "workers": "1"}))
    return folder / "batch"


def event(name: str, moment: datetime, **properties: str) -> bytes:
    """An event that was received when it happened."""
    told = {"event_id": name, "event_type": "page_view", "user_id": "ann", "content_id": "home"}
    time = moment.isoformat()
    more = {"campaign": "spring", "properties": properties, "event_time": time, "received_time": time}
    return json.dumps(told | more).encode()


def write_github(folder: Path, most: int | None = None) -> Path:
    """`github.jsonl`: an hour of real GitHub events, as if it had been yesterday, or the first of them."""
    day = (datetime.now(UTC) - timedelta(days=1)).date().isoformat().encode()
    file = folder / "github.jsonl"
    with gzip.open(real_set("github-events") / "2015-02-22-21.min.json.gz") as lines:
        file.write_bytes(b"".join(line.replace(b"2015-02-22T", day + b"T") for line in islice(lines, most)))
    return file
