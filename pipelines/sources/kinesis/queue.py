"""Kinesis as a queue (queue.py): a data stream, all shards of which one process reads."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from pipelines.sources.queue import Backlog, Snapshot
from transforms.errors import OptionError, SourceError

if TYPE_CHECKING:
    import apache_beam as beam

    from pipelines.sources.kinesis.client import About, Kinesis
    from pipelines.sources.landing import Again, LandAt

_OF_MESSAGES = ("timestamp_attribute", "id_label")
_FORM = re.compile(r"(arn:aws[a-z-]*:kinesis:[a-z0-9-]+:\d{12}:stream/)?[a-zA-Z0-9_.-]{1,128}")
_ALLOWED = "the name of a data stream (letters, digits, _ . -), or its ARN, arn:aws:kinesis:REGION:ACCOUNT:stream/NAME"
_READABLE = ("ACTIVE", "UPDATING")


@dataclass(frozen=True)
class KinesisQueue:
    """See `Queue`. `input` is the name of the stream, or its ARN, which it is once it is open; `start_at` as in
    `Reading`."""

    title: ClassVar[str] = "Kinesis"
    options: ClassVar[tuple[str, ...]] = ("input_kinesis",)
    launch_option: ClassVar[str | None] = None
    parameter_type: ClassVar[str] = ""
    google_services: ClassVar[tuple[str, ...]] = ()
    google_project: ClassVar[None] = None

    input: str
    start_at: str | float = "earliest"
    expected_delay: timedelta = timedelta(seconds=10)
    batch_delay: timedelta = timedelta(milliseconds=500)
    refused: tuple[str, ...] = ()  # options that are stated and that Kinesis does not have
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "KinesisQueue":
        """The stream that the values of options name."""
        names = ("start_at", "expected_delay", "batch_delay")
        stated = {name: values[name] for name in names if values.get(name) is not None}
        refused = tuple(name for name in _OF_MESSAGES if values.get(name) is not None)
        return cls(values["input_kinesis"], refused=refused, **stated)

    def check(self) -> str:
        """A line about it. Errors: OptionError for its name, SourceError for all else."""
        about, shards = self._ask()
        closed = shards - about.shards
        more = f", {closed:,} closed" if closed > 0 else ""
        some = "shard" if about.shards == 1 else "shards"
        return f"{about.shards:,} open {some}{more}; records are kept for {about.retention / 3_600:,.0f} hours"

    def _ask(self) -> "tuple[About, int]":
        """What Kinesis states about it, and how many shards it has. Errors: as `check`."""
        if not _FORM.fullmatch(self.input):
            raise OptionError(f"--input_kinesis: got {self.input!r}; allowed: {_ALLOWED}")
        if self.refused:
            raise OptionError(
                f"--{self.refused[0]} is not for --input_kinesis, whose records have a time of arrival and a sequence"
                " number; leave it out"
            )
        from pipelines.sources.kinesis.client import ask

        ((about, listed),) = ask(self.input, _look, option=self.options[0])
        if about.status not in _READABLE:
            raise SourceError(
                f"Kinesis stream {self.input} is {about.status}; wait until it is ACTIVE, or name another one with"
                " --input_kinesis"
            )
        return about, len(listed)

    @contextmanager
    def open(self) -> "Iterator[KinesisQueue]":
        """Check it; the queue by its ARN, so that its records bear one name in each case. Errors: as `check`."""
        about, _ = self._ask()
        yield replace(self, input=about.arn)

    def read(
        self, *, source: str, landing: "LandAt | None", again: "Sequence[Again]", drain_file: str
    ) -> "beam.PTransform":
        """Read with our own reader (source.py), from the marks in the folder of `drain_file`."""
        from pipelines.sources.kinesis.reader import Reading
        from pipelines.sources.kinesis.source import ReadKinesis

        return ReadKinesis(
            Reading(
                stream=self.input,
                drain_file=drain_file,
                start_at=self.start_at,
                source=source,
                expected_delay=self.expected_delay.total_seconds(),
                block_seconds=self.batch_delay.total_seconds(),
                landing=landing,
                again=tuple(again),
                wall=self.wall,
                monotonic=self.monotonic,
            )
        )

    def read_by_runner(self, *, source: str, on_dataflow: bool = False) -> "beam.PTransform":
        """No runner has a reader of its own. Errors: OptionError."""
        raise OptionError("--input_kinesis: no runner reads a stream itself; allowed: with --runner PrismRunner")

    def snapshot(self) -> Snapshot:
        """What the reader of this process has received, and holds now."""
        from pipelines.sources.kinesis.reader import READERS

        reader = READERS.find(self.input)
        return reader.snapshot() if reader is not None else Snapshot(0, Backlog(0, 0, None), None)

    def flush(self) -> bool:
        """Store what is finalized; False if that failed."""
        from pipelines.sources.kinesis.reader import READERS

        reader = READERS.find(self.input)
        return reader is None or reader.store()

    def close(self) -> None:
        """End the reader of this process; the next one reads what is not finalized again."""
        from pipelines.sources.kinesis.reader import READERS

        READERS.close(self.input)


def _look(kinesis: "Kinesis") -> "tuple[About, list[dict[str, Any]]]":
    """What Kinesis states about a stream, and its shards; raises what refuses to let it be read."""
    about, listed = kinesis.describe(), kinesis.shards()
    if about.status in _READABLE and listed:
        kinesis.try_reading(listed[-1]["ShardId"])
    return about, listed
