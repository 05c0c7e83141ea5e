"""Format a proposal and a check of a mapping as text."""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from pipelines.apps.mapping.check import Check, Checked, shorten
from pipelines.apps.mapping.document import inline
from pipelines.apps.mapping.found import share_text
from pipelines.apps.mapping.proposal import Proposal
from pipelines.apps.mapping.ready import path_of
from pipelines.apps.mapping.remarks import failure_of
from pipelines.system.terminal import shown
from pipelines.warehouse.interface import Result
from pipelines.warehouse.render import render

LONGEST_RECORD, LONGEST_GUESS = 100, 60
MOST_LINES = 20


def proposal_lines(made: Proposal) -> Iterator[str]:
    """Yield the guesses of a proposal, a line each."""
    done = made.rehearsal
    if failure := failure_of(done):
        yield failure
    yield f"{done.records:,} sampled records, of which {share_text(done.passed() / done.records)} pass"
    if made.ready:
        yield f"this is an access log, for which a mapping is shipped: {shown(str(path_of(made.ready)))}"
    rows = [
        (
            guess.field,
            share_text(guess.share),
            shorten(inline({k: v for k, v in guess.stated.items() if k not in ("map", "else")}), LONGEST_GUESS),
            shorten("; ".join(guess.notes), LONGEST_RECORD),
        )
        for guess in made.guesses
    ]
    yield from _table(("field", "records", "read from", "note"), rows)
    if made.examples:
        unused = [(shorten(path, LONGEST_GUESS), share, values) for path, share, values in made.examples]
        yield from ("", "not used, kept in the column `extra`")
        yield from _table(("path", "records", "values"), unused)


def check_lines(checked: Checked) -> Iterator[str]:
    """Yield a check as lines of text."""
    check = checked.check
    yield f"{check.records:,} records: {check.passed:,} pass ({share_text(check.share)})"
    events = f"{check.events:,} events, {check.duplicates:,} duplicates"
    yield events + (f", of which {check.conflicts:,} differ in content" if check.conflicts else "")
    if check.alike:
        yield f"{check.alike:,} duplicates have no id and equal content; to keep them apart, set derived_id: occurrence"
    if check.first_time:
        yield f"from {check.first_time} to {check.last_time}"
    if check.zoneless:
        yield f"{check.zoneless:,} times state no zone, and are read as UTC"
    if check.failed:
        yield from ("", "Failures")
        yield from _failures(checked)
    sections: list[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]] = [
        ("Fields of the events", ("field", "events", "distinct", "most common"), _fields(check)),
        ("Event types", ("event_type", "events"), list(check.event_types.items())),
        ("Sources of event_time", ("time_source", "events"), list(check.time_sources.items())),
        ("Values missing from a map", ("field", "value", "records"), [_texts(each) for each in check.unmapped]),
        ("Unmapped keys, kept in `extra`", ("key", "events"), list(check.extra.items())),
    ]
    for title, columns, rows in sections:
        if rows:
            yield from ("", title)
            yield from _table(columns, rows)


def _failures(checked: Checked) -> Iterator[str]:
    failed = checked.check.failed
    rows = [(each.stage, each.code, each.path, each.records, share_text(each.share)) for each in failed]
    yield from _table(("stage", "code", "path", "records", "share"), rows)
    for each, record in zip(failed[:MOST_LINES], checked.records, strict=False):
        yield shown(f"{each.code}: {each.message}")
        yield f"  {shown(each.position)}: {shorten(record, LONGEST_RECORD)}"


def _fields(check: Check) -> list[tuple[Any, ...]]:
    return [(each.field, share_text(each.share), each.distinct, ", ".join(each.examples)) for each in check.fields]


def _texts(unmapped: Any) -> tuple[Any, ...]:
    return unmapped.field, shorten(unmapped.value, LONGEST_GUESS), unmapped.records


def _table(columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> Iterator[str]:
    first = pl.DataFrame(rows[:MOST_LINES], schema=list(columns), orient="row")
    yield from render(Result(list(columns), iter([first])))
    if len(rows) > MOST_LINES:
        yield f"(and {len(rows) - MOST_LINES:,} more; --json prints all)"
