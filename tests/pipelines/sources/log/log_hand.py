"""Entries of a log, and what is in one, for tests."""

import itertools
from pathlib import Path

from pipelines.sources.log.folder import segments
from pipelines.sources.log.frames import Entry, read_frames
from pipelines.sources.log.writer import LogWriter
from tests.servers.needed import LIMIT

MIB = 1 << 20
NUMBERS = itertools.count()
RECEIVED = 1_772_359_200_000_000  # us since 1970


def entry(payload: bytes = b"{}", name: str | None = None, **attributes: str) -> Entry:
    return Entry(name or f"m{next(NUMBERS)}", RECEIVED, "shop", payload, attributes)


def entries(count: int, size: int = 10) -> list[Entry]:
    return [entry(b"%0*d" % (size, number)) for number in range(count)]


def stored(folder: Path) -> list[Entry]:
    """All that a log holds; fails where a frame is wrong."""
    found = [read_frames(path.read_bytes()) for path in segments(folder).values()]
    assert [each.problem for each in found if each.problem] == []
    return [one for each in found for one in each.entries]


def writer_of(folder: Path, most_bytes: int = 64 * MIB, **settings) -> LogWriter:
    return LogWriter(folder, most_bytes=most_bytes, **settings)


def fill(folder: Path, *lists: list[Entry], **settings) -> None:
    """Append each list, and wait until it is durable."""
    writer = writer_of(folder, **settings)
    for each in lists:
        writer.append(each).result(LIMIT)
    writer.close()
