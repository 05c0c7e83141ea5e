"""The model of `audience plan`: what a stream of a given message rate moves, keeps and computes, step by step.

Pure functions. The coefficients are in coefficients.py.

    Traffic         the messages
    How             the settings of the stream
    deduplication   -> Flow
    audit_counts    -> StepFlow of quality_1m

Metrics are in metrics.py, and sessions in sessions.py.
"""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from pipelines.apps.plan import coefficients as figures
from pipelines.apps.plan.coefficients import PRESENT
from transforms.lateness import allowed_lateness
from transforms.metrics.spec import MetricSpec
from transforms.seen import SEEN

DAY = 86_400.0


class Traffic(NamedTuple):
    """The messages: their average rate per second, and what they are. Shares are of all messages."""

    per_second: float
    peak: float  # peak-to-average ratio, in the busiest minutes
    event_bytes: float  # size of a message
    duplicates: float  # share that repeats an event
    quarantined: float  # share that is quarantined
    delayed: float  # share received up to DELAYED_SECONDS after event time, evenly distributed
    late: float  # share received up to a day after event time, evenly distributed
    distinct: Mapping[str, float]  # column -> its distinct values per day
    present: Mapping[str, float] = PRESENT  # column -> share of the events that have it
    session_events: float = 10.0  # events of a session

    @property
    def accepted(self) -> float:
        """The share that are events."""
        return max(0.0, 1 - self.duplicates - self.quarantined)


class How(NamedTuple):
    """The settings of the stream: options of `audience run` by name, and the active metrics."""

    metrics: tuple[MetricSpec, ...]
    shards: int
    readers: int
    batch_delay: timedelta
    early_firing: timedelta | None
    dedup_window: timedelta
    max_lateness: timedelta
    on_dataflow: bool = False  # whose own reader reads, instead of `readers`
    queue: str = "pubsub"  # or kafka, kinesis

    @property
    def gather_shards(self) -> int:
        """How many shards gather blocks on Dataflow."""
        return min(self.shards, figures.GATHERED_MOST_SHARDS)

    @property
    def kept_seconds(self) -> float:
        """How long a window is kept after its end."""
        return allowed_lateness(self.max_lateness).total_seconds()


class Flow(NamedTuple):
    """A step at one message rate: its input and work per second, and its state.

    elements, bytes   shuffled to it by key
    written           bytes written to its state
    state             bytes that its state holds
    cpu               core-seconds
    """

    elements: float
    bytes: float
    written: float
    state: float
    cpu: float


class TableFlow(NamedTuple):
    """The rows of a table at one message rate, per second, by firing; `row_bytes` and `wire_bytes` are the size of a
    row as BigQuery counts it and as it is sent."""

    name: str
    early: float
    on_time: float
    late: float
    row_bytes: float
    wire_bytes: float

    @property
    def rows(self) -> float:
        return self.early + self.on_time + self.late


class StepFlow(NamedTuple):
    """A keyed step that publishes rows, or one scope of metrics, and its tables. `published` is the largest value in
    the state of a shard; `keyed` is the part of the CPU that its shards take, each on one core at a time."""

    tables: tuple[TableFlow, ...]
    flow: Flow
    published: float
    keyed: float
    shards: int

    @property
    def name(self) -> str:
        return ", ".join(table.name for table in self.tables)


def occupied(places: float, things: float) -> float:
    """Return how many of `places` equally likely places hold at least one of `things`, on average."""
    if places <= 0 or things <= 0:
        return 0.0
    return -places * math.expm1(-things / places)


def blocks_a_second(rate: float, how: How) -> float:
    """Return the blocks that are settled: of the readers, each after the delay, or earlier with BLOCK_ROWS rows; on
    Dataflow, of the shards that gather them, after the delay or with GATHERED_ROWS rows."""
    if how.on_dataflow:
        bundles, shards = bundles_a_second(rate), how.gather_shards
        by_time = shards / (how.batch_delay.total_seconds() + shards / bundles)  # from the first bundle on
        return max(by_time, rate / (figures.GATHERED_ROWS + rate / bundles / 2))
    by_time = min(how.readers / how.batch_delay.total_seconds(), rate)
    return max(by_time, rate / figures.BLOCK_ROWS)


