"""Append to a log: durable before it is acknowledged, many appends by one sync.

Group     one thread writes what waits, syncs it and resolves the futures; meanwhile the next group gathers. It does not
          wait for more: the sync before it is the wait
Segments  a writer begins one of its own, and another one where it is full or a write failed. So a place in the log is
          never given to a second entry, whatever a crash or a disk lost
Failure   what is not synced is cut away before anything else is written: an entry is acknowledged, or not in the log
Capacity  segments that the reader did not delete count; where the log or the disk is full, appends fail and may be
          retried
"""

import errno
import logging
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipelines.sources.log.folder import (
    TORN,
    WRITER_LOCK,
    LogError,
    hold,
    make_folder,
    read_position,
    segment_name,
    segments,
)
from pipelines.sources.log.frames import Entry, end_of_frames, find_frame, frame_of
from pipelines.system.disk import FULL, sync_folder

SEGMENT_BYTES = 64 << 20
GROUP_BYTES = 1 << 20  # of one sync; an append that is larger is a group by itself
MOST_WAITING = 64 << 20  # bytes that wait in memory for a disk that is slower than what arrives
FEWEST_SEGMENTS = 8  # of a log that is full: what is read leaves the disk by segments
NO_ROOM = (*FULL, errno.EFBIG)
_log = logging.getLogger(__name__)
_sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class LogFull(LogError):
    """The log or its disk has no room: a retry may succeed once the log was read on."""


class _Append(NamedTuple):
    frames: bytes
    future: "Future[None]"


