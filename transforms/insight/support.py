"""Support: tickets opened, answered, resolved and reopened, how long the first answer takes, and what is open.

A ticket begins with an event of type `support_ticket`. What happens to it has its number in `properties.ticket_id`:
events of type `support_reply` (an answer of the staff), `support_resolved` and `support_reopened`. A ticket without
a number counts as opened, and stays open: nothing can be said to be about it.
"""

import polars as pl

OPENED, ANSWERED, RESOLVED, REOPENED = "support_ticket", "support_reply", "support_resolved", "support_reopened"
SUPPORT_TYPES = (OPENED, ANSWERED, RESOLVED, REOPENED)
SUPPORT_SCHEMA = {
    "bucket_start": pl.Datetime("us", "UTC"),
    "channel": pl.String,
    "opened": pl.Int64,
    "answered": pl.Int64,
    "first_answer_p50_seconds": pl.Float64,
    "first_answer_p90_seconds": pl.Float64,
    "resolved": pl.Int64,
    "reopened": pl.Int64,
    "backlog": pl.Int64,
}


def support(events: pl.DataFrame, ticket: str = "ticket_id") -> pl.DataFrame:
    """Support by hour and channel, a row where a ticket of the channel changed: the columns of SUPPORT_SCHEMA.

    events    `event_id`, `event_type` String, `event_time` Datetime, `channel` String, `properties` String (JSON): all
              events of SUPPORT_TYPES from the beginning, so that the backlog is whole
    ticket    key of `properties` with the number of a ticket
    channel   that of the ticket's beginning, whatever the later events say
    answered  of the tickets opened in this hour, how many have an answer by now; the percentiles are of these, linear
              between two neighbors, in seconds
    resolved, reopened  tickets that went from open to resolved or back in this hour: a second `support_resolved` of a
              resolved ticket does not count
    backlog   tickets open at the end of the hour
    """
    tickets = _tickets(events, ticket)
    changed = _changes(tickets).with_columns(bucket_start=pl.col("event_time").dt.truncate("1h"))
    first = tickets.filter(pl.col("event_type") == OPENED).unique("ticket", keep="first", maintain_order=True)
    answers = tickets.filter((pl.col("event_type") == ANSWERED) & (pl.col("event_time") >= pl.col("since")))
    answers = answers.group_by("ticket").agg(answer=pl.col("event_time").min())
    waits = first.join(answers, on="ticket", how="left").select(
        "channel",
        bucket_start=pl.col("event_time").dt.truncate("1h"),
        wait=(pl.col("answer") - pl.col("event_time")).dt.total_microseconds() / 1e6,
    )
    keys = ["bucket_start", "channel"]
    opened = waits.group_by(keys).agg(
        opened=pl.len().cast(pl.Int64),
        answered=pl.col("wait").count().cast(pl.Int64),
        first_answer_p50_seconds=pl.col("wait").quantile(0.5, "linear"),
        first_answer_p90_seconds=pl.col("wait").quantile(0.9, "linear"),
    )
    flow = changed.group_by(keys).agg(
        resolved=(pl.col("change") == -1).sum().cast(pl.Int64),
        reopened=((pl.col("change") == 1) & ~pl.col("is_first")).sum().cast(pl.Int64),
        net=pl.col("change").sum(),
    )
    rows = flow.join(opened, on=keys, how="left", nulls_equal=True).sort(keys)
    return rows.with_columns(
        pl.col("opened", "answered").fill_null(0), backlog=pl.col("net").cum_sum().over("channel").cast(pl.Int64)
    ).select(SUPPORT_SCHEMA.keys())


def _tickets(events: pl.DataFrame, key: str) -> pl.DataFrame:
    """The events of tickets whose beginning is known, in order, with `ticket`, `since` and the beginning's channel."""
    number = pl.col("properties").str.json_path_match(f"$.{key}")
    alone = pl.when(pl.col("event_type") == OPENED).then(pl.format("event {}", "event_id"))
    named = events.with_columns(ticket=pl.coalesce(pl.format("ticket {}", number), alone)).drop_nulls("ticket")
    rank = pl.col("event_type").replace_strict(
        {kind: at for at, kind in enumerate(SUPPORT_TYPES)}, return_dtype=pl.Int64
    )
    named = named.sort("event_time", rank, "event_id")
    beginnings = named.filter(pl.col("event_type") == OPENED).unique("ticket", keep="first", maintain_order=True)
    begun = beginnings.select("ticket", "channel", since="event_time")
    return named.drop("channel").join(begun, on="ticket", maintain_order="left")


def _changes(tickets: pl.DataFrame) -> pl.DataFrame:
    """The events that open (`change` 1) or close (-1) a ticket; `is_first`: that begin it."""
    states = {OPENED: 1, RESOLVED: 0, REOPENED: 1}
    told = tickets.filter(pl.col("event_type").is_in(list(states)) & (pl.col("event_time") >= pl.col("since")))
    state = pl.col("event_type").replace_strict(states, return_dtype=pl.Int64)
    before = pl.col("state").shift(1).over("ticket")
    changed = told.with_columns(state=state).with_columns(
        change=pl.col("state") - before.fill_null(0), is_first=before.is_null()
    )
    return changed.filter(pl.col("change") != 0)
