"""Estimate what a day of events needs, in bytes, rows, state, machines and money.

    plan_stream(traffic, how, method, prices) -> Plan
    plan_backfill(traffic, how, prices)       -> Plan

The model of the steps is in steps.py, metrics.py and sessions.py, and its coefficients are in
coefficients.py; advice.py recommends settings, and text.py formats the output. Nothing was measured in the cloud: the
overhead and the prices of Google's services are assumptions, and marked as such.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipelines.apps.plan import coefficients as figures
from pipelines.apps.plan.advice import advice, without_early
from pipelines.apps.plan.gather import NAME as GATHER
from pipelines.apps.plan.gather import GatherFlow, gathering
from pipelines.apps.plan.metrics import aggregation, scopes
from pipelines.apps.plan.queues import queue_dollars, reading
from pipelines.apps.plan.result import Machine, Plan, StepPlan, TablePlan, Writing
from pipelines.apps.plan.sessions import SessionFlow, sessions
from pipelines.apps.plan.steps import (
    DAY,
    Flow,
    How,
    StepFlow,
    TableFlow,
    Traffic,
    audit_counts,
    blocks_a_second,
    deduplication,
    partitions_a_second,
    settling,
    text_factor,
)
from pipelines.settings.options import EXACTLY_ONCE, INSERTS
from transforms.seen import SEEN
from transforms.sessions.streaming import NAME

GIB = 2.0**30


class _Steps(NamedTuple):
    """All steps at one message rate."""

    gathering: GatherFlow | None  # on Dataflow
    reading: float
    settling: float
    deduplication: Flow
    metrics: tuple[StepFlow, ...]  # a scope each
    sessions: SessionFlow
    books: StepFlow

    @property
    def publishing(self) -> tuple[StepFlow, ...]:
        """The steps that publish rows."""
        return (*self.metrics, self.sessions.step, self.books)

    def tables(self, how: How) -> tuple[TableFlow, ...]:
        """The tables of metrics in the order of the configuration, and those of sessions and of audit counts."""
        by_name = {table.name: table for step in self.metrics for table in step.tables}
        return (*(by_name[spec.name] for spec in how.metrics), *self.sessions.step.tables, *self.books.tables)

    def cpu(self, rate: float, traffic: Traffic) -> float:
        """Return the CPU load: core-seconds per second."""
        own = self.settling + self.deduplication.cpu + sum(each.flow.cpu for each in self.publishing)
        own += self.gathering.flow.cpu if self.gathering else 0.0
        writing = self.deduplication.elements * figures.WRITE_US.call + rate * traffic.accepted * figures.WRITE_US.row
        return own + (writing + rate * figures.RUNNER_US) / 1e6 + self.reading


def _steps(traffic: Traffic, rate: float, how: How) -> _Steps:
    return _Steps(
        gathering(traffic, rate, how) if how.on_dataflow else None,
        reading(rate, how),
        settling(traffic, rate, how),
        deduplication(traffic, rate, how),
        tuple(aggregation(specs, traffic, rate, how) for specs in scopes(how.metrics, how.early_firing)),
        sessions(traffic, rate, how),
        audit_counts(traffic, rate, how),
    )


def plan_stream(traffic: Traffic, how: How, method: str, prices: Mapping[str, float]) -> Plan:
    """Plan a stream that runs all day, with the shards of `how`; the advice recommends better numbers."""
    peak_rate = traffic.per_second * traffic.peak
    usual, peak = _steps(traffic, traffic.per_second, how), _steps(traffic, peak_rate, how)
    tables = _tables(traffic, usual.tables(how))
    steps = (
        *_gathering_plan(usual, peak),
        _deduplication_plan(traffic, how, usual, peak),
        *map(_metric_plan, usual.metrics, peak.metrics),
        _sessions_plan(usual.sessions, peak.sessions),
        _metric_plan(usual.books, peak.books),
    )
    machine = _machine(traffic, how, usual, peak)
    at_peak = _tables(traffic._replace(per_second=peak_rate), peak.tables(how))
    busiest = sum(each.rows * each.sent_bytes for each in at_peak)
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
        queue=how.queue,
    )
    dollars = queue_dollars(traffic, how, prices) | _stream_dollars(plan, prices)
    return plan._replace(advice=advice(plan, traffic, how), dollars=dollars)


def _tables(traffic: Traffic, published: Iterable[TableFlow]) -> tuple[TablePlan, ...]:
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
        *(TablePlan(each.name, each.rows * DAY, each.row_bytes, each.wire_bytes) for each in published),
    )


def _gathering_plan(usual: _Steps, peak: _Steps) -> list[StepPlan]:
    if usual.gathering is None or peak.gathering is None:
        return []
    flow, shards, busy = usual.gathering.flow, usual.gathering.shards, peak.gathering.keyed / usual.gathering.shards
    needs = max(1, math.ceil(shards * busy / figures.BUSY))
    largest, written = usual.gathering.largest, flow.written * DAY
    return [StepPlan(GATHER, flow.bytes * DAY, written, flow.state, shards, busy, largest, needs)]


def _deduplication_plan(traffic: Traffic, how: How, usual: _Steps, peak: _Steps) -> StepPlan:
    flow = usual.deduplication
    window = how.dedup_window.total_seconds()
    largest = traffic.per_second * traffic.accepted * SEEN.itemsize * window / how.shards
    # A shard's step and the steps fused with it (partial aggregation of every metric) run on one core at a time.
    behind = sum(each.flow.cpu - each.keyed for each in peak.publishing)
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
        max(1, math.ceil(needs)),
    )


def _metric_plan(usual: StepFlow, peak: StepFlow) -> StepPlan:
    busy, flow = peak.keyed / usual.shards, usual.flow
    needs = max(usual.shards * busy / figures.BUSY, usual.shards * usual.published / figures.VALUE_BYTES, 1)
    step = usual.name
    written = flow.written * DAY
    return StepPlan(step, flow.bytes * DAY, written, flow.state, usual.shards, busy, usual.published, math.ceil(needs))


def _sessions_plan(usual: SessionFlow, peak: SessionFlow) -> StepPlan:
    step = _metric_plan(usual.step, peak.step)
    needs = max(step.needs, math.ceil(step.shards * usual.cold / figures.COLD_BYTES_A_SHARD))
    return step._replace(largest=usual.cold, needs=needs)


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
        rate / partitions_a_second(traffic, rate, how),
    )


def _stream_dollars(plan: Plan, prices: Mapping[str, float]) -> dict[str, float]:
    hours, machine = 24.0, plan.machine
    vcpus = machine.workers * figures.WORKER_VCPUS
    engine = (plan.read_bytes + plan.crossing_bytes + plan.state_written_bytes) / GIB
    if plan.writing.method == EXACTLY_ONCE:
        engine += plan.sent_bytes / GIB
    return {
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


def plan_backfill(traffic: Traffic, how: How, prices: Mapping[str, float]) -> Plan:
    """Plan a day read from files: every bucket fires once, nothing is kept in state, and load jobs write."""
    n, messages = traffic.per_second * traffic.accepted, traffic.per_second * DAY
    quiet, once = traffic._replace(delayed=0.0, late=0.0), how._replace(early_firing=None)
    flows = [aggregation((without_early(spec),), quiet, traffic.per_second, once).tables[0] for spec in how.metrics]
    visits = sessions(traffic._replace(late=0.0), traffic.per_second, once).step.tables
    tables = _tables(traffic, (*flows, *visits))
    vcpu_hours = messages * figures.BACKFILL_US / 1e6 / 3600 / figures.UTILISATION
    vcpus = vcpu_hours / figures.BACKFILL_HOURS
    workers = max(1, math.ceil(vcpus / figures.WORKER_VCPUS))
    machine = Machine(figures.BACKFILL_US, figures.BACKFILL_US, vcpus, vcpus, workers, workers, 0.0, 0.0)
    crossing = {"deduplicate": figures.PARTITION_BYTES.row, NAME: figures.BACKFILL_VISIT_BYTES}
    steps = tuple(
        StepPlan(step, n * DAY * each * text_factor(traffic), 0.0, 0.0, how.shards, 0.0, 0.0, how.shards)
        for step, each in crossing.items()
    )
    plan = Plan(
        backfill=True,
        messages=messages,
        events=n * DAY,
        read_bytes=messages * traffic.event_bytes,
        tables=tables,
        steps=steps,
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
