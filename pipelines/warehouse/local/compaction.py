"""Tiers: which small files of a table and day are merged next, as in a log-structured merge tree.

A file of FAN ** n rows or more is of tier n, so a merge of more than FAN files of one tier is of a higher one. Each
row is therefore rewritten at most once a tier, and of each tier no more than FAN files stay: a day of a hundred million
rows keeps some dozens of files beside its full ones, which are never merged again.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from pipelines.warehouse.local.manifest import LiveFile
from pipelines.warehouse.local.run import Merge

FAN = 8
FULL_ROWS = 1_000_000
FULL_BYTES = 128 << 20


def tier(rows: int) -> int:
    """How many times FAN divides `rows`: whole numbers, where a logarithm would be off by one at times."""
    found = 0
    while rows >= FAN:
        rows, found = rows // FAN, found + 1
    return found


def due(files: Mapping[str, Mapping[str, Iterable[LiveFile]]]) -> list[Merge]:
    """The merges that are due, the smallest first; `files` as the manifest has them: table -> day -> files."""
    found = [
        Merge(table, day, tuple(members))
        for table, days in files.items()
        for day, live in days.items()
        for members in _by_tier(live)
        if len(members) > FAN
    ]
    return sorted(found, key=rows_of)


def rows_of(merge: Merge) -> int:
    """The rows that a merge rewrites."""
    return sum(file.rows for file in merge.files)


def _by_tier(live: Iterable[LiveFile]) -> Iterable[list[LiveFile]]:
    tiers: dict[int, list[LiveFile]] = defaultdict(list)
    for file in live:
        if file.rows < FULL_ROWS and file.bytes < FULL_BYTES:
            tiers[tier(file.rows)].append(file)
    return tiers.values()
