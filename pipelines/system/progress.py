"""Show the progress of a long run as one line on the terminal, erased at the end.

Notes   record what readers have read: one small file per process, in a folder that all processes of the run share
Watch   a context manager around a run: a thread that sums the notes, checks what is staged, and draws the line

If stderr is not a terminal, nothing is recorded or drawn. A failure of either never fails a run.
"""

import contextlib
import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipelines.system.terminal import draw, draws, erase

EVERY = 0.5  # seconds between two notes of a process, and between two lines
FOLDER = "progress"
NEARLY_ALL = 0.999  # of the input: ranges exclude a header
_NOTE = struct.Struct("<QQ")


class Read(NamedTuple):
    """What all processes have read: bytes as stored, and rows."""

    bytes: int
    rows: int


class _Total:
    """What all threads of this process have read for one run."""

    def __init__(self):
        self.lock = threading.Lock()
        self.bytes = self.rows = 0
        self.due = 0.0


_totals: dict[str, _Total] = {}  # a process may run one pipeline after another


class Notes:
    """Records what a reader has read, in `folder`; without one, nothing is recorded. Picklable, cheap to call."""

    def __init__(self, folder: str | None = None):
        self.folder = folder

    def __call__(self, bytes: int, rows: int) -> None:
        """Add what was read since the previous call."""
        if self.folder is None:
            return
        total = _totals.setdefault(self.folder, _Total())
        with total.lock:
            total.bytes += bytes
            total.rows += rows
            if time.monotonic() >= total.due:
                _write(self.folder, total)

    def flush(self) -> None:
        """Write what the last calls added; called at the end of a bundle."""
        if self.folder is not None and (total := _totals.get(self.folder)):
            with total.lock:
                _write(self.folder, total)


def _write(folder: str, total: _Total) -> None:
    total.due = time.monotonic() + EVERY
    path = os.path.join(folder, str(os.getpid()))
    with contextlib.suppress(OSError):
        with open(f"{path}.tmp", "wb") as file:
            file.write(_NOTE.pack(total.bytes, total.rows))
        os.replace(f"{path}.tmp", path)


def read_notes(folder: Path) -> Read:
    """Return the sum of what all processes have recorded in a folder."""
    found = [_NOTE.unpack(path.read_bytes()) for path in folder.iterdir() if path.suffix != ".tmp"]
    return Read(sum(bytes for bytes, _ in found), sum(rows for _, rows in found))


class Watch:
    """Draws the progress of the code inside `with watch:` or `with watch.saying(...):` as one line, on a terminal only.

    staging  the run's folder, which holds the notes and the tables that the run writes
    bytes    size of the input as stored
    """

    def __init__(self, staging: Path, bytes: int):
        self.staging, self.bytes = staging, bytes
        self.notes = Notes()
        self._words: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if draws():
            with contextlib.suppress(OSError):
                (staging / FOLDER).mkdir(parents=True)
                self.notes = Notes(str(staging / FOLDER))

    @contextlib.contextmanager
    def saying(self, words: str) -> Iterator[None]:
        """Draw with the name of a phase that cannot be observed from outside, such as `committing`."""
        self._words = words
        try:
            with self:
                yield
        finally:
            self._words = None

    def __enter__(self) -> "Watch":
        if self.notes.folder is not None:
            self._stop = threading.Event()
            line = Line(self.staging, self.bytes, self._words)
            self._thread = threading.Thread(target=_draw, args=(line, self._stop), name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None


def _draw(line: "Line", stop: threading.Event) -> None:
    drawn = False
    with contextlib.suppress(Exception):  # an error here must not fail the run
        while not stop.wait(EVERY):
            drawn = True
            draw(line.text(time.monotonic()))
    with contextlib.suppress(Exception):
        if drawn:
            erase()


class Line:
    """The line of one run of a pipeline. Notes from before it began belong to another run."""

    def __init__(self, staging: Path, bytes: int, words: str | None = None, now: float | None = None):
        self.staging, self.total, self.words = staging, bytes, words
        self.began = self.idle = time.monotonic() if now is None else now  # idle: when nothing had been read yet
        self.before = read_notes(staging / FOLDER)
        self.staged: dict[str, tuple[int, int]] = {}
        self.last = ""  # the table that grew last

    def text(self, now: float) -> str:
        """Return the text of the line; `now` is in seconds of the monotonic clock."""
        every = read_notes(self.staging / FOLDER)
        read = Read(every.bytes - self.before.bytes, every.rows - self.before.rows)
        took = f"{int(now - self.began) // 60}:{int(now - self.began) % 60:02}"
        if not read.bytes:
            self.idle = now
            return f"{self.words or 'starting'}  {took}"
        events = f"{read.rows:,} events"
        staged = {folder.name: _measure(folder) for folder in self.staging.iterdir() if _is_table(folder)}
        if read.bytes >= NEARLY_ALL * self.total or staged:
            return f"{self.words or self._after_reading(staged)}  {events}  {took}"
        done = f"{100 * read.bytes // self.total}%  {size(read.bytes)} of {size(self.total)}"
        rate = f"{read.rows / max(now - self.idle, 1e-9):,.0f} per second"
        return f"{self.words or 'reading'}  {done}  {events}  {rate}  {took}"

    def _after_reading(self, staged: dict[str, tuple[int, int]]) -> str:
        """Return the phase after reading, from what was staged since the last call."""
        grown = [table for table, measured in staged.items() if measured != self.staged.get(table)]
        self.staged = staged
        self.last = grown[-1] if grown else self.last
        if not self.last:
            return "removing duplicates"
        files, bytes = map(sum, zip(*staged.values(), strict=True))
        return f"writing {self.last}  {files:,} file{'s' if files > 1 else ''}  {size(bytes)}"


def _is_table(folder: Path) -> bool:
    # Rejected records are written while the input is read; their folder indicates no phase.
    return folder.name not in (FOLDER, "spill", "days", "confirmed", "quarantine") and any(folder.rglob("*.parquet"))


def _measure(folder: Path) -> tuple[int, int]:
    """Return (files, bytes) of a staged table."""
    sizes = [path.stat().st_size for path in folder.rglob("*.parquet")]
    return len(sizes), sum(sizes)


def size(bytes: float) -> str:
    """Format bytes in three or four digits."""
    amount, unit = float(bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:,.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"
