"""The model of `audience plan`: what a stream of so many messages a second moves, keeps and computes, step by step.

Pure functions. Groups are taken to be equally busy: real ones are skewed, and then fewer rows change at a time, so the
rows, bytes and state of a metric are from above. The coefficients are in plan_figures.py.

    Traffic         what comes
    How             how the stream is set
    deduplication   -> Flow
    aggregation     -> MetricFlow, one a metric
    the_books       -> MetricFlow of quality_1m

Sessions are in plan_sessions.py.
"""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from pipelines.apps.plan import coefficients as figures
from pipelines.apps.plan.coefficients import EVENT_TYPES, FOLLOWS, PRESENT
from transforms.aggregate import LATE_EVERY
from transforms.lateness import allowed_lateness
from transforms.metrics.distinct import LIMIT
from transforms.metrics.spec import MetricSpec
from transforms.seen import SEEN

DAY = 86_400.0


class Traffic(NamedTuple):
    """What comes: messages a second on average, and what they are. Shares are of all messages."""

    per_second: float
    peak: float  # times the average, in the busiest minutes
    event_bytes: float  # of a message
    duplicates: float  # share that repeats an event
    quarantined: float  # share that is refused
    delayed: float  # share that comes up to DELAYED_SECONDS after it happened, evenly
    late: float  # share that comes up to a day after it happened, evenly
    distinct: Mapping[str, float]  # column -> its different values in a day
    present: Mapping[str, float] = PRESENT  # column -> share of the events that have it
    session_events: float = 10.0  # events of a session

    @property
    def accepted(self) -> float:
        """The share that are events."""
        return max(0.0, 1 - self.duplicates - self.quarantined)


class How(NamedTuple):
    """How the stream is set: the options of `audience run` by their names, and the metrics in force."""

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
    """A step at one rate: what it takes in and does in a second, and what it keeps.

    elements, bytes   that cross to it by key
    written           bytes that are written to its state
    state             bytes that it keeps
    cpu               seconds of one core
    """

    elements: float
    bytes: float
    written: float
    state: float
    cpu: float


class MetricFlow(NamedTuple):
    """A metric at one rate. Rows are a second, by what fires them; `row_bytes` and `wire_bytes` are of one of them, as
    BigQuery counts it and as it is sent; `published` the largest value of state, of one shard; `keyed` the share of the
    CPU that its shards take, one at a time each."""

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
    """How many of so many equally likely places hold one of so many things, on average."""
    if places <= 0 or things <= 0:
        return 0.0
    return -places * math.expm1(-things / places)


def blocks_a_second(rate: float, how: How) -> float:
    """Blocks that the readers hand on: each at the end of its delay, or sooner with BLOCK_ROWS rows."""
    by_time = min(how.readers / how.batch_delay.total_seconds(), rate)
    return max(by_time, rate / figures.BLOCK_ROWS)


def text_factor(traffic: Traffic) -> float:
    """How much longer events are than those that were measured."""
    return traffic.event_bytes / figures.MEASURED_EVENT_BYTES


def settling(rate: float, how: How) -> float:
    """CPU seconds a second from the reader to the split of the deduplication."""
    blocks = blocks_a_second(rate, how)
    each = rate / blocks if blocks else 0.0
    return blocks * (figures.SETTLE_US.of(each) + figures.SPLIT_US.of(each)) / 1e6


def pieces_a_second(traffic: Traffic, rate: float, how: How) -> float:
    """Parts that the deduplication cuts blocks in: one a shard, and more where an older window gets an event."""
    blocks = blocks_a_second(rate, how)
    each = rate * (1 - traffic.quarantined) / blocks if blocks else 0.0
    older = traffic.late * min(1.0, DAY / 2 / how.dedup_window.total_seconds())
    return blocks * (occupied(how.shards, each) + occupied(how.shards, each * older))


def deduplication(traffic: Traffic, rate: float, how: How) -> Flow:
    """The step that keeps one event of each id; its state has room for `rate` all the time."""
    pieces, rows = pieces_a_second(traffic, rate, how), rate * (1 - traffic.quarantined)
    each = rows / pieces if pieces else 0.0
    kept = how.dedup_window.total_seconds() + how.kept_seconds
    entries = rate * traffic.accepted * SEEN.itemsize
    return Flow(
        pieces,
        pieces * figures.PIECE_BYTES.call + rows * figures.PIECE_BYTES.row * text_factor(traffic),
        entries + pieces * figures.TOKEN_BYTES,
        entries * kept + 2 * how.shards * figures.TOKEN_BYTES * kept / how.dedup_window.total_seconds(),
        pieces * (figures.PIECE_CODE_US.of(each) + figures.KEEP_US.of(each)) / 1e6,
    )


