"""Plan: what a day of events needs, in bytes, rows, state, machines and money.

    plan_stream(traffic, how, wanted, prices) -> Plan
    plan_backfill(traffic, how, prices)       -> Plan

The model of the steps is plan_flow.py, its coefficients plan_figures.py, what a person sees plan_lines.py. No cloud was
reached: what Google's services add, and what they cost, is assumed, and said so.
"""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

import msgspec

from pipelines import plan_figures as figures
from pipelines.option_list import EXACTLY_ONCE, INSERTS, STORAGE_WRITE
from pipelines.plan_flow import (
    DAY,
    Flow,
    How,
    MetricFlow,
    Traffic,
    aggregation,
    blocks_a_second,
    deduplication,
    pieces_a_second,
    settling,
    text_factor,
    the_books,
)
from transforms.metrics import MetricSpec
from transforms.seen import SEEN

GIB = 2.0**30
EARLY_CHOICES = tuple(timedelta(seconds=seconds) for seconds in (30, 60, 300, 600, 1800))


class TablePlan(NamedTuple):
    """A table in a day: `row_bytes` as BigQuery counts, `sent_bytes` as they go over the wire."""

    table: str
    rows: float
    row_bytes: float
    sent_bytes: float


class StepPlan(NamedTuple):
    """A keyed step: bytes that cross to it and that it writes to state in a day, what it keeps, and its shards.

    busy     of its busiest shard, the share of one core at the peak: above 1 it falls behind
    largest  bytes of the largest value that one shard keeps
    needs    shards with which both are in bounds
    """

    step: str
    crossing_bytes: float
    state_written_bytes: float
    state_bytes: float
    shards: int
    busy: float
    largest: float
    needs: int


class Machine(NamedTuple):
    """CPU microseconds an event on average and at the peak; vCPUs and workers; how long blocks and pieces are, in
    events, on average."""

    cpu_us: float
    cpu_us_at_peak: float
    vcpus: float
    vcpus_at_peak: float
    workers: int
    workers_at_peak: int
    block_events: float
    piece_events: float


class Writing(NamedTuple):
    """To BigQuery at the peak: bytes a second, and of which quota they are which share."""

    method: str
    peak_bytes_a_second: float
    quota_bytes_a_second: float

    @property
    def share(self) -> float:
        return self.peak_bytes_a_second / self.quota_bytes_a_second


class Advice(NamedTuple):
    """What to set an option, or a key of a metric, to, and why."""

    option: str
    value: str
    why: str


class Plan(NamedTuple):
    """A day. `dollars` are by what they are for."""

    backfill: bool
    messages: float
    events: float
    read_bytes: float
    tables: tuple[TablePlan, ...]
    steps: tuple[StepPlan, ...]
    machine: Machine
    writing: Writing
    advice: tuple[Advice, ...]
    dollars: dict[str, float]

    @property
    def crossing_bytes(self) -> float:
        return sum(step.crossing_bytes for step in self.steps)

    @property
    def state_written_bytes(self) -> float:
        return sum(step.state_written_bytes for step in self.steps)

    @property
    def state_bytes(self) -> float:
        return sum(step.state_bytes for step in self.steps)

    @property
    def stored_bytes(self) -> float:
        return sum(table.rows * table.row_bytes for table in self.tables)

    @property
    def sent_bytes(self) -> float:
        return sum(table.rows * table.sent_bytes for table in self.tables)


class _Steps(NamedTuple):
    """All steps at one rate."""

    settling: float
    deduplication: Flow
    metrics: tuple[MetricFlow, ...]

    def cpu(self, rate: float, traffic: Traffic) -> float:
        """Seconds of one core, a second."""
        own = self.settling + self.deduplication.cpu + sum(metric.flow.cpu for metric in self.metrics)
        writing = self.deduplication.elements * figures.WRITE_US.call + rate * traffic.accepted * figures.WRITE_US.row
        return own + (writing + rate * figures.RUNNER_US) / 1e6


