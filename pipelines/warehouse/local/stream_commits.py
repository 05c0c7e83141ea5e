"""Appender: commits what the workers of a stream have noted, while they write on.

Every half second all new notes become one commit, then the notes are deleted. A kill at any moment leaves a note, its
files live or not: the next writer takes it, and none twice (run.py, Adopt). Small files are merged in tiers
(compaction.py) by another thread, so that a large merge delays no commit; what it made is swapped in by the next one.
"""

import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import polars as pl

from pipelines.system.disk import cannot_write, is_full
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.local import notes
from pipelines.warehouse.local.compaction import due, rows_of
from pipelines.warehouse.local.manifest import LiveFile, load
from pipelines.warehouse.local.notes import Note
from pipelines.warehouse.local.run import Merge, Merged, Run
from pipelines.warehouse.outputs import Outputs
from pipelines.warehouse.tables import QUALITY_1M, Table
from pipelines.warehouse.write_stats import Figures, Tally
from transforms.errors import DamagedError, first_line

EVERY = 0.5  # seconds between commits
FULL_SECONDS = 30.0
TOGETHER_ROWS = 500_000  # rows that merges of one turn rewrite, unless the first alone has more


class Appender:
    """Commits what is noted for `run`, by `step` or in a thread between `start` and `stop`.

    books   called with the rows of quality_1m (the table's columns) that a commit made live, after it
    merges  runs the merges; a thread of its own unless given
    outputs get the rows that a commit made live, after it
    """

    def __init__(
        self,
        run: Run,
        books: Callable[[pl.DataFrame], None] | None = None,
        clock: Callable[[], float] = time.time,
        merges: Executor | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        outputs: Outputs | None = None,
    ):
        self.outputs = outputs
        # Of its own, so that a topic that takes nothing delays no commit.
        self._publishing = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._published: list[Future[None]] = []
        self.run, self.books, self.tally, self.monotonic = run, books, Tally(clock), monotonic
        self.problem: str | None = None
        self._full: float | None = None  # since when the disk has no room
        self._merges = merges or ThreadPoolExecutor(1, thread_name_prefix="merge")
        self._merging: Future[list[Merged]] | None = None
        self._left: set[tuple[LiveFile, ...]] = set()  # merges with a damaged file: they stay as they are
        self._unmerged: str | None = None  # why
        self._taken: set[Path] = set()
        self._files = 0
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        run.commit([])  # the tables that it declares: what is noted from here on can be adopted

    def start(self) -> None:
        """Step every half second until `stop`; a step that fails is retried, `problem` says why."""
        self._thread = threading.Thread(target=self._loop, name="append", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Commit what is still noted. Raises AudienceError if it cannot be; the next writer then takes it."""
        self._ending.set()
        if self._thread:
            self._thread.join()
        self._merges.shutdown(cancel_futures=True)
        self.step(merge=False)
        self._publishing.shutdown()
        self.check()

    def step(self, merge: bool = True) -> int:
        """Commit all notes that are there and not yet committed, and the merges that are ready; how many notes it
        took. Raises AudienceError for a disk that is full."""
        noted = self._noted()
        merged = self._ready()
        entries = [entry for note in noted.values() for entry in note.files]
        counts = self._audit_counts(entries)
        outputs = self._rows_to_publish(entries)
        if noted or merged:
            self.run.commit(entries, merged=merged)
            self._count(noted.values(), entries)
        self._taken |= noted.keys()
        if counts is not None and self.books:
            self.books(counts)
        for path in list(self._taken):
            path.unlink(missing_ok=True)
            self._taken.remove(path)
        if merge:
            self._merge()
        if self.outputs:
            self._published += [self._publishing.submit(self.outputs.publish, *each) for each in outputs]
        return len(noted)

    def check(self) -> None:
        """Raise WarehouseError once commits have failed for FULL_SECONDS because the disk is full, or if the topic of
        the outputs has refused rows."""
        for each in [each for each in self._published if each.done()]:
            each.result()
            self._published.remove(each)
        since = self._full
        if since is not None and self.monotonic() - since >= FULL_SECONDS:
            raise cannot_write(self.run.warehouse.folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def figures(self) -> Figures:
        """How the writing stands now."""
        return self.tally.figures(self._files)._replace(problem=self.problem or self._unmerged)

    def _loop(self) -> None:
        while not self._ending.wait(EVERY):
            self._try()

    def _try(self) -> None:
        """A step; one that fails is noted, and retried by the next."""
        try:
            self.step()
            self.problem = self._full = None
        except BaseException as problem:  # a panic of Polars too: nobody would miss the thread that it ended
            self.problem = first_line(problem)
            if not is_full(self.run.warehouse.folder, problem):
                self._full = None
            elif self._full is None:
                self._full = self.monotonic()

    def _noted(self) -> dict[Path, Note]:
        found = {path: notes.read(path) for path in notes.paths(self.run.staging) if path not in self._taken}
        return {path: note for path, note in found.items() if note}

    def _audit_counts(self, entries: list[FileEntry]) -> pl.DataFrame | None:
        """The audit counts among what is noted, read before their files are moved."""
        paths = [self.run.place(entry) for entry in entries if entry.table == QUALITY_1M.name]
        if not paths or not self.books:
            return None
        return self.run.warehouse.scan_files(QUALITY_1M.name, paths).collect()

    def _rows_to_publish(self, entries: list[FileEntry]) -> list[tuple[Table, pl.DataFrame]]:
        """The rows of outputs among what is noted, read before their files are moved."""
        found = []
        for name in sorted({entry.table for entry in entries} & (self.outputs.tables if self.outputs else set())):
            table = self.run.warehouse.table(name)
            columns = [column.name for column in table.columns]
            paths = [self.run.place(entry) for entry in entries if entry.table == name]
            found.append((table, self.run.warehouse.scan_files(name, paths).select(columns).collect()))
        return found

    def _ready(self) -> list[Merged]:
        if not self._merging or not self._merging.done():
            return []
        merging, self._merging = self._merging, None
        return merging.result()

    def _merge(self) -> None:
        """Hand on the merges that are due, as many small ones as take about as long as a large one."""
        files = load(self.run.warehouse.folder).files
        self._files = sum(len(live) for days in files.values() for live in days.values())
        if self._merging:
            return
        waiting = [each for each in due(files) if each.files not in self._left]
        sums = accumulate(map(rows_of, waiting))
        chosen = [
            each for n, (each, rows) in enumerate(zip(waiting, sums, strict=True)) if rows < TOGETHER_ROWS or not n
        ]
        if chosen:
            self._merging = self._merges.submit(lambda: [made for each in chosen if (made := self._merged(each))])

    def _merged(self, merge: Merge) -> Merged | None:
        """The merge; None if it cannot be: a damaged file is no reason to commit nothing."""
        try:
            return self.run.merge(merge)
        except DamagedError as problem:
            self._left.add(merge.files)
            self._unmerged = first_line(problem)
            return None

    def _count(self, noted, entries: list[FileEntry]) -> None:
        rows = dict[str, int]()
        for entry in entries:
            rows[entry.table] = rows.get(entry.table, 0) + entry.rows
        received = [
            (time, sum(file.rows for file in note.files) / len(note.received))
            for note in noted
            for time in note.received
        ]
        self.tally.add(rows, received)
