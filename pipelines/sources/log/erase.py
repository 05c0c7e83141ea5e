"""Erase entries of a log that rests: nobody writes it, and nobody reads it.

    resting(folder)             holds both locks while it lasts
    read_entries(folder)        every entry that is whole, of segments and of what was kept beside them
    erase_entries(folder, ...)  puts frames that hold nothing in the place of entries, each file in one step

Places do not move, so the position of the reader stays right. A file is written beside and renamed, durably: after a
kill some files are erased and the others are as before, and a second run goes on.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pipelines.sources.log.folder import DAMAGED, READER_LOCK, SEGMENT, TORN, WRITER_LOCK, hold
from pipelines.sources.log.frames import HEADER, Entry, erased, find_frame, read_frames
from pipelines.system.disk import sync_folder, write_atomically
from pipelines.system.private import OWNER, umask

AT_ONCE = 4 << 20  # bytes of frames whose entries are judged together
_ADVICE = "stop it (Ctrl-C; clients of a collector send again), erase, and start it again"


class Part(NamedTuple):
    """A part of a file: entries with where the frame of each begins and ends, or bytes that are no frame."""

    begin: int
    end: int
    entries: list[Entry]
    frames: list[tuple[int, int]]


class Gone(NamedTuple):
    """What was erased: entries, and bytes that were no whole frame."""

    entries: int = 0
    bytes: int = 0


@contextmanager
def resting(folder: Path) -> Iterator[None]:
    """While it lasts, no other process writes or reads the log. Errors: LogError if one does."""
    with hold(folder, WRITER_LOCK, "written", _ADVICE), hold(folder, READER_LOCK, "read", _ADVICE):
        yield


def files_of(folder: Path) -> list[Path]:
    """The files that hold entries, in their order. Raises OSError."""
    return sorted(path for path in folder.iterdir() if path.suffix in (SEGMENT, DAMAGED, TORN))


def parts_of(held: bytes) -> Iterator[Part]:
    """The parts of a file, in their order; together they are all of it."""
    at = 0
    while at < len(held):
        found = read_frames(held, at, most_bytes=AT_ONCE)
        if found.ends:
            # An erased frame has no entry: each entry is found again by its own frame.
            yield _of_frames(held, at, found.ends)
            at = found.ends[-1]
        if found.problem is not None:
            behind = find_frame(held[at:], 0)
            end = len(held) if behind is None else at + behind
            yield Part(at, end, [], [])
            at = end


def _of_frames(held: bytes, at: int, ends: Sequence[int]) -> Part:
    entries, frames = list[Entry](), list[tuple[int, int]]()
    for begin, end in zip((at, *ends), ends, strict=False):
        if one := read_frames(memoryview(held)[begin:end], 0).entries:
            entries += one
            frames.append((begin, end))
    return Part(at, ends[-1], entries, frames)


def read_entries(folder: Path) -> Iterator[tuple[list[Entry], bytes]]:
    """(entries that are whole, or nothing and bytes that are no frame), part by part. Raises OSError."""
    for path in files_of(folder):
        held = path.read_bytes()
        for part in parts_of(held):
            yield part.entries, b"" if part.entries else held[part.begin : part.end]


def erase_entries(folder: Path, names: Callable[[list[Entry]], list[bool]], holds: Callable[[bytes], bool]) -> Gone:
    """Erase the entries that `names`, and bytes that are no whole frame which `holds`. Raises OSError.

    The log must rest. Bytes of a frame that a crash left behind (`*.torn`) go with their file.
    """
    gone = Gone()
    for path in files_of(folder):
        held = path.read_bytes()
        if path.suffix == TORN:
            if holds(held):
                path.unlink()
                sync_folder(folder)
                gone = Gone(gone.entries, gone.bytes + len(held))
            continue
        made, of_file = _without(held, names, holds)
        if made is not None:
            with umask(OWNER):
                write_atomically(path, made)
            # A damaged segment is the same bytes twice until its reader has deleted it.
            counted = of_file if path.suffix == SEGMENT or not path.with_suffix(SEGMENT).exists() else Gone()
            gone = Gone(gone.entries + counted.entries, gone.bytes + counted.bytes)
    return gone


def _without(
    held: bytes, names: Callable[[list[Entry]], list[bool]], holds: Callable[[bytes], bool]
) -> tuple[bytes | None, Gone]:
    """The bytes of a file without what is to go, None if nothing is; and what that was."""
    made, entries, size = bytearray(held), 0, 0
    for part in parts_of(held):
        if not part.entries and holds(held[part.begin : part.end]):
            made[part.begin : part.end] = _nothing(held[part.begin : part.end])
            size += part.end - part.begin
        for (begin, end), goes in zip(part.frames, names(part.entries) if part.entries else (), strict=True):
            if goes:
                made[begin:end] = erased(held[begin:end])
                entries += 1
    return (bytes(made) if entries or size else None), Gone(entries, size)


def _nothing(rest: bytes) -> bytes:
    """Bytes without content in the place of what is no frame; a frame, so that the reader goes on behind it."""
    return erased(rest) if len(rest) > HEADER.size else bytes(len(rest))
