"""A person: where an identifier stands in the warehouse, and how it is taken out.

    find(warehouse, ids)      every table's rows that hold one of the identifiers
    erase(settings, ids)      those rows taken out, the days they touched written anew, and a proof in `erasures`

An event is a person's by its user_id or anonymous_id, a metric row by those or by `person`, a quarantined record by the
identifier standing in its bytes. The metrics of the touched days are computed anew from the events that stay, sketches
too: a distinct count cannot forget one of its members otherwise. So what cannot be forgotten are sketches whose events
the warehouse no longer has, and copies outside of it.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import msgspec
import polars as pl

from pipelines.audience import build
from pipelines.bounded import Opened, opened, with_beside
from pipelines.launch import run_bounded, worker_count
from pipelines.options import Settings
from pipelines.sources.landing import LANDING, Landing
from pipelines.sources.stored import ReadStored, of_people
from pipelines.version import VERSION
from pipelines.warehouse import books
from pipelines.warehouse.local import FileEntry, LocalWarehouse, write_file
from pipelines.warehouse.rows import Without
from pipelines.warehouse.sink import confirmed, shaped
from pipelines.warehouse.tables import ERASURES, EVENTS, QUARANTINE, Table
from pipelines.warehouse.warehouse import Warehouse
from transforms import quality
from transforms.block import day_of
from transforms.errors import WarehouseError

COLUMNS = ("user_id", "anonymous_id", "person")  # where a table names a person
MENTIONS = ("properties", "extra", "text", "referrer")  # where an event of somebody else may name one


class Found(NamedTuple):
    """Rows of a table that hold one of the identifiers; `first` and `last` are times of its partition column."""

    table: str
    column: str
    rows: int
    first: datetime | None
    last: datetime | None


class Erased(NamedTuple):
    """What an erasure did: rows taken out by table, days written anew, and sketches that could not be."""

    rows: dict[str, int]
    days: list[date]
    kept_sketches: list[str]


def find(warehouse: Warehouse, ids: Sequence[str]) -> list[Found]:
    """What the warehouse holds of a person, a row a table and column; mentions in others' events are told apart."""
    found = []
    for table in warehouse.tables().values():
        for name in _person_columns(table):
            found.append(_found(warehouse, table, name, pl.col(name).is_in(list(ids))))
    named = _quarantined(warehouse, ids)
    found.append(_of(QUARANTINE, "payload", named))
    for name in MENTIONS:
        holds = pl.any_horizontal(pl.col(name).str.contains(_bounded_text(id)) for id in ids) & ~of_people(ids)
        found.append(_found(warehouse, EVENTS, f"{name} (a mention)", holds))
    return [each for each in found if each.rows]


def landed(warehouse: Warehouse) -> int:
    """Records that a stream has landed and that no table has for certain: a search does not see them."""
    if not isinstance(warehouse, LocalWarehouse):
        return 0
    return int(Landing(warehouse.folder / LANDING).counts()["landed"].sum())


def also_known_as(warehouse: Warehouse, ids: Sequence[str]) -> list[str]:
    """The other identifiers that stand beside these in events: a person before and after signing in."""
    events = warehouse.scan(EVENTS.name, columns=["user_id", "anonymous_id"]).filter(of_people(ids))
    others = pl.concat([events.select(pl.col(name).alias("id")) for name in ("user_id", "anonymous_id")]).unique()
    return sorted(set(others.collect()["id"].drop_nulls()) - set(ids))


