"""Find and erase a person in write-ahead logs: entries that no stream has read, and those that are not deleted yet.

    logs_of(warehouse, stated)    the logs of this machine that the warehouse was fed from, and those that are stated
    count_entries(log, search)    entries by how they name the person
    erase_logs(logs, search, ...) erases them, in logs that rest until the tables are committed

No mapping has read an entry, so nobody knows whose it is. It counts as the person's own if a value of its JSON is the
identifier; if the identifier stands within a longer text or is encoded, as a mention.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from pipelines.batch.person.outcome import KEEP, MANY, Outcome, too_many
from pipelines.batch.person.places import OWN, Found
from pipelines.batch.person.places import find as find_in_warehouse
from pipelines.batch.person.search import INSIDE, NAMING, Search
from pipelines.sources.log.erase import Gone, erase_entries, files_of, read_entries, resting
from pipelines.sources.log.frames import Entry
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.tables import QUALITY_1M
from transforms.errors import OptionError

TABLE, COLUMN = "log", "payload"
_LOG = "^/[^@]*@"  # an input of a log: its folder, and the segment behind the @; a file has none
_decode = msgspec.json.Decoder(strict=False).decode


def inputs_of(warehouse: Warehouse) -> list[str]:
    """The logs that the audit counts name, without the segment."""
    counted = warehouse.scan(QUALITY_1M.name, columns=["input"]).filter(pl.col("input").str.contains(_LOG))
    return sorted(counted.select(pl.col("input").str.split("@").list.first()).unique().collect()["input"])


def logs_of(warehouse: Warehouse, stated: Sequence[str] = ()) -> list[Path]:
    """The folders of logs. Errors: OptionError for a stated one that is none."""
    for each in stated:
        if not _is_log(Path(each)):
            raise OptionError(f"--log: got {each!r}; allowed: the folder of a write-ahead log, as of audience collect")
    known = [Path(each) for each in inputs_of(warehouse)]
    return sorted({each.resolve() for each in (*map(Path, stated), *known) if _is_log(each)})


def _is_log(folder: Path) -> bool:
    try:
        return folder.is_dir() and ((folder / "lock").exists() or bool(files_of(folder)))
    except OSError:
        return False


def count_entries(log: Path, search: Search) -> Counter[str]:
    """Entries of a log by kind: OWN, or a kind of search.py. Raises OSError."""
    found: Counter[str] = Counter()
    for entries, rest in read_entries(log):
        found.update(kind for kind in _kinds(entries, search) if kind is not None)
        if rest and (kind := search.kind(rest)) is not None:
            found[kind] += 1
    return found


def find(warehouse: Warehouse, search: Search, stated: Sequence[str] = ()) -> tuple[list[Found], int]:
    """As places.find, with the entries of logs; a log is searched as it is now, also while it is used."""
    found, unread = find_in_warehouse(warehouse, search)
    for log in logs_of(warehouse, stated):
        try:
            kinds = count_entries(log, search)
        except OSError:  # a reader has deleted a segment meanwhile, or it is not ours to read
            unread += 1
            continue
        found += [Found(TABLE, COLUMN, kind, count, place=str(log)) for kind, count in sorted(kinds.items())]
    return found, unread


def erase_in(log: Path, search: Search, redact: bool) -> Gone:
    """Erase the person's own entries, and with `redact` those that mention the person. Raises OSError."""
    kinds = (OWN, *NAMING) if redact else (OWN,)

    def names(entries: list[Entry]) -> list[bool]:
        return [kind in kinds for kind in _kinds(entries, search)]

    # What is no whole frame is of nobody: it goes if it names the person at all.
    return erase_entries(log, names, lambda rest: search.kind(rest) in NAMING)


def erase_logs(logs: list[Path], search: Search, mentions: str | None, at_rest: ExitStack) -> list[Outcome]:
    """Erase the people in logs, which rest until `at_rest` ends. Errors: LogError for one that is in use."""
    for log in logs:
        at_rest.enter_context(resting(log))
    found = {log: count_entries(log, search) for log in logs}
    if mentions is None and (many := sum(each[kind] for each in found.values() for kind in NAMING)) > MANY:
        raise too_many(many, "entries of logs")
    outcomes, redact = list[Outcome](), mentions != KEEP
    for log, kinds in found.items():
        if any(kinds[kind] for kind in (OWN, *NAMING)):
            erase_in(log, search, redact)
        for kind, count in sorted(kinds.items()):
            goes = kind == OWN or (kind in NAMING and redact)
            why = str(log) if goes else f"{log}: --mentions keep" if kind in NAMING else f"{log}: a longer word"
            outcomes.append(Outcome(TABLE, COLUMN, kind, "deleted" if goes else "kept", count, why))
    return outcomes


def count_deleted(outcomes: list[Outcome]) -> dict[str, int]:
    """Entries of logs that were erased, under the name that a table would have."""
    count = sum(each.rows for each in outcomes if each.outcome == "deleted")
    return {TABLE: count} if count else {}


def _kinds(entries: list[Entry], search: Search) -> list[str | None]:
    """How each entry names the person."""
    if not entries:
        return []
    texts = [msgspec.json.encode(entry.attributes).decode() for entry in entries]
    columns = {"payload": [entry.payload for entry in entries], "attributes": texts}
    types = {"payload": pl.Binary, "attributes": pl.String}
    frame = pl.DataFrame(columns, types)
    near = frame.select(pl.any_horizontal(search.near(pl.col(name), dtype) for name, dtype in types.items()))
    found: list[str | None] = [None] * len(entries)
    for at in near.to_series().arg_true().to_list():
        kinds = [search.kind(entries[at].payload), search.kind(texts[at])]
        named = next((kind for kind in kinds if kind in NAMING), INSIDE if INSIDE in kinds else None)
        found[at] = OWN if named in NAMING and _states(entries[at].payload, set(search.ids)) else named
    return found


def _states(payload: bytes, ids: set[str]) -> bool:
    """Whether a value of JSON is one of the identifiers."""
    try:
        waiting: list[Any] = [_decode(payload)]
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
        elif not isinstance(each, bool | None) and str(each) in ids:
            return True
    return False
