"""The model of `audience plan`: what a stream of a given message rate moves, keeps and computes, step by step.

Pure functions. All groups are assumed to be equally busy. Real groups are skewed, so fewer rows change at a time: the
rows, bytes and state of a metric are upper bounds. The coefficients are in coefficients.py.

    Traffic         the messages
    How             the settings of the stream
    deduplication   -> Flow
    aggregation     -> MetricFlow, one per metric
    audit_counts    -> MetricFlow of quality_1m

Sessions are in sessions.py.
"""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from pipelines.apps.plan import coefficients as figures
from pipelines.apps.plan.coefficients import EVENT_TYPES, FOLLOWS, PRESENT
from transforms.lateness import allowed_lateness
from transforms.metrics.distinct import LIMIT
from transforms.metrics.spec import MetricSpec
from transforms.publication import LATE_EVERY
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


class MetricFlow(NamedTuple):
    """A metric at one message rate. Rows are per second, by firing; `row_bytes` and `wire_bytes` are the size of a row
    as BigQuery counts it and as it is sent; `published` is the largest value in the state of a shard; `keyed` is the
    part of the CPU that its shards take, each on one core at a time."""

    name: str
    flow: Flow
    early: float
    on_time: float
    late: float
    row_bytes: float
    wire_bytes: float
    published: float
    keyed: float
    shards: int

    @property
    def rows(self) -> float:
        return self.early + self.on_time + self.late


def occupied(places: float, things: float) -> float:
    """Return how many of `places` equally likely places hold at least one of `things`, on average."""
    if places <= 0 or things <= 0:
        return 0.0
    return -places * math.expm1(-things / places)


def blocks_a_second(rate: float, how: How) -> float:
    """Return the blocks that the readers emit: each after the delay, or earlier with BLOCK_ROWS rows."""
    by_time = min(how.readers / how.batch_delay.total_seconds(), rate)
    return max(by_time, rate / figures.BLOCK_ROWS)


def text_factor(traffic: Traffic) -> float:
    """Return the ratio of the size of an event to that of the measured events."""
    return traffic.event_bytes / figures.MEASURED_EVENT_BYTES


def settling(rate: float, how: How) -> float:
    """Return the CPU load from the reader to the split for deduplication."""
    blocks = blocks_a_second(rate, how)
    each = rate / blocks if blocks else 0.0
    return blocks * (figures.SETTLE_US.of(each) + figures.SPLIT_US.of(each)) / 1e6


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


def groups_of(spec: MetricSpec, distinct: Mapping[str, float]) -> float:
    """Return the possible groups of a metric: the product of its dimensions' distinct values; a column that another
    dimension determines adds none."""
    free = [name for name in spec.dimensions if FOLLOWS.get(name) not in spec.dimensions]
    return math.prod(max(1.0, distinct.get(name, 1.0)) for name in free)


def share_of(spec: MetricSpec, traffic: Traffic) -> float:
    """Return the share of events that a metric counts."""
    return math.prod(traffic.present.get(name, 1.0) for name in spec.where_set)


def _width(spec: MetricSpec) -> int:
    """Return the columns of a partial row, without registers."""
    return 1 + len(spec.dimensions) + len(spec.measures)


def _sketches(spec: MetricSpec) -> int:
    return sum(measure.kind == "distinct" for measure in spec.measures.values())


def _frame_bytes(spec: MetricSpec) -> float:
    return figures.FRAME_BYTES.of(_width(spec) + _sketches(spec))


class _Sets(NamedTuple):
    """The bytes of a metric's distinct counts in one row: shuffled or kept in state, and stored in the table."""

    moved: float
    stored: float


def _sets(spec: MetricSpec, events: float, traffic: Traffic) -> _Sets:
    moved = stored = 0.0
    for measure in spec.measures.values():
        if measure.kind != "distinct":
            continue
        named = len(dict(measure.conditions).get("event_type", ())) / traffic.distinct.get("event_type", EVENT_TYPES)
        met = events * (min(1.0, named) if named and "event_type" not in spec.dimensions else 1.0)
        values = occupied(traffic.distinct.get(measure.field, met or 1.0), met)
        moved += 8 * values if values <= LIMIT else figures.REGISTERS_BYTES
        stored += 8 + 4 * values if values <= LIMIT else figures.SKETCH_BYTES
    return _Sets(moved, stored)


class _Spread(NamedTuple):
    """Late events: their rate per second, and over how many older buckets they are spread."""

    rate: float
    buckets: float


def _behind(share: float, spread: float, bucket: float, rate: float) -> _Spread:
    """Return the events whose bucket has ended, of those that arrive up to `spread` seconds late."""
    return _Spread(rate * share * min(1.0, spread / 2 / bucket), max(1.0, spread / bucket))


class _Firings(NamedTuple):
    """Rows per second by firing; firings, with those of older buckets apart; published rows that are merged again."""

    early: float
    on_time: float
    late: float
    firings: float
    late_firings: float
    taken: float

    @property
    def full(self) -> float:
        """Firings weighted by how full their state is: an open bucket is half full on average."""
        return self.firings * (0.5 if self.early else 1.0) + self.late_firings


