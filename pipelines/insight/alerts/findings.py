"""Findings: what a rule finds as of a time, one row for each subject that it has to open an alert for.

    find(ask, rules, as_of, now, zone) -> (FINDINGS, names of the rules whose tables were there)

Each condition is a function of frames. `since` comes from the rows alone, not from the time of the refresh, so that an
alert has the same key whenever it is found.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

from pipelines.settings.alerts import (
    AnomalyRule,
    FunnelDrop,
    NegativeFeedback,
    NoNewData,
    QualityRule,
    Rule,
    Silence,
)
from pipelines.settings.forms import read_duration
from pipelines.warehouse.conditions import moment
from transforms.windows import TIME

FINDINGS: dict[str, Any] = {
    "rule": pl.String,
    "kind": pl.String,
    "subject": pl.String,
    "opened_time": TIME,
    "value": pl.Float64,
    "threshold": pl.Float64,
    "text": pl.String,
}
ALL_SOURCES, ALL_CONTENT = "all sources", "all content"
Ask = Callable[[str], pl.DataFrame]


class At(NamedTuple):
    """The times of an evaluation: `as_of` of the rows, `now` by the clock (`as_of`, where that was stated)."""

    as_of: datetime
    now: datetime
    zone: str


def find(ask: Ask, rules: Sequence[Rule], there: Collection[str], at: At) -> tuple[pl.DataFrame, list[str]]:
    """The findings of all rules, and the names of those that could be evaluated.

    there  tables and views of the warehouse
    """
    done = [rule for rule in rules if _KINDS[type(rule)][0] in there]
    parts = [_KINDS[type(rule)][1](ask, rule, at) for rule in done]
    empty = pl.DataFrame(schema=FINDINGS)
    return pl.concat([empty, *parts]).sort("rule", "subject"), [rule.name for rule in done]


def reads(rule: Rule) -> str:
    """The table or view that a rule reads."""
    return _KINDS[type(rule)][0]


def _finding(frame: pl.DataFrame, rule: Rule, threshold: float) -> pl.DataFrame:
    """Frame (subject, opened_time, value, text) as FINDINGS."""
    kind = str(type(rule).__struct_config__.tag)
    named = frame.with_columns(rule=pl.lit(rule.name), kind=pl.lit(kind), threshold=pl.lit(threshold))
    return named.select(pl.col(name).cast(dtype) for name, dtype in FINDINGS.items())


def _time(time: pl.Expr) -> pl.Expr:
    return time.dt.strftime("%Y-%m-%d %H:%M UTC")


def _last(ask: Ask, rule: Silence | NoNewData, as_of: datetime) -> pl.DataFrame:
    """(source, last) of each source that was heard of before `as_of`."""
    found = ask(
        "SELECT source, MAX(bucket_end) AS last FROM quality_1m_current "
        f"WHERE received > 0 AND bucket_end <= {moment(as_of)} GROUP BY source"
    ).cast({"last": TIME})
    source = getattr(rule, "source", None)
    return found if source is None else found.filter(pl.col("source") == source)


def _silence(ask: Ask, rule: Silence, at: At) -> pl.DataFrame:
    return silent(_last(ask, rule, at.as_of), rule, at.as_of)


def silent(last: pl.DataFrame, rule: Silence, as_of: datetime) -> pl.DataFrame:
    """Of (source, last): sources with nothing for longer than `after`; value in seconds."""
    after = read_duration(rule.after)
    return _finding(_too_old(last.rename({"source": "subject"}), after, as_of), rule, after.total_seconds())


def _no_new_data(ask: Ask, rule: NoNewData, at: At) -> pl.DataFrame:
    return stale(_last(ask, rule, at.as_of), rule, at.now)


def stale(last: pl.DataFrame, rule: NoNewData, now: datetime) -> pl.DataFrame:
    """Of (source, last): whether the newest of all is older than `after` by the clock; value in seconds."""
    after = read_duration(rule.after)
    newest = last.select(subject=pl.lit(ALL_SOURCES), last=pl.col("last").max()).head(last.height)
    return _finding(_too_old(newest.head(1), after, now), rule, after.total_seconds())


def _too_old(last: pl.DataFrame, after: timedelta, until: datetime) -> pl.DataFrame:
    old = last.filter(pl.lit(until, TIME) - pl.col("last") > after)
    seconds = (pl.lit(until, TIME) - pl.col("last")).dt.total_seconds()
    said = pl.format("{}: no record since {}, {} min", pl.col("subject"), _time(pl.col("last")), seconds // 60)
    return old.with_columns(opened_time=pl.col("last") + after, value=seconds, text=said)


def _quality(ask: Ask, rule: QualityRule, at: At) -> pl.DataFrame:
    since = at.as_of - read_duration(rule.window)
    counts = ask(
        "SELECT source, SUM(received + exploded) AS records, SUM(quarantined) AS quarantined, "
        "SUM(CASE WHEN in_flight THEN 0 ELSE ABS(balance) END) AS off FROM quality_1m_current "
        f"WHERE bucket_start >= {moment(since)} AND bucket_end <= {moment(at.as_of)} GROUP BY source"
    )
    return refused(counts, rule, at.as_of)


def refused(counts: pl.DataFrame, rule: QualityRule, as_of: datetime) -> pl.DataFrame:
    """Of (source, records, quarantined, off): sources with too many refused, and those whose counts do not reconcile.

    `opened_time` is the start of the window of the clock, such as a whole hour, that `as_of` is in.
    """
    counts = counts.cast({"records": pl.Int64, "quarantined": pl.Int64, "off": pl.Int64})
    if rule.source is not None:
        counts = counts.filter(pl.col("source") == rule.source)
    opened = _window_start(as_of, rule.window)
    share = pl.col("quarantined") / pl.col("records")
    bad = counts.filter((pl.col("records") >= rule.least_records) & (share > rule.quarantine_share))
    said = pl.format("{}: {} of {} records refused in {}", "source", "quarantined", "records", pl.lit(rule.window))
    shares = bad.with_columns(subject=pl.col("source"), opened_time=opened, value=share, text=said)
    off = counts.filter(pl.lit(rule.balance) & (pl.col("off") > 0)).with_columns(
        subject=pl.format("{}: balance", "source"),
        opened_time=opened,
        value=pl.col("off"),
        text=pl.format("{}: audit counts of {} are off by {} records", "source", pl.lit(rule.window), "off"),
    )
    return pl.concat([_finding(shares, rule, rule.quarantine_share), _finding(off, rule, 0.0)])


def _window_start(as_of: datetime, window: str) -> pl.Expr:
    """The start of the window of the clock, such as a whole hour, that a time is in."""
    seconds = int(read_duration(window).total_seconds())
    return pl.lit(as_of - timedelta(microseconds=1), TIME).dt.truncate(f"{seconds}s")


def _funnel_drop(ask: Ask, rule: FunnelDrop, at: At) -> pl.DataFrame:
    zone = ZoneInfo(at.zone)
    last = at.as_of.astimezone(zone).date() - timedelta(days=1)
    days = ask(
        "SELECT day, step, event_type, persons, previous_persons FROM funnel_by_day WHERE step >= 2 "
        f"AND day BETWEEN DATE '{last - timedelta(days=rule.days)}' AND DATE '{last}'"
    )
    return dropped(days, rule, at)


def dropped(days: pl.DataFrame, rule: FunnelDrop, at: At) -> pl.DataFrame:
    """Of (day, step, event_type, persons, previous_persons): steps whose conversion fell on the last whole day.

    What is usual is the share of all persons of the days before. `opened_time` is the end of the last day.
    """
    midnight = at.as_of.astimezone(ZoneInfo(at.zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    is_last = pl.col("day") == midnight.date() - timedelta(days=1)
    steps = days.cast({"step": pl.Int64, "persons": pl.Int64, "previous_persons": pl.Int64}).group_by(
        "step", "event_type"
    )
    both = steps.agg(
        pl.col("persons").filter(is_last).sum().alias("now"),
        pl.col("previous_persons").filter(is_last).sum().alias("now_of"),
        pl.col("persons").filter(~is_last).sum().alias("usual"),
        pl.col("previous_persons").filter(~is_last).sum().alias("usual_of"),
    )
    if rule.step is not None:
        both = both.filter(pl.col("step") == rule.step)
    both = both.filter((pl.col("now_of") >= rule.least_persons) & (pl.col("usual_of") >= rule.least_persons))
    rates = both.with_columns(rate=pl.col("now") / pl.col("now_of"), before=pl.col("usual") / pl.col("usual_of"))
    rates = rates.with_columns(value=1 - pl.col("rate") / pl.col("before"))
    percents = [(100 * pl.col(name)).round(1) for name in ("rate", "before")]
    found = rates.filter(pl.col("value") > rule.drop).with_columns(
        subject=pl.format("step {}: {}", "step", "event_type"),
        opened_time=pl.lit(midnight.astimezone(ZoneInfo("UTC")), TIME),
        text=pl.format("step {}: {} converts {} %, usually {} %", "step", "event_type", *percents),
    )
    return _finding(found, rule, rule.drop)


def _of_newest(table: str, at: At) -> str:
    """SQL: that a row is of the newest refresh of a table."""
    newest = f"SELECT MAX(as_of) FROM refreshes WHERE table_name = '{table}' AND as_of <= {moment(at.as_of)}"
    return f"as_of = ({newest})"


def _anomaly(ask: Ask, rule: AnomalyRule, at: At) -> pl.DataFrame:
    since = at.as_of - read_duration(rule.window)
    rows = ask(
        "SELECT metric, channel, kind, direction, since, value, expected, surprise FROM anomalies_1h "
        f"WHERE {_of_newest('anomalies_1h', at)} AND bucket_end > {moment(since)}"
    )
    return anomalous(rows, rule)


def anomalous(rows: pl.DataFrame, rule: AnomalyRule) -> pl.DataFrame:
    """Of rows of anomalies_1h: each series with one; `opened_time` is the start of the hours in a row."""
    rows = rows.cast({"since": TIME}).filter(pl.col("surprise") >= rule.surprise)
    if rule.metric is not None:
        rows = rows.filter(pl.col("metric") == rule.metric)
    if rule.channel is not None:
        rows = rows.filter(pl.col("channel") == rule.channel)
    series = pl.format("{} of {}: {}", "metric", pl.col("channel").fill_null("all channels"), "kind")
    rows = rows.with_columns(subject=series).sort("subject", "since", "surprise")
    strongest = rows.group_by("subject", maintain_order=True).agg(
        pl.col("since").first().alias("opened_time"),
        pl.col("direction", "value", "expected").sort_by("surprise").last(),
        pl.col("surprise").max(),
    )
    values = [pl.col(name).round(2) for name in ("value", "expected")]
    said = pl.format("{}, {} what was to be expected: {}, expected {}", "subject", "direction", *values)
    return _finding(strongest.with_columns(text=said, value="surprise"), rule, rule.surprise)


def _negative_feedback(ask: Ask, rule: NegativeFeedback, at: At) -> pl.DataFrame:
    since = at.as_of - read_duration(rule.window)
    rows = ask(
        "SELECT content_id, SUM(scored) AS scored, SUM(negative) AS negative FROM feedback_1h "
        f"WHERE {_of_newest('feedback_1h', at)} AND bucket_start >= {moment(since)} GROUP BY content_id"
    )
    return negative(rows, rule, at.as_of)


def negative(rows: pl.DataFrame, rule: NegativeFeedback, as_of: datetime) -> pl.DataFrame:
    """Of (content_id, scored, negative): the whole, and contents, with too large a share of negative texts.

    `opened_time` is the start of the window of the clock that `as_of` is in.
    """
    rows = rows.cast({"content_id": pl.String, "scored": pl.Int64, "negative": pl.Int64})
    whole = rows.select(pl.lit(ALL_CONTENT).alias("content_id"), pl.col("scored", "negative").sum())
    rows = pl.concat([whole, rows.filter(pl.col("content_id").is_not_null())]).rename({"content_id": "subject"})
    if rule.content is not None:
        rows = rows.filter(pl.col("subject") == rule.content)
    share = pl.col("negative") / pl.col("scored")
    found = rows.filter((pl.col("scored") >= rule.least_texts) & (share > rule.share)).with_columns(
        opened_time=_window_start(as_of, rule.window),
        value=share,
        text=pl.format("{}: {} of {} texts negative in {}", "subject", "negative", "scored", pl.lit(rule.window)),
    )
    return _finding(found, rule, rule.share)


_KINDS: dict[type[Rule], tuple[str, Callable[..., pl.DataFrame]]] = {
    Silence: ("quality_1m_current", _silence),
    NoNewData: ("quality_1m_current", _no_new_data),
    QualityRule: ("quality_1m_current", _quality),
    FunnelDrop: ("funnel_by_day", _funnel_drop),
    AnomalyRule: ("anomalies_1h", _anomaly),
    NegativeFeedback: ("feedback_1h", _negative_feedback),
}
