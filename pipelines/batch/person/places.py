"""Find where a warehouse names a person: every text column of every table, and files on disk that are not live.

    find(warehouse, search)     a row per place, table, column and kind; and how many files could not be read
    Hits                        the distinct values of a column that name a person, and how

The search skips columns that only the product writes (PRODUCT), sketches, and the table `erasures`. An event or metric
row that belongs to the person is counted once, under the column that identifies them.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

import polars as pl

from pipelines.batch.person.search import INSIDE, NAMING, Search
from pipelines.sources.landing import LANDING
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.tables import ERASURES, EVENTS, QUARANTINE, Table, polars_schema

PERSON = ("user_id", "anonymous_id", "person")  # columns that identify the owner of a row
# Columns that contain no free text from senders: only words of the contract, or values of our own.
PRODUCT = frozenset(
    ("id_source", "time_source", "warnings", "stage", "code", "pipeline_version", "firing", "quarantine_id")
)
NAMES = {  # columns that are kept unchanged, and why
    "source": "the name of a source",
    "source_format": "the name of a mapping",
    "input": "the name of a file or a subscription",
    "position": "the name of a file, or the id of a message",
    "event_type": "a word of the contract",
    "channel": "a word of the contract",
    "currency": "a word of the contract",
}
RECORD = ("payload", "attributes", "errors")  # columns of quarantine with the original record
OWN = "own row"
LIVE, REPLACED, STAGED, LANDED = "live", "replaced, still on disk", "staged", "landed"


class Found(NamedTuple):
    """Rows that name the person; `first` and `last` are times of the table's partition column."""

    table: str
    column: str
    kind: str
    rows: int
    first: datetime | None = None
    last: datetime | None = None
    place: str = LIVE


class Hits(NamedTuple):
    """The distinct values of a column that name the person: value, rows, first, last, kind."""

    table: str
    column: str
    values: pl.DataFrame

    def of_kind(self, *kinds: str) -> pl.DataFrame:
        """Return the values of these kinds."""
        return self.values.filter(pl.col("kind").is_in(list(kinds)))


def searchable_columns(table: Table) -> dict[str, pl.DataType | type[pl.DataType]]:
    """Return the columns of a table that may name a person, with their types."""
    texts = {name: dtype for name, dtype in polars_schema(table).items() if name not in PRODUCT}
    return {name: dtype for name, dtype in texts.items() if dtype == pl.String or name == "payload"}


def belongs_to(ids: Sequence[str], columns: Iterable[str]) -> pl.Expr:
    """Return whether one of the columns assigns a row to one of these people; false if there are no such columns."""
    conditions = [pl.col(name).is_in(list(ids)).fill_null(False) for name in columns if name in PERSON]
    return pl.any_horizontal(conditions) if conditions else pl.lit(False)


def search_tables(warehouse: Warehouse, search: Search) -> Iterator[Hits]:
    """Yield the hits of every table."""
    for table in warehouse.tables().values():
        if table.name != ERASURES.name:
            names = searchable_columns(table)
            rows = warehouse.scan(table.name, columns=[*dict.fromkeys([table.partition, *names])])
            yield from search_rows(table.name, rows, names, search, table.partition)


def search_rows(table: str, rows: pl.LazyFrame, names: dict, search: Search, time: str | None = None) -> Iterator[Hits]:
    """Yield the hits in rows of a table, by column; `time` names the column of `first` and `last`."""
    own = belongs_to(search.ids, names)
    for name, dtype in names.items():
        part = rows if name in PERSON else rows.filter(~own)
        near = part.filter(search.near(pl.col(name), dtype)).group_by(pl.col(name).alias("value"))
        moment = pl.col(time) if time else pl.lit(None, pl.Datetime("us", "UTC"))
        found = near.agg(rows=pl.len(), first=moment.min(), last=moment.max()).collect()
        values = found["value"].to_list()
        kinds = search.kinds(values)
        if name in PERSON:  # where a longer word is another person
            kinds = [None if kind == INSIDE else kind for kind in kinds]
            kinds = [OWN if value in search.ids else kind for value, kind in zip(values, kinds, strict=True)]
        hits = found.with_columns(pl.Series("kind", kinds, pl.String)).filter(pl.col("kind").is_not_null())
        if not hits.is_empty():
            yield Hits(table, name, hits)