class LogWriter:
    """The one writer of a log. Any thread may append.

    most_bytes     of the segments that are not read to their end; beyond it appends fail with LogFull
    segment_bytes  of a segment, about
    sync           makes what was written to a file descriptor durable; raises OSError
    Errors: LogError if another process writes the log, or the folder cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        most_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
        sync: Callable[[int], None] = _sync,
    ):
        self.directory, self.most_bytes, self._sync = directory, most_bytes, sync
        self._segment_bytes = max(min(segment_bytes, most_bytes // FEWEST_SEGMENTS), 1)
        make_folder(directory)
        self._lock = hold(directory, WRITER_LOCK, "written")
        try:
            self._sizes = {number: path.stat().st_size for number, path in segments(directory).items()}
            if self._sizes:
                _cut_tail(directory / segment_name(max(self._sizes)))
            self._number = max([read_position(directory).segment, *self._sizes])
        except OSError as error:
            self._lock.close()
            raise LogError(f"{directory} cannot be read: {error.strerror}; check its owner and its disk") from error
        except BaseException:
            self._lock.close()
            raise
        self._file: int | None = None  # the open segment
        self._to_cut: Callable[[], None] | None = None  # what a failed write left, until it is cut away
        self._changed = threading.Condition()
        self._waiting: deque[_Append] = deque()
        self._bytes = 0  # that wait
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name=f"log {directory}", daemon=True)
        self._thread.start()

    def append(self, entries: Sequence[Entry]) -> "Future[None]":
        """Append entries, all or none of them: the future is done once they are durable. It fails with LogFull where a
        retry may succeed, with LogError where the disk fails. Raises ValueError for more than the log can hold."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # from now on it is decided here
        frames = b"".join(map(frame_of, entries))
        if len(frames) > self.most_bytes:
            raise ValueError(
                f"an append has {len(frames):,} bytes; allowed: up to {self.most_bytes:,}, of the whole log"
            )
        with self._changed:
            if self._is_closed:
                future.set_exception(LogError(f"{self.directory}: the log is closed"))
            elif self._waiting and self._bytes + len(frames) > MOST_WAITING:
                future.set_exception(LogFull(f"{self.directory}: {self._bytes:,} bytes wait for the disk; retry later"))
            else:
                self._waiting.append(_Append(frames, future))
                self._bytes += len(frames)
                self._changed.notify()
        return future

    def size(self) -> int:
        """Bytes of the log that are not read yet, by whole segments; also what waits. Raises OSError."""
        stored = 0
        for path in segments(self.directory).values():
            with suppress(FileNotFoundError):  # the reader deleted it
                stored += path.stat().st_size
        return stored + self._bytes

    def close(self) -> None:
        """Write what waits, and let another process write the log."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        self._end_segment()
        self._lock.close()

    def _work(self) -> None:
        while group := self._next_group():
            failure = self._commit(b"".join(each.frames for each in group))
            for each in group:
                if failure is None:
                    each.future.set_result(None)
                else:
                    each.future.set_exception(failure)

    def _next_group(self) -> list[_Append]:
        """What is written by the next sync, once there is something; nothing once the log is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            group: list[_Append] = []
            size = 0
            while self._waiting and (not group or size + len(self._waiting[0].frames) <= GROUP_BYTES):
                group.append(self._waiting.popleft())
                size += len(group[-1].frames)
            self._bytes -= size
            return group

    def _commit(self, frames: bytes) -> LogError | None:
        """Write and sync frames. What failed, if something did: then they are not in the log."""
        try:
            if self._to_cut is not None:
                self._to_cut()
                self._to_cut = None
            if self._file is not None and self._sizes.get(self._number, 0) + len(frames) > self._segment_bytes:
                self._end_segment()
            self._check_room(len(frames))
            if self._file is None:
                self._begin_segment()
            self._write(frames)
        except LogError as error:
            return error
        except Exception as error:  # a thread that dies would leave every later append without an answer
            _log.error("%s: an append failed: %s", self.directory, error)
            return self._describe(error)
        return None

    def _check_room(self, more: int) -> None:
        if sum(self._sizes.values()) + more > self.most_bytes:
            there = segments(self.directory)
            self._sizes = {number: size for number, size in self._sizes.items() if number in there}
            if (held := sum(self._sizes.values())) + more > self.most_bytes:
                if self._sizes.get(self._number):  # the reader deletes a segment only once there is a next one
                    self._end_segment()
                    self._begin_segment()
                raise LogFull(
                    f"{self.directory} holds {held:,} bytes that are not read yet; allowed: {self.most_bytes:,}; start"
                    f" `audience run --input_log {self.directory}`, or allow more"
                )

    def _begin_segment(self) -> None:
        before = self._number
        self._number += 1  # also where this fails: a number is never used again
        path = self.directory / segment_name(self._number)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._sizes[self._number] = 0
        try:
            sync_folder(self.directory)
        except OSError:
            self._give_up()
            raise
        self._remove_empty(before)

    def _remove_empty(self, number: int) -> None:
        """Remove the segment before this one where a full disk has left nothing in it: each try makes one. Only now, as
        the later one keeps its number from being used again."""
        path = self.directory / segment_name(number)
        if self._sizes.get(number) == 0 and self._to_cut is None:
            with suppress(OSError):
                if not path.stat().st_size:
                    path.unlink()
                    del self._sizes[number]

    def _write(self, frames: bytes) -> None:
        assert self._file is not None
        try:
            left = memoryview(frames)
            while left:
                left = left[os.write(self._file, left) :]
            self._sync(self._file)
            if not os.fstat(self._file).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "its segment was deleted while it was written")
        except Exception:
            self._give_up()
            raise
        self._sizes[self._number] = self._sizes.get(self._number, 0) + len(frames)

    def _give_up(self) -> None:
        """After a failed write or sync: end the segment, as the disk may have lost pages that still seem written."""
        path, durable = self.directory / segment_name(self._number), self._sizes.get(self._number, 0)

        def cut() -> None:
            if path.exists():
                _truncate(path, durable, self._sync)

        self._end_segment()
        try:
            cut()
        except OSError:
            self._to_cut = cut

    def _end_segment(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # all that was acknowledged is synced
                os.close(self._file)
            self._file = None

    def _describe(self, error: Exception) -> LogError:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return LogFull(f"{self.directory} cannot be written: {error.strerror}; free space on its disk")
        why = getattr(error, "strerror", None) or repr(error)
        return LogError(f"{self.directory} cannot be written: {why}; check its disk")


def _truncate(path: Path, size: int, sync: Callable[[int], None]) -> None:
    file = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(file, size)
        with suppress(OSError):  # what comes again after a loss of power was acknowledged to nobody
            sync(file)
    finally:
        os.close(file)


def _cut_tail(path: Path) -> None:
    """Cut what a crash left behind the last whole frame of a segment, and keep it beside. Raises OSError."""
    if not path.stat().st_size:
        return
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        with memoryview(held) as view:
            found = end_of_frames(view)
        if found.problem is None:
            return
        end = found.ends[-1] if found.ends else 0
        rest = held[end:]
    if find_frame(rest, 0) is not None:  # no crash leaves whole frames behind a wrong one: the reader passes over it
        return
    said = f"{len(rest):,} bytes behind offset {end:,}, which a crash left: {found.problem}"
    try:
        aside = _keep(path.with_suffix(TORN), rest)
    except OSError as error:  # the reader passes over them
        _log.warning("%s: left %s; they cannot be kept elsewhere: %s", path, said, error.strerror)
        return
    _truncate(path, end, _sync)
    _log.warning("%s: cut %s; they are kept in %s", path, said, aside)


def _keep(path: Path, content: bytes) -> Path:
    """Write a private file, durably. Raises OSError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return path
