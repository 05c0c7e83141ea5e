"""Measure the coefficients of `audience plan`: the cost of a block, a row and a state cell.

    python -m benchmarks.capacity [--write]

Simulated events (about 270 bytes of JSON) go through the graph's own functions and stateful steps in this one process
(driven.py), in blocks of 100, 1,000 and 10,000 rows, with one shard and with four. Every cost is fitted as a cost per
call, per element that it emits across an edge, and per row; bytes are exact, times are of this machine's processor.
What it does not show: the overhead of a runner, and remote services.
`--write` keeps the result in RESULTS-capacity.md; the plan uses apps/plan/coefficients.py.
"""

import argparse
import os
import platform
import time
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks import gather_costs, scope_costs
from benchmarks.driven import Driven
from pipelines.apps.simulator.faults import PRESETS, USUAL_FAULTS, Faults
from pipelines.apps.simulator.live import Live
from pipelines.settings.config import read_config
from pipelines.warehouse.tables import QUALITY_1M, SESSIONS
from transforms.block import RAW_SCHEMA, TIME, BlockCoder
from transforms.metrics import measures
from transforms.metrics.spec import MetricSpec, read_metrics
from transforms.sessions import cold as cold_sessions
from transforms.sessions import summaries
from transforms.sessions.sessions import STEPS

RESULTS = Path(__file__).parent / "RESULTS-capacity.md"
START = 1_772_366_400.0  # noon of a day, seconds since 1970
BLOCK_SECONDS = 0.5
SIZES = {100: 240, 1_000: 120, 10_000: 24}  # rows a block: blocks
SHARDS = (1, 4)
# The same for sessions, which are over after half an hour only: without metrics, and a block a minute.
LONG_SIZES, LONG_SECONDS = {100: 240, 1_000: 240, 10_000: 120}, 60.0
SEED = 7


Features = tuple[float, ...]
Streams = dict[tuple[int, int], Driven]  # (shards, rows a block) -> a stream


def fitted(points: list[tuple[Features, float]]) -> list[float]:
    """Return what each feature costs, by least relative error over (features of a call, cost of a call); none is below
    0."""
    features, costs = np.array([of for of, _ in points], float), np.array([cost for _, cost in points], float)
    found, kept = np.zeros(features.shape[1]), [n for n in range(features.shape[1]) if features[:, n].any()]
    while kept:
        part, *_ = np.linalg.lstsq(features[:, kept] / costs[:, None], np.ones(len(costs)), rcond=None)
        if part.min() >= 0:
            found[kept] = part
            break
        del kept[int(part.argmin())]
    return found.tolist()


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
    shards: int = 4,
    gather: timedelta | None = None,
) -> Driven:
    """A stream of so many blocks, one every so many seconds, through these metrics, or else the shipped catalogue."""
    metrics = read_config(None).metrics if metrics is None else metrics
    live, stream, now = Live(rows * blocks, seed, faults), Driven(metrics, shards, gather=gather), START
    for first in range(0, len(live), rows):
        now += seconds
        stream.deliver(raw_block(live.lines(first, rows, now), now))
        stream.at(now)
    return stream


class Part(NamedTuple):
    """Of a part of a stream: microseconds a call, elements that a call emits across an edge, and its rows."""

    us: float
    elements: float
    rows: float


OUT = {"Deduplicate/Split by window and shard": "deduplicate", "Sessions/Key by visitor": SESSIONS.name}
_EDGE = (": code", ": process")


def of_size(stream: Driven, rows: int) -> dict[str, Part]:
    """Return each part of a stream."""
    figures, found = stream.figures, {}
    partitions = figures.elements["deduplicate"]
    for part, calls in figures.calls.items():
        name, kind = part.partition(":")[0], part.partition(": ")[2]
        each = figures.edge_rows["deduplicate"] / partitions
        if part.endswith(_EDGE):
            each = figures.edge_rows[name] / figures.elements[name]
        elif kind == "fire":
            each = figures.merged[name] / calls
        elif part.startswith("write: ") and kind in figures.rows:
            each = figures.rows[kind] / calls
        elif name.startswith(("Settle/", "Deduplicate/")):
            each = rows
        out = figures.elements[OUT[part]] / calls if part in OUT else 0.0
        found[part] = Part(figures.cpu[part] / calls * 1e6, out, each)
    return found


def _heads(streams: Streams, last: tuple[str, ...], of: str) -> list[str]:
    sizes = [f"{rows:,} rows, {shards} {'shard' if shards == 1 else 'shards'}" for shards, rows in streams]
    return ["| " + " | ".join([of, *sizes, *last]) + " |", "|---|" + "---:|" * (len(sizes) + len(last))]


