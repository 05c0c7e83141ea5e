"""Inputs of which more than half of the records were refused: a run that ends like that has not done what was asked.

A file counts by itself, so that one that is refused as a whole is named among many that are not; where records create
several events each, only the whole input does.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import polars as pl

from pipelines.system.terminal import shown
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.staged import scan
from pipelines.warehouse.tables import QUALITY_1M, QUARANTINE
from transforms import quality

STATUS = 3  # the exit status of such a run
MOST_NAMED = 3
SEEN_BYTES = 64 << 10  # of a refused record, to see what it is
# The file in a position, before the place in it.
_FILE = pl.col("position").str.extract(r"^(.+?)(?:@\d+|:\d+(?::\d+)?)(?:#\d+)?(?:/[a-z][a-z0-9_]*)?$").alias("file")


class Refused(NamedTuple):
    """A file, or a whole input, of which most records are in quarantine, and why most of them are."""

    name: str
    refused: int
    records: int
    why: str
    hint: str

    def line(self) -> str:
        """Say so in one line."""
        share = f"{self.refused:,} of {self.records:,} records of {shown(self.name)}"
        return f"refused: {share}, mostly {self.why}{self.hint and '; ' + self.hint}"


def find_refused(entries: Sequence[FileEntry], by_file: Counter[str], input: str) -> list[Refused]:
    """Return the files of which more than half of the records are in quarantine, else the input if that is so of it.

    entries  what a run has written and not yet committed
    by_file  the records that were read of each file
    """
    paths = [entry.path for entry in entries if entry.table == QUARANTINE.name]
    counted = [entry.path for entry in entries if entry.table == QUALITY_1M.name]
    if not paths or not counted:
        return []
    counts = scan(counted, quality.COUNTS).sum().collect().row(0, named=True)
    found = []
    grouped = scan(paths, ["position", "stage", "code", "errors"]).group_by(_FILE, "stage", "code", "errors").len()
    reasons = grouped.sort("len", "file", "stage", "code", "errors", descending=True).collect()
    if not counts["exploded"]:
        for (name,), rows in reasons.group_by("file", maintain_order=True):
            if name and 0 < by_file[name] < 2 * rows["len"].sum():
                found.append(_refused(name, by_file[name], rows, paths))
    records = counts["received"] + counts["exploded"]
    if not found and 2 * counts["quarantined"] > records:
        found.append(_refused(input, records, reasons, paths))
    return found


def lines_of(refused: Sequence[Refused]) -> list[str]:
    """Return what a run says first."""
    more = len(refused) - MOST_NAMED
    lines = [each.line() for each in refused[:MOST_NAMED]]
    lines += [f"refused: most records of {more:,} more files"] if more > 0 else []
    what_to_do = "correct the mapping or the files and run it again, or replay; --allow_quarantine accepts this"
    return [*lines, what_to_do] if lines else []


def _refused(name: str, records: int, reasons: pl.DataFrame, paths: Sequence[str]) -> Refused:
    file, stage, code, errors = reasons.row(0)[:4]
    first = json.loads(errors or "[{}]")[0]
    why = f"{code} ({stage}): {first.get('message', '')} at {first.get('path', '$')}"
    same = (pl.col("code") == code) & _FILE.eq_missing(pl.lit(file, pl.String))
    example = scan(paths, ["code", "position", "payload"]).filter(same).select("payload").head(1).collect()
    payload = example["payload"][0] if len(example) else None
    return Refused(name, int(reasons["len"].sum()), records, why, _hint(payload or b""))


def _hint(payload: bytes) -> str:
    """What a refused record shows: text of another encoding, or a document whose list is the records."""
    try:
        payload[:SEEN_BYTES].decode()
    except UnicodeDecodeError as problem:
        if problem.end < SEEN_BYTES - 4:
            return "it is not UTF-8: state its `encoding` in the mapping, such as latin-1"
    try:
        record = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return ""
    lists = _lists(record, "") if isinstance(record, dict) else []
    if not lists:
        return ""
    path, size = max(lists, key=lambda each: each[1])
    return f"its list `{path}` holds {size:,} objects: if they are the records, state `records: {path}` in the mapping"


def _lists(record: dict, above: str) -> list[tuple[str, int]]:
    """[(path, length)] of the lists of objects in a record, near its top."""
    found = []
    for key, value in record.items():
        if not key.isidentifier():
            continue
        if isinstance(value, list) and len(value) > 1 and all(isinstance(each, dict) for each in value):
            found.append((above + key, len(value)))
        elif isinstance(value, dict) and above.count(".") < 2:
            found += _lists(value, f"{above}{key}.")
    return found
