"""Changes: what findings make of the alerts so far. Frames in, rows of `alerts` out.

An alert is known by a hash of its rule, its subject and the time since when the rows say so. Rows that are known
already are not made again, so that the same findings as of the same time change nothing.
"""

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime

import polars as pl

from pipelines.insight.alerts.table import ALERTS, MUTED, OPENED, RESOLVED, UNMUTED
from pipelines.settings.alerts import Rule
from pipelines.version import VERSION
from pipelines.warehouse.sink import shaped
from pipelines.warehouse.tables import polars_schema
from transforms.windows import TIME

KEY = ["rule", "subject"]


def changes(
    findings: pl.DataFrame, log: pl.DataFrame, rules: Sequence[Rule], evaluated: Collection[str], as_of: datetime,
    now: datetime,
) -> pl.DataFrame:  # fmt: skip
    """The rows of `alerts` to add, in the order of their key.

    findings   FINDINGS as of the time
    log        the rows of `alerts` so far
    rules      those of the configuration; alerts of others are resolved without a message
    evaluated  names of rules that could be evaluated: nothing is said of the others
    now        by the clock, which ends a mute
    """
    muted = muted_rules(log, rules, now)
    past = log.filter(pl.col("evaluated_time") <= as_of)
    open_ = open_alerts(past)
    gone = set(open_["rule"]) - {rule.name for rule in rules}
    found = findings.join(open_, on=KEY, how="anti").join(_resting(past, rules, as_of), on=KEY, how="anti")
    ended = open_.filter(pl.col("rule").is_in([*evaluated, *sorted(gone)])).join(findings, on=KEY, how="anti")
    heard = open_.filter(pl.col("is_muted") & ~pl.col("rule").is_in(muted)).join(findings, on=KEY, how="semi")
    rows = [
        _stated(found.with_columns(alert_id=_ids(found), is_muted=pl.col("rule").is_in(muted)), OPENED, as_of),
        _stated(
            ended.with_columns(is_muted=pl.col("is_muted") | pl.col("rule").is_in([*muted, *sorted(gone)])),
            RESOLVED,
            as_of,
        ),
        _stated(heard.with_columns(is_muted=pl.lit(False)), UNMUTED, as_of),
    ]
    new = pl.concat(rows).join(log, on=["alert_id", "state"], how="anti")
    return new.sort("alert_id", "state")


def open_alerts(log: pl.DataFrame) -> pl.DataFrame:
    """The newest row of each alert that is open; `is_muted`: nobody was sent anything of it."""
    resolved = log.filter(pl.col("state") == RESOLVED)
    rows = log.filter(pl.col("state").is_in([OPENED, UNMUTED])).join(resolved, on="alert_id", how="anti")
    return rows.sort("evaluated_time", "state").unique("alert_id", keep="last", maintain_order=True)


def muted_rules(log: pl.DataFrame, rules: Sequence[Rule], now: datetime) -> list[str]:
    """Names of the rules that are muted: by the newest that a person said, or by the configuration."""
    said = log.filter(pl.col("state") == MUTED).sort("evaluated_time").unique("rule", keep="last")
    by_hand = said.filter(pl.col("until") > pl.lit(now, TIME))["rule"].to_list()
    return sorted({*by_hand, *(rule.name for rule in rules if rule.muted_until and rule.muted_until > now)})


def mute_row(rule: str, kind: str, until: datetime, now: datetime) -> pl.DataFrame:
    """The row of `alerts` that mutes a rule."""
    row = pl.DataFrame(
        {"rule": [rule], "kind": [kind], "subject": [""], "opened_time": [now], "until": [until], "is_muted": [True]},
        schema_overrides={"opened_time": TIME, "until": TIME},
    ).with_columns(text=pl.format("muted until {}", pl.col("until").dt.strftime("%Y-%m-%d %H:%M UTC")))
    return _stated(row.with_columns(alert_id=_ids(row)), MUTED, now)


def _resting(past: pl.DataFrame, rules: Sequence[Rule], as_of: datetime) -> pl.DataFrame:
    """KEY of the alerts whose cooldown is not over."""
    pauses = pl.DataFrame(
        {"rule": [rule.name for rule in rules], "pause": [rule.pause for rule in rules]},
        schema={"rule": pl.String, "pause": pl.Duration("us")},
    )
    ended = past.filter(pl.col("state") == RESOLVED).join(pauses, on="rule")
    return ended.filter(pl.col("evaluated_time") + pl.col("pause") > pl.lit(as_of, TIME)).select(KEY).unique()


def _ids(rows: pl.DataFrame) -> pl.Series:
    columns = (rows["rule"].to_list(), rows["subject"].to_list(), rows["opened_time"].to_list())
    return pl.Series([alert_id(*each) for each in zip(*columns, strict=True)], dtype=pl.String)


def alert_id(rule: str, subject: str, opened: datetime) -> str:
    """The key of an alert."""
    text = repr((rule, subject, round(opened.timestamp() * 1_000_000)))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _stated(rows: pl.DataFrame, state: str, as_of: datetime) -> pl.DataFrame:
    """Rows with all columns of the table."""
    stated = rows.with_columns(
        evaluated_time=pl.lit(as_of, TIME), state=pl.lit(state), pipeline_version=pl.lit(VERSION)
    )
    absent = {name: pl.lit(None, dtype) for name, dtype in polars_schema(ALERTS).items() if name not in stated.columns}
    return shaped(stated.with_columns(**absent), ALERTS)
