"""Follow a log: its entries in their order, from segment to segment, while it grows.

A frame at the end of the last segment that is short or wrong may still be written: it is waited for. Any other wrong
frame is passed over: an error names the file, the offset and the bytes, and the segment is kept as `<number>.damaged`
when the reader deletes it. What follows it is read.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path

from pipelines.sources.log.folder import DAMAGED, Position, segment_name, segments
from pipelines.sources.log.frames import HEADER, MOST_BODY, Entry, Frames, find_frame, read_frames

AT_ONCE = 4 << 20  # bytes of a read; more for an entry that is larger
_NOTHING = Frames([], [], None, False)
_log = logging.getLogger(__name__)


class Follower:
    """Reads a log from a position on. Not for many threads. Its methods raise OSError.

    position     of the next frame
    begin        of the first entry of the last read that found some
    is_at_end    whether the last read found nothing more
    passed_over  bytes of wrong frames so far
    """

    def __init__(self, folder: Path, position: Position):
        self.folder, self.position, self.begin = folder, position, position
        self.is_at_end = False
        self.passed_over = 0
        self._file: int | None = None

    def read(self, most_entries: int, most_bytes: int) -> list[Entry]:
        """The next entries, if there are some: up to `most_entries`, of about `most_bytes`."""
        self.is_at_end = False
        while True:
            following = self._following()  # before the read: once there is one, this segment grows no more
            found = self._read_segment(most_entries, most_bytes)
            if found.ends:
                begin = self.position
                self.position = begin._replace(offset=begin.offset + found.ends[-1])
                if not found.entries:  # erased ones alone
                    continue
                self.begin = begin
                return found.entries
            if found.problem is not None and self._pass_over(found, following):
                continue
            if following is None:
                self.is_at_end = True
                return []
            self._go_to(Position(following))

    def close(self) -> None:
        """Close the open segment."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _go_to(self, position: Position) -> None:
        self.close()
        self.position = position

    def _path(self) -> Path:
        return self.folder / segment_name(self.position.segment)

    def _following(self) -> int | None:
        return next((number for number in segments(self.folder) if number > self.position.segment), None)

    def _left(self) -> int:
        """Bytes of the open segment that are not read; none of one that does not exist."""
        if self._file is None:
            try:
                self._file = os.open(self._path(), os.O_RDONLY)
            except FileNotFoundError:
                return 0
        return max(os.fstat(self._file).st_size - self.position.offset, 0)

    def _read_segment(self, most_entries: int, most_bytes: int) -> Frames:
        if not (left := self._left()):
            return _NOTHING
        held = self._bytes(min(left, AT_ONCE))
        found = read_frames(held, 0, most_entries, most_bytes)
        if not found.ends and found.is_short and len(held) < left:  # a large entry
            found = read_frames(self._bytes(min(left, HEADER.size + MOST_BODY)), 0, 1)
        return found

    def _bytes(self, size: int) -> bytes:
        assert self._file is not None
        return os.pread(self._file, size, self.position.offset)

    def _pass_over(self, found: Frames, following: int | None) -> bool:
        """Pass over what is wrong, up to the next frame or the end of the segment; False if it may still be written."""
        if found.is_short and following is None:
            return False
        rest = self._bytes(self._left())
        behind = find_frame(rest, 0)
        if behind is None and following is None:
            return False
        size = len(rest) if behind is None else behind
        path, (number, offset) = self._path(), self.position
        with suppress(FileExistsError):
            os.link(path, path.with_suffix(DAMAGED))
        _log.error(
            "%s: passed over %s bytes at offset %s: %s; a copy stays as %s",
            path, f"{size:,}", f"{offset:,}", found.problem, path.with_suffix(DAMAGED).name,
        )  # fmt: skip
        self.passed_over += size
        self.position = Position(number, offset + size)
        return True
