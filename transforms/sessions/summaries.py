"""Sessions as mergeable summaries: a visitor's activity without a gap of 30 minutes. Pure functions.

    events -> select_visits -> summarize -> merge (any number of times, in any order and grouping) -> table_rows

Visitor   anonymous_id, or the user_id of an event without one, so that a login does not split a session. An event with
          neither belongs to no session.
Split     only by the gap, never at midnight: two events GAP or more apart belong to two sessions. The sessions of a set
          of events are therefore those of its parts, merged where they are closer than GAP.
First,    the channel, campaign, country and device of the first event that has one, the first and last content, the
last      last user. Events are in the order of event_time, then `sequence`, then received_time (moments.py). Undecided:
          what is equal in all three. Of these the smallest string is first and the largest last: no event id, which may
          be random, decides.
Long      above 24 hours: flagged, not split. (GA4 and Snowplow split or drop such sessions.)
Engaged   longer than 10 s, or 2 views, or converted: GA4's rule. Converted: a signup or a purchase.

A summary is a row of SUMMARY_SCHEMA. `standing` lists the starts under which it has rows in the table: one, several
after it was merged with another session, or none; `changed` is set if those rows are out of date.
Each moment is three columns (moments.py).
"""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl

from transforms.block import EVENT_SCHEMA, NUMERIC, SEPARATOR, TIME, digests, empty, hash64
from transforms.records.ragged import lists, runs
from transforms.sessions.moments import choose, columns_of, moments_of, schema_of, without

GAP = timedelta(minutes=30)
LONG = timedelta(hours=24)
ENGAGED = timedelta(seconds=10)

COUNTED = {
    "views": "page_view",
    "clicks": "click",
    "likes": "like",
    "shares": "share",
    "comments": "comment",
    "carts": "add_to_cart",
    "signups": "signup",
    "purchases": "purchase",
}
# name -> (column of the event, whether the last event counts)
SEEN = {
    "entry_content_id": ("content_id", False),
    "exit_content_id": ("content_id", True),
    "channel": ("channel", False),
    "campaign": ("campaign", False),
    "country": ("country", False),
    "device": ("device", False),
    "user_id": ("user_id", True),
}
REVENUE = pl.List(pl.Struct({"currency": pl.String, "value": NUMERIC}))
_COUNTS = ["events", *COUNTED]
SUMMARY_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "key": pl.UInt64,  # hash of the visitor
    "anonymous_id": pl.String,  # the visitor, where it is one
    **schema_of("start"),
    **schema_of("end"),
    **dict.fromkeys(_COUNTS, pl.Int64),
    **{column: dtype for name in SEEN for column, dtype in {name: pl.String, **schema_of(name)}.items()},
    "revenue": REVENUE,
    "furthest_step": pl.Int64,
    "is_bot": pl.Boolean,
    "standing": pl.List(TIME),
    "changed": pl.Boolean,
}

# An event of a visitor, before it is a summary: half of its bytes.
VISIT_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "key": pl.UInt64,
    **{
        name: EVENT_SCHEMA[name]
        for name in (
            "event_time",
            "sequence",
            "received_time",
            "event_type",
            "anonymous_id",
            "user_id",
            "content_id",
            "channel",
            "campaign",
            "country",
            "device",
            "value",
            "currency",
            "is_bot",
        )
    },
}

_VISIT = list(VISIT_SCHEMA)[1:]
_VISITOR = pl.concat_str(
    pl.when(pl.col("anonymous_id").is_not_null()).then(pl.lit("anonymous")).otherwise(pl.lit("user")),
    pl.coalesce("anonymous_id", "user_id"),
    separator=SEPARATOR,
)


def visitors(frame: pl.DataFrame) -> pl.Series:
    """The hash of each row's visitor (anonymous_id, user_id), the `key` of its summaries."""
    return hash64(frame.select(_VISITOR).to_series()).alias("key")


def select_visits(events: pl.DataFrame, *, with_key: bool = True) -> pl.DataFrame:
    """VISIT_SCHEMA: the events that are of a visitor, and of them what a summary is made of; `key` may be left out."""
    named = events.lazy().filter(pl.coalesce("anonymous_id", "user_id").is_not_null()).select(_VISIT).collect()
    return add_keys(named) if with_key else named


def add_keys(visits: pl.DataFrame) -> pl.DataFrame:
    """Return visits with their `key`, as VISIT_SCHEMA."""
    return visits.select(visitors(visits), *_VISIT)


def summarize_events(events: pl.DataFrame, steps: Sequence[str]) -> pl.DataFrame:
    """Each event of a visitor as a summary, unmerged; `steps` are the event types of the funnel, in order."""
    return summarize(select_visits(events), steps)


