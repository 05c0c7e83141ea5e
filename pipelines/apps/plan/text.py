"""Format a plan as text and as JSON."""

from collections.abc import Iterator
from typing import Any

from pipelines.apps.plan import coefficients as figures
from pipelines.apps.plan.queues import TITLES
from pipelines.apps.plan.result import Plan
from pipelines.apps.plan.steps import Traffic
from pipelines.system.progress import size

NAMES = {
    "pubsub": "Pub/Sub publish and delivery",
    "kinesis": "Kinesis shards and records",
    "workers": "Dataflow workers, vCPU and memory",
    "streaming_engine": "Streaming Engine, data processed",
    "shuffle": "Dataflow Shuffle, data processed",
    "bigquery_writes": "BigQuery writes",
    "bigquery_storage": "BigQuery storage for a month",
}


def plan_lines(plan: Plan, traffic: Traffic) -> Iterator[str]:
    """Yield the lines of text, without newlines."""
    usual = plan.backfill or plan.queue == "pubsub"
    kind = ("backfill" if plan.backfill else "stream") + ("" if usual else f" from {TITLES[plan.queue]}")
    messages = f"{plan.messages:,.0f} messages of {traffic.event_bytes:,.0f} bytes"
    yield f"One day of a {kind}: {messages}, {plan.events:,.0f} events;"
    yield f"{traffic.per_second:,.0f} per second on average, {traffic.peak:g} times as many at the peak"
    yield ""
    yield from _table(("bytes", "per day"), _bytes_rows(plan))
    yield from _table(("table", "rows per day", "bytes per row", "bytes per day"), _table_rows(plan))
    if not plan.backfill:
        header = ("state of", "size", "written per day", "shards", "busy at peak", "shards needed")
        yield from _table(header, _state_rows(plan))
    yield from _table(("machine", ""), _machine_rows(plan))
    if plan.advice:
        yield from _table(("set", "to", "because"), [[each.option, each.value, each.why] for each in plan.advice])
    yield from _table(("dollars", "per day"), _dollar_rows(plan))
    yield f"Prices and quotas ({figures.REGION}) are assumptions: check them by {figures.CHECK_BY}, and pass your own"
    yield "with --price NAME=DOLLARS. Nothing was measured on Dataflow; docs/capacity.md lists the assumptions."


def _bytes_rows(plan: Plan) -> list[list[str]]:
    rows = [["read", size(plan.read_bytes)], ["shuffled by key", size(plan.crossing_bytes)]]
    if not plan.backfill:
        rows.append(["written to state", size(plan.state_written_bytes)])
        rows.append(["sent to BigQuery", size(plan.sent_bytes)])
    return [*rows, ["stored in BigQuery", size(plan.stored_bytes)]]


def _table_rows(plan: Plan) -> list[list[str]]:
    return [
        [each.table, f"{each.rows:,.0f}", f"{each.row_bytes:,.0f}", size(each.rows * each.row_bytes)]
        for each in plan.tables
    ]


def _state_rows(plan: Plan) -> list[list[str]]:
    rows = [
        [each.step, *map(size, each[2:4][::-1]), f"{each.shards:,}", f"{each.busy:.0%}", f"{each.needs:,}"]
        for each in plan.steps
    ]
    return [*rows, ["total", size(plan.state_bytes), size(plan.state_written_bytes), "", "", ""]]


def _machine_rows(plan: Plan) -> list[list[str]]:
    machine = plan.machine
    each = f"{figures.WORKER_VCPUS} vCPUs, {figures.WORKER_VCPUS * figures.GIB_A_VCPU:g} GiB"
    if plan.backfill:
        return [
            ["CPU per event", f"{machine.cpu_us:,.0f} us"],
            [f"workers of {each}, to finish in {figures.BACKFILL_HOURS:g} h", f"{machine.workers:,}"],
        ]
    return [
        ["CPU per event, on average and at the peak", f"{machine.cpu_us:,.0f} us, {machine.cpu_us_at_peak:,.0f} us"],
        ["vCPUs, on average and at the peak", f"{machine.vcpus:,.1f}, {machine.vcpus_at_peak:,.1f}"],
        [f"workers of {each}", f"{machine.workers:,}, {machine.workers_at_peak:,}"],
        ["events per block, and per partition", f"{machine.block_events:,.0f}, {machine.partition_events:,.0f}"],
        [
            "to BigQuery at the peak",
            f"{size(plan.writing.peak_bytes_a_second)}/s, {plan.writing.share:.1%} of the quota",
        ],
    ]


def _dollar_rows(plan: Plan) -> list[list[str]]:
    rows = [[NAMES[name], f"{dollars:,.2f}"] for name, dollars in plan.dollars.items()]
    return [*rows, ["total", f"{sum(plan.dollars.values()):,.2f}"]]


def _table(header: tuple[str, ...], rows: list[list[str]]) -> Iterator[str]:
    """Yield aligned columns, numbers to the right, and an empty line."""
    widths = [max(len(row[n]) for row in (header, *rows)) for n in range(len(header))]
    right = [n > 0 and all(not row[n] or row[n][0].isdigit() for row in rows) for n in range(len(header))]
    for row in (header, ["-" * width for width in widths], *rows):
        cells = [
            cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(row, widths, right, strict=True)
        ]
        yield "  ".join(cells).rstrip()
    yield ""


def as_json(plan: Plan, traffic: Traffic, prices: dict[str, float]) -> dict[str, Any]:
    """Return the plan as one object; bytes and rows are whole numbers, per day unless their name says otherwise."""
    totals = ("crossing_bytes", "state_written_bytes", "state_bytes", "stored_bytes", "sent_bytes")
    parts = _plain(plan) | {name: round(getattr(plan, name)) for name in totals}
    writing = parts["writing"] | {"share_of_quota": round(plan.writing.share, 6)}
    assumed = {
        "prices_in_dollars": prices,
        "region": figures.REGION,
        "check_by": figures.CHECK_BY.isoformat(),
    }
    return {"traffic": _plain(traffic), **parts, "writing": writing, "assumed": assumed}


def _plain(value: Any) -> Any:
    """Convert NamedTuples to objects, and round large numbers."""
    if hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return round(value) if abs(value) >= 1000 else round(value, 6)
    return value
