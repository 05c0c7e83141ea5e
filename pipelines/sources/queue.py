"""Queue: what a stream, the status line, `audience doctor`, the launcher and the flex template ask of a queue.

To add a queue, write a class with these members in a package of its own and name the class in QUEUES (queues.py). Its
options are declared in settings/options.py, get a type in settings/resolve.py, and are kept from the commands that read
no queue in settings/arguments.py. tests/pipelines/sources/queue_contract.py is the suite to subclass;
docs/extend/source.md builds a queue.

    check            whether it can be read, before anything starts
    open             hold what a run needs of it, such as a subscription to a topic
    read             with our own reader: land blocks, read landed files again, end when drained
    read_by_runner   with the runner's own reader
    snapshot         what the readers of this process have received, and what of it is not acknowledged yet
    close, flush     after the graph ended: return what is not acknowledged, and wait until the queue knows

The module that defines a queue imports only the standard library when it is loaded: the flex template is built where
nothing else is installed.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    import apache_beam as beam

    from pipelines.sources.landing import Again, LandAt


class Backlog(NamedTuple):
    """Messages that were received and are not acknowledged yet: how many, their bytes, and the earliest received time
    in seconds since 1970, None without a message."""

    messages: int
    bytes: int
    oldest: float | None


class Snapshot(NamedTuple):
    """What the readers of this process did: messages received since it started, what is not acknowledged, the watermark
    in seconds since 1970, None without a reader, and when the runner last asked one of them for records, by the
    monotonic clock, None where that is not known; how many messages state a received time that cannot be read; what
    waits in the queue and is not received yet: how many messages, and how many seconds it is behind, None where the
    queue does not say."""

    messages: int
    backlog: Backlog
    watermark: float | None
    asked: float | None = None
    unreadable_stamps: int = 0
    lag_messages: int | None = None
    lag_seconds: float | None = None


def join(parts: Sequence[Snapshot]) -> Snapshot:
    """One snapshot of those of several readers; the watermark is known once each of them knows its own."""
    marks = [each.watermark for each in parts]

    def most(values: Iterable[Any]) -> Any:
        return max((value for value in values if value is not None), default=None)

    backlog = Backlog(
        sum(each.backlog.messages for each in parts),
        sum(each.backlog.bytes for each in parts),
        min((each.backlog.oldest for each in parts if each.backlog.oldest is not None), default=None),
    )
    lags = [each.lag_messages for each in parts if each.lag_messages is not None]
    return Snapshot(
        sum(each.messages for each in parts),
        backlog,
        None if None in marks else min(mark for mark in marks if mark is not None),
        most(each.asked for each in parts),
        sum(each.unreadable_stamps for each in parts),
        sum(lags) if lags else None,
        most(each.lag_seconds for each in parts),
    )


class Queue(Protocol):
    """A queue that a run reads.

    title            the kind of queue in words
    options          the options that name one
    launch_option    the one of them that a job names which runs elsewhere, as on Dataflow; None: only this machine can
                     read it, and neither `audience deploy` nor the flex template offers it
    parameter_type   of that option among the parameters of the flex template: a `ParameterType`, such as TEXT
    google_services  what a Google Cloud project must have enabled for it
    """

    title: ClassVar[str]
    options: ClassVar[tuple[str, ...]]
    launch_option: ClassVar[str | None]
    parameter_type: ClassVar[str]
    google_services: ClassVar[tuple[str, ...]]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Queue":
        """The queue that the values of options name; an option that is absent has the reader's default."""

    @property
    def input(self) -> str:
        """The name of what is read: of its records in the audit counts, and in what a person reads of the stream."""

    @property
    def google_project(self) -> str | None:
        """The project of Google Cloud that it belongs to."""

    def check(self) -> str:
        """A line about a queue that can be read. Errors: OptionError for its name, SourceError with what to do."""

    def open(self) -> "AbstractContextManager[Queue]":
        """Check it, and hold what a run needs of it: the queue that is read. Errors: as `check`."""

    def read(
        self, *, source: str, landing: "LandAt | None", again: "Sequence[Again]", drain_file: str
    ) -> "beam.PTransform":
        """PBegin -> PCollection[RAW_SCHEMA block]: acknowledged when a bundle is finalized, never before.

        source      the name for records that state none
        landing     where each block is written first, which adds the column `input` (LANDED_SCHEMA); None: the state of
                    the runner is durable
        again       landed files that are read before the queue
        drain_file  a path: once the file exists, the readers return what they hold and end, with every window. Its
                    folder belongs to the run: a queue that does not itself keep how far it was read keeps it there
        """

    def read_by_runner(self, *, source: str, on_dataflow: bool = False) -> "beam.PTransform":
        """PBegin -> PCollection[RAW_SCHEMA block] by the runner's own reader. Errors: OptionError if there is none."""

    def snapshot(self) -> Snapshot:
        """What the readers of this process have received, and hold now."""

    def flush(self) -> bool:
        """Wait until the queue knows what is acknowledged and returned; False if that took too long."""

    def close(self) -> None:
        """After a graph failed or was cancelled: end its readers and return what is not acknowledged."""
