"""Measure the coefficients of `audience plan`: the cost of a block, a row and a state cell.

    python -m benchmarks.capacity [--write]

Simulated events (about 270 bytes of JSON) go through the graph's own functions and stateful steps in this one process
(driven.py), in blocks of 100, 1,000 and 10,000 rows. Every cost is fitted as a cost per block plus a cost per row;
bytes are exact, CPU times are of this machine. What it does not show: the overhead of a runner, and remote services.
`--write` keeps the result in RESULTS-capacity.md; the plan uses apps/plan/coefficients.py.
"""

import argparse
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import polars as pl

from benchmarks.driven import Driven
from pipelines.apps.simulator.faults import PRESETS, USUAL_FAULTS, Faults
from pipelines.apps.simulator.live import Live
from pipelines.settings.config import read_config
from pipelines.warehouse.tables import SESSIONS
from transforms.block import RAW_SCHEMA, TIME, BlockCoder
from transforms.metrics import measures
from transforms.metrics.spec import MetricSpec, read_metrics
from transforms.sessions import cold as cold_sessions
from transforms.sessions import summaries
from transforms.sessions.sessions import STEPS

RESULTS = Path(__file__).parent / "RESULTS-capacity.md"
START = 1_772_366_400.0  # noon of a day, seconds since 1970
BLOCK_SECONDS = 0.5
SIZES = {100: 240, 1_000: 120, 10_000: 40}  # rows a block: blocks
# The same for sessions, which are over after half an hour only: without metrics, and a block a minute.
LONG_SIZES, LONG_SECONDS = {100: 240, 1_000: 240, 10_000: 120}, 60.0
SEED = 7


class Fit(NamedTuple):
    """A cost per call plus a cost per row."""

    call: float
    row: float


def fitted(points: list[tuple[float, float]]) -> Fit:
    """The line through (rows a call, cost a call) of least relative error, none of its parts below 0."""
    weights = [1 / cost**2 if cost else 0.0 for _, cost in points]
    rows = [row for row, _ in points]
    costs = [cost for _, cost in points]
    sums = [sum(w * r**i for w, r in zip(weights, rows, strict=True)) for i in range(3)]
    flat = sum(w * c for w, c in zip(weights, costs, strict=True))
    tilted = sum(w * r * c for w, r, c in zip(weights, rows, costs, strict=True))
    base = sums[0] * sums[2] - sums[1] ** 2
    if not base:
        return Fit(0.0, tilted / sums[2])
    call, row = (flat * sums[2] - tilted * sums[1]) / base, (sums[0] * tilted - sums[1] * flat) / base
    if call < 0:
        return Fit(0.0, tilted / sums[2])
    return Fit(call, row) if row > 0 else Fit(flat / sums[0], 0.0)


def raw_block(lines: list, now: float) -> pl.DataFrame:
    """Return lines as a block from a reader, received `now`."""
    columns = {
        "payload": [line for _, line in lines],
        "received_time": pl.Series([int(now * 1e6)] * len(lines)).cast(TIME),
        "source": ["events"] * len(lines),
        "position": [str(at) for at in range(len(lines))],
        "attributes": [None] * len(lines),
    }
    return pl.DataFrame(columns, schema=RAW_SCHEMA)


def driven(
    rows: int,
    blocks: int,
    metrics: tuple[MetricSpec, ...] | None = None,
    faults: Faults = USUAL_FAULTS,
    seconds: float = BLOCK_SECONDS,
    seed: int = SEED,
) -> Driven:
    """A stream of so many blocks, one every so many seconds, through these metrics, or else the shipped catalogue."""
    metrics = read_config(None).metrics if metrics is None else metrics
    live, stream, now = Live(rows * blocks, seed, faults), Driven(metrics), START
    for first in range(0, len(live), rows):
        now += seconds
        stream.deliver(raw_block(live.lines(first, rows, now), now))
        stream.at(now)
    return stream


def of_size(stream: Driven, rows: int) -> dict[str, tuple[float, float, float]]:
    """part -> (calls, rows a call, microseconds a call)"""
    figures, found = stream.figures, {}
    for part, calls in figures.calls.items():
        name = part.partition(":")[0]
        each = rows
        if part.endswith((": code", ": pend", ": keep")):
            each = figures.edge_rows[name] / figures.elements[name]
        elif part == "sessions: by visitor":
            each = figures.edge_rows[name] / calls
        elif part.endswith(": fire"):
            each = figures.merged[name] / calls
        elif part == "write":
            each = sum(figures.rows.values()) / calls
        found[part] = (calls, each, figures.cpu[part] / calls * 1e6)
    return found