def groups_of(spec: MetricSpec, distinct: Mapping[str, float]) -> float:
    """Groups that a metric can have: the product of its dimensions' values; a column that follows from another of the
    dimensions adds none."""
    free = [name for name in spec.dimensions if FOLLOWS.get(name) not in spec.dimensions]
    return math.prod(max(1.0, distinct.get(name, 1.0)) for name in free)


def share_of(spec: MetricSpec, traffic: Traffic) -> float:
    """The share of events that a metric takes."""
    return math.prod(traffic.present.get(name, 1.0) for name in spec.where_set)


def _width(spec: MetricSpec) -> int:
    """Columns of a partial row, registers apart."""
    return 1 + len(spec.dimensions) + len(spec.measures)


def _sketches(spec: MetricSpec) -> int:
    return sum(measure.kind == "distinct" for measure in spec.measures.values())


def _frame_bytes(spec: MetricSpec) -> float:
    return figures.FRAME_BYTES.of(_width(spec) + _sketches(spec))


class _Sets(NamedTuple):
    """The bytes of a metric's distinct counts in one row, as they cross, as they are kept, and as they are stored."""

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
    """Events that come late: a second, and over how many older buckets they lie."""

    rate: float
    buckets: float


def _behind(share: float, spread: float, bucket: float, rate: float) -> _Spread:
    """Of events that come up to `spread` seconds late, those whose bucket has ended."""
    return _Spread(rate * share * min(1.0, spread / 2 / bucket), max(1.0, spread / bucket))


class _Firings(NamedTuple):
    """A second's rows by what fires them; firings, those of older buckets apart; rows that were published before and
    are merged with what is new."""

    early: float
    on_time: float
    late: float
    firings: float
    late_firings: float
    taken: float

    @property
    def full(self) -> float:
        """Firings, counted by how full their state is: an open bucket is half full on average."""
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
    made = _Firings(shown, on_time, late, firings, late_firings, 0.0)
    return made._replace(taken=made.full * occupied(groups, n * bucket) / spec.shards)


def aggregation(spec: MetricSpec, traffic: Traffic, rate: float, how: How) -> MetricFlow:
    """A metric."""
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
    """What crosses to a metric's shards in a second: partial rows, an element a bucket and shard of each piece."""
    pieces, n = pieces_a_second(traffic, rate, how), rate * traffic.accepted * share_of(spec, traffic)
    if not pieces or not n:
        return _Crossing(0.0, 0.0, 0.0, 0.0)
    each, groups = n / pieces, groups_of(spec, traffic.distinct)
    older = sum(each.buckets * occupied(groups, each.rate / pieces / each.buckets) for each in behind)
    now = occupied(groups, each)
    buckets = sum(occupied(each.buckets, each.rate / pieces) for each in behind)
    elements = pieces * (occupied(spec.shards, now) + buckets * min(spec.shards, max(1.0, older / max(buckets, 1e-9))))
    rows = pieces * (now + older)
    size = _width(spec) * figures.PARTIAL_COLUMN_BYTES + _sets(spec, each / max(now, 1e-9), traffic).moved
    cpu = pieces * figures.PARTIAL_US.of(rate * traffic.accepted / pieces)
    cpu += elements * figures.FRAME_CODE_US.of(rows / elements)
    return _Crossing(elements, rows, elements * _frame_bytes(spec) + rows * size, cpu / 1e6)


def the_books(traffic: Traffic, rate: float, how: How) -> MetricFlow:
    """`quality_1m`, of one subscription: a row a minute and firing, and an element an entry."""
    blocks, pieces = blocks_a_second(rate, how), pieces_a_second(traffic, rate, how)
    refused = occupied(1.0, rate / blocks * traffic.quarantined) if blocks else 0.0
    repeated = occupied(1.0, rate / pieces * traffic.duplicates) if pieces else 0.0
    entries = blocks * (2 + refused) + pieces * (1 + repeated)
    early, on_time = occupied(1, rate * 10) / 10, 1 / 60
    cpu = entries * figures.BOOK_US + (early + on_time) * figures.FIRE_US.call
    state = (how.kept_seconds + 60) / 60 * figures.BOOK_BYTES
    flow = Flow(entries, entries * figures.BOOK_BYTES, 2 * entries * figures.BOOK_BYTES, state, cpu / 1e6)
    return MetricFlow(
        "quality_1m", flow, early, on_time, 0.0, figures.BOOK_ROW_BYTES, figures.BOOK_ROW_BYTES, 0.0, cpu / 1e6, 1
    )
