"""Pub/Sub as a queue (queue.py): a subscription, or a topic by a subscription for the length of a run.

Its readers share one subscription. What they hold is known to the process as a whole, so `snapshot`, `flush` and
`close` are of all Pub/Sub readers in it.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from pipelines.sources.queue import Backlog, Snapshot

if TYPE_CHECKING:
    import apache_beam as beam

    from pipelines.sources.landing import Again, LandAt

_FIELDS = {  # option -> field
    "input_subscription": "subscription",
    "input_topic": "topic",
    "timestamp_attribute": "timestamp_attribute",
    "id_label": "id_label",
    "readers": "readers",
    "expected_delay": "expected_delay",
    "batch_delay": "batch_delay",
}


@dataclass(frozen=True)
class PubSubQueue:
    """See `Queue`. One of `subscription` and `topic` is given."""

    title: ClassVar[str] = "Pub/Sub"
    options: ClassVar[tuple[str, ...]] = ("input_subscription", "input_topic")
    launch_option: ClassVar[str | None] = "input_subscription"
    parameter_type: ClassVar[str] = "PUBSUB_SUBSCRIPTION"
    google_services: ClassVar[tuple[str, ...]] = ("pubsub",)

    subscription: str | None = None
    topic: str | None = None
    timestamp_attribute: str | None = None
    id_label: str | None = None
    readers: int = 2
    expected_delay: timedelta = timedelta(seconds=10)
    batch_delay: timedelta = timedelta(milliseconds=500)
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "PubSubQueue":
        """The queue that the values of options name."""
        return cls(**{field: values[name] for name, field in _FIELDS.items() if values.get(name) is not None})

    @property
    def input(self) -> str:
        """The subscription; of a queue that is not open yet also the topic."""
        return str(self.subscription or self.topic)

    @property
    def google_project(self) -> str | None:
        """The project in its name; None where the name has another form."""
        parts = self.input.split("/")
        return parts[1] if len(parts) == 4 else None

    def check(self) -> str:
        """A line about it. Errors: OptionError for its name, SourceError for all else."""
        from pipelines.sources.pubsub.check import check_subscription, check_topic

        if self.subscription is None:
            check_topic(str(self.topic))
            return f"topic {self.topic}"
        return f"of {check_subscription(self.subscription).topic}"

    @contextmanager
    def open(self) -> "Iterator[PubSubQueue]":
        """Check it; of a topic, make the subscription that is deleted at the end. Errors: as `check`."""
        from pipelines.sources.pubsub.check import temporary_subscription

        if self.subscription is None:
            with temporary_subscription(str(self.topic)) as made:
                yield replace(self, subscription=made, topic=None)
        else:
            self.check()
            yield self

    def read(
        self, *, source: str, landing: "LandAt | None", again: "Sequence[Again]", drain_file: str
    ) -> "beam.PTransform":
        """Read with our own reader (source.py)."""
        from pipelines.sources.pubsub.source import Reading, ReadPubSub

        return ReadPubSub(
            Reading(
                subscription=self.input,
                source=source,
                readers=self.readers,
                timestamp_attribute=self.timestamp_attribute,
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
        """Read with Beam's own reader (beam_reader.py)."""
        from pipelines.sources.pubsub.beam_reader import ReadPubSubThroughBeam

        return ReadPubSubThroughBeam(
            self.subscription,
            topic=self.topic,
            source=source,
            timestamp_attribute=self.timestamp_attribute,
            id_label=self.id_label,
            on_dataflow=on_dataflow,
        )

    def snapshot(self) -> Snapshot:
        """What the readers of this process have received, and hold now."""
        from pipelines.sources.pubsub import leases as pubsub_leases

        now = pubsub_leases.snapshot()
        backlog = Backlog(now.in_flight, now.in_flight_bytes, now.oldest_received)
        return Snapshot(now.messages, backlog, now.watermark, now.asked, now.unreadable)

    def flush(self) -> bool:
        """Wait until Pub/Sub knows what is acknowledged and returned; False if that took too long."""
        from pipelines.sources.pubsub import leases as pubsub_leases

        return pubsub_leases.flush()

    def close(self) -> None:
        """End the readers of this process and return what is not acknowledged."""
        from pipelines.sources.pubsub.reader import close_all

        close_all()
