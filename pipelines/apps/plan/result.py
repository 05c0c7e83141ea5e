"""The parts of a plan."""

from typing import NamedTuple


class TablePlan(NamedTuple):
    """A table, per day: `row_bytes` as BigQuery counts them, `sent_bytes` as sent over the wire."""

    table: str
    rows: float
    row_bytes: float
    sent_bytes: float


class StepPlan(NamedTuple):
    """A keyed step: bytes shuffled to it and written to its state per day, the size of its state, and its shards.

    busy     share of one core that its busiest shard takes at the peak: above 1 it falls behind
    largest  bytes of the largest value that one shard keeps
    needs    number of shards with which both are within limits
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
    """CPU microseconds per event on average and at the peak; vCPUs and workers; average events per block and per
    partition."""

    cpu_us: float
    cpu_us_at_peak: float
    vcpus: float
    vcpus_at_peak: float
    workers: int
    workers_at_peak: int
    block_events: float
    partition_events: float


class Writing(NamedTuple):
    """Writes to BigQuery at the peak: bytes per second, and the quota."""

    method: str
    peak_bytes_a_second: float
    quota_bytes_a_second: float

    @property
    def share(self) -> float:
        return self.peak_bytes_a_second / self.quota_bytes_a_second


class Advice(NamedTuple):
    """A recommended value of an option, or of a key of a metric, and the reason."""

    option: str
    value: str
    why: str


class Plan(NamedTuple):
    """One day. `dollars` are by purpose."""

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
    queue: str = "pubsub"  # of a stream

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