def _steps(traffic: Traffic, rate: float, how: How) -> _Steps:
    metrics = (*(aggregation(spec, traffic, rate, how) for spec in how.metrics), the_books(traffic, rate, how))
    return _Steps(settling(rate, how), deduplication(traffic, rate, how), metrics)


def plan_stream(traffic: Traffic, how: How, method: str, prices: Mapping[str, float]) -> Plan:
    """A stream that runs all day; shards are those of `how`, as advice says what they had better be."""
    peak_rate = traffic.per_second * traffic.peak
    usual, peak = _steps(traffic, traffic.per_second, how), _steps(traffic, peak_rate, how)
    tables = _tables(traffic, usual.metrics)
    steps = (_deduplication_plan(traffic, how, usual, peak), *map(_metric_plan, usual.metrics, peak.metrics))
    machine = _machine(traffic, how, usual, peak)
    busiest = sum(each.rows * each.sent_bytes for each in _tables(traffic._replace(per_second=peak_rate), peak.metrics))
    writing = Writing(method, busiest / DAY, figures.WRITE_QUOTA_BYTES)
    plan = Plan(
        backfill=False,
        messages=traffic.per_second * DAY,
        events=traffic.per_second * DAY * traffic.accepted,
        read_bytes=traffic.per_second * DAY * traffic.event_bytes,
        tables=tables,
        steps=steps,
        machine=machine,
        writing=writing,
        advice=(),
        dollars={},
    )
    return plan._replace(advice=_advice(plan, traffic, how), dollars=_stream_dollars(plan, prices))


def _tables(traffic: Traffic, metrics: tuple[MetricFlow, ...]) -> tuple[TablePlan, ...]:
    factor, messages = text_factor(traffic), traffic.per_second * DAY
    refused = figures.QUARANTINE_BYTES + traffic.event_bytes
    return (
        TablePlan(
            "events",
            messages * traffic.accepted,
            figures.EVENT_LOGICAL_BYTES * factor,
            figures.EVENT_WIRE_BYTES * factor,
        ),
        TablePlan("quarantine", messages * traffic.quarantined, refused, refused),
        *(TablePlan(each.name, each.rows * DAY, each.row_bytes, each.wire_bytes) for each in metrics),
    )


def _deduplication_plan(traffic: Traffic, how: How, usual: _Steps, peak: _Steps) -> StepPlan:
    flow = usual.deduplication
    window = how.dedup_window.total_seconds()
    largest = traffic.per_second * traffic.accepted * SEEN.itemsize * window / how.shards
    # A shard's step and what is fused behind it (the parts of every metric) run on one core at a time.
    behind = sum(metric.flow.cpu - metric.keyed for metric in peak.metrics)
    busy = (peak.deduplication.cpu + behind) / how.shards
    needs = max(how.shards * largest / figures.SEEN_BYTES_A_SHARD, how.shards * busy / figures.BUSY)
    return StepPlan(
        "deduplicate",
        flow.bytes * DAY,
        flow.written * DAY,
        flow.state,
        how.shards,
        busy,
        largest,
        max(4, math.ceil(needs)),
    )


def _metric_plan(usual: MetricFlow, peak: MetricFlow) -> StepPlan:
    busy, flow = peak.keyed / usual.shards, usual.flow
    needs = max(usual.shards * busy / figures.BUSY, usual.shards * usual.published / figures.VALUE_BYTES, 1)
    step = usual.name
    written = flow.written * DAY
    return StepPlan(step, flow.bytes * DAY, written, flow.state, usual.shards, busy, usual.published, math.ceil(needs))


def _machine(traffic: Traffic, how: How, usual: _Steps, peak: _Steps) -> Machine:
    rate = traffic.per_second
    cpu, most = usual.cpu(rate, traffic), peak.cpu(rate * traffic.peak, traffic)
    vcpus, vcpus_at_peak = cpu / figures.UTILISATION, most / figures.UTILISATION
    return Machine(
        cpu / rate * 1e6,
        most / (rate * traffic.peak) * 1e6,
        vcpus,
        vcpus_at_peak,
        max(1, math.ceil(vcpus / figures.WORKER_VCPUS)),
        max(1, math.ceil(vcpus_at_peak / figures.WORKER_VCPUS)),
        rate / blocks_a_second(rate, how),
        rate / pieces_a_second(traffic, rate, how),
    )


