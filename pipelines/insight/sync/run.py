"""A sync: for each segment and target finish the plan of before, plan what changed since, send it, and keep it.

A plan is on disk before anything is sent, a batch is marked after it was taken, and what the target has is kept last.
So whatever a kill cuts short, the next sync does the rest, with the same ids.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipelines.insight.alerts.outbox import NotNow
from pipelines.insight.sync.members import ADD, CHANGE, REMOVE, changes, hashed, members
from pipelines.insight.sync.state import BATCH, Line, State
from pipelines.insight.sync.targets import Batch, is_whole, sender
from pipelines.settings.resolve import Place
from pipelines.settings.sync import GoogleAds, Sync, Target
from pipelines.warehouse.interface import Warehouse
from transforms.errors import AudienceError, OptionError, first_line

FOLDER = "sync"  # of the states, in a local warehouse
MANY, SHARE = 100, 0.5  # members from which on more than this share is not removed at once without a word


class Synced(NamedTuple):
    """What a sync did, or with a dry run would do, for a segment and target; `problem`: why not all of it."""

    segment: str
    target: str
    members: int
    added: int = 0
    changed: int = 0
    removed: int = 0
    failed: int = 0
    problem: str = ""


class Asked(NamedTuple):
    """What is asked for: `names` of segments and targets, none: all."""

    segments: Collection[str] = ()
    targets: Collection[str] = ()
    dry_run: bool = False
    remove_many: bool = False


def pairs(sync: Sync, asked: Asked) -> list[tuple[str, str]]:
    """The segments and targets that are asked for. Errors: OptionError for a name that the configuration lacks."""
    for option, names, known in (("segment", asked.segments, sync.segments), ("to", asked.targets, sync.targets)):
        for name in names:
            if name not in known:
                allowed = ", ".join(sorted(known)) or "none, as `sync` of the configuration has none"
                raise OptionError(f"--{option}: got {name!r}; allowed: {allowed}")
    found = [
        (name, target)
        for name, segment in sync.segments.items()
        for target in segment.to
        if name in (asked.segments or sync.segments) and target in (asked.targets or sync.targets)
    ]
    if not found:
        raise OptionError(
            "nothing to sync: no segment that is asked for goes to a target that is; see `sync` of --config"
        )
    return found


def states_of(place: Place, folder: Path | None) -> Path:
    """The folder of all states. Errors: OptionError for a dataset without --state."""
    if folder is None and place.warehouse is None:
        raise OptionError("--state is missing: with --dataset, name a folder of this machine that keeps what was sent")
    return folder or Path(str(place.warehouse)) / FOLDER


def sync_all(warehouse: Warehouse, sync: Sync, states: Path, asked: Asked) -> list[Synced]:
    """Sync what is asked for; a segment or target that fails keeps no other back. Errors: those of `pairs`."""
    found: dict[str, pl.DataFrame | AudienceError] = {}
    done = []
    for name, target in pairs(sync, asked):
        if name not in found:
            try:
                found[name] = members(warehouse, name, sync.segments[name])
            except AudienceError as problem:
                found[name] = problem
        now, state = found[name], State(states / f"{name}.{target}")
        try:
            if isinstance(now, AudienceError):
                raise now
            done.append(_synced(name, target, sync.targets[target], now, state, asked))
        except (AudienceError, NotNow) as problem:
            done.append(Synced(name, target, state.members().height, problem=first_line(problem)))
    return done


def _synced(name: str, to: str, target: Target, now: pl.DataFrame, state: State, asked: Asked) -> Synced:
    unusable = 0
    if isinstance(target, GoogleAds):
        now, unusable = hashed(now)
    note = f"left out, without a usable e-mail address or phone number: {unusable:,} members" if unusable else ""
    if asked.dry_run:
        told = changes(now, state.members())
        counts = _counts(told)
        return Synced(name, to, now.height, *counts, problem=note)
    with state.held():
        under_way, lines = state.plan(), []
        if under_way is None:
            state.forget_marks()
        carry_out = partial(_carry_out, name, target, state, now["person"])
        if under_way is not None:
            lines.append(carry_out(*under_way))
        known = state.members()
        told = changes(now, known)
        if not told.is_empty():
            _refuse_many(told, known, asked.remove_many)
            lines.append(carry_out(state.begin(told), told))
        return Synced(
            name,
            to,
            state.members().height,
            sum(line.added for line in lines),
            sum(line.changed for line in lines),
            sum(line.removed for line in lines),
            sum(line.failed for line in lines),
            note,
        )


def _carry_out(name: str, target: Target, state: State, still: pl.Series, number: int, told: pl.DataFrame) -> Line:
    """Send the batches of a plan that were not taken yet, and keep it.

    Who is no longer `still` there is not added, and removed instead of changed: by what the target had before. A batch
    may have been taken without its mark, so what the plan says is kept all the same, and the next plan removes it.
    """
    changes, taken, plan = told.with_row_index("at"), state.taken(number), f"{state.id}-{number:06}"
    send, size = sender(target), told.height if is_whole(target) else BATCH
    for batch, first in enumerate(range(0, told.height, size)):
        if batch in taken:
            continue
        part = _without_who_left(changes.slice(first, size), still)
        at = Batch(name, f"{plan}-{batch:06}", plan, state.began(number), part)
        state.take(number, batch, send(at) if part.height else [])
    return state.finish(number, told)


def _without_who_left(part: pl.DataFrame, still: pl.Series) -> pl.DataFrame:
    left = ~pl.col("person").is_in(still.implode())
    removed = left & (pl.col("action") == CHANGE)
    kept = part.filter(~(left & (pl.col("action") == ADD)))
    return kept.with_columns(
        action=pl.when(removed).then(pl.lit(REMOVE)).otherwise("action"), row=pl.when(~removed).then("row")
    )


def _counts(told: pl.DataFrame) -> tuple[int, int, int]:
    counts = dict(told["action"].value_counts().iter_rows())
    return counts.get(ADD, 0), counts.get(CHANGE, 0), counts.get(REMOVE, 0)


def _refuse_many(told: pl.DataFrame, known: pl.DataFrame, allowed: bool) -> None:
    removed = _counts(told)[2]
    if not allowed and known.height >= MANY and removed > SHARE * known.height:
        raise OptionError(
            f"{removed:,} of {known.height:,} members would be removed; nothing was sent; check the query, or pass "
            "--remove_many"
        )