def erase(settings: Settings, ids: Sequence[str], beam_options: Sequence[str] = ()) -> Erased:
    """Take people out. WarehouseError if a search afterwards still finds one."""
    with opened(settings) as into:
        warehouse, run = into.warehouse, into.run
        if count := landed(warehouse):
            raise WarehouseError(
                f"{count:,} records of a stream landed and are not in the books yet, one may name the person; start "
                "the stream again (`audience run`), drain it (`audience stop --drain`), then delete"
            )
        days = _days(warehouse, ids)
        named = _quarantined(warehouse, ids)
        before = _rows(warehouse, ids)
        entries = _written_anew(into, ids, days, beam_options) if days else []
        moved = _moved(warehouse, ids, named)
        books.commit(run, entries, days, into.derived, into.job.launch, None, moved, _without(warehouse, named))
        # Metric rows that no event of today makes: the metric is no longer in force, or the day's events are gone.
        run.commit([], **_rows_that_stay(warehouse, ids))
        if left := _rows(warehouse, ids):
            raise WarehouseError(f"rows still name the person: {left}; run it again")
        run.commit([_proof(into, ids, before, days)])
        run.purge()  # what was replaced would lie on the disk for a while yet
        return Erased(before, days, _kept_sketches(into))


def _person_columns(table: Table) -> list[str]:
    return [column.name for column in table.columns if column.name in COLUMNS]


def _rows(warehouse: Warehouse, ids: Sequence[str]) -> dict[str, int]:
    """How many rows of each table name one of the people; tables without any are left out."""
    counts = {QUARANTINE.name: len(_quarantined(warehouse, ids))}
    for table, holds in _naming(warehouse, ids):
        counts[table.name] = (
            warehouse.scan(table.name, columns=_person_columns(table)).filter(holds).select(pl.len()).collect().item()
        )
    return {name: rows for name, rows in counts.items() if rows}


def _naming(warehouse: Warehouse, ids: Sequence[str]) -> list[tuple[Table, pl.Expr]]:
    """The tables that have columns for a person, and which of their rows name one of these."""
    tables = [(table, _person_columns(table)) for table in warehouse.tables().values()]
    return [
        (table, pl.any_horizontal(pl.col(name).is_in(list(ids)).fill_null(False) for name in names))
        for table, names in tables
        if names
    ]


def _found(warehouse: Warehouse, table: Table, column: str, holds: pl.Expr) -> Found:
    read = sorted({table.partition, *holds.meta.root_names()})
    rows = warehouse.scan(table.name, columns=read).filter(holds.fill_null(False)).select(table.partition).collect()
    return _of(table, column, rows)


def _of(table: Table, column: str, rows: pl.DataFrame) -> Found:
    times = rows[table.partition]
    return Found(table.name, column, len(rows), times.min(), times.max())  # type: ignore[arg-type]


def _days(warehouse: Warehouse, ids: Sequence[str]) -> list[date]:
    events = warehouse.scan(EVENTS.name, columns=["event_time", "user_id", "anonymous_id"]).filter(of_people(ids))
    return sorted(events.select(day_of(pl.col("event_time"), warehouse.time_zone).unique()).collect().to_series())


def _bounded_text(id: str) -> str:
    return rf"(?:^|[^0-9A-Za-z_-]){re.escape(id)}(?:$|[^0-9A-Za-z_-])"


def _quarantined(warehouse: Warehouse, ids: Sequence[str]) -> pl.DataFrame:
    """Rows of `quarantine`, of every attempt, whose bytes name one of the people; as text or as JSON escapes it."""
    read = ["source", "input", "quarantine_id", "attempt", "received_time", "code", "payload"]
    scan = warehouse.scan(QUARANTINE.name, columns=read)
    forms = {form for id in ids for form in (id.encode(), _escaped(id))}
    near = pl.any_horizontal(pl.col("payload").bin.contains(form) for form in forms).fill_null(False)
    candidates = scan.filter(near).select("input", "quarantine_id", "payload").collect()
    exact = re.compile(rb"(?<![0-9A-Za-z_-])(?:" + b"|".join(map(re.escape, forms)) + rb")(?![0-9A-Za-z_-])")
    names = pl.Series([exact.search(payload) is not None for payload in candidates["payload"]], dtype=pl.Boolean)
    keys = candidates.filter(names).select("input", "quarantine_id").unique()
    return scan.join(keys.lazy(), on=["input", "quarantine_id"], how="semi").collect()


