"""Durable writes to the local disk, and the lock of the one process that writes a folder."""

import errno
import fcntl
import os
import re
from pathlib import Path
from typing import TextIO

import polars as pl

from transforms.errors import WarehouseError, first_line

LOCK = "lock"
FULL = (errno.ENOSPC, errno.EDQUOT)
WRITE_ERRORS = (OSError, pl.exceptions.ComputeError)  # Polars reports a full disk as a ComputeError


def cannot_write(path: Path, error: Exception) -> WarehouseError:
    """The one line for a person whose disk is full or whose folder is not writable."""
    number = re.search(r"\(os error (\d+)\)", str(error))  # as Polars reports it
    why = os.strerror(int(number[1])) if number else getattr(error, "strerror", None) or first_line(error)
    return WarehouseError(f"{path} cannot be written: {why}; free space, check permissions or use another --warehouse")


def is_full(folder: Path, error: BaseException | None) -> bool:
    """Whether a write failed because the disk of `folder` has no room; Polars does not always say why."""
    try:
        if os.statvfs(folder).f_bavail == 0:
            return True
    except OSError:
        return False
    while error is not None and getattr(error, "errno", None) not in FULL:
        error = error.__cause__
    return error is not None


def lock_folder(folder: Path, advice: str = "use another --warehouse") -> TextIO:
    """The open lock file, held until it is closed or the process ends. WarehouseError if another process holds it."""
    lock = open(folder / LOCK, "a+")  # noqa: SIM115 - the caller closes it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise WarehouseError(
            f"{folder} is being written by process {holder}; wait until it ends or {advice}"
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def lock_holder(folder: Path) -> int | None:
    """The process that writes the folder now, if one does."""
    try:
        with open(folder / LOCK) as lock:
            process = int(lock.read().strip() or 0)
            if not process or not _is_alive(process):
                return None
            # Only now, as a run that begins while this holds the lock for a moment would be refused.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return process
    except (OSError, ValueError):
        return None
    return None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is seen whole or not at all, even after a loss of power. Raises OSError."""
    aside = path.with_name(path.name + ".tmp")
    try:
        with open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)  # it would hold the space of a full disk
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
