"""What a plan advises to set, and why."""

import math
from datetime import timedelta

import msgspec

from pipelines.apps.plan import coefficients as figures
from pipelines.apps.plan.result import Advice, Plan, StepPlan
from pipelines.apps.plan.steps import DAY, How, Traffic, aggregation
from pipelines.settings.options import STORAGE_WRITE
from transforms.metrics.spec import MetricSpec
from transforms.sessions.streaming import NAME

EARLY_CHOICES = tuple(timedelta(seconds=seconds) for seconds in (30, 60, 300, 600, 1800))


def advice(plan: Plan, traffic: Traffic, how: How) -> tuple[Advice, ...]:
    """What to set, in the order in which it matters."""
    made = [*_shards_advice(plan), _readers_advice(traffic, how), _block_advice(plan, traffic, how)]
    made += [each for spec in how.metrics if (each := _firing_advice(spec, plan, traffic, how))]
    return (*made, _method_advice(plan))


def _shards_advice(plan: Plan) -> list[Advice]:
    _, *metrics, _, books = plan.steps
    most = _needs_most_shards(plan)
    made = [Advice("--shards", str(most.needs), _why_shards(most))]
    made += [
        Advice(f"shards of {step.step}", str(step.needs), _why_shards(step))
        for step in metrics
        if step.needs > step.shards
    ]
    if books.needs > books.shards:
        why = f"the books have one shard, which is busy {books.busy:.0%} of a core at the peak: an entry a piece"
        made.append(Advice("--shards, --batch_delay", "fewer, longer", why))
    return made


def _needs_most_shards(plan: Plan) -> StepPlan:
    """Of the steps that --shards is for, the one that needs most."""
    return max((step for step in plan.steps if step.step in ("deduplicate", NAME)), key=lambda step: step.needs)


def _why_shards(step: StepPlan) -> str:
    keeps = f"{step.largest / 1e6:,.0f} MB" if step.largest >= 1e6 else "under 1 MB"
    return f"{step.step}: of {step.shards} each keeps {keeps} and is busy {step.busy:.0%} of a core at the peak"


def _readers_advice(traffic: Traffic, how: How) -> Advice:
    needs = max(how.readers, math.ceil(traffic.per_second * traffic.peak / figures.READER_EVENTS))
    return Advice("--readers", str(needs), f"one has taken {figures.READER_EVENTS:,.0f} messages a second here")


def _block_advice(plan: Plan, traffic: Traffic, how: How) -> Advice:
    """Blocks that make pieces of PIECE_EVENTS, as far as a row may wait for it and a block may grow."""
    wanted = figures.PIECE_EVENTS * _needs_most_shards(plan).needs * how.readers / traffic.per_second
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

    now, least = share(spec, how.early_firing), share(without_early(spec), None)
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


def without_early(spec: MetricSpec) -> MetricSpec:
    """The metric, shown once a bucket."""
    return msgspec.structs.replace(spec, early="never")
