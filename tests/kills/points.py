"""kill -9 at each operation on files of a command: the points there are, and a command that ends at one of them.

    operations(log)       every operation on files below a folder from here on is a point, written to `log`
    operations(log, n)    the same, and this process is killed at the n-th of them, before it is made

An operation is what Python's audit events tell (open for writing, rename, remove, mkdir, rmdir, utime, chmod, link,
truncate) and os.fsync. A file that was opened for writing and is not yet known to be whole is a point three times: when
nothing of it was written, when half of it was, and when all of it was. That is also how a kill is seen that meets
Polars or Arrow while they write: they raise no audit events, and what they wrote is made durable by Python.
"""

import functools
import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# audit event -> where in its arguments the descriptor of a folder stands that the path is relative to
EVENTS = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.utime": 3, "os.chmod": 2, "os.rename": 2, "os.link": 2}


class Operations:
    """The operations of this process on files below `folder`, from the moment that it is made on."""

    def __init__(self, folder: Path, log: Path, kill_at: int | None = None):
        self.folder, self.kill_at = str(folder), kill_at
        self.points = itertools.count()
        self.part_written: set[str] = set()
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        sys.addaudithook(self._audit)
        os.fsync = self._before_fsync(os.fsync)

    def _audit(self, event: str, args: tuple) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(path, str | bytes | os.PathLike) and flags & WRITES and (path := self._below(path)):
                self.point(f"open {path}")
                self.part_written.add(path)
        elif event == "os.truncate":
            path = f"/proc/self/fd/{args[0]}" if isinstance(args[0], int) else args[0]
            if path := self._below(os.path.realpath(path)):
                self.point(f"truncate {path}")
        elif event in EVENTS and (path := self._below(args[0], args[EVENTS[event]])):
            if event == "os.rename":
                self._torn(path)
            self.point(f"{event.removeprefix('os.')} {path}")

    def _before_fsync(self, fsync: Callable[[int], None]) -> Callable[[int], None]:
        @functools.wraps(fsync)
        def counted(descriptor: int) -> None:
            if path := self._below(os.readlink(f"/proc/self/fd/{descriptor}")):
                self._torn(path)
                self.point(f"fsync {path}")
            fsync(descriptor)

        return counted

    def _torn(self, path: str) -> None:
        """A file that is about to be whole may be killed before it is."""
        if path in self.part_written:
            self.part_written.remove(path)
            size = os.path.getsize(os.path.join(self.folder, path))
            self.point(f"write 0 of {path}", path, 0)
            self.point(f"write half of {path}", path, size // 2)

    def _below(self, path, folder: int = -1) -> str | None:
        """The path relative to the folder; None for one that lies elsewhere."""
        path = os.fsdecode(path)
        if isinstance(folder, int) and folder >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        path = os.path.abspath(path)
        inside = path == self.folder or path.startswith(self.folder + os.sep)
        return os.path.relpath(path, self.folder) if inside else None

    def point(self, told: str, path: str = "", left: int | None = None) -> None:
        """One point, at which this process may be killed; the file of `path` is cut to `left` bytes before."""
        number = next(self.points)
        os.write(self.log, f"{told}\n".encode())
        if number == self.kill_at:
            if left is not None:
                self.kill_at = None  # to cut it is no operation of the command
                os.truncate(os.path.join(self.folder, path), left)
            os.kill(os.getpid(), signal.SIGKILL)


def child(work: Callable[[], int | None]) -> int:
    """The exit status of a process that does `work`; negative for one that a signal ended.

    Called before this process has any thread, so that the other one finds no lock held.
    """
    number = os.fork()
    if number == 0:
        status = 99
        try:
            status = work() or 0
        except BaseException as problem:
            print(repr(problem), file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


class Requests:
    """The requests of this process to BigQuery: each is a point, at which those before it were answered."""

    def __init__(self, log: Path, kill_at: int | None = None):
        import requests

        self.kill_at = kill_at
        self.points = itertools.count()
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        send = requests.Session.send

        @functools.wraps(send)
        def counted(session, request, **options):
            commit = " commit" if "COMMIT TRANSACTION" in str(request.body) else ""
            self._point(f"send {request.method} {request.path_url.partition('?')[0]}{commit}")
            return send(session, request, **options)

        requests.Session.send = counted

    def _point(self, told: str) -> None:
        number = next(self.points)
        os.write(self.log, f"{told}\n".encode())
        if number == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