def _stream_dollars(plan: Plan, prices: Mapping[str, float]) -> dict[str, float]:
    hours, machine = 24.0, plan.machine
    vcpus = machine.workers * figures.WORKER_VCPUS
    engine = (plan.read_bytes + plan.crossing_bytes + plan.state_written_bytes) / GIB
    if plan.writing.method == EXACTLY_ONCE:
        engine += plan.sent_bytes / GIB
    return {
        "pubsub": 2 * plan.read_bytes / 2**40 * prices["pubsub_tib"],
        "workers": hours * vcpus * (prices["streaming_vcpu_hour"] + figures.GIB_A_VCPU * prices["memory_gib_hour"]),
        "streaming_engine": engine * prices["streaming_engine_gib"],
        "bigquery_writes": _write_dollars(plan, prices),
        "bigquery_storage": plan.stored_bytes / GIB * prices["bigquery_storage_gib_month"],
    }


def _write_dollars(plan: Plan, prices: Mapping[str, float]) -> float:
    if plan.writing.method == INSERTS:
        billed = sum(table.rows * max(table.row_bytes, figures.INSERT_LEAST_BYTES) for table in plan.tables)
        return billed / GIB * prices["bigquery_insert_gib"]
    return plan.stored_bytes / GIB * prices["bigquery_write_gib"]


def _advice(plan: Plan, traffic: Traffic, how: How) -> tuple[Advice, ...]:
    """What to set, in the order in which it matters."""
    made = [*_shards_advice(plan), _readers_advice(traffic, how), _block_advice(plan, traffic, how)]
    made += [each for spec in how.metrics if (each := _firing_advice(spec, plan, traffic, how))]
    return (*made, _method_advice(plan))


def _shards_advice(plan: Plan) -> list[Advice]:
    dedup, *metrics, books = plan.steps
    made = [Advice("--shards", str(dedup.needs), _why_shards(dedup))]
    made += [
        Advice(f"shards of {step.step}", str(step.needs), _why_shards(step))
        for step in metrics
        if step.needs > step.shards
    ]
    if books.needs > books.shards:
        why = f"the books have one shard, which is busy {books.busy:.0%} of a core at the peak: an entry a piece"
        made.append(Advice("--shards, --batch_delay", "fewer, longer", why))
    return made


def _why_shards(step: StepPlan) -> str:
    keeps = f"{step.largest / 1e6:,.0f} MB" if step.largest >= 1e6 else "under 1 MB"
    return f"with {step.shards} each keeps {keeps} in one window and is busy {step.busy:.0%} of a core at the peak"


def _readers_advice(traffic: Traffic, how: How) -> Advice:
    needs = max(how.readers, math.ceil(traffic.per_second * traffic.peak / figures.READER_EVENTS))
    return Advice("--readers", str(needs), f"one has taken {figures.READER_EVENTS:,.0f} messages a second here")


def _block_advice(plan: Plan, traffic: Traffic, how: How) -> Advice:
    """Blocks that make pieces of PIECE_EVENTS, as far as a row may wait for it and a block may grow."""
    wanted = figures.PIECE_EVENTS * plan.steps[0].needs * how.readers / traffic.per_second
    full = how.readers * figures.BLOCK_ROWS / traffic.per_second
    delay = timedelta(seconds=math.floor(min(wanted, full, figures.MOST_BATCH_SECONDS)))
    if delay <= how.batch_delay:
        return Advice("--batch_delay", _duration(how.batch_delay), "longer makes no block better")
    pieces = plan.machine.piece_events
    return Advice(
        "--batch_delay", _duration(delay), f"a piece holds {pieces:,.0f} events now, and costs like one of 2,000"
    )