def cpu_lines(streams: dict[int, Driven], of: tuple[str, ...] = ("",)) -> list[str]:
    """A table: each part's microseconds a call by the size of a block, and the line through them; `of` some steps."""
    sizes = {rows: of_size(stream, rows) for rows, stream in streams.items()}
    lines = ["| part | " + " | ".join(f"{rows:,} rows" for rows in sizes) + " | a call | a row |"]
    lines += ["|---|" + "---:|" * (len(sizes) + 2)]
    for part in [part for part in next(iter(sizes.values())) if part.startswith(of)]:
        points = [(found[part][1], found[part][2]) for found in sizes.values() if part in found]
        cells = [f"{found[part][2]:,.0f} ({found[part][1]:,.0f})" if part in found else "" for found in sizes.values()]
        fit = fitted(points)
        lines.append(f"| {part} | " + " | ".join(cells) + f" | {fit.call:,.0f} | {fit.row:.2f} |")
    return lines


def byte_lines(streams: dict[int, Driven], of: str = "") -> list[str]:
    """A table: bytes an element of each keyed edge, and the line through them; `of` one."""
    lines = ["| edge | " + " | ".join(f"{rows:,} rows" for rows in streams) + " | an element | a row |"]
    lines += ["|---|" + "---:|" * (len(streams) + 2)]
    for edge in [edge for edge in next(iter(streams.values())).figures.elements if edge.startswith(of)]:
        points = []
        for stream in streams.values():
            elements, figures = stream.figures.elements[edge], stream.figures
            points.append((figures.edge_rows[edge] / elements, figures.edge_bytes[edge] / elements))
        fit = fitted(points)
        cells = [f"{size:,.0f} ({rows:,.0f})" for rows, size in points]
        lines.append(f"| {edge} | " + " | ".join(cells) + f" | {fit.call:,.0f} | {fit.row:.1f} |")
    return lines