def bundles_a_second(rate: float) -> float:
    """Return the bundles in which Dataflow's reader hands on messages."""
    return rate / min(figures.BUNDLE_ROWS, max(1.0, rate * figures.BUNDLE_SECONDS))


def text_factor(traffic: Traffic) -> float:
    """Return the ratio of the size of an event to that of the measured events."""
    return traffic.event_bytes / figures.MEASURED_EVENT_BYTES


def settling(traffic: Traffic, rate: float, how: How) -> float:
    """Return the CPU load from the reader to the split for deduplication, and of what is refused."""
    blocks, partitions = blocks_a_second(rate, how), partitions_a_second(traffic, rate, how)
    each = rate / blocks if blocks else 0.0
    split = blocks * figures.SPLIT_US.of(each) + partitions * figures.SPLIT_PARTITION_US
    refused = blocks * occupied(1.0, each * traffic.quarantined) * figures.REFUSED_US
    return (blocks * figures.SETTLE_US.of(each) + split + refused) / 1e6


def partitions_a_second(traffic: Traffic, rate: float, how: How) -> float:
    """Return the partitions into which deduplication splits blocks: one per shard, plus those of older windows."""
    blocks = blocks_a_second(rate, how)
    each = rate * (1 - traffic.quarantined) / blocks if blocks else 0.0
    older = traffic.late * min(1.0, DAY / 2 / how.dedup_window.total_seconds())
    return blocks * (occupied(how.shards, each) + occupied(how.shards, each * older))


def deduplication(traffic: Traffic, rate: float, how: How) -> Flow:
    """Return the flow of the step that keeps one event per id; its state is sized for a constant `rate`."""
    partitions, rows = partitions_a_second(traffic, rate, how), rate * (1 - traffic.quarantined)
    each = rows / partitions if partitions else 0.0
    kept = how.dedup_window.total_seconds() + how.kept_seconds
    entries = rate * traffic.accepted * SEEN.itemsize
    return Flow(
        partitions,
        partitions * figures.PARTITION_BYTES.call + rows * figures.PARTITION_BYTES.row * text_factor(traffic),
        entries + partitions * figures.TOKEN_BYTES,
        entries * kept + 2 * how.shards * figures.TOKEN_BYTES * kept / how.dedup_window.total_seconds(),
        partitions * (figures.PARTITION_CODE_US.of(each) + figures.KEEP_US.of(each)) / 1e6,
    )


def audit_counts(traffic: Traffic, rate: float, how: How) -> StepFlow:
    """Return the flow of `quality_1m` for one subscription: a row per minute and firing, an element per block, per
    partition, and two per shard of a block of which something is refused: what is first, and what is written."""
    blocks, partitions = blocks_a_second(rate, how), partitions_a_second(traffic, rate, how)
    refused = occupied(how.shards, rate / blocks * traffic.quarantined) if blocks else 0.0
    entries = blocks * (1 + 2 * refused) + partitions
    early, on_time = occupied(1, rate * 10) / 10, 1 / 60
    keyed = entries * figures.PEND_US + (early + on_time) * figures.BOOK_FIRE_US
    cpu = keyed + entries * figures.BOOK_US
    moved, frame = entries * figures.BOOK_BYTES, figures.BOOK_STATE_BYTES
    state = (how.kept_seconds + 60) / 60 * frame
    flow = Flow(entries, moved, moved + (early + on_time) * frame, state, cpu / 1e6)
    size = figures.BOOK_ROW_BYTES
    return StepFlow((TableFlow("quality_1m", early, on_time, 0.0, size, size),), flow, 0.0, keyed / 1e6, 1)