def _duration(delay: timedelta) -> str:
    """As --batch_delay and `early` take it."""
    milliseconds = round(delay.total_seconds() * 1000)
    if milliseconds % 1000:
        return f"{milliseconds}ms"
    return f"{milliseconds // 1000}s" if milliseconds % 60_000 else f"{milliseconds // 60_000}m"


def _firing_advice(spec: MetricSpec, plan: Plan, traffic: Traffic, how: How) -> Advice | None:
    """For a metric whose rows are more than FIRING_SHARE of what is stored of the events: the shortest interval that
    mends it, or does as well as none at all."""
    events = plan.tables[0].rows * plan.tables[0].row_bytes

    def share(stated: MetricSpec, early: timedelta | None) -> float:
        flow = aggregation(stated, traffic, traffic.per_second, how._replace(early_firing=early))
        return flow.rows * DAY * flow.row_bytes / events

    now, least = share(spec, how.early_firing), share(_without_early(spec), None)
    enough = max(figures.FIRING_SHARE, 1.1 * least)
    if now <= enough or (how.early_firing or spec.early_interval) is None:
        return None
    shorter_than_a_bucket = (each for each in EARLY_CHOICES if each < spec.bucket_width)
    chosen = next((each for each in shorter_than_a_bucket if share(spec, each) <= enough), None)
    value = _duration(chosen) if chosen else "never"
    after = share(spec, chosen) if chosen else least
    why = f"its rows are {now:.0%} of the bytes of the events now, and {after:.0%} then"
    return Advice(f"early of {spec.name}", value, why)


def _method_advice(plan: Plan) -> Advice:
    why = f"{plan.writing.share:.1%} of a region's quota at the peak"
    if plan.writing.share > figures.QUOTA_SHARE:
        why += "; ask for more, or use a multi-region"
    return Advice("--write_method", STORAGE_WRITE, why + "; events_unique shows each event once")


def plan_backfill(traffic: Traffic, how: How, prices: Mapping[str, float]) -> Plan:
    """A day read from files: every bucket fires once, nothing is kept in state, and load jobs write."""
    n, messages = traffic.per_second * traffic.accepted, traffic.per_second * DAY
    flows = []
    for spec in how.metrics:
        quiet = traffic._replace(delayed=0.0, late=0.0)
        flow = aggregation(_without_early(spec), quiet, traffic.per_second, how._replace(early_firing=None))
        flows.append(flow)
    tables = _tables(traffic, tuple(flows))
    vcpu_hours = messages * figures.BACKFILL_US / 1e6 / 3600 / figures.UTILISATION
    vcpus = vcpu_hours / figures.BACKFILL_HOURS
    workers = max(1, math.ceil(vcpus / figures.WORKER_VCPUS))
    machine = Machine(figures.BACKFILL_US, figures.BACKFILL_US, vcpus, vcpus, workers, workers, 0.0, 0.0)
    crossing = n * DAY * figures.PIECE_BYTES.row * text_factor(traffic)
    step = StepPlan("deduplicate", crossing, 0.0, 0.0, how.shards, 0.0, 0.0, how.shards)
    plan = Plan(
        backfill=True,
        messages=messages,
        events=n * DAY,
        read_bytes=messages * traffic.event_bytes,
        tables=tables,
        steps=(step,),
        machine=machine,
        writing=Writing("load jobs", 0.0, figures.WRITE_QUOTA_BYTES),
        advice=(),
        dollars={},
    )
    each_vcpu = prices["batch_vcpu_hour"] + figures.GIB_A_VCPU * prices["memory_gib_hour"]
    dollars = {
        "workers": vcpu_hours * each_vcpu,
        "shuffle": plan.crossing_bytes / GIB * prices["batch_shuffle_gib"],
        "bigquery_storage": plan.stored_bytes / GIB * prices["bigquery_storage_gib_month"],
    }
    return plan._replace(dollars=dollars)


def _without_early(spec: MetricSpec) -> MetricSpec:
    return msgspec.structs.replace(spec, early="never")