def state_lines(stream: Driven) -> list[str]:
    """A table: what each step holds and wrote, and what a row of each table is."""
    held, written, figures = stream.state_bytes(), stream.rewritten_bytes(), stream.figures
    lines = ["| step | keys | state, bytes | rows published in it | bytes a row | written to it, bytes |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for name, size in held.items():
        keys = len({"deduplicate": stream.seen, "sessions": stream.visitors}.get(name) or stream.open[name])
        rows = figures.rows["events"] if name == "deduplicate" else stream.published_rows(name)
        lines.append(f"| {name} | {keys:,} | {size:,} | {rows:,} | {size / max(rows, 1):,.1f} | {written[name]:,} |")
    lines += ["", "| table | rows | to BigQuery (Arrow), bytes a row | BigQuery's size, bytes a row | firings |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for name, rows in figures.rows.items():
        wire, logical = figures.wire[name] / rows, figures.logical[name] / rows
        lines.append(f"| {name} | {rows:,} | {wire:,.0f} | {logical:,.0f} | {figures.firings[name]:,} |")
    progress = [key.cells["progress"].bytes for keys in stream.open.values() for key in keys.values()]
    return [
        *lines,
        "",
        f"A Progress cell: {max(progress)} bytes at most, {sum(progress) / len(progress):.0f} on average.",
    ]


class Registers(NamedTuple):
    """A row whose distinct count is kept as registers: microseconds to merge and finish it, its bytes on the way (lz4)
    and its sketch's in the table."""

    merge_us: float
    finish_us: float
    moved_bytes: float
    sketch_bytes: float


def registers(groups: int = 200, people: int = 3_000) -> Registers:
    """Partial rows of one distinct count, each of so many persons."""
    (spec,) = read_metrics(
        {"m": {"bucket": "1h", "dimensions": ["content_id"], "measures": {"users": {"distinct": "person"}}}}, "capacity"
    )
    parts = []
    for half in range(2):
        rows = groups * people
        ids = pl.int_range(rows, eager=True)
        columns = {
            "event_time": pl.Series([int(START * 1e6)]).cast(TIME).new_from_index(0, rows),
            "content_id": (ids % groups).cast(pl.String),
            "user_id": (ids + half * rows).cast(pl.String),
            "anonymous_id": pl.Series([None], dtype=pl.String).new_from_index(0, rows),
        }
        parts.append(measures.partial(pl.DataFrame(columns), spec))
    began = time.process_time()
    merged = measures.merge(parts, spec)
    between = time.process_time()
    finished = measures.finish(merged, spec)
    ended = time.process_time()
    sketches = finished["users_sketch"].bin.size().mean()
    coded = len(BlockCoder().encode(merged)) / groups
    return Registers((between - began) / groups * 1e6, (ended - between) / groups * 1e6, coded, float(sketches))


class Look(NamedTuple):
    """A cold session: microseconds to read it when some are looked for, and its bytes in the bag."""

    us: float
    bytes: float


def look(sessions: int = 200_000, frames: int = 100) -> Look:
    """Of cold sessions of one event, each of another visitor, of which one in a hundred is looked for."""
    live = Live(sessions, SEED, PRESETS["none"])
    events, bag = Driven(()), []
    events.deliver(raw_block(live.lines(0, sessions, START), START))
    kept = pl.concat(events.kept)
    kept = kept.with_columns(anonymous_id="event_id")
    for part in kept.iter_slices(-(-len(kept) // frames)):
        merged = summaries.merge([summaries.summarize_events(part, STEPS)]).select(summaries.SUMMARY_SCHEMA.keys())
        bag.append(cold_sessions.encode(merged.with_columns(standing=pl.concat_list("start"), changed=pl.lit(False))))
    wanted = summaries.select_visits(kept).select("key").gather_every(100)
    began = time.process_time()
    found = cold_sessions.select_visitors(bag, wanted)
    took = time.process_time() - began
    assert len(found) == len(wanted), "a session was not found"
    return Look(took / len(kept) * 1e6, sum(map(len, bag)) / len(kept))


def session_lines() -> list[str]:
    """Tables: what sessions cost and hold in streams that are long enough for some to be over."""
    streams = {rows: driven(rows, blocks, (), seconds=LONG_SECONDS) for rows, blocks in LONG_SIZES.items()}
    looked = look()
    lines = [*cpu_lines(streams, ("deduplicate", SESSIONS.name)), "", *byte_lines(streams, SESSIONS.name), ""]
    lines += ["| rows a block | events | rows published | held | state, bytes | written to it, bytes | firings |"]
    lines += ["|---:|" + "---:|" * 6]
    for rows, stream in streams.items():
        figures, held, name = stream.figures, stream.state_bytes()[SESSIONS.name], SESSIONS.name
        written, firings = stream.rewritten_bytes()[name], figures.firings[name]
        told = (rows, figures.rows["events"], figures.rows[name], stream.published_rows(name), held, written, firings)
        lines.append("| " + " | ".join(f"{each:,}" for each in told) + " |")
    wire, logical = (
        sum(getattr(stream.figures, of)[SESSIONS.name] for stream in streams.values())
        / sum(stream.figures.rows[SESSIONS.name] for stream in streams.values())
        for of in ("wire", "logical")
    )
    lines += ["", f"A row of `sessions`: {wire:,.0f} bytes to BigQuery (Arrow), {logical:,.0f} by BigQuery's sizes. "]
    lines[-1] += f"A cold session: {looked.us:.2f} us a look, {looked.bytes:,.0f} bytes."
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"Keep the result in {RESULTS.name}")
    options = parser.parse_args()
    streams = {rows: driven(rows, blocks) for rows, blocks in SIZES.items()}
    whole = [
        f"{rows:,} rows {sum(stream.figures.cpu.values()) / (rows * SIZES[rows]) * 1e6:.1f}"
        for rows, stream in streams.items()
    ]
    lines = ["## CPU, microseconds a call (rows a call)", "", *cpu_lines(streams)]
    lines += ["", f"All of it, microseconds an event, by rows a block: {', '.join(whole)}."]
    kept = registers()
    lines += ["", f"A row of registers: merged in {kept.merge_us:.0f} us, finished in {kept.finish_us:.0f} us; "]
    lines[-1] += f"{kept.moved_bytes:,.0f} bytes on the way and in state, {kept.sketch_bytes:,.0f} in its table."
    lines += ["", "## Keyed edges, bytes an element (rows an element)", "", *byte_lines(streams)]
    lines += ["", f"## Sessions, a block every {LONG_SECONDS:.0f} s, without metrics", "", *session_lines()]
    for rows, stream in streams.items():
        seconds = SIZES[rows] * BLOCK_SECONDS
        lines += [
            "",
            f"## State and rows, blocks of {rows:,} rows for {seconds:.0f} s of events",
            "",
            *state_lines(stream),
        ]
    lines += [
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, one process; Python {platform.python_version()}, "
        f"apache-beam {version('apache-beam')}, polars {version('polars')}.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        RESULTS.write_text(f"# Capacity, measured\n\n`python -m benchmarks.capacity --write`\n\n{text}")


if __name__ == "__main__":
    main()
