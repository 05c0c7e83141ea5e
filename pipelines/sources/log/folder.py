"""The folder of a log: its segments, its locks, and how far it was read.

<number>.log      a segment: frames (frames.py); the numbers only grow, and a number is never used again
<number>.torn     what a crash left behind the last whole frame of a segment
<number>.damaged  a segment in which the reader passed over something, kept when it was read to its end
position          how far the reader is: all before it is finalized
lock, reader.lock the one process that writes, and the one that reads
"""

import fcntl
import os
from pathlib import Path
from typing import NamedTuple, TextIO

import msgspec

from pipelines.system.disk import sync_folder, write_atomically
from pipelines.system.private import OWNER, umask
from transforms.errors import SourceError

SEGMENT, TORN, DAMAGED = ".log", ".torn", ".damaged"
WRITER_LOCK, READER_LOCK = "lock", "reader.lock"
POSITION = "position"


class LogError(SourceError):
    """The log cannot be written, or not be used: what was not acknowledged is not in it."""


class Position(NamedTuple):
    """A place in a log: a segment, and the offset of a frame in it, in bytes."""

    segment: int = 0
    offset: int = 0


def make_folder(folder: Path) -> None:
    """Create the folder, readable by its owner alone; one that exists keeps its mode. Errors: LogError."""
    if folder.is_dir():
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise LogError(f"{folder} cannot be created: {error.strerror}; check the path and its permissions") from error


def segment_name(number: int) -> str:
    return f"{number:012d}{SEGMENT}"


def segments(folder: Path) -> dict[int, Path]:
    """The segments by number, in their order. Raises OSError."""
    names = [Path(name) for name in os.listdir(folder) if name.endswith(SEGMENT)]
    numbers = sorted(int(name.stem) for name in names if name.stem.isdecimal() and name.stem.isascii())
    return {number: folder / segment_name(number) for number in numbers}


def read_position(folder: Path) -> Position:
    """How far the log was read; its begin where nobody has. Errors: SourceError for a file that is no position."""
    path = folder / POSITION
    try:
        return msgspec.json.decode(path.read_bytes(), type=Position)
    except FileNotFoundError:
        return Position()
    except (OSError, msgspec.MsgspecError) as error:
        raise SourceError(
            f"{path} cannot be read: {error}; restore it, or delete it: then the log is read from its begin again"
        ) from error


def write_position(folder: Path, position: Position) -> None:
    """Keep how far the log is read, durably. Raises OSError."""
    with umask(OWNER):
        write_atomically(folder / POSITION, msgspec.json.encode(position))


def hold(folder: Path, name: str, doing: str, advice: str = "end that one, or use another folder") -> TextIO:
    """The open lock file, held until it is closed or the process ends. Errors: LogError if another process holds it."""
    try:
        lock = open(os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600), "r+")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise LogError(f"{folder} cannot be used: {error.strerror}; check its owner and its permissions") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise LogError(f"{folder} is {doing} by process {holder}; {advice}") from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