def summarize(visits: pl.DataFrame, steps: Sequence[str]) -> pl.DataFrame:
    """Each row of VISIT_SCHEMA as a summary, unmerged."""
    kind, moment = pl.col("event_type"), ("event_time", "sequence", "received_time")
    paid = (kind == COUNTED["purchases"]) & pl.col("value").is_not_null()
    return visits.select(
        "key",
        "anonymous_id",
        **{name: pl.col(column) for name, column in zip(columns_of("start"), moment, strict=True)},
        **{name: pl.col(column) for name, column in zip(columns_of("end"), moment, strict=True)},
        events=pl.lit(1, pl.Int64),
        **{name: (kind == type).cast(pl.Int64) for name, type in COUNTED.items()},
        **{name: pl.col(column) for name, (column, _) in SEEN.items()},
        **{column: pl.lit(None, dtype) for name in SEEN for column, dtype in schema_of(name).items()},
        revenue=pl.when(paid)
        .then(pl.concat_list(pl.struct("currency", pl.col("value").cast(NUMERIC))))
        .otherwise(pl.lit([], REVENUE)),
        furthest_step=kind.replace_strict(list(steps), range(1, len(steps) + 1), default=0, return_dtype=pl.Int64),
        is_bot=pl.col("is_bot").fill_null(False),
        standing=pl.lit([], SUMMARY_SCHEMA["standing"]),
        changed=pl.lit(True),
    ).select(SUMMARY_SCHEMA.keys())


def merge(frames: list[pl.DataFrame], ordered: bool = False) -> pl.DataFrame:
    """Merge summaries until none touch, sorted by key and start, independent of the order and grouping of `frames`.

    The column `members` counts the rows merged into each. What is `ordered` is one frame, sorted already.
    """
    frames = [frame.select(SUMMARY_SCHEMA.keys()) for frame in frames if not frame.is_empty()]
    if not frames:
        return empty({**SUMMARY_SCHEMA, "members": pl.UInt32})
    parts = pl.concat(frames) if ordered else pl.concat(frames).sort("key", "start")
    session = _numbered(parts)
    first = runs(session)
    if len(first) == len(parts):
        return parts.with_columns(members=pl.lit(1, pl.UInt32))
    parts = parts.with_columns(_session=pl.Series(session))
    merged = parts.group_by("_session", maintain_order=True).agg(
        pl.col("key", "anonymous_id").first(),
        pl.col("furthest_step").max(),
        pl.col(_COUNTS).sum(),
        pl.col("is_bot", "changed").any(),
        members=pl.len().cast(pl.UInt32),
    )
    bounds = {name: _bound(parts, session, name) for name in ("start", "end")}
    seen = [
        column
        for name, (_, last) in SEEN.items()
        for column in _seen(parts, session, bounds["end" if last else "start"], name, last)
    ]
    joined = merged.with_columns(
        *bounds["start"],
        *bounds["end"],
        *seen,
        _revenue(parts, len(first)),
        _standing(parts, len(first)),
        changed=pl.col("changed") | (pl.col("members") > 1),
    )
    return joined.select(*SUMMARY_SCHEMA, "members")


def _numbered(parts: pl.DataFrame) -> np.ndarray:
    """The number of each row's session, from 0, ascending; `parts` are sorted by key and start."""
    # A long part may extend past later ones: the running maximum of the visitor's ends decides.
    reached = pl.col("end") if parts["start"].equals(parts["end"]) else pl.col("end").cum_max().over("key")
    before = reached.shift(1)
    new = (pl.col("key") != pl.col("key").shift(1)) | (pl.col("start") - before >= GAP)
    return parts.select(new.fill_null(True).cum_sum().cast(pl.Int64) - 1).to_series().to_numpy()


def _bound(parts: pl.DataFrame, session: np.ndarray, name: str) -> pl.DataFrame:
    """The moment of the first or last event of each session: `start` or `end`."""
    moments = parts.select(columns_of(name))
    return moments[choose(moments, np.arange(len(parts)), session, name == "end").rows]


def _seen(parts: pl.DataFrame, session: np.ndarray, bound: pl.DataFrame, name: str, last: bool) -> list[pl.Series]:
    """The value seen first, or last, in each session, and its moment unless that is the session's `bound`."""
    there = np.flatnonzero(parts[name].is_not_null().to_numpy())
    moments = moments_of(parts, name, "end" if last else "start")
    found = choose(moments, there, session[there], last)
    if found.tied is None:
        values = parts[name].gather(found.rows)
    else:
        owners, rows = found.tied
        best = pl.col("value").max() if last else pl.col("value").min()
        at_once = pl.DataFrame({"session": owners, "value": parts[name].gather(rows)})
        values = at_once.group_by("session", maintain_order=True).agg(best)["value"]
    place = np.full(len(bound), len(found.owners))
    place[found.owners] = np.arange(len(found.owners))
    stated = without(moments[found.rows], bound[found.owners])
    index = pl.Series(place)
    return [
        pl.concat([column, pl.Series([None], dtype=column.dtype)]).gather(index).alias(column.name)
        for column in (values.alias(name), *stated)
    ]


