"""Erase a person: delete or redact every occurrence, and record the proof, in one commit.

    erase(settings, ids)      removes people from every table, rebuilds the affected days, writes a proof to `erasures`
    also_known_as(...)        returns the other identifiers of a person

It deletes the person's own rows (an event by its user_id or anonymous_id, a row of another table by those or by
`person`), and every quarantined record whose bytes name the person in any encoding, since a replay would bring it back.
Entries of logs that name the person go first (logs.py): a stream that reads them later would bring the person back.
It redacts the identifier where other people's rows mention it (redaction.py), in events and in what is derived
from them. It keeps, and lists in the proof, names of sources, files and words of the contract, and longer words that
only contain the identifier (person_places.NAMES, person_search.INSIDE).

The metrics and sketches of the affected days are recomputed from the remaining events, since a distinct count cannot
forget a single member. Answers of refreshes are removed, all of them; the next refresh computes them again. Not erased
are therefore sketches of metrics that are not active, and copies outside the warehouse.

State    after a kill, either nothing or everything has changed. Replaced files stay on disk until `purge` at the end of
         the run; if the run was killed before that, until the next erasure, or the next writer after RETIRED_SECONDS.
Errors   WarehouseError, with nothing changed: landed records, more rows of others than MANY, a remaining row
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, datetime
from typing import NamedTuple

import polars as pl

from pipelines.assemble import Opened, make_folder, open_run
from pipelines.audience import build
from pipelines.batch.days import with_neighbors
from pipelines.batch.person.logs import count_deleted, erase_logs, logs_of
from pipelines.batch.person.outcome import KEEP, MANY, REDACT, Outcome, too_many
from pipelines.batch.person.places import (
    NAMES,
    OWN,
    PERSON,
    RECORD,
    Found,
    Hits,
    belongs_to,
    count_hits,
    named_records,
    search_rows,
    search_tables,
    searchable_columns,
)
from pipelines.batch.person.proof import make_key, proofs, rows
from pipelines.batch.person.redaction import Redaction
from pipelines.batch.person.search import INSIDE, NAMING, Search
from pipelines.insight.place import forget_answers
from pipelines.runners.in_process import run_bounded, worker_count
from pipelines.settings.resolve import Settings
from pipelines.sources.landing import LANDING, Landing
from pipelines.sources.stored import ReadStored
from pipelines.warehouse import books
from pipelines.warehouse.answers import is_answer
from pipelines.warehouse.conditions import Without, WithoutInDays
from pipelines.warehouse.day_files import FileEntry
from pipelines.warehouse.file_sinks import read_confirmed
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.sink import by_day
from pipelines.warehouse.staged import write_file
from pipelines.warehouse.tables import ERASURES, EVENTS, QUALITY_1M, QUARANTINE, Table, polars_schema
from transforms import quality
from transforms.block import day_of
from transforms.errors import WarehouseError

_ORIGIN = ["source", "input", "received_time"]


class Erased(NamedTuple):
    """What an erasure did.

    rows           table -> rows deleted
    days           days rebuilt
    kept_sketches  tables whose sketches still include the person
    outcomes       by table and column
    before         the time of an earlier erasure, if nothing was left to do
    """

    rows: dict[str, int]
    days: list[date]
    kept_sketches: list[str]
    outcomes: list[Outcome] = []
    before: datetime | None = None


class _Plan(NamedTuple):
    """What an erasure is to do: the result of one search, so that the proof and the commit cover the same rows."""

    search: Search
    hits: list[Hits]
    named: pl.DataFrame  # rows of quarantine to delete
    redact: bool

    @property
    def ids(self) -> tuple[str, ...]:
        return self.search.ids

    def redacted(self, table: str) -> list[Hits]:
        """Return the columns of a table in which rows of others are redacted."""
        if not self.redact or table in (QUARANTINE.name, QUALITY_1M.name):
            return []
        hits = (each for each in self.hits if each.table == table and each.column not in NAMES)
        return [each for each in hits if not each.of_kind(*NAMING).is_empty()]

    def touched(self, table: str) -> pl.Expr:
        """Return whether a row of the table is deleted or redacted."""
        mentions = [_holds(each) for each in self.redacted(table)]
        own = [
            belongs_to(self.ids, {each.column}) for each in self.hits if each.table == table and each.column in PERSON
        ]
        return pl.any_horizontal(pl.lit(False), *own, *mentions)


def count_landed(warehouse: Warehouse) -> int:
    """Return the number of records that a stream has landed but not yet committed to the tables."""
    if warehouse.local_path is None:
        return 0
    return int(Landing(warehouse.local_path / LANDING).counts()["landed"].sum())


def also_known_as(warehouse: Warehouse, ids: Sequence[str]) -> list[str]:
    """Return the other identifiers that occur with these in events: a person before and after signing in."""
    names = ("user_id", "anonymous_id")
    events = warehouse.scan(EVENTS.name, columns=names).filter(belongs_to(ids, names))
    others = pl.concat([events.select(pl.col(name).alias("id")) for name in names]).unique()
    return sorted(set(others.collect()["id"].drop_nulls()) - set(ids))


def erase(
    settings: Settings,
    ids: Sequence[str],
    proof_key: str | None = None,
    mentions: str | None = None,
    beam_options: Sequence[str] = (),
    logs: Sequence[str] = (),
) -> Erased:
    """Erase people.

    proof_key  file with the key of the proof; None: that of the local warehouse
    mentions   REDACT or KEEP; None: redact, unless there are more than MANY
    logs       folders of write-ahead logs, beside those of this machine that the warehouse was fed from
    """
    with open_run(settings) as into, ExitStack() as at_rest:
        warehouse, run = into.warehouse, into.run
        if count := count_landed(warehouse):
            raise WarehouseError(
                f"{count:,} landed records of a stream are not committed yet, and may name the person; restart the "
                "stream (`audience run`), drain it (`audience stop --drain`), then delete"
            )
        key = make_key(warehouse, proof_key)
        plan = _make_plan(warehouse, Search(ids), mentions)
        # Before the tables: a stream that reads them later would bring the person back.
        in_logs = erase_logs(logs_of(warehouse, logs), plan.search, mentions, at_rest)
        outcomes = _outcomes(warehouse, plan) + in_logs
        deleted = _count_deleted(warehouse, plan) | count_deleted(in_logs)
        done = Erased(deleted, _days(warehouse, plan), _kept_sketches(into), outcomes)
        earlier = proofs(warehouse, ids, key).of_ids
        if {id for id, _, _ in earlier} == set(ids) and not _changes(outcomes):
            run.purge()  # files left behind by a killed run
            forget_answers(warehouse)
            return done._replace(before=max(time for _, time, _ in earlier))
        redaction = Redaction(plan.search)
        renamed = _find_renamed(warehouse, plan)
        entries = _rebuild_days(into, plan, redaction, done.days, beam_options) if done.days else []
        rest, rewritten = _other_rows(into, plan, redaction, done.days)
        _check(entries + rewritten, warehouse, plan)
        columns = [each._asdict() for each in outcomes]
        said = {"rows": done.rows, "columns": columns, "sketches": done.kept_sketches, "days": done.days}
        proof = _write_rows(into, ERASURES, rows(plan.ids, key, said))
        moved = _count_moved(warehouse, plan, renamed)
        derived, launch = into.derived, into.job.launch
        books.commit(run, entries + rewritten + proof, done.days, derived, launch, None, moved, rest)
        run.purge()
        forget_answers(warehouse)
        if left := _count_deleted(warehouse, _make_plan(warehouse, plan.search, REDACT)):  # a stream is writing, too
            raise WarehouseError(f"rows written meanwhile name the person: {left}; run it again")
        return done


def _make_plan(warehouse: Warehouse, search: Search, mentions: str | None) -> _Plan:
    answers = {name for name, table in warehouse.tables().items() if is_answer(table)}  # which are forgotten as a whole
    hits = [each for each in search_tables(warehouse, search) if each.table not in answers]
    plan = _Plan(search, hits, named_records(warehouse, search), mentions != KEEP)
    others = [each.of_kind(*NAMING)["rows"].sum() for name in warehouse.tables() for each in plan.redacted(name)]
    many = max([*others, len(plan.named)])
    if mentions is None and many > MANY:
        raise too_many(int(many), "rows of other people")
    return plan


def _outcomes(warehouse: Warehouse, plan: _Plan) -> list[Outcome]:
    """Return the outcome for everything that was found."""
    found = [each for hits in plan.hits if hits.table != QUARANTINE.name for each in count_hits(hits)]
    gone = pl.col("quarantine_id").is_in(plan.named["quarantine_id"].unique().to_list())
    types = searchable_columns(QUARANTINE)
    scan = warehouse.scan(QUARANTINE.name, columns=["quarantine_id", QUARANTINE.partition, *types])
    outcomes = [_outcome(each, plan) for each in found]
    for rows_of, deleted in ((scan.filter(gone), True), (scan.filter(~gone), False)):
        names = {name: types[name] for name in (RECORD if deleted else types)}
        for each in (
            each for hits in search_rows(QUARANTINE.name, rows_of, names, plan.search) for each in count_hits(hits)
        ):
            deletes = deleted and each.kind in NAMING
            if deletes or not deleted:
                outcomes.append(Outcome(*each[:3], "deleted", each.rows) if deletes else _outcome(each, plan))
    return outcomes


def _outcome(found: Found, plan: _Plan) -> Outcome:
    what, rows_ = found[:3], found.rows
    if found.kind == OWN:
        return Outcome(*what, "deleted", rows_)
    if found.column in NAMES:
        return Outcome(*what, "kept", rows_, NAMES[found.column])
    if found.kind == INSIDE:
        return Outcome(*what, "kept", rows_, "a longer word, which may belong to another person")
    return Outcome(*what, "redacted", rows_) if plan.redact else Outcome(*what, "kept", rows_, "--mentions keep")


def _changes(outcomes: Iterable[Outcome]) -> bool:
    return any(each.outcome != "kept" for each in outcomes)


def _count_deleted(warehouse: Warehouse, plan: _Plan) -> dict[str, int]:
    """Return the number of rows to delete by table, without tables that have none."""
    counts = {QUARANTINE.name: len(plan.named)}
    for table in {each.table for each in plan.hits if not each.of_kind(OWN).is_empty()}:
        names = [name for name in searchable_columns(warehouse.table(table)) if name in PERSON]
        own = warehouse.scan(table, columns=names).filter(belongs_to(plan.ids, names))
        counts[table] = own.select(pl.len()).collect().item()
    return {name: counts[name] for name in sorted(counts) if counts[name]}


def _days(warehouse: Warehouse, plan: _Plan) -> list[date]:
    """Return the days whose events change."""
    return sorted(day for day in _touched_days(warehouse, EVENTS, plan) if day)


def _touched_days(warehouse: Warehouse, table: Table, plan: _Plan) -> set[date | None]:
    touched = plan.touched(table.name)
    names = touched.meta.root_names()
    if not names:
        return set()
    events = warehouse.scan(table.name, columns=[*dict.fromkeys([table.partition, *names])]).filter(touched)
    day = day_of(pl.col(table.partition), warehouse.time_zone)
    return set(events.select(day.unique()).collect().to_series())


def _holds(hits: Hits) -> pl.Expr:
    """Return whether a row has one of the values."""
    return pl.col(hits.column).is_in(hits.of_kind(*NAMING)["value"].to_list()).fill_null(False)


def _find_renamed(warehouse: Warehouse, plan: _Plan) -> pl.DataFrame:
    """Return the origins of the remaining events whose event_id is redacted."""
    holds = [_holds(each) for each in plan.redacted(EVENTS.name) if each.column == "event_id"]
    if not holds:
        return pl.DataFrame(schema={name: polars_schema(EVENTS)[name] for name in _ORIGIN})
    names = [*_ORIGIN, "event_id", "user_id", "anonymous_id"]
    stay = warehouse.scan(EVENTS.name, columns=names).filter(holds[0] & ~belongs_to(plan.ids, names))
    return stay.select(_ORIGIN).collect()


def _rebuild_days(
    into: Opened, plan: _Plan, redaction: Redaction, days: list[date], beam_options: Sequence[str]
) -> list[FileEntry]:
    """Rebuild the events and metrics of the days without the people."""
    folder = make_folder(into.run.staging / "stays")
    redacts = redaction.columns(plan.redacted(EVENTS.name), {"properties", "extra"})
    files = []
    for number, file in enumerate(into.warehouse.files(EVENTS.name, days)):
        events = pl.read_parquet(file)
        stays = events.filter(~belongs_to(plan.ids, ("user_id", "anonymous_id"))).with_columns(redacts)
        if not stays.is_empty():
            files.append(folder / f"{number}.parquet")
            stays.write_parquet(files[-1], compression="zstd", compression_level=1)
    # Only stored events are read.
    job = replace(into.job, stored=ReadStored([str(file) for file in files], None), accept_late=True)
    job = with_neighbors(job, into, days)
    workers = worker_count(0, sum(file.stat().st_size for file in files))
    run_bounded(lambda pipeline: build(pipeline, job), workers, beam_options)
    return read_confirmed(into.run.staging)


def _other_rows(
    into: Opened, plan: _Plan, redaction: Redaction, days: list[date]
) -> tuple[list[books.Rest], list[FileEntry]]:
    """Return what the commit removes outside the rebuilt days, and the redacted rows that replace it.

    Metric rows have no events to be rebuilt from if the metric is not active, or if the day's events are gone.
    """
    rest = _without_records(into.warehouse, plan.named)
    entries = []
    for table in into.warehouse.tables().values():
        if table.name in (EVENTS.name, QUARANTINE.name, QUALITY_1M.name, ERASURES.name) or is_answer(table):
            continue
        rebuilt = frozenset(days if table.name in into.derived else ())
        touched = _touched_days(into.warehouse, table, plan) - rebuilt
        if not touched:
            continue
        redacted = plan.redacted(table.name)
        columns = {each.column for each in redacted} | {name for name in searchable_columns(table) if name in PERSON}
        values = {value for each in redacted for value in each.of_kind(*NAMING)["value"]} | set(plan.ids)
        keep = WithoutInDays(
            tuple(sorted(columns)), frozenset(values), table.partition, rebuilt, into.warehouse.time_zone
        )
        rest.append(books.Rest(table.name, touched | rebuilt, keep))
        mentions = pl.any_horizontal(pl.lit(False), *map(_holds, redacted)) & ~belongs_to(plan.ids, columns)
        stays = into.warehouse.scan(table.name, touched).filter(mentions).collect()
        entries += _write_rows(into, table, stays.with_columns(redaction.columns(redacted, set())))
    return rest, entries


def _write_rows(into: Opened, table: Table, frame: pl.DataFrame) -> list[FileEntry]:
    if frame.is_empty():
        return []
    parts = by_day(frame, table.partition, into.warehouse.time_zone)
    return [write_file(into.run.staging, table.name, day, part) for day, part in parts]


def _without_records(warehouse: Warehouse, named: pl.DataFrame) -> list[books.Rest]:
    """Return the days of quarantine without these records."""
    if named.is_empty():
        return []
    day = day_of(pl.col(QUARANTINE.partition), warehouse.time_zone)
    # The id is a hash of the payload: a row of another input with the same id names the person as well.
    keep = Without(("quarantine_id",), frozenset(named["quarantine_id"]))
    return [books.Rest(QUARANTINE.name, set(named.select(day.unique()).to_series()), keep)]


def _check(entries: list[FileEntry], warehouse: Warehouse, plan: _Plan) -> None:
    """Raise WarehouseError if what is to be committed still names the person where the proof denies it."""
    tables = warehouse.tables()
    for entry in entries:
        if entry.table == QUALITY_1M.name:
            continue
        names = {name: dtype for name, dtype in searchable_columns(tables[entry.table]).items() if name not in NAMES}
        for hits in search_rows(entry.table, pl.scan_parquet(entry.path), names, plan.search):
            left = hits.of_kind(OWN, *(NAMING if plan.redact else ()))
            if not left.is_empty():
                raise WarehouseError(
                    f"{left['rows'].sum():,} rows of {entry.table} would still name the person in {hits.column}; "
                    "nothing was changed"
                )


def _count_moved(warehouse: Warehouse, plan: _Plan, renamed: pl.DataFrame) -> list[pl.DataFrame]:
    """Return audit entries that count the people's events, and their open quarantined records, as `erased`."""
    names = [*_ORIGIN, "user_id", "anonymous_id"]
    stored = warehouse.scan(EVENTS.name, columns=names)
    events = stored.filter(belongs_to(plan.ids, names)).select(_ORIGIN).collect()
    passed = plan.named.filter(pl.col("code").is_null()).select("input", "quarantine_id")
    still_open = plan.named.join(passed, on=["input", "quarantine_id"], how="anti")
    still_open = still_open.sort("attempt").unique(["input", "quarantine_id"], keep="last").select(_ORIGIN)
    # The commit counts events that a day loses as replaced, which these are not; renamed events are still there.
    replaced = [quality.count(each, "replaced") for each in (events, renamed)]
    taken = quality.merge([*replaced, quality.count(still_open, "quarantined")])
    erased = [quality.count(each, "erased") for each in (events, still_open)]
    return [*erased, quality.count(renamed, "events"), taken.with_columns(-pl.col(quality.COUNTS))]


def _kept_sketches(into: Opened) -> list[str]:
    """Return the tables whose sketches this run cannot rebuild: their metric is not active."""
    tables = into.warehouse.tables().values()
    sketched = [table.name for table in tables if any(column.name.endswith("_sketch") for column in table.columns)]
    return sorted(set(sketched) - set(into.derived))
