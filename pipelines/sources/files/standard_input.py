"""Standard input as a file: `--input -` is spooled to the run's staging, so that every worker and retry reads one file.

    spool(folder)     copies standard input to `<folder>/standard-input/<digest>/stdin`, durably, a piece at a time
    spooled           the same for a command without a run
    known_as(path)    `stdin-<digest>` for such a file, any other path as it is: what positions and messages call it
    format_of(head)   its format by its first bytes, where none is stated
    refuse_stream     a pipe, a device or a descriptor by name is no file: it is read once, and each worker has its own

The digest is of the bytes that came: the same bytes are the same input however often they are sent, other bytes are
another. The spooled file goes with the staging folder.
"""

import hashlib
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from transforms.errors import SourceError, WarehouseError

NAME = "-"
FOLDER = "standard-input"
PIECE = 1 << 20
DIGITS = 16  # of the SHA-256
_SPOOLED = re.compile(rf".*/{FOLDER}/([0-9a-f]{{16}})/stdin")
_DESCRIPTORS = re.compile(r"/dev/(stdin|stdout|stderr|fd/.*)|/proc/.*")
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a directory"),
)
MOST_LINKS = 40


def spool(folder: Path) -> str:
    """Copy standard input to a file below `folder`; its path. Errors: SourceError, WarehouseError for a full disk."""
    if sys.stdin is None or sys.stdin.closed:
        raise SourceError("--input -: standard input is closed; pipe records into the command, or name a file")
    digest = hashlib.sha256()
    aside = folder / FOLDER / "incoming"
    try:
        aside.parent.mkdir()
        with open(aside, "wb") as file:
            for piece in _pieces():
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        home = folder / FOLDER / digest.hexdigest()[:DIGITS]
        home.mkdir()
        os.replace(aside, home / "stdin")
    except OSError as problem:
        raise WarehouseError(
            f"{folder}: standard input cannot be kept there: {problem.strerror}; free space or check permissions"
        ) from problem
    return str(home / "stdin")


@contextmanager
def spooled(patterns: Sequence[str]) -> Iterator[list[str]]:
    """The patterns with standard input, where one of them is NAME, spooled to a folder that lasts as long as this."""
    with tempfile.TemporaryDirectory(prefix="audience-") as folder:
        path = spool(Path(folder)) if NAME in patterns else NAME
        yield [path if pattern == NAME else pattern for pattern in patterns]


def _pieces() -> Iterator[bytes]:
    while True:
        try:
            piece = sys.stdin.buffer.read(PIECE)
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise SourceError(f"--input -: standard input cannot be read: {reason}; name a file") from problem
        if not piece:
            return
        yield piece


def is_spooled(path: str) -> bool:
    """Whether a file came through standard input."""
    return _SPOOLED.fullmatch(path) is not None


def known_as(path: str) -> str:
    """What positions and messages call a file."""
    spooled = _SPOOLED.fullmatch(path)
    return f"stdin-{spooled[1]}" if spooled else path


def format_of(head: bytes) -> str:
    """The format of records that begin like this, where nobody states one. Errors: SourceError."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text or text[:1] in b"{[":
        return "jsonl"
    raise SourceError(
        f"--input -: standard input begins with {text[:20]!r}, which tells no format; state it with --format: jsonl, "
        "csv or parquet"
    )


def refuse_stream(path: str) -> None:
    """Refuse what is no regular file, by itself or through links, and the descriptors of a process, whatever they are.

    Errors: SourceError.
    """
    kind = _descriptor(path)
    if kind is None:
        try:
            mode = os.stat(path).st_mode
        except OSError:
            return  # who opens it says why it cannot
        kind = next((words for matches, words in _KINDS if matches(mode)), None)
    if kind is not None:
        raise SourceError(
            f"{path}: is {kind}, allowed are regular files; pipe it into the command and give --input - instead"
        )


def _descriptor(path: str) -> str | None:
    """Whether a path leads through a file descriptor of a process, in words."""
    for _ in range(MOST_LINKS):
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        if _DESCRIPTORS.fullmatch(path):
            return "a descriptor of a process"
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            return None
    return None
