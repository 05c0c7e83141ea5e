"""Recommend settings for a plan, with reasons."""

import math
from datetime import timedelta

import msgspec

from pipelines.apps.plan import coefficients as figures
from pipelines.apps.plan.gather import NAME as GATHER
from pipelines.apps.plan.metrics import aggregation
from pipelines.apps.plan.queues import queue_advice
from pipelines.apps.plan.result import Advice, Plan, StepPlan
from pipelines.apps.plan.steps import DAY, How, Traffic
from pipelines.settings.forms import write_duration
from pipelines.settings.options import STORAGE_WRITE
from transforms.metrics.spec import MetricSpec
from transforms.sessions.streaming import NAME

BY_SHARDS = (GATHER, "deduplicate", NAME)  # steps to which --shards applies
EARLY_CHOICES = tuple(timedelta(seconds=seconds) for seconds in (30, 60, 300, 600, 1800))


def advice(plan: Plan, traffic: Traffic, how: How) -> tuple[Advice, ...]:
    """Return the recommended settings, the most important first."""
    listed = _shards_advice(plan)
    listed += queue_advice(traffic, how)
    listed.append(_block_advice(plan, traffic, how))
    listed += [each for spec in how.metrics if (each := _firing_advice(spec, plan, traffic, how))]
    return (*listed, _method_advice(plan))


def _shards_advice(plan: Plan) -> list[Advice]:
    *_, books = plan.steps
    metrics = [step for step in plan.steps[:-1] if step.step not in BY_SHARDS]
    most = _needs_most_shards(plan)
    listed = [Advice("--shards", str(most.needs), _why_shards(most, f"{most.step}: each"))]
    for step in metrics:
        if step.needs > step.shards:
            largest = _largest(step, plan)
            others = [name for name in step.step.split(", ") if name != largest]
            why = _why_shards(step, f"with {', '.join(others)} each" if others else "each")
            listed.append(Advice(f"shards of {largest}", str(step.needs), why))
    if books.needs > books.shards:
        why = f"the audit counts have one shard, busy {books.busy:.0%} of a core at the peak: one entry per partition"
        listed.append(Advice("--shards, --batch_delay", "fewer, longer", why))
    return listed


def _needs_most_shards(plan: Plan) -> StepPlan:
    """Return the step that needs the most shards, of those that --shards applies to."""
    return max(
        (step for step in plan.steps if step.step in BY_SHARDS), key=lambda step: (step.needs, step.step != GATHER)
    )


def _largest(step: StepPlan, plan: Plan) -> str:
    """Return the metric with the most bytes of those that share a step."""
    stored = {table.table: table.rows * table.row_bytes for table in plan.tables}
    return max(step.step.split(", "), key=stored.__getitem__)


def _why_shards(step: StepPlan, each: str) -> str:
    keeps = f"{step.largest / 1e6:,.0f} MB" if step.largest >= 1e6 else "under 1 MB"
    return f"{each} of {step.shards} keeps {keeps} and is busy {step.busy:.0%} of a core at the peak"


def _block_advice(plan: Plan, traffic: Traffic, how: How) -> Advice:
    """Recommend blocks whose partitions hold PARTITION_EVENTS, within the bounds on latency and on block size."""
    shards = _needs_most_shards(plan).needs
    made_by = min(shards, figures.GATHERED_MOST_SHARDS) if how.on_dataflow else how.readers
    most = figures.GATHERED_ROWS if how.on_dataflow else figures.BLOCK_ROWS
    wanted = figures.PARTITION_EVENTS * shards * made_by / traffic.per_second
    full = made_by * most / traffic.per_second
    delay = timedelta(seconds=math.floor(min(wanted, full, figures.MOST_BATCH_SECONDS)))
    if delay <= how.batch_delay:
        return Advice("--batch_delay", write_duration(how.batch_delay), "a longer delay does not help")
    partitions = plan.machine.partition_events
    return Advice(
        "--batch_delay",
        write_duration(delay),
        f"a partition holds {partitions:,.0f} events now, but costs as much as 2,000",
    )


def _firing_advice(spec: MetricSpec, plan: Plan, traffic: Traffic, how: How) -> Advice | None:
    """Recommend an interval for a metric whose rows exceed FIRING_SHARE of the bytes of the events: the shortest one
    that is below it, or no worse than without early firings."""
    events = plan.tables[0].rows * plan.tables[0].row_bytes

    def share(stated: MetricSpec, early: timedelta | None) -> float:
        flow = aggregation((stated,), traffic, traffic.per_second, how._replace(early_firing=early)).tables[0]
        return flow.rows * DAY * flow.row_bytes / events

    now, least = share(spec, how.early_firing), share(without_early(spec), None)
    enough = max(figures.FIRING_SHARE, 1.1 * least)
    if now <= enough or (how.early_firing or spec.early_interval) is None:
        return None
    shorter_than_a_bucket = (each for each in EARLY_CHOICES if each < spec.bucket_width)
    chosen = next((each for each in shorter_than_a_bucket if share(spec, each) <= enough), None)
    value = write_duration(chosen) if chosen else "never"
    after = share(spec, chosen) if chosen else least
    why = f"its rows take {now:.0%} of the bytes of the events now, and {after:.0%} with this setting"
    return Advice(f"early of {spec.name}", value, why)


def _method_advice(plan: Plan) -> Advice:
    why = f"{plan.writing.share:.1%} of a region's quota at the peak"
    if plan.writing.share > figures.QUOTA_SHARE:
        why += "; request a higher quota, or use a multi-region"
    return Advice("--write_method", STORAGE_WRITE, why + "; events_unique shows each event once")


def without_early(spec: MetricSpec) -> MetricSpec:
    """Return the metric without early firings."""
    return msgspec.structs.replace(spec, early="never")
