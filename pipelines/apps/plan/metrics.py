"""The model of `audience plan` for metrics: what transforms/aggregate.py and its scopes move, keep and compute.

    aggregation   -> StepFlow of one scope
    scopes        -> the metrics of each scope

All groups are assumed to be equally busy. Real groups are skewed, so fewer rows change at a time: the rows, bytes and
state of a metric are upper bounds.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from pipelines.apps.plan import coefficients as figures
from pipelines.apps.plan.coefficients import EVENT_TYPES, FOLLOWS
from pipelines.apps.plan.steps import (
    DAY,
    Flow,
    How,
    StepFlow,
    TableFlow,
    Traffic,
    occupied,
    partitions_a_second,
    text_factor,
)
from transforms.aggregate import COMPACT_AT
from transforms.metrics.aggregations import MetricAggregation
from transforms.metrics.distinct import LIMIT
from transforms.metrics.scopes import FEW_EVENTS, columns_of, scopes_of
from transforms.metrics.spec import MetricSpec
from transforms.publication import LATE_EVERY

Specs = tuple[MetricSpec, ...]


def scopes(metrics: Sequence[MetricSpec], early: timedelta | None) -> list[Specs]:
    """Return the metrics of each scope, as the graph forms them."""
    by_name = {spec.name: spec for spec in metrics}
    formed = scopes_of([MetricAggregation(spec, "UTC", early) for spec in metrics])
    return [tuple(by_name[what.name] for what in scope.members) for scope in formed]


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


def _late(spec: MetricSpec, n: float, traffic: Traffic) -> list[_Spread]:
    bucket = spec.bucket_width.total_seconds()
    return [_behind(traffic.delayed, figures.DELAYED_SECONDS, bucket, n), _behind(traffic.late, DAY, bucket, n)]


def _every(spec: MetricSpec, how: How) -> float:
    """Return the seconds between early firings; 0 if there are none."""
    early = how.early_firing or spec.early_interval
    return early.total_seconds() if early and early < spec.bucket_width else 0.0


class _Firings(NamedTuple):
    """Firings per second of a scope, with those of older buckets apart."""

    usual: float
    late: float
    early: bool

    @property
    def full(self) -> float:
        """Firings weighted by how full their state is: an open bucket is half full on average."""
        return self.usual * (0.5 if self.early else 1.0) + self.late


def _firings(specs: Specs, n: float, traffic: Traffic, how: How) -> _Firings:
    spec, late = specs[0], _late(specs[0], n, traffic)
    bucket, again, every = spec.bucket_width.total_seconds(), LATE_EVERY.total_seconds(), _every(spec, how)
    in_time = max(0.0, n - sum(each.rate for each in late))
    early = occupied(1, in_time * every / spec.shards) / every if every else 0.0
    later = sum(occupied(each.buckets * spec.shards, each.rate * again) / again for each in late)
    return _Firings(spec.shards * (early + 1 / bucket), later, early > 0)


class _Member(NamedTuple):
    """A metric of a scope: its rows, those of an open bucket in all shards, and the bytes of these in one shard."""

    table: TableFlow
    open_rows: float
    frame: float
    registers: float  # microseconds, of each of the rows that is merged again


def _member(spec: MetricSpec, traffic: Traffic, rate: float, how: How) -> _Member:
    bucket, again, every = spec.bucket_width.total_seconds(), LATE_EVERY.total_seconds(), _every(spec, how)
    n, groups = rate * traffic.accepted * share_of(spec, traffic), groups_of(spec, traffic.distinct)
    late = _late(spec, n, traffic)
    in_time = max(0.0, n - sum(each.rate for each in late))
    open_rows = occupied(groups, n * bucket)
    per_group = n * bucket / open_rows if open_rows else 0.0
    held, shown = (_sets(spec, events, traffic) for events in (per_group, per_group / 2 if every else per_group))
    columns = _width(spec) + _sketches(spec) + figures.STAMP_COLUMNS
    table = TableFlow(
        name=spec.name,
        early=occupied(groups, in_time * every) / every if every else 0.0,
        on_time=occupied(groups, in_time * (figures.STRAGGLING_SECONDS if every else bucket)) / bucket,
        late=sum(each.buckets * occupied(groups, each.rate * again / each.buckets) / again for each in late),
        row_bytes=columns * figures.LOGICAL_COLUMN_BYTES + shown.stored,
        wire_bytes=columns * figures.WIRE_COLUMN_BYTES + shown.stored,
    )
    frame = open_rows * (_width(spec) * figures.STATE_COLUMN_BYTES + held.moved) / spec.shards + _frame_bytes(spec)
    return _Member(table, open_rows, frame, figures.REGISTERS_US if held.moved > 8 * LIMIT else 0.0)


def aggregation(specs: Specs, traffic: Traffic, rate: float, how: How) -> StepFlow:
    """Return the flow of a scope, of metrics as `scopes` lists them."""
    shards, bucket = specs[0].shards, specs[0].bucket_width.total_seconds()
    fired = _firings(specs, rate * traffic.accepted, traffic, how)
    members = [_member(spec, traffic, rate, how) for spec in specs]
    moved, frame = _crossing(specs, traffic, rate, how), sum(each.frame for each in members)
    compacted = _compactions(moved, specs[0], how)
    merges = fired.usual + fired.late + compacted.rate
    again, compacted_again = (
        sum(each.open_rows * (row + each.registers) for each in members) / shards
        for row in (figures.FIRE_US.row, figures.COMPACT_ROW_US)
    )
    keyed = (
        moved.elements * (figures.PEND_US + figures.UNPACK_US)
        + moved.events * len(specs) * figures.TAKE_US
        + merges * len(specs) * (figures.MERGE_US if moved.events else figures.MERGE_PARTIAL_US)
        + (fired.usual + fired.late) * len(specs) * figures.FIRE_US.call
        + fired.full * again
        + compacted.rate * compacted.full * compacted_again
        + sum(each.table.rows for each in members) * figures.SHOWN_US
    ) / 1e6
    written = moved.bytes + (fired.full + compacted.rate * compacted.full) * frame
    state = frame * shards * (how.kept_seconds + bucket) / bucket
    flow = Flow(moved.elements, moved.bytes, written, state, moved.cpu + keyed)
    return StepFlow(tuple(each.table for each in members), flow, frame, keyed, shards)


class _Compactions(NamedTuple):
    """Compactions per second in all shards, and how full, of an open bucket, what they merge is on average."""

    rate: float
    full: float


def _compactions(moved: "_Crossing", spec: MetricSpec, how: How) -> _Compactions:
    """Return those of COMPACT_AT pending elements between two firings."""
    bucket = spec.bucket_width.total_seconds()
    every = _every(spec, how) or bucket
    times = moved.now * every / spec.shards / COMPACT_AT
    return _Compactions(spec.shards * times / every, every / bucket / 2) if times >= 1 else _Compactions(0.0, 0.0)


class _Crossing(NamedTuple):
    """What is shuffled to a scope's shards per second: events as they are, or else partial rows; elements for open
    buckets alone are `now`."""

    elements: float
    now: float
    rows: float
    events: float
    bytes: float
    cpu: float


def _crossing(specs: Specs, traffic: Traffic, rate: float, how: How) -> _Crossing:
    partitions, n = partitions_a_second(traffic, rate, how), rate * traffic.accepted
    if not partitions or not n:
        return _Crossing(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    if _as_they_are(specs, n / partitions):
        return _events_crossing(specs, traffic, rate, how)
    late = _late(specs[0], n, traffic)
    buckets = sum(occupied(each.buckets, each.rate / partitions) for each in late)
    shards, now, older, rows, size = specs[0].shards, 0.0, 0.0, 0.0, 0.0
    for spec in specs:
        share = share_of(spec, traffic)
        each, groups = n * share / partitions, groups_of(spec, traffic.distinct)
        mine = occupied(groups, each)
        others = sum(
            late_.buckets * occupied(groups, late_.rate * share / partitions / late_.buckets) for late_ in late
        )
        now = max(now, occupied(shards, mine))
        older = max(older, buckets * min(shards, max(1.0, others / max(buckets, 1e-9))))
        rows += partitions * (mine + others)
        moved = _width(spec) * figures.PARTIAL_COLUMN_BYTES + _sets(spec, each / max(mine, 1e-9), traffic).moved
        size += partitions * (mine + others) * moved
    elements = partitions * (now + older)
    cpu = partitions * figures.PARTIAL_US.of(n / partitions) + elements * figures.FRAME_US
    return _Crossing(
        elements=elements,
        now=partitions * now,
        rows=rows,
        events=0.0,
        bytes=elements * sum(map(_frame_bytes, specs)) + size,
        cpu=len(specs) * cpu / 1e6,
    )


def _as_they_are(specs: Specs, events: float) -> bool:
    """Return whether a partition of so many events goes to a scope as it is."""
    return specs[0].shards == 1 and events <= FEW_EVENTS


def _events_crossing(specs: Specs, traffic: Traffic, rate: float, how: How) -> _Crossing:
    """Return what crosses where partitions go as they are: each scope gets the columns that the metrics of any read."""
    partitions, n = partitions_a_second(traffic, rate, how), rate * traffic.accepted
    late, formed = _late(specs[0], n, traffic), scopes(how.metrics, how.early_firing)
    elements = partitions * (1 + sum(occupied(each.buckets, each.rate / partitions) for each in late))
    columns = len(columns_of(scopes_of([MetricAggregation(spec, "UTC") for spec in how.metrics])))
    frame = columns * figures.EVENT_COLUMN_BYTES
    sharing = sum(_as_they_are(each, n / partitions) for each in formed)
    packing = partitions * figures.WHOLE_US.of(n / partitions) / max(1, sharing)
    cpu = packing + partitions * figures.PLACE_US + (elements - partitions) * figures.PIECE_US
    size = elements * frame + n * figures.EVENT_ROW_BYTES * text_factor(traffic)
    return _Crossing(elements, partitions, n, n, size, cpu / 1e6)
