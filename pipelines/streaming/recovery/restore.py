"""Resume: what a stream does before its graph starts, where the runner lost the state of the previous run.

    1. Delete all rows of the minutes whose records are read again (warehouse/local/settled.py): events, quarantine,
       audit counts. One commit. Where rows cannot be deleted, they stay, and `claim` has KeepFirst keep the same
       deliveries again.
    2. Rebuild the state of the steps from the rows that stay (transforms/restored_state.py).
    3. Publish metric rows that the crash prevented, and correct those of deleted events. One commit.

Afterwards `<table>_current` of every open window equals a recompute of the stored events, and the stream goes on as if
it had never ended. If it is killed in between, the next start repeats it.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipelines.audience import Job
from pipelines.streaming.recovery import (
    restore_refused as resume_refused,
)
from pipelines.streaming.recovery import (
    restore_sessions as resume_sessions,
)
from pipelines.streaming.recovery.restore_rows import NOW, blocks, current, take_in
from pipelines.streaming.recovery.restore_sessions import StoredSessions
from pipelines.warehouse.conditions import days_from, in_minutes, of_input
from pipelines.warehouse.day_files import FileEntry, write_file
from pipelines.warehouse.interface import Restorable, RestoreRun
from pipelines.warehouse.sink import by_day, shaped
from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE, SESSIONS, Table
from transforms import restored_state as seeds
from transforms.block import EVENT_SCHEMA, SEPARATOR, TIME
from transforms.deduplicate import claim_entries, dedup_time, seen_entries, split
from transforms.lateness import allowed_lateness
from transforms.metrics.aggregations import Aggregation, BooksAggregation
from transforms.metrics.scopes import scatter
from transforms.publication import Launch, stamp_rows
from transforms.quality import BOOKS_SCHEMA
from transforms.sessions.sessions import STEPS
from transforms.windows import MICROSECOND, number_of, to_micros

CLOCKS_CHANGE = timedelta(hours=1)
DAY = timedelta(days=1)


class Stream(NamedTuple):
    """The stream that is about to start: what decides which windows are open, and what its steps hold for them."""

    input: str  # with its parts, see warehouse/local/settled.py
    launch: Launch
    metrics: Sequence[Aggregation]
    lateness: timedelta  # allowed_lateness: how long a window is kept after its end
    dedup_window: timedelta = DAY
    shards: int = 4
    funnel: Sequence[str] = STEPS


def stream_of(input: str, job: Job) -> Stream:
    """The stream that a job is, of this input."""
    return Stream(
        input,
        job.launch,
        job.metrics,
        allowed_lateness(job.max_lateness),
        job.dedup_window,
        job.shards,
        job.funnel,
    )


class Resumed(NamedTuple):
    """What was done: the folder of the restored state, rows deleted and metric rows written by table, events read."""

    seeds: str
    taken: dict[str, int]
    written: dict[str, int]
    events: int


def resume(run: RestoreRun, stream: Stream, undone: pl.DataFrame, now: float | None = None) -> Resumed:
    """Prepare the warehouse and the state of the steps for a stream that starts; nothing may write meanwhile.

    undone  (input, bucket_start): the minutes of received_time whose records the stream will read again
    now     seconds since 1970; the clock, unless given
    """
    moment = datetime.fromtimestamp(time.time() if now is None else now, UTC)
    folder = run.staging / "seeds"
    folder.mkdir()
    signs = [moment, _last_sign(run.warehouse, stream) or moment, *undone["bucket_start"].to_list()]
    oldest = min(signs) - stream.lateness
    taken = _delete_minutes(run, stream, undone)
    revision = max(_micros(moment), _highest(run.warehouse, stream, oldest) + 1)
    stored = _Stored(run.warehouse, stream, oldest, str(folder))
    stored.read()
    entries, drop, days = [], dict[str, pl.Expr](), dict[str, list[date]]()
    for what in stream.metrics:
        changed, gone = _differences(run.warehouse, what, stored.rows_of(what), oldest)
        entries += _entries(run, what, changed, stream.launch, moment, revision)
        if gone is not None:
            drop[what.name], days[what.name] = gone, _days_of(run.warehouse, what, oldest)
    held = stored.sessions.held()
    sessions = resume_sessions.differences(run.warehouse, held, stored.sessions.since, oldest)
    entries += resume_sessions.write(run, sessions, stream.launch, moment, revision)
    resume_sessions.write_seeds(str(folder), held, stream.shards)
    _restore_audit_counts(run.warehouse, stream.input, oldest, str(folder))
    refused = resume_refused.ids(run.warehouse, stream.input, stored.since)
    resume_refused.write_seeds(refused, stream.dedup_window, stream.shards, str(folder))
    if entries or drop:
        run.commit(entries, days, drop=drop)
    seeds.write_revision(str(folder), revision)
    written: dict[str, int] = Counter()
    for each in entries:
        written[each.table] += each.rows
    return Resumed(str(folder), taken, dict(written), stored.events)


def claim(rows: pl.LazyFrame, stream: Stream, folder: str) -> None:
    """Write the claims of KeepFirst for stored events whose records are read again, where their rows stay."""
    for block in blocks(rows.select(list(EVENT_SCHEMA))):
        for piece in split(block, stream.dedup_window, stream.shards):
            seeds.add_claims(folder, seeds.Place(piece.window, piece.shard), claim_entries(piece.events).tobytes())


def _last_sign(warehouse: Restorable, stream: Stream) -> datetime | None:
    """When the audit counts of the input were written last: windows open then may lack rows, if it was killed.

    It is searched in the last days that have audit counts, as far back as a window is open.
    """
    days = [day for day in warehouse.rows_by_day(QUALITY_1M.name) if day]
    if not days:
        return None
    last = max(days) - stream.lateness - 2 * DAY
    books = warehouse.scan(QUALITY_1M.name, [day for day in days if day >= last]).filter(of_input(stream.input))
    return books.select(pl.col("emitted_time").max()).collect().item()


def _highest(warehouse: Restorable, stream: Stream, oldest: datetime) -> int:
    """The highest revision of rows whose generation is not below that of this launch: set by hand, or used before."""
    found = [0]
    days = {what.name: _days_of(warehouse, what, oldest) for what in (*stream.metrics, BooksAggregation())}
    days[SESSIONS.name] = days_from(warehouse, SESSIONS.name, oldest - DAY)
    for name, written in days.items():
        rows = warehouse.scan(name, written)
        same = rows.filter(pl.col("generation") >= stream.launch.generation)
        found.append(same.select(pl.col("revision").max()).collect().item() or 0)
    return max(found)


def _delete_minutes(run: RestoreRun, stream: Stream, undone: pl.DataFrame) -> dict[str, int]:
    """Delete the rows of the minutes in one commit; how many were deleted, by table."""
    if undone.is_empty():
        run.commit([])  # the tables that the stream declared
        return {}
    columns = {EVENTS: "received_time", QUARANTINE: "received_time", QUALITY_1M: "bucket_start"}
    drop = {table.name: in_minutes(undone, column) for table, column in columns.items()}
    # An event may have happened long before it was received, but not longer than a window would take it.
    earliest = min(undone["bucket_start"].to_list()) - stream.lateness - DAY
    before = {name: _rows(run.warehouse, name) for name in drop}
    run.commit([], {name: days_from(run.warehouse, name, earliest) for name in drop}, drop=drop)
    deleted = {name: rows - _rows(run.warehouse, name) for name, rows in before.items()}
    return {name: rows for name, rows in deleted.items() if rows}


def _rows(warehouse: Restorable, table: str) -> int:
    return sum(warehouse.rows_by_day(table).values())


class _Stored:
    """One pass over the stored events of the open windows, in blocks: it writes the state of KeepFirst as it goes, and
    that of each metric at the end. It gathers the sessions too."""

    def __init__(self, warehouse: Restorable, stream: Stream, oldest: datetime, folder: str):
        self.warehouse, self.stream, self.oldest, self.folder = warehouse, stream, oldest, folder
        self.partials: dict[str, list[pl.DataFrame]] = {what.name: [] for what in stream.metrics}
        self.sessions = StoredSessions(stream.funnel, oldest)
        self.events = 0
        widest = max((what.bucket for what in stream.metrics), default=DAY)
        self.measured = pl.col("event_time") >= _utc(_earliest(oldest, widest))
        width = to_micros(stream.dedup_window)
        self.first_window = _micros(oldest) // width
        self.since = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=self.first_window * width)
        since = _utc(self.since)
        self.compared = dedup_time() >= since
        # `compared` again, in a form that selects files by their statistics.
        self.needed = self.measured | (pl.col("client_time") >= since) | (pl.col("received_time") >= since)

    def read(self) -> None:
        """Go over the events."""
        far = self.oldest - max(self.stream.dedup_window, DAY) - self.stream.lateness - DAY
        for file in self.warehouse.files(EVENTS.name, days_from(self.warehouse, EVENTS.name, far)):
            scan = self.warehouse.scan_files(EVENTS.name, [file]).filter(self.needed).select(list(EVENT_SCHEMA))
            for block in blocks(scan):
                self.events += block.height
                self._see(block.filter(self.compared))
                self._measure(block.filter(self.measured))

    def rows_of(self, what: Aggregation) -> pl.DataFrame:
        """Write the state of a metric; the final rows of its open windows."""
        merged = what.merge(self.partials.pop(what.name))
        opened = [(place, rows) for place, rows in _places(what, merged) if _end(what, place) > _micros(self.oldest)]
        seeds.write_published(self.folder, what.name, opened)
        return what.finish(pl.concat([merged.clear(), *(rows for _, rows in opened)]))

    def _see(self, events: pl.DataFrame) -> None:
        for piece in split(events, self.stream.dedup_window, self.stream.shards):
            seeds.add_seen(self.folder, seeds.Place(piece.window, piece.shard), seen_entries(piece.events).tobytes())

    def _measure(self, events: pl.DataFrame) -> None:
        self.sessions.see(events)
        for what in self.stream.metrics:
            self.partials[what.name] = take_in(self.partials[what.name], what.partial(events), what.merge)


def _places(what: Aggregation, merged: pl.DataFrame) -> list[tuple[seeds.Place, pl.DataFrame]]:
    """Merged partial rows as the stream scatters them."""
    pieces = scatter(merged, what.bucket, what.bucket, what.shards, what.keys)
    return [(seeds.Place(*key), rows) for key, rows in pieces]


def _restore_audit_counts(warehouse: Restorable, input: str, oldest: datetime, folder: str) -> None:
    books = BooksAggregation()
    rows = warehouse.scan(QUALITY_1M.name, days_from(warehouse, QUALITY_1M.name, oldest - DAY))
    now = current(rows.filter(of_input(input)), ["bucket_start", *books.keys], list(BOOKS_SCHEMA))
    opened = [each for each in _places(books, now) if _end(books, each[0]) > _micros(oldest)]
    seeds.write_published(folder, books.name, opened)


def _differences(
    warehouse: Restorable, what: Aggregation, fresh: pl.DataFrame, oldest: datetime
) -> tuple[pl.DataFrame, pl.Expr | None]:
    """(rows of `fresh` that the table lacks or has otherwise, which rows of the table have keys that `fresh` lacks)

    Sketches are not compared: their bytes depend on the order of events, their estimates do not.
    """
    keys = ["bucket_start", *what.keys]
    exact = [name for name, dtype in fresh.schema.items() if dtype != pl.Binary]
    days = _days_of(warehouse, what, oldest)
    now = current(warehouse.scan(what.name, days).filter(_is_open(what, oldest)), keys, exact)
    stated = fresh.select(pl.col(name).cast(now.schema[name]) for name in exact)
    beside = stated.join(now, on=keys, how="left", nulls_equal=True, suffix=NOW, coalesce=True)
    # bucket_end is in every row, so a null one means that the table has no such row.
    differ = [pl.col(name).ne_missing(pl.col(name + NOW)) for name in exact if name not in keys]
    changed = beside.filter(pl.any_horizontal(differ)).select(keys)
    gone = now.join(stated, on=keys, how="anti", nulls_equal=True)
    rows = fresh.join(changed, on=keys, how="semi", nulls_equal=True)
    return rows, _names(gone, keys) & _is_open(what, oldest) if gone.height else None


def _names(gone: pl.DataFrame, keys: list[str]) -> pl.Expr:
    """Whether a row has one of the keys of `gone`."""
    text = pl.concat_str([pl.col(key).cast(pl.String).fill_null("\x00") for key in keys], separator=SEPARATOR)
    return text.is_in(gone.select(text).to_series().implode())


def _entries(
    run: RestoreRun, what: Aggregation, rows: pl.DataFrame, launch: Launch, now: datetime, revision: int
) -> list[FileEntry]:
    """Staged files of metric rows, stamped as the stream would: late where the bucket has ended."""
    if rows.is_empty():
        return []
    table: Table = run.warehouse.table(what.name)
    made = stamp_rows(rows, "early", revision, now.timestamp(), launch).with_columns(
        firing=pl.when(pl.col("bucket_end") <= _utc(now)).then(pl.lit("late")).otherwise(pl.lit("early"))
    )
    days: Iterable = by_day(shaped(made, table), table.partition, run.warehouse.time_zone)
    return [write_file(Path(run.staging), table.name, day, part) for day, part in days]


def _earliest(oldest: datetime, bucket: timedelta) -> datetime:
    """Where a bucket of an open window may begin: a bucket before the window does, or an hour more."""
    return oldest - 2 * bucket - CLOCKS_CHANGE


def _days_of(warehouse: Restorable, what: Aggregation, oldest: datetime) -> list[date]:
    return days_from(warehouse, what.name, _earliest(oldest, what.bucket))


def _is_open(what: Aggregation, oldest: datetime) -> pl.Expr:
    """Whether the window of a row, as `scatter` decides it, had not been freed at `oldest` + lateness."""
    last = number_of(pl.col("bucket_start") + what.bucket - MICROSECOND, what.bucket).fill_null(0)
    return (last + 1) * to_micros(what.bucket) > _micros(oldest)


def _end(what: Aggregation, place: seeds.Place) -> int:
    return (place.window + 1) * to_micros(what.bucket)


def _micros(moment: datetime) -> int:
    return to_micros(moment - datetime.fromtimestamp(0, UTC))


def _utc(moment: datetime) -> pl.Expr:
    return pl.lit(moment).cast(TIME)