def _firings(spec: MetricSpec, n: float, groups: float, early: timedelta | None, behind: list[_Spread]) -> _Firings:
    bucket, again = spec.bucket_width.total_seconds(), LATE_EVERY.total_seconds()
    every = early.total_seconds() if early and early < spec.bucket_width else 0.0
    in_time = max(0.0, n - sum(each.rate for each in behind))
    shown = occupied(groups, in_time * every) / every if every else 0.0
    last = figures.STRAGGLING_SECONDS if every else bucket
    on_time = occupied(groups, in_time * last) / bucket
    late = sum(each.buckets * occupied(groups, each.rate * again / each.buckets) / again for each in behind)
    firings = spec.shards * ((occupied(1, in_time * every / spec.shards) / every if every else 0.0) + 1 / bucket)
    late_firings = sum(occupied(each.buckets * spec.shards, each.rate * again) / again for each in behind)
    fired = _Firings(shown, on_time, late, firings, late_firings, 0.0)
    return fired._replace(taken=fired.full * occupied(groups, n * bucket) / spec.shards)


def aggregation(spec: MetricSpec, traffic: Traffic, rate: float, how: How) -> MetricFlow:
    """Return the flow of a metric."""
    bucket = spec.bucket_width.total_seconds()
    n, groups = rate * traffic.accepted * share_of(spec, traffic), groups_of(spec, traffic.distinct)
    behind = [
        _behind(traffic.delayed, figures.DELAYED_SECONDS, bucket, n),
        _behind(traffic.late, DAY, bucket, n),
    ]
    fired = _firings(spec, n, groups, how.early_firing or spec.early_interval, behind)
    open_rows = occupied(groups, n * bucket)
    per_group = n * bucket / open_rows if open_rows else 0.0
    held = _sets(spec, per_group, traffic)
    shown = _sets(spec, per_group / 2 if fired.early else per_group, traffic).stored
    frame = open_rows * (_width(spec) * figures.STATE_COLUMN_BYTES + held.moved) / spec.shards + _frame_bytes(spec)
    moved = _crossing(spec, traffic, rate, how, behind)
    rows = fired.early + fired.on_time + fired.late
    registers = figures.REGISTERS_US if held.moved > 8 * LIMIT else 0.0
    keyed = (
        (moved.elements * figures.PEND_US.of(moved.rows / moved.elements) if moved.elements else 0.0)
        + (fired.firings + fired.late_firings) * figures.FIRE_US.call
        + fired.taken * (figures.FIRE_US.row + registers)
        + rows * figures.SHOWN_US
    ) / 1e6
    flow = Flow(
        moved.elements,
        moved.bytes,
        moved.bytes + fired.full * frame,
        frame * spec.shards * (how.kept_seconds + bucket) / bucket,
        moved.cpu + keyed,
    )
    columns = _width(spec) + _sketches(spec) + figures.STAMP_COLUMNS
    return MetricFlow(
        name=spec.name,
        flow=flow,
        early=fired.early,
        on_time=fired.on_time,
        late=fired.late,
        row_bytes=columns * figures.LOGICAL_COLUMN_BYTES + shown,
        wire_bytes=columns * figures.WIRE_COLUMN_BYTES + shown,
        published=frame,
        keyed=keyed,
        shards=spec.shards,
    )


class _Crossing(NamedTuple):
    elements: float
    rows: float
    bytes: float
    cpu: float


def _crossing(spec: MetricSpec, traffic: Traffic, rate: float, how: How, behind: list[_Spread]) -> _Crossing:
    """Return what is shuffled to a metric's shards per second: partial rows, one element per bucket and shard of each
    partition."""
    partitions, n = partitions_a_second(traffic, rate, how), rate * traffic.accepted * share_of(spec, traffic)
    if not partitions or not n:
        return _Crossing(0.0, 0.0, 0.0, 0.0)
    each, groups = n / partitions, groups_of(spec, traffic.distinct)
    older = sum(each.buckets * occupied(groups, each.rate / partitions / each.buckets) for each in behind)
    now = occupied(groups, each)
    buckets = sum(occupied(each.buckets, each.rate / partitions) for each in behind)
    elements = partitions * (
        occupied(spec.shards, now) + buckets * min(spec.shards, max(1.0, older / max(buckets, 1e-9)))
    )
    rows = partitions * (now + older)
    size = _width(spec) * figures.PARTIAL_COLUMN_BYTES + _sets(spec, each / max(now, 1e-9), traffic).moved
    cpu = partitions * figures.PARTIAL_US.of(rate * traffic.accepted / partitions)
    cpu += elements * figures.FRAME_CODE_US.of(rows / elements)
    return _Crossing(elements, rows, elements * _frame_bytes(spec) + rows * size, cpu / 1e6)


def audit_counts(traffic: Traffic, rate: float, how: How) -> MetricFlow:
    """Return the flow of `quality_1m` for one subscription: a row per minute and firing, an element per entry."""
    blocks, partitions = blocks_a_second(rate, how), partitions_a_second(traffic, rate, how)
    refused = occupied(1.0, rate / blocks * traffic.quarantined) if blocks else 0.0
    repeated = occupied(1.0, rate / partitions * traffic.duplicates) if partitions else 0.0
    entries = blocks * (2 + refused) + partitions * (1 + repeated)
    early, on_time = occupied(1, rate * 10) / 10, 1 / 60
    cpu = entries * figures.BOOK_US + (early + on_time) * figures.FIRE_US.call
    state = (how.kept_seconds + 60) / 60 * figures.BOOK_BYTES
    flow = Flow(entries, entries * figures.BOOK_BYTES, 2 * entries * figures.BOOK_BYTES, state, cpu / 1e6)
    return MetricFlow(
        "quality_1m", flow, early, on_time, 0.0, figures.BOOK_ROW_BYTES, figures.BOOK_ROW_BYTES, 0.0, cpu / 1e6, 1
    )
