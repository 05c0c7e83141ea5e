"""Stop: end a stream from another terminal: one that writes a local warehouse, or a dataset from this machine.

A stop closes no window early, and the next start resumes. A drain publishes every open bucket as it is.
"""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from pipelines.settings.config import read_config
from pipelines.system import terminal
from pipelines.system.disk import LOCK
from pipelines.warehouse.local.warehouse import LocalWarehouse
from transforms.errors import WarehouseError
from transforms.metrics.spec import MetricSpec

ABOUT, DRAIN = "stream.json", "drain"  # in the stream's folder
LOOK_SECONDS = 0.1


class About(msgspec.Struct):
    """What a stream states in its folder: its process, what it reads, its configuration, whether it can be drained, and
    the warehouse's time zone."""

    pid: int
    input: str
    config: str | None
    can_drain: bool
    time_zone: str = "UTC"


def folder_of(landing: str, dataset: str) -> Path:
    """The folder of a stream into a dataset."""
    return Path(landing) / dataset.replace(":", "_")


def stop(folder: str, drain: bool, seconds: float, say: Callable[[str], None], now: datetime | None = None) -> None:
    """End the stream into a local warehouse and wait until it has. Errors: WarehouseError if none runs, or it has not
    ended in time."""
    warehouse = LocalWarehouse.open(folder)
    about = running(warehouse.folder)
    if about is None:
        raise WarehouseError(
            f"no stream writes {terminal.shown(folder)}; start one with "
            f"`audience run {terminal.option('warehouse', folder)}`"
        )
    _end(_Place("warehouse", folder, warehouse.folder), about, drain, seconds, say, now)


def stop_into(
    dataset: str,
    landing: str,
    drain: bool,
    seconds: float,
    say: Callable[[str], None],
    now: datetime | None = None,
) -> None:
    """The same for a stream from this machine into a dataset, by the folder that it was started with."""
    folder = folder_of(landing, dataset)
    about = running(folder)
    if about is None:
        raise WarehouseError(
            f"no stream of {folder} writes {dataset}; name the --landing that it was started with, or start one with "
            f"`audience run --dataset {dataset}`"
        )
    _end(_Place("dataset", dataset, folder), about, drain, seconds, say, now)


class _Place(NamedTuple):
    option: str
    name: str
    folder: Path


def _end(
    place: _Place,
    about: About,
    drain: bool,
    seconds: float,
    say: Callable[[str], None],
    now: datetime | None,
) -> None:
    name, folder = place.name, place.folder
    if drain and not about.can_drain:
        raise WarehouseError(f"the stream of {name} runs on a runner that cannot be drained; stop it without --drain")
    if drain:
        metrics = read_config(about.config).metrics
        say("\n".join(closed_early(metrics, about.time_zone, name, now or datetime.now(UTC), place.option)))
        (folder / DRAIN).touch()
    else:
        os.kill(about.pid, signal.SIGTERM)
    end = time.monotonic() + seconds
    while is_written(folder):
        if time.monotonic() > end:
            raise WarehouseError(f"process {about.pid} still writes {name} after {seconds:.0f} s; look at its stderr")
        time.sleep(LOOK_SECONDS)
    say(f"{'drained' if drain else 'stopped'}: {terminal.shown(about.input)}")


def running(folder: Path) -> About | None:
    """The stream whose folder this is, if it runs; what one that was killed left behind does not count."""
    if not is_written(folder):
        return None
    try:
        about = msgspec.json.decode((folder / ABOUT).read_bytes(), type=About)
        holder = (folder / LOCK).read_text().strip()
    except (OSError, msgspec.DecodeError):
        return None
    return about if str(about.pid) == holder else None


def is_written(folder: Path) -> bool:
    """Whether a process holds the folder's lock."""
    if not folder.is_dir():
        return False
    try:
        with open(folder / LOCK, "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def closed_early(
    metrics: Sequence[MetricSpec], zone: str, name: str, now: datetime, option: str = "warehouse"
) -> list[str]:
    """What a drain at this moment closes before its time, and how to rebuild it in the warehouse of this name."""
    local = now.astimezone(ZoneInfo(zone))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    lines = ["draining: every bucket that is open is published as it stands"]
    for spec in metrics:
        start = midnight + (local - midnight) // spec.bucket_width * spec.bucket_width
        left = start + spec.bucket_width - local
        lines.append(f"  {spec.name:<14} {start:%Y-%m-%d %H:%M} closes {_format(left)} early")
    day = midnight.date()
    lines.append(
        f"for events that come later: restart, which resumes from what is stored, or rebuild the day with "
        f"`audience recompute {terminal.option(option, name)} --start {day} --end {day + timedelta(days=1)}`"
    )
    return lines


def _format(left: timedelta) -> str:
    minutes = int(left.total_seconds()) // 60
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min" if minutes else "seconds"