def _escaped(id: str) -> bytes:
    """As JSON writes it that knows ASCII only."""
    return json.dumps(id)[1:-1].encode()


def _written_anew(into: Opened, ids: Sequence[str], days: list[date], beam_options: Sequence[str]) -> list[FileEntry]:
    """The days' events and metrics without the people."""
    files = into.warehouse.files(EVENTS.name, days)
    stored = ReadStored([str(file) for file in files], None, ids)
    # Nothing is read but what is stored.
    job = with_beside(replace(into.job, stored=stored, take_late=True), into, days)
    workers = worker_count(0, sum(file.stat().st_size for file in files))
    run_bounded(lambda pipeline: build(pipeline, job), workers, beam_options)
    return confirmed(into.run.staging)


def _without(warehouse: Warehouse, named: pl.DataFrame) -> list[books.Rest]:
    """The days of quarantine without these records."""
    if named.is_empty():
        return []
    day = day_of(pl.col(QUARANTINE.partition), warehouse.time_zone)
    # The id is a hash of the payload: a row of another input that has it names the person as well.
    keep = Without(("quarantine_id",), frozenset(named["quarantine_id"]))
    return [books.Rest(QUARANTINE.name, set(named.select(day.unique()).to_series()), keep)]


def _rows_that_stay(warehouse: Warehouse, ids: Sequence[str]) -> dict[str, Any]:
    """What a commit replaces and keeps, so that no row of any table names the people."""
    replaced: dict[str, set[date | None]] = {}
    keep: dict[str, Without] = {}
    for table, holds in _naming(warehouse, ids):
        day = day_of(pl.col(table.partition), warehouse.time_zone)
        rows = warehouse.scan(table.name, columns=[table.partition, *_person_columns(table)])
        days = set(rows.filter(holds).select(day.unique()).collect().to_series())
        if days:
            replaced[table.name] = days
            keep[table.name] = Without(tuple(_person_columns(table)), frozenset(ids))
    return {"replace_days": replaced, "keep": keep}


def _moved(warehouse: Warehouse, ids: Sequence[str], named: pl.DataFrame) -> list[pl.DataFrame]:
    """Entries: the people's events, and their records that are open in quarantine, are `erased`."""
    where = ["source", "input", "received_time"]
    stored = warehouse.scan(EVENTS.name, columns=[*where, "user_id", "anonymous_id"])
    events = stored.filter(of_people(ids)).select(where).collect()
    passed = named.filter(pl.col("code").is_null()).select("input", "quarantine_id")
    still_open = named.join(passed, on=["input", "quarantine_id"], how="anti")
    still_open = still_open.sort("attempt").unique(["input", "quarantine_id"], keep="last").select(where)
    # The commit books what a day loses as replaced: these are not.
    taken = [quality.count(events, "replaced"), quality.count(still_open, "quarantined")]
    erased = [quality.count(each, "erased") for each in (events, still_open)]
    return [*erased, quality.merge(taken).with_columns(-pl.col(quality.COUNTS))]


def _proof(into: Opened, ids: Sequence[str], rows: dict[str, int], days: list[date]) -> FileEntry:
    now = datetime.now(UTC)
    told = pl.DataFrame(
        {
            "erased_time": [now] * len(ids),
            "subject_sha256": [hashlib.sha256(id.encode()).hexdigest() for id in ids],
            "rows": [msgspec.json.encode(rows).decode()] * len(ids),
            "days": [msgspec.json.encode(days).decode()] * len(ids),
            "pipeline_version": [VERSION] * len(ids),
        }
    )
    return write_file(into.run.staging, ERASURES.name, now.date(), shaped(told, ERASURES))


def _kept_sketches(into: Opened) -> list[str]:
    """Tables with sketches that this run could not write anew: their metric is not in force."""
    tables = into.warehouse.tables().values()
    sketched = [table.name for table in tables if any(column.name.endswith("_sketch") for column in table.columns)]
    return sorted(set(sketched) - set(into.derived))
