"""Recent questions of a local warehouse: only the files that may hold rows from a time on are listed and opened.

The day of a file rules out most of a long history. Of the days that remain, the footer of a file says its latest time:
it is read once, as files never change, so that a window of minutes opens few files of a day.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from pipelines.warehouse.local.duckdb_connection import asking
from pipelines.warehouse.local.manifest import NAME, LiveFile, Manifest
from pipelines.warehouse.local.relations import Relations
from pipelines.warehouse.recent import Recent, Since

_Latest = dict[str, datetime | None]  # path -> latest time of the partition column; None: the footer does not say


class RecentFiles:
    """The files of a folder by what they may hold, with the latest times of those whose footers were read."""

    def __init__(self, warehouse: Relations):
        self._warehouse, self._latest = warehouse, _Latest()
        self._lock = threading.Lock()  # a page asks in two threads
        self.footers = 0  # read so far

    @contextmanager
    def asking(self, since: Since) -> Iterator[Recent]:
        """Answers over the tables of `since`, each from its time on; every other table has no rows.

        Errors: those of duckdb_connection.asking.
        """
        bounded = self.bounded(self._warehouse.manifest(), since)
        files = [file for days in bounded.files.values() for live in days.values() for file in live]
        with asking(self._warehouse, bounded, with_views=False) as ask:
            yield Recent(ask, len(files), sum(file.bytes for file in files))

    def bounded(self, manifest: Manifest, since: Since) -> Manifest:
        """The manifest with those files alone that may hold rows of `since`."""
        tables = {table: time for table, time in since.items() if table in manifest.tables}
        live = {file.path for days in manifest.files.values() for files in days.values() for file in files}
        with self._lock:
            kept = {table: self._since(manifest, table, time) for table, time in tables.items()}
            self._latest = {path: latest for path, latest in self._latest.items() if path in live}
        return msgspec.structs.replace(manifest, files=kept)

    def _since(self, manifest: Manifest, table: str, time: datetime) -> dict[str, list[LiveFile]]:
        first = time.astimezone(ZoneInfo(self._warehouse.time_zone)).date().isoformat()
        days = {day: files for day, files in manifest.files.get(table, {}).items() if day[:1].isdigit()}
        column = manifest.tables[table].partition
        kept = {day: files for day, files in days.items() if day > first}
        kept[first] = [file for file in days.get(first, []) if self._may_hold(file, column, time)]
        return kept

    def _may_hold(self, file: LiveFile, column: str, time: datetime) -> bool:
        if file.path not in self._latest:
            self._latest[file.path] = latest_time(self._warehouse.folder / file.path, column)
            self.footers += 1
        latest = self._latest[file.path]
        return latest is None or latest >= time


def latest_time(path: Path, column: str) -> datetime | None:
    """The latest time of a column as the footer of a Parquet file states it; None if it does not, or cannot be read:
    whoever reads the file then says what is wrong with it."""
    import pyarrow as pa  # slow to import, and only a page that asks again and again needs it
    import pyarrow.parquet as pq

    try:
        found = pq.read_metadata(path)
        place = next(n for n in range(found.num_columns) if found.schema.column(n).path == column)
        groups = [found.row_group(n).column(place).statistics for n in range(found.num_row_groups)]
        latest = [group.max for group in groups if group is not None and group.has_min_max]
    except (OSError, pa.ArrowException, StopIteration, ValueError, NotImplementedError):
        return None
    if len(latest) < len(groups) or not latest or not all(isinstance(each, datetime) for each in latest):
        return None
    return max(each if each.tzinfo else each.replace(tzinfo=UTC) for each in latest)


def version_of(folder: Path) -> tuple[int, ...]:
    """What changes with each commit: the state of the manifest's file; empty before the first."""
    try:
        found = (folder / NAME).stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
