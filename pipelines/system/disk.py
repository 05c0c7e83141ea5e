"""Durable writes to the local disk, and the lock of the one process that writes a folder."""

import ctypes
import errno
import fcntl
import os
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TextIO

import polars as pl

from transforms.errors import WarehouseError, first_line

LOCK = "lock"
FULL = (errno.ENOSPC, errno.EDQUOT)
MANY = 64  # paths, above which one sync of the whole file system is cheaper
SYNCFS_REPORTS = (5, 8)  # the version of Linux from which on syncfs reports that a write failed
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


def sync_all(root: Path, paths: Collection[str]) -> None:
    """Make these files and folders below `root` durable. Raises OSError.

    Many of them by one sync of their file system, where the system reports its errors: one for each would wait for the
    disk as often.
    """
    if len(paths) <= MANY or not _sync_file_system(root):
        for path in sorted(paths):
            sync(path)


def _sync_file_system(root: Path) -> bool:
    """Sync the file system of a folder; False where that is not offered, or would not report that it failed."""
    if sys.platform != "linux" or _kernel() < SYNCFS_REPORTS:
        return False
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        return False
    descriptor = os.open(root, os.O_RDONLY)
    try:
        if syncfs(descriptor) == 0:
            return True
        if (number := ctypes.get_errno()) in (errno.ENOSYS, errno.EPERM):  # a sandbox may forbid it
            return False
        raise OSError(number, os.strerror(number), str(root))
    finally:
        os.close(descriptor)


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable. Raises OSError."""
    sync(folder)


def sync(path: str | Path) -> None:
    """Make a file's content, or the names in a folder, durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
