"""Format the summary of a run."""

import os
import shutil
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipelines.batch.next_steps import WHY, questions
from pipelines.batch.refused import Refused, lines_of
from pipelines.system.terminal import shown, word
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.staged import scan
from pipelines.warehouse.tables import QUARANTINE
from transforms.block import day_of

DEFAULT = "--warehouse warehouse"  # the default, which need not be typed
PLACES = ("events", "duplicates", "quarantined", "out_of_range", "replaced", "erased")


class Late(NamedTuple):
    """Late events: how many, and their first and last day."""

    events: int
    first: date
    last: date


class Summary(NamedTuple):
    """What a run did: its audit counts, the days it wrote, its duration, the losses from damaged files, the number of
    its input files, the late events among its quarantined records, the files that were mostly refused, and lines about
    what it wrote to days that had rows."""

    input: str
    counts: dict[str, int]
    days: list[date]
    seconds: float
    lost: Sequence[str] = ()
    files: int = 0
    late: Late | None = None
    refused: Sequence[Refused] = ()
    wrote: Sequence[str] = ()


def late_of(entries: Sequence[FileEntry], zone: str) -> Late | None:
    """Return the late events that a run has written to quarantine; None if there are none with a time."""
    paths = [entry.path for entry in entries if entry.table == QUARANTINE.name]
    if not paths:
        return None
    late = scan(paths, ["stage", "event_time"]).filter(pl.col("stage") == "late")
    day = day_of(pl.col("event_time"), zone)
    count, first, last = late.select(pl.len(), first=day.min(), last=day.max()).collect().row(0)
    return Late(count, first, last) if count and first else None


def program() -> str:
    """Return how to call `audience` here: by path if the shell would not find it by name."""
    called = Path(sys.argv[0])
    return "audience" if called.name != "audience" or shutil.which("audience") else word(os.path.relpath(called))


def summary_lines(done: Summary, warehouse: Warehouse, steps: Sequence[str] = ()) -> list[str]:
    """Return the audit counts of the run, and what to type next; `steps` are those of the funnel."""
    option = "" if warehouse.option == DEFAULT else f" {warehouse.option}"
    asked = questions(warehouse, done.days, steps) if done.counts["events"] else []
    asked += [WHY] if done.counts["quarantined"] else []
    lines = [*lines_of(done.refused), *audit_lines(done), f"  warehouse     {shown(warehouse.name)}"]
    if done.counts["received"] and not done.counts["events"]:
        lines.append("no event was accepted" + (": query why" if asked else ""))
    if done.files and not done.counts["received"]:
        files = "the file is" if done.files == 1 else f"the {done.files:,} files are"
        lines.append(f"no record was received: {files} empty, or holds only blank lines or a header; check --input")
    lines += [f'next: {program()} query{option} "{question}"' for question in asked]
    if done.late:
        days = f"--start {done.late.first} --end {done.late.last + timedelta(days=1)}"
        lines.append(f"next: {program()} recompute{option} {days}   # accepts the {done.late.events:,} late events")
    return lines


def audit_lines(done: Summary) -> list[str]:
    """Return the audit counts of a run and the days it wrote."""
    counts = done.counts
    balance = counts["received"] + counts["exploded"] - sum(counts[place] for place in PLACES)
    rate = counts["received"] / done.seconds if done.seconds else 0
    days = f"{done.days[0]} to {done.days[-1]} ({len(done.days)} with events)" if done.days else "none"
    lines = [
        shown(done.input),
        f"  received      {counts['received']:>12,}   in {done.seconds:.1f} s, {rate:,.0f} per second",
    ]
    if counts["exploded"]:
        lines += [f"  exploded      {counts['exploded']:>12,}   additional events from records with several"]
    lines += [f"  {place:<13} {counts[place]:>12,}" for place in PLACES if counts[place] or place in PLACES[:3]]
    lines += [f"  {'balance':<13} {balance:>12,}" + ("" if balance == 0 else "   NOT ZERO: records are missing")]
    if counts["conflicts"]:
        lines.append(f"  of the duplicates {counts['conflicts']:,} differ in content from the event that was kept")
    return [*lines, f"  days          {days}", *done.wrote, *done.lost]