def _revenue(parts: pl.DataFrame, count: int) -> pl.Series:
    """The sums of each session, by currency in ascending order."""
    paid = parts.filter(pl.col("revenue").list.len() > 0).select("_session", "revenue").explode("revenue")
    sums = (
        paid.select("_session", pl.col("revenue").struct.unnest())
        .group_by("_session", "currency")
        .agg(pl.col("value").sum())
        .sort("_session", "currency")
    )
    sizes = np.bincount(sums["_session"].to_numpy(), minlength=count)
    return lists("revenue", sizes, sums.select(pl.struct("currency", "value")).to_series().to_arrow()).cast(REVENUE)


def _standing(parts: pl.DataFrame, count: int) -> pl.Series:
    """The starts under which rows of each session stand, in ascending order."""
    stand = parts.filter(pl.col("standing").list.len() > 0).select("_session", "standing").explode("standing")
    stand = stand.sort("_session", "standing")
    sizes = np.bincount(stand["_session"].to_numpy(), minlength=count)
    return lists("standing", sizes, stand["standing"].to_arrow()).cast(SUMMARY_SCHEMA["standing"])


def table_rows(summaries: pl.DataFrame) -> pl.DataFrame:
    """The rows of the table for these sessions, without the columns that a firing stamps."""
    converted = (pl.col("signups") + pl.col("purchases")) > 0
    took = pl.col("end") - pl.col("start")
    # Divided by numpy: Polars takes the reciprocal where a column is long, and the last digit would tell the length.
    micros = summaries.select(took.dt.total_microseconds()).to_series().to_numpy()
    engaged = (took > ENGAGED) | (pl.col("views") >= 2) | converted
    return summaries.select(
        _ids(summaries).alias("visit_id"),
        "anonymous_id",
        "user_id",
        pl.col("start").alias("session_start"),
        pl.col("end").alias("session_end"),
        pl.Series("duration_seconds", micros / 1_000_000),
        pl.lit(False).alias("is_tombstone"),
        *_COUNTS,
        "revenue",
        *[name for name in SEEN if name != "user_id"],
        "furthest_step",
        converted.alias("is_converted"),
        engaged.alias("is_engaged"),
        (~engaged).alias("is_bounce"),
        (took > LONG).alias("is_long"),
        "is_bot",
    )


def tombstones(summaries: pl.DataFrame) -> pl.DataFrame:
    """The rows that take back what stands of these sessions under another start than their own."""
    stand = summaries.select("key", "anonymous_id", "user_id", "start", "standing").explode("standing")
    gone = stand.filter(pl.col("standing") != pl.col("start")).drop("start")
    return retractions(gone.rename({"standing": "start"}))


def retractions(sessions: pl.DataFrame) -> pl.DataFrame:
    """The tombstones of sessions (key, anonymous_id, user_id, start)."""
    nothing = empty(SUMMARY_SCHEMA)
    bare = sessions.select("key", "anonymous_id", "user_id", "start", end="start")
    filled = pl.concat([nothing, bare], how="diagonal_relaxed").with_columns(
        pl.col([*_COUNTS, "furthest_step"]).fill_null(0),
        pl.col("is_bot").fill_null(False),
        revenue=pl.lit([], REVENUE),
    )
    return table_rows(filled).with_columns(is_tombstone=pl.lit(True), is_bounce=pl.lit(False))


def _ids(summaries: pl.DataFrame) -> pl.Series:
    """32 hex digits of xxh3-128 of the visitor and the start in microseconds."""
    text = pl.concat_str(_VISITOR, pl.col("start").dt.epoch("us"), separator=SEPARATOR)
    return digests(summaries.select(text).to_series())


def split_by_shard(frame: pl.DataFrame, shards: int) -> list[tuple[int, pl.DataFrame]]:
    """Split a frame with `key` into [(shard, rows)].

    Sorted, so that a retried block yields the same elements in the same order.
    """
    marked = frame.with_columns(_shard=pl.col("key") % shards)
    parts = marked.partition_by("_shard", as_dict=True, include_key=False)
    return [(int(shard), part) for (shard,), part in sorted(parts.items(), key=lambda part: part[0])]
