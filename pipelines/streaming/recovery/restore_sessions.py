"""Resume, of sessions: what the table `sessions` must state when a stream starts, and the state that it resumes from.

Of the sessions that a stream can still correct, open ones too, the table gets those that it lacks or has otherwise, and
a tombstone for each that no stored event supports any more. A session that began more than a day before the first of
these is left as it is: its first events are not read.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from pipelines.streaming.recovery.restore_rows import NOW, current, take_in
from pipelines.warehouse.conditions import days_from
from pipelines.warehouse.day_files import FileEntry, write_file
from pipelines.warehouse.interface import Restorable, RestoreRun
from pipelines.warehouse.sink import by_day, shaped
from pipelines.warehouse.tables import SESSIONS
from transforms import restored_state as seeds
from transforms.block import TIME
from transforms.publication import Launch, stamp_rows
from transforms.sessions import summaries
from transforms.sessions.streaming import NAME
from transforms.sessions.summaries import GAP, SUMMARY_SCHEMA

DAY = timedelta(days=1)


class StoredSessions:
    """The sessions of stored events, gathered block by block, that are held by a stream at `oldest` + its lateness."""

    def __init__(self, steps: Sequence[str], oldest: datetime):
        self.steps, self.oldest = steps, oldest
        self.since = oldest - DAY
        self.gathered: list[pl.DataFrame] = []

    def see(self, events: pl.DataFrame) -> None:
        """Take in a block of events; those before `since` are left out."""
        wanted = events.filter(pl.col("event_time") >= pl.lit(self.since, TIME))
        self.gathered = take_in(self.gathered, summaries.summarize_events(wanted, self.steps), summaries.merge)

    def held(self) -> pl.DataFrame:
        """SUMMARY_SCHEMA: those that an event may still change, as they will be published."""
        merged = summaries.merge(self.gathered).select(SUMMARY_SCHEMA.keys())
        held = merged.filter(_is_held(pl.col("end"), self.oldest))
        return held.with_columns(standing=pl.concat_list("start"), changed=pl.lit(False))


def differences(warehouse: Restorable, held: pl.DataFrame, since: datetime, oldest: datetime) -> pl.DataFrame:
    """The rows, tombstones among them, after which the table states these sessions."""
    fresh = summaries.table_rows(held)
    exact = [name for name in fresh.columns if name != "revenue"]
    rows = current(warehouse.scan(NAME, days_from(warehouse, NAME, since)), ["visit_id"], fresh.columns)
    now = rows.filter(
        ~pl.col("is_tombstone")
        & _is_held(pl.col("session_end"), oldest)
        & (pl.col("session_start") >= pl.lit(since, TIME))
    )
    beside = fresh.join(now, on="visit_id", how="left", suffix=NOW)
    differ = [pl.col(name).ne_missing(pl.col(name + NOW)) for name in exact if name != "visit_id"]
    money = _text("revenue").ne_missing(_text("revenue" + NOW))
    changed = beside.filter(pl.any_horizontal(*differ, money)).select("visit_id")
    gone = now.join(fresh, on="visit_id", how="anti").rename({"session_start": "start"})
    return pl.concat(
        [
            fresh.join(changed, on="visit_id", how="semi"),
            summaries.retractions(gone.with_columns(summaries.visitors(gone))),
        ]
    )


def _text(column: str) -> pl.Expr:
    each = pl.element().struct
    parts = pl.concat_str(each.field("currency").fill_null(""), each.field("value").cast(pl.String), separator=" ")
    return pl.col(column).list.eval(parts).list.join(",")


def write(run: RestoreRun, rows: pl.DataFrame, launch: Launch, now: datetime, revision: int) -> list[FileEntry]:
    """Staged files of the rows, stamped as the stream would: early while a session is open."""
    if rows.is_empty():
        return []
    is_open = (pl.col("session_end") + GAP > pl.lit(now, TIME)) & ~pl.col("is_tombstone")
    made = stamp_rows(rows, "late", revision, now.timestamp(), launch).with_columns(
        firing=pl.when(is_open).then(pl.lit("early")).otherwise(pl.lit("late"))
    )
    days = by_day(shaped(made, SESSIONS), SESSIONS.partition, run.warehouse.time_zone)
    return [write_file(Path(run.staging), NAME, day, part) for day, part in days]


def write_seeds(folder: str, held: pl.DataFrame, shards: int) -> None:
    """Write the state that PublishSessions starts from."""
    parts = summaries.split_by_shard(held, shards)
    seeds.write_published(folder, NAME, [(seeds.Place(0, shard), part) for shard, part in parts])


def _is_held(end: pl.Expr, oldest: datetime) -> pl.Expr:
    return end + GAP > pl.lit(oldest, TIME)
