"""A log as a queue (queue.py): what `audience collect` accepts, read on the same machine by one process at a time."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipelines.sources.queue import Backlog, Snapshot
from transforms.errors import OptionError, SourceError

if TYPE_CHECKING:
    import apache_beam as beam

    from pipelines.sources.landing import Again, LandAt

_OF_MESSAGES = ("timestamp_attribute", "id_label")
_ALLOWED = "the path of a folder, without @ and control characters"


@dataclass(frozen=True)
class LogQueue:
    """See `Queue`. `input` is the path of the folder."""

    title: ClassVar[str] = "log"
    options: ClassVar[tuple[str, ...]] = ("input_log",)
    launch_option: ClassVar[str | None] = None
    parameter_type: ClassVar[str] = ""
    google_services: ClassVar[tuple[str, ...]] = ()
    google_project: ClassVar[None] = None

    input: str
    expected_delay: timedelta = timedelta(seconds=10)
    batch_delay: timedelta = timedelta(milliseconds=500)
    refused: tuple[str, ...] = ()  # options that are stated and that a log does not have
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "LogQueue":
        """The log that the values of options name, by its absolute path."""
        stated = {name: values[name] for name in ("expected_delay", "batch_delay") if values.get(name) is not None}
        refused = tuple(name for name in _OF_MESSAGES if values.get(name) is not None)
        folder = values["input_log"]
        return cls(os.path.abspath(folder) if _is_path(folder) else folder, refused=refused, **stated)

    def check(self) -> str:
        """A line about it. Errors: OptionError for its name, SourceError for all else."""
        from pipelines.sources.log.folder import read_position, segments
        from pipelines.system.terminal import word

        if not _is_path(self.input):
            raise OptionError(f"--input_log: got {self.input!r}; allowed: {_ALLOWED}")
        if self.refused:
            raise OptionError(
                f"--{self.refused[0]} is not for --input_log, whose entries state their time and their id; leave it out"
            )
        folder = Path(self.input)
        if not folder.is_dir():
            raise SourceError(f"{folder} does not exist; create it with `mkdir -m 700 {word(self.input)}`")
        try:
            read_position(folder)
            held = [path.stat().st_size for path in segments(folder).values()]
        except OSError as error:
            raise SourceError(f"{folder} cannot be read: {error.strerror}; check its permissions") from error
        if not os.access(folder, os.W_OK):
            raise SourceError(f"{folder} cannot be written: a reader notes there how far it is; check its permissions")
        return f"segments of {sum(held):,} bytes wait in it"

    @contextmanager
    def open(self) -> "Iterator[LogQueue]":
        """Check it, and keep other readers away. Errors: as `check`; SourceError where another process reads it."""
        from pipelines.sources.log.folder import READER_LOCK, hold

        self.check()
        with hold(Path(self.input), READER_LOCK, "read"):
            yield self

    def read(
        self, *, source: str, landing: "LandAt | None", again: "Sequence[Again]", drain_file: str
    ) -> "beam.PTransform":
        """Read with our own reader (source.py)."""
        from pipelines.sources.log.reader import Reading
        from pipelines.sources.log.source import ReadLog

        return ReadLog(
            Reading(
                folder=self.input,
                source=source,
                expected_delay=self.expected_delay.total_seconds(),
                block_seconds=self.batch_delay.total_seconds(),
                landing=landing,
                again=tuple(again),
                drain_file=drain_file,
                wall=self.wall,
                monotonic=self.monotonic,
            )
        )

    def read_by_runner(self, *, source: str, on_dataflow: bool = False) -> "beam.PTransform":
        """No runner has a reader of its own. Errors: OptionError."""
        raise OptionError("--input_log: no runner reads a log itself; allowed: with --runner PrismRunner")

    def snapshot(self) -> Snapshot:
        """What the reader of this process has read, and holds now."""
        from pipelines.sources.log.reader import READERS

        reader = READERS.find(self.input)
        return reader.snapshot() if reader is not None else Snapshot(0, Backlog(0, 0, None), None)

    def flush(self) -> bool:
        """Store what is finalized; False if that failed."""
        from pipelines.sources.log.reader import READERS

        reader = READERS.find(self.input)
        return reader is None or reader.store()

    def close(self) -> None:
        """End the reader of this process; the next one reads what is not finalized again."""
        from pipelines.sources.log.reader import READERS

        READERS.close(self.input)


def _is_path(text: str) -> bool:
    return bool(text) and text.isprintable() and "@" not in text