def cpu_lines(streams: Streams, of: tuple[str, ...] = ("",)) -> list[str]:
    """A table: each part's microseconds a call by the size of a block, and what fits them; `of` some parts."""
    sizes = [of_size(stream, rows) for (_, rows), stream in streams.items()]
    lines = _heads(streams, ("a call", "an element out", "a row"), "part")
    for part in [part for part in dict.fromkeys(name for found in sizes for name in found) if part.startswith(of)]:
        points = [((1.0, found[part].elements, found[part].rows), found[part].us) for found in sizes if part in found]
        cells = [f"{found[part].us:,.0f} ({found[part].rows:,.0f})" if part in found else "" for found in sizes]
        call, element, row = fitted(points)
        lines.append(f"| {part} | " + " | ".join(cells) + f" | {call:,.0f} | {element:,.0f} | {row:.2f} |")
    return lines


def byte_lines(streams: Streams, of: str = "") -> list[str]:
    """A table: bytes an element of each keyed edge, and the line through them; `of` one."""
    lines = _heads(streams, ("an element", "a row"), "edge")
    for edge in [name for name in next(iter(streams.values())).names if name.startswith(of)]:
        points = []
        for stream in streams.values():
            elements, figures = stream.figures.elements[edge], stream.figures
            if elements:
                points.append(((1.0, figures.edge_rows[edge] / elements), figures.edge_bytes[edge] / elements))
        if points:
            element, row = fitted(points)
            cells = [f"{size:,.0f} ({rows:,.0f})" for (_, rows), size in points]
            cells += [""] * (len(streams) - len(points))
            lines.append(f"| {edge} | " + " | ".join(cells) + f" | {element:,.0f} | {row:.1f} |")
    return lines


