"""What a plan consists of."""

from typing import NamedTuple


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