def find(warehouse: Warehouse, search: Search) -> tuple[list[Found], int]:
    """Return everything that names the person, and how many files could not be searched."""
    found = [each for hits in search_tables(warehouse, search) for each in count_hits(hits)]
    unread = 0
    for place, table, path in _not_live(warehouse):
        try:
            found += [each for hits in _search_file(table, path, search) for each in count_hits(hits, place)]
        except FileNotFoundError:  # a writer has removed it meanwhile
            continue
        except (OSError, pl.exceptions.PolarsError):
            unread += path.exists() and path.stat().st_size > 0
    return _sum_rows(found), unread


def count_hits(hits: Hits, place: str = LIVE) -> list[Found]:
    """Return the hits of a column, one row per kind."""
    by_kind = hits.values.group_by("kind").agg(pl.col("rows").sum(), pl.col("first").min(), pl.col("last").max())
    rows = by_kind.sort("kind", descending=True).iter_rows()
    return [Found(hits.table, hits.column, kind, count, first, last, place) for kind, count, first, last in rows]


def _sum_rows(found: list[Found]) -> list[Found]:
    """Sum the rows of many files."""
    rows: dict[tuple, Found] = {}
    for each in found:
        key = (each.place, each.table, each.column, each.kind)
        before = rows.get(key)
        rows[key] = each._replace(rows=each.rows + (before.rows if before else 0))
    return list(rows.values())


def _not_live(warehouse: Warehouse) -> Iterator[tuple[str, str, Path]]:
    """Yield (place, table, file) for files of the warehouse that belong to no table now."""
    for file in warehouse.unlisted_files():
        yield STAGED if file.staged else REPLACED, file.table, file.path
    if (folder := warehouse.local_path) is not None:
        for path in sorted((folder / LANDING).glob("*")):
            if path.suffix in (".parquet", ".tmp"):
                yield LANDED, LANDING, path


def _search_file(table: str, path: Path, search: Search) -> list[Hits]:
    """Return the hits in a file, whatever its columns."""
    rows = (
        pl.read_ipc(path).lazy() if path.suffix == ".arrow" else pl.read_parquet(path, hive_partitioning=False).lazy()
    )
    names = {
        name: dtype
        for name, dtype in rows.collect_schema().items()
        if name not in PRODUCT and (dtype == pl.String or name == "payload")
    }
    return list(search_rows(table, rows, names, search))


def named_records(warehouse: Warehouse, search: Search) -> pl.DataFrame:
    """Return the rows of `quarantine`, of every attempt, whose record names one of the people."""
    read = ["source", "input", "quarantine_id", "attempt", "received_time", "code", *RECORD]
    scan = warehouse.scan(QUARANTINE.name, columns=read)
    types = polars_schema(QUARANTINE)
    keys = ["input", "quarantine_id"]
    near = pl.any_horizontal(search.near(pl.col(name), types[name]) for name in RECORD)
    candidates = scan.filter(near).select(*keys, *RECORD).collect()
    named = pl.Series([False] * len(candidates), dtype=pl.Boolean)
    for name in RECORD:
        kinds = search.kinds([each if each is not None else "" for each in candidates[name]])
        named = named | pl.Series([kind in NAMING for kind in kinds], dtype=pl.Boolean)
    found = candidates.filter(named).select(keys).unique()
    return scan.drop(*RECORD).join(found.lazy(), on=keys, how="semi", nulls_equal=True).collect()


def find_similar(warehouse: Warehouse, ids: Sequence[str]) -> list[str]:
    """Return identifiers in `events` that differ from these only in case or Unicode normal form."""
    wanted = set(map(_fold, ids))
    plain = [folded for folded in wanted if folded.isascii()]
    found: set[str] = set()
    for name in PERSON[:2]:
        column = pl.col(name)
        # Python folds slowly; for ASCII letters, Polars can lower the case.
        near = column.str.to_lowercase().is_in(plain) | column.str.contains(r"[^\x00-\x7f]")
        values = warehouse.scan(EVENTS.name, columns=[name]).filter(near.fill_null(False)).unique().collect()[name]
        found |= {value for value in values if _fold(value) in wanted}
    return sorted(found - set(ids))


def _fold(id: str) -> str:
    return normalize("NFKC", normalize("NFKC", id).casefold())
