"""Format the summary of a run."""

import os
import shutil
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipelines.system.terminal import shown, word
from pipelines.warehouse.conditions import literal
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.tables import QUARANTINE

DEFAULT = "--warehouse warehouse"  # the default, which need not be typed
PLACES = ("events", "duplicates", "quarantined", "out_of_range", "replaced", "erased")


class Summary(NamedTuple):
    """What a run did: its audit counts, the days it wrote, its duration, the losses from damaged files, and the number
    of its input files."""

    input: str
    counts: dict[str, int]
    days: list[date]
    seconds: float
    lost: Sequence[str] = ()
    files: int = 0


def program() -> str:
    """Return how to call `audience` here: by path if the shell would not find it by name."""
    called = Path(sys.argv[0])
    return "audience" if called.name != "audience" or shutil.which("audience") else word(os.path.relpath(called))


def summary_lines(done: Summary, warehouse: Warehouse) -> list[str]:
    """Return the audit counts of the run, and what to type next."""
    option = "" if warehouse.option == DEFAULT else f" {warehouse.option}"
    questions = []
    if done.counts["quarantined"]:
        questions.append(
            "SELECT stage, code, errors, count(*) AS records FROM quarantine_open GROUP BY ALL ORDER BY records DESC"
        )
    if done.counts["events"]:
        questions.insert(0, "SELECT * FROM engagement_by_channel ORDER BY day, channel")
    lines = [*audit_lines(done), f"  warehouse     {shown(warehouse.name)}"]
    if done.counts["received"] and not done.counts["events"]:
        lines.append("no event was accepted" + (": query why" if questions else ""))
    if done.files and not done.counts["received"]:
        files = "the file is" if done.files == 1 else f"the {done.files:,} files are"
        lines.append(f"no record was received: {files} empty, or holds only blank lines or a header; check --input")
    lines += [f'next: {program()} query{option} "{question}"' for question in questions]
    return lines + ([late] if (late := _late(done, warehouse, option)) else [])


def _late(done: Summary, warehouse: Warehouse, option: str) -> str | None:
    """Return the command that accepts the late events of this input."""
    if not done.counts["quarantined"]:
        return None
    day = f"DATE(event_time, {literal(warehouse.time_zone)})"
    late = f"input = {literal(done.input)} AND stage = 'late'"
    sql = f"SELECT COUNT(*) AS n, MIN({day}) AS first, MAX({day}) AS last FROM {QUARANTINE.name} WHERE {late}"
    count, first, last = pl.concat(warehouse.ask(sql)).row(0)
    if not count or first is None:
        return None
    days = f"--start {first} --end {last + timedelta(days=1)}"
    return f"next: {program()} recompute{option} {days}   # accepts the {count:,} late events"


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
    return [*lines, f"  days          {days}", *done.lost]
