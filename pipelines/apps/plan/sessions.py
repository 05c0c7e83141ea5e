"""The model of `audience plan` for sessions: what transforms/sessions/streaming.py moves, keeps and computes.

    sessions -> SessionFlow

All sessions are assumed to have the same length, SESSION_SECONDS, and `session_events` events. Each partition of the
deduplication is assumed to be a bundle of its own, so elements and their cost are upper bounds.
"""

from typing import NamedTuple

from pipelines.apps.plan import coefficients as figures
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
from transforms.publication import LATE_EVERY
from transforms.sessions.streaming import COLD_EVERY, COLD_FRAMES, HOT, NAME, SWEEP
from transforms.sessions.summaries import GAP

MINUTE = 60.0
OPEN = figures.SESSION_SECONDS + GAP.total_seconds()  # from the first event of a session until it closes


class SessionFlow(NamedTuple):
    """`step` is as for a scope of metrics, with a shard's hot sessions as `published`; `cold` is the size
    of a shard's cold sessions in bytes, which are read as a whole; `rate` is the sessions per second."""

    step: StepFlow
    cold: float
    rate: float


class _Held(NamedTuple):
    """Sessions of one shard: hot ones, which each firing reads and writes, and older cold ones."""

    hot: float
    cold: float

    @property
    def hot_bytes(self) -> float:
        return figures.SESSION_STATE_BYTES.of(self.hot)

    @property
    def cold_bytes(self) -> float:
        return self.cold * figures.SESSION_STATE_BYTES.row + COLD_FRAMES / 2 * figures.SESSION_STATE_BYTES.call


def sessions(traffic: Traffic, rate: float, how: How) -> SessionFlow:
    """Return the flow of the step at `rate` messages per second."""
    n = rate * traffic.accepted
    made = n / traffic.session_events
    late = n * traffic.late * max(0.0, 1 - OPEN / DAY)  # of closed sessions
    early = _early(n, made, how)
    held = _held(made, how)
    moved = _crossing(traffic, rate, how)
    firings = how.shards * occupied(1, (made + late) * MINUTE / how.shards) / MINUTE + early.firings
    looks = _looks(n, traffic, how)
    rows = made + late + early.rows
    waits = looks.events * COLD_EVERY / LATE_EVERY / 2  # each is rewritten at every firing until the look
    kept_again = held.cold_bytes * firings / COLD_FRAMES
    written = (
        moved.bytes
        + waits * figures.VISIT_BYTES.row
        + firings * (held.hot_bytes + figures.SESSION_STATE_BYTES.call)
        + (made + late) * figures.SESSION_STATE_BYTES.row
        + kept_again
    )
    keyed = (
        moved.keyed
        + firings * figures.SESSION_FIRE_US.of(held.hot)
        + n * figures.VISIT_US
        + rows * figures.SHOWN_US
        + (looks.firings + firings / COLD_FRAMES) * held.cold * figures.LOOK_US
    ) / 1e6
    state = how.shards * (held.hot_bytes + held.cold_bytes) + moved.bytes * MINUTE
    size = (figures.SESSION_LOGICAL_BYTES, figures.SESSION_WIRE_BYTES)
    flow = Flow(moved.elements, moved.bytes, written, state, moved.cpu / 1e6 + keyed)
    step = StepFlow((TableFlow(NAME, early.rows, made, late, *size),), flow, held.hot_bytes, keyed, how.shards)
    return SessionFlow(step, held.cold_bytes, made)


def _held(made: float, how: How) -> _Held:
    hot = OPEN + HOT.total_seconds()
    cold = max(0.0, how.kept_seconds - HOT.total_seconds()) + SWEEP.total_seconds() / 2
    return _Held(made * hot / how.shards, made * cold / how.shards)


class _Early(NamedTuple):
    rows: float
    firings: float


def _early(n: float, made: float, how: How) -> _Early:
    """Return the early rows: open sessions that have changed, if early firings are on."""
    if how.early_firing is None:
        return _Early(0.0, 0.0)
    every = how.early_firing.total_seconds()
    shown = occupied(made * OPEN, n * every) / every
    return _Early(shown, how.shards * occupied(1, n * every / how.shards) / every)


class _Looks(NamedTuple):
    """Lookups of cold sessions in all shards, and the events that need them."""

    firings: float
    events: float


def _looks(n: float, traffic: Traffic, how: How) -> _Looks:
    events = n * traffic.late * max(0.0, 1 - (OPEN + HOT.total_seconds()) / DAY)
    every = COLD_EVERY.total_seconds()
    return _Looks(how.shards * occupied(1, events * every / how.shards) / every, events)


class _Crossing(NamedTuple):
    """What is shuffled to the shards per second; `cpu`, and the part of it that is `keyed`, in microseconds."""

    elements: float
    bytes: float
    cpu: float
    keyed: float


def _crossing(traffic: Traffic, rate: float, how: How) -> _Crossing:
    partitions, n = partitions_a_second(traffic, rate, how), rate * traffic.accepted
    elements = partitions * occupied(how.shards, n / partitions) if partitions else 0.0
    if not elements:
        return _Crossing(0.0, 0.0, 0.0, 0.0)
    return _Crossing(
        elements,
        elements * figures.VISIT_BYTES.call + n * figures.VISIT_BYTES.row * text_factor(traffic),
        partitions * figures.BY_VISITOR_US.of(n / partitions) + elements * figures.VISIT_CODE_US,
        elements * figures.VISIT_PEND_US.of(n / elements),
    )