def state_lines(stream: Driven) -> list[str]:
    """A table: what each step holds and wrote, and what a row of each table is."""
    held, written, figures = stream.state_bytes(), stream.rewritten_bytes(), stream.figures
    lines = ["| step | keys | state, bytes | rows published in it | bytes a row | written to it, bytes |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for name, size in held.items():
        of = {"deduplicate": "events", "refusals": "quarantine"}.get(name)
        rows = figures.rows[of] if of else sum(stream.published_rows(name).values())
        each, keys = size / max(rows, 1), len(stream.held(name))
        lines.append(f"| {name} | {keys:,} | {size:,} | {rows:,} | {each:,.1f} | {written[name]:,} |")
    lines += ["", "| table | rows | to BigQuery (Arrow), bytes a row | BigQuery's size, bytes a row | firings |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for name, rows in figures.rows.items():
        wire, logical = figures.wire[name] / rows, figures.logical[name] / rows
        lines.append(f"| {name} | {rows:,} | {wire:,.0f} | {logical:,.0f} | {figures.firings[name] or ''} |")
    return lines


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
    kept = pl.concat(events.figures.kept)
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


def firing_lines(streams: Streams) -> list[str]:
    """A table: what firings take up and cost; and what fits, for each member of a scope, and for sessions."""
    lines = ["| firings of | rows, shards | firings | elements | rows in them | rows before | us |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    points: dict[bool, list[tuple[Features, float]]] = {True: [], False: []}
    for (shards, rows), stream in streams.items():
        figures = stream.figures
        for name in [each for each in stream.names if figures.firings[each] and each != QUALITY_1M.name]:
            firings, members = figures.firings[name], name.count("+") + 1
            pieces, taken, merged = (
                counted[name] / firings for counted in (figures.pieces, figures.taken, figures.merged)
            )
            us = figures.cpu[f"{name}: fire"] / firings * 1e6
            points[name == SESSIONS.name].append(((float(members), pieces, taken * members, merged), us))
            cells = (f"{firings:,}", f"{pieces:,.1f}", f"{taken:,.0f}", f"{merged:,.0f}", f"{us:,.0f}")
            lines.append(f"| {name} | {rows:,}, {shards} | " + " | ".join(cells) + " |")
    told = {
        f"{what} {member:,.0f} us, an element {piece:,.0f}, a row in it {taken:.2f}, a row before {before:.2f}"
        for what, found in (("Of metrics a member", points[False]), ("Of sessions a firing", points[True]))
        if found
        for member, piece, taken, before in [fitted(found)]
    }
    return [*lines, "", "; ".join(sorted(told)) + "."]


def session_lines() -> list[str]:
    """Tables: what sessions cost and hold in streams that are long enough for some to be over."""
    streams: Streams = {
        (4, rows): driven(rows, blocks, (), seconds=LONG_SECONDS) for rows, blocks in LONG_SIZES.items()
    }
    looked, name = look(), SESSIONS.name
    parts = ("Deduplicate", "deduplicate", "Sessions", name)
    lines = [*cpu_lines(streams, parts), "", *byte_lines(streams, name), "", *firing_lines(streams), ""]
    lines += ["| rows a block | events | rows published | held | state, bytes | written to it, bytes | firings |"]
    lines += ["|---:|" + "---:|" * 6]
    for (_, rows), stream in streams.items():
        figures, held = stream.figures, stream.state_bytes()[name]
        kept, written = stream.published_rows(name)[name], stream.rewritten_bytes()[name]
        told = (rows, figures.rows["events"], figures.rows[name], kept, held, written, figures.firings[name])
        lines.append("| " + " | ".join(f"{each:,}" for each in told) + " |")
    wire, logical = (
        sum(getattr(stream.figures, of)[name] for stream in streams.values())
        / sum(stream.figures.rows[name] for stream in streams.values())
        for of in ("wire", "logical")
    )
    lines += ["", f"A row of `sessions`: {wire:,.0f} bytes to BigQuery (Arrow), {logical:,.0f} by BigQuery's sizes. "]
    lines[-1] += f"A cold session: {looked.us:.2f} us a look, {looked.bytes:,.0f} bytes."
    return lines


def scope_lines() -> list[str]:
    """Tables: what scopes cost by themselves, for events in order."""
    live, stream = Live(scope_costs.PIECES[-1] * 400, SEED, PRESETS["none"]), Driven((), shards=1)
    stream.at(START)
    stream.deliver(raw_block(live.lines(0, len(live), START), START))
    events = pl.concat(stream.figures.kept)
    events = events.filter(pl.col("event_time") >= pl.lit(int(START * 1e6) - 60_000_000).cast(TIME))
    events = events.with_columns(event_time=pl.lit(int(START * 1e6) + 1).cast(TIME))
    return [*scope_costs.placing(events, fitted), "", *scope_costs.merging(events, fitted), scope_costs.again(events)]


def clean_lines() -> list[str]:
    """A line: to settle blocks of which nothing is refused, which most are where events are few."""
    points = []
    for rows in SIZES:
        stream = driven(rows, 20, (), PRESETS["none"], shards=1)
        points.append((rows, of_size(stream, rows)["Settle/Make events"].us))
    call, row = fitted([((1.0, float(rows)), us) for rows, us in points])
    told = ", ".join(f"{rows:,} rows {us:,.0f} us" for rows, us in points)
    return [f"Settle/Make events without faults: {told}; a call {call:,.0f} us, a row {row:.2f}."]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"Keep the result in {RESULTS.name}")
    options = parser.parse_args()
    driven(1_000, 2)  # warms up
    streams: Streams = {
        (shards, rows): driven(rows, blocks, shards=shards) for shards in SHARDS for rows, blocks in SIZES.items()
    }
    whole = [
        f"{rows:,} rows and {shards} {sum(stream.figures.cpu.values()) / (rows * SIZES[rows]) * 1e6:.1f}"
        for (shards, rows), stream in streams.items()
    ]
    lines = ["## CPU, microseconds a call (rows a call)", "", *cpu_lines(streams), "", *clean_lines()]
    lines += ["", f"All of it, microseconds an event, by rows a block and shards: {', '.join(whole)}."]
    kept = registers()
    lines += ["", f"A row of registers: merged in {kept.merge_us:.0f} us, finished in {kept.finish_us:.0f} us; "]
    lines[-1] += f"{kept.moved_bytes:,.0f} bytes on the way and in state, {kept.sketch_bytes:,.0f} in its table."
    lines += [
        "",
        "## Scopes of metrics, microseconds",
        "",
        *scope_lines(),
        "",
        "## Firings",
        "",
        *firing_lines(streams),
    ]
    lines += ["", "## Gathered blocks, microseconds and bytes a bundle", "", *gather_costs.gathering(fitted)]
    lines += ["", "## Keyed edges, bytes an element (rows an element)", "", *byte_lines(streams)]
    lines += ["", f"## Sessions, a block every {LONG_SECONDS:.0f} s, without metrics", "", *session_lines()]
    for (shards, rows), stream in streams.items():
        if shards > 1:
            of = f"blocks of {rows:,} rows for {SIZES[rows] * BLOCK_SECONDS:.0f} s of events, {shards} shards"
            lines += ["", f"## State and rows, {of}", "", *state_lines(stream)]
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
