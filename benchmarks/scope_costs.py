"""What the scopes of metrics cost by themselves: the placing of a block, and the merging of pieces. CPU microseconds.

placing(events)   -> lines of a table: to pack a block once for all scopes, and to place it in each
merging(events)   -> lines of a table: to merge pieces that were packed as they are
again(events)     -> a line: to merge many rows again, as a compaction does, and as a firing does
"""

import time
from collections.abc import Callable
from datetime import timedelta

import polars as pl

from pipelines.settings.config import read_config
from transforms.metrics.aggregations import MetricAggregation
from transforms.metrics.scopes import FEW_EVENTS, Events, columns_of, pack, scopes_of

FEW, MANY = (25, 100, 400, 1_600), (2_500, 5_000, 10_000)
PIECES = (1, 16, 64)
MANY_ROWS = 100_000
AGES = timedelta(days=2)
SCOPES = scopes_of([MetricAggregation(spec, "UTC") for spec in read_config(None).metrics])
COLUMNS = columns_of(SCOPES)


def took(work: Callable[[], object], times: int) -> float:
    """Return the microseconds of processor that it takes, after a first time that warms up."""
    work()
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times * 1e6


def _name(scope) -> str:
    return "+".join(what.name for what in scope.members)


def _in_two_windows(block: pl.DataFrame) -> pl.DataFrame:
    """Return the block with the first of its events two days earlier."""
    first = pl.int_range(pl.len()) == 0
    return block.with_columns(event_time=pl.col("event_time") - pl.when(first).then(AGES).otherwise(timedelta()))


def placing(events: pl.DataFrame, fitted: Callable) -> list[str]:
    """Events of one window, of which `fitted` finds the cost of a call and of a row."""
    work: dict[str, dict[int, Callable[[], object]]] = {"packed once for all scopes": {}}
    for rows in (*FEW, *MANY):
        block = events[:rows]
        if rows <= FEW_EVENTS:
            work["packed once for all scopes"][rows] = lambda block=block: Events(block, COLUMNS).whole
        for scope in SCOPES:
            as_it_is = scope.shards == 1 and rows <= FEW_EVENTS
            label = f"{_name(scope)}: {'placed' if as_it_is else 'aggregated'}"
            shared = Events(block, COLUMNS)
            if as_it_is:
                _ = shared.whole
            work.setdefault(label, {})[rows] = lambda scope=scope, shared=shared: list(scope.place(shared))
            if as_it_is:
                apart = Events(_in_two_windows(block), COLUMNS)
                label = f"{_name(scope)}: placed in two windows"
                work.setdefault(label, {})[rows] = lambda scope=scope, apart=apart: list(scope.place(apart))
    sizes = (*FEW, *MANY)
    lines = ["| work | " + " | ".join(f"{rows:,} rows" for rows in sizes) + " | a call | a row |"]
    lines += ["|---|" + "---:|" * (len(sizes) + 2)]
    for label, by_rows in work.items():
        costs = {rows: took(each, 20) for rows, each in by_rows.items()}
        call, row = fitted([((1.0, float(rows)), cost) for rows, cost in costs.items()])
        cells = [f"{costs[rows]:,.0f}" if rows in costs else "" for rows in sizes]
        lines.append(f"| {label} | " + " | ".join(cells) + f" | {call:,.0f} | {row:.2f} |")
    return lines


def merging(events: pl.DataFrame, fitted: Callable) -> list[str]:
    """Pieces of events, and what fits: a member, a piece, and an event for each member."""
    lines = ["| scope | pieces | events a piece | us | rows |", "|---|---:|---:|---:|---:|"]
    points = []
    for scope in SCOPES:
        if scope.shards > 1:
            continue
        for pieces in PIECES:
            for rows in FEW[:3]:
                blocks = (events[at * rows : (at + 1) * rows] for at in range(pieces))
                packed = [piece.packed for block in blocks for piece in scope.place(Events(block, COLUMNS))]
                cost, members = took(lambda scope=scope, packed=packed: scope.merge(packed), 5), len(scope.members)
                points.append(((float(members), float(pieces), float(pieces * rows * members)), cost))
                merged = sum(map(len, scope.merge(packed).values()))
                lines.append(f"| {_name(scope)} | {pieces} | {rows:,} | {cost:,.0f} | {merged:,} |")
    member, piece, event = fitted(points)
    return [*lines, "", f"A member {member:,.0f} us, a piece {piece:,.0f}, an event of a piece and member {event:.2f}."]


def again(events: pl.DataFrame) -> str:
    """Rows of a person each, to which partial rows of a block come; and partial rows by themselves."""
    scope = next(each for each in SCOPES if each.shards > 1)
    (what,) = scope.members
    people = events.sample(MANY_ROWS, with_replacement=True, seed=1)
    people = people.with_columns(user_id=pl.int_range(MANY_ROWS).cast(pl.String) + "-person")
    few, many = (pack({what.name: what.partial(each)}) for each in (events[:100], people))
    frame = scope.merge([many])[what.name]
    keys = ["bucket_start", *what.keys]

    def publish() -> None:
        changed = scope.merge([few])[what.name]
        merged = scope.merge([many, few])[what.name]
        what.finish(merged.join(changed.select(keys), on=keys, how="semi", nulls_equal=True))
        pack({what.name: merged})

    by_itself = took(lambda: scope.merge([few]), 20)
    compact = took(lambda: pack(scope.merge([many, few])), 5) / len(frame)
    return (
        f"Partial rows alone {by_itself:,.0f} us a merge. Of {len(frame):,} rows of {what.name}, a row merged again "
        f"{compact:.2f} us in a compaction, {took(publish, 5) / len(frame):.2f} us in a firing."
    )
