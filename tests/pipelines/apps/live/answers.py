"""Answers of refreshes around one time, and what each number of their cards is in SQL over the tables.

The SQL reads tables alone, and nothing of the page. Beside the newest answers there are older ones.
"""

import random
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import polars as pl

from pipelines.insight.alerts.table import ALERTS
from pipelines.insight.feedback_tables import FEEDBACK_1H, SATISFACTION
from pipelines.insight.forecast_tables import FORECASTS_1D, FORECASTS_1H
from pipelines.insight.place import answers_of
from pipelines.insight.tables import ANOMALIES_1H, TRENDS_1H, TRENDS_10M
from pipelines.warehouse.answers import REFRESHES
from pipelines.warehouse.conditions import midnight
from pipelines.warehouse.day_files import write_file
from pipelines.warehouse.sink import by_day
from tests.pipelines.apps.live.rows import HOSTILE, ZONE
from tests.pipelines.warehouse.test_metric_views import frame_of

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
KEYS = {"content": ("home", HOSTILE, "mail?to=ann.canary@example.org"), "channel": ("web", HOSTILE), "whole": (None,)}
SERIES = [("events", None), ("events", "web"), ("purchases", HOSTILE), ("revenue:EUR", None)]


def trends(as_of: datetime, chance: random.Random, every: timedelta, buckets: int) -> list[dict]:
    made = []
    for n in range(1, buckets + 1):
        start = as_of - every * n
        for dimension, keys in KEYS.items():
            for key in keys:
                count, expected = chance.randrange(10, 400), chance.randrange(20, 200) + 0.25
                row = {"as_of": as_of, "bucket_start": start, "bucket_end": start + every, "dimension": dimension}
                row |= {"key": key, "count": count, "expected": expected, "growth": count / expected, "spread": 1.5}
                trend = chance.choice(["rising", "falling", None, None, None])
                made.append(row | {"z": chance.random() * 9, "trend": trend, "folded_keys": 0, "persons": 5})
    return made


def forecasts(as_of: datetime, chance: random.Random) -> list[dict]:
    start = as_of.replace(minute=0)
    return forecast_rows(as_of, [start + HOUR * n for n in range(49)], chance)


def forecasts_by_day(as_of: datetime, chance: random.Random) -> list[dict]:
    day = as_of.astimezone(ZoneInfo(ZONE)).date()
    return forecast_rows(as_of, [midnight(day + timedelta(days=n), ZONE) for n in range(29)], chance)


def forecast_rows(as_of: datetime, starts: list[datetime], chance: random.Random) -> list[dict]:
    made = []
    for metric, channel in SERIES:
        for start, end in pairwise(starts):
            expected = chance.randrange(50, 500) + 0.5
            row = {"as_of": as_of, "metric": metric, "channel": channel, "bucket_start": start, "bucket_end": end}
            row |= {"expected": expected, "method": "smoothing", "origins": 9}
            made.append(row | {"lower_95": expected - 30, "upper_95": expected + 40.25})
    return made


def anomalies(as_of: datetime, chance: random.Random) -> list[dict]:
    made = []
    for n in range(1, 9):
        for metric, channel in SERIES:
            start = as_of.replace(minute=0) - HOUR * n
            row = {"as_of": as_of, "bucket_start": start, "bucket_end": start + HOUR, "since": start - HOUR}
            row |= {"metric": metric, "channel": channel, "kind": chance.choice(["point", "shift", "silence"])}
            row |= {"direction": chance.choice(["above", "below"]), "value": chance.randrange(90) + 0.5}
            known = {"lower": 20.0, "upper": 60.5} if n % 3 else {}
            made.append(row | {"expected": 40.0, "surprise": chance.random() * 20} | known)
    return made


def feedback(as_of: datetime, chance: random.Random) -> list[dict]:
    made = []
    for n in range(1, 40):
        for content in ("home", HOSTILE, None):
            texts = chance.randrange(1, 9)
            scored = chance.randrange(texts + 1)
            positive = chance.randrange(scored + 1)
            row = {"as_of": as_of, "bucket_start": as_of.replace(minute=0) - HOUR * n, "content_id": content}
            row |= {"channel": chance.choice(["web", None]), "texts": texts, "scored": scored, "positive": positive}
            made.append(row | {"negative": scored - positive, "unscored": texts - scored, "csat_ratings": n % 4})
    return made


def satisfaction(as_of: datetime, chance: random.Random) -> list[dict]:
    made = []
    for days in (7, 28):
        for scope, channel in (("all", None), ("channel", "web")):
            for score, value in (("csat", 0.8126), ("nps", -12.5), ("ces", 5.25)):
                row = {"as_of": as_of, "span_days": days, "scope": scope, "channel": channel, "score": score}
                row |= {"n": chance.randrange(1, 900), "value": value, "low": value * 0.9, "high": value * 1.1}
                made.append(row | {"is_few": False})
    return made


def alerts(at: datetime) -> list[dict]:
    made = []
    for n, (states, muted) in enumerate(((("opened",), False), (("opened", "resolved"), False), (("opened",), True))):
        for state in states:
            row = {"evaluated_time": at - MINUTE * (40 - n), "alert_id": f"a{n}", "state": state, "rule": f"rule-{n}"}
            row |= {"kind": "quality", "subject": HOSTILE if n else "shop", "opened_time": at - HOUR * (n + 1)}
            made.append(row | {"value": 0.25 + n, "threshold": 0.05, "text": f"too many: {HOSTILE}", "is_muted": muted})
    old = made[0] | {"evaluated_time": at - timedelta(days=20), "opened_time": at - timedelta(days=20)}
    return [*made, old | {"alert_id": "old", "rule": "old-rule"}, made[0] | {"state": "unmuted"}]


def fill_answers(warehouse, at: datetime, seed: int = 11) -> None:
    """Write the answers of three refreshes, the newest some minutes before `at`, in a commit each."""
    newest = at.replace(second=0, microsecond=0) - 4 * MINUTE
    for as_of in (newest - timedelta(days=1), newest - 5 * MINUTE, newest):
        chance = random.Random(f"{seed} {as_of}")
        rows = {
            TRENDS_10M: trends(as_of, chance, 10 * MINUTE, 40),
            TRENDS_1H: trends(as_of.replace(minute=0), chance, HOUR, 24),
            FORECASTS_1H: forecasts(as_of, chance),
            FORECASTS_1D: forecasts_by_day(as_of, chance),
            ANOMALIES_1H: anomalies(as_of, chance),
            FEEDBACK_1H: feedback(as_of, chance),
            SATISFACTION: satisfaction(as_of, chance),
        }
        rows[TRENDS_1H] = [row | {"as_of": as_of} for row in rows[TRENDS_1H]]
        noted = [{"as_of": as_of, "table_name": each.name, "row_count": len(made)} for each, made in rows.items()]
        write_answers(warehouse, rows | {REFRESHES: noted} | ({ALERTS: alerts(at)} if as_of == newest else {}))


def write_answers(warehouse, rows: dict) -> None:
    with answers_of(warehouse) as answers, answers.writer() as run:
        run.declare(list(rows))
        run.commit(
            write_file(run.staging, table.name, day, part)
            for table, made in rows.items()
            for day, part in by_day(frame_of(table, made), table.partition, answers.time_zone)
        )


def expected_answers(warehouse, at: datetime) -> dict[str, object]:
    """What each key of the cards is."""

    def ask(sql: str) -> list[dict]:
        frame: pl.DataFrame = warehouse.answer(sql).frame()
        return list(frame.iter_rows(named=True))

    def newest(table: str) -> str:
        return f"(SELECT * FROM {table} WHERE as_of = (SELECT max(as_of) FROM {table}))"

    def last(columns: str) -> str:
        parts = [each.partition(" AS ") for each in columns.split(", ")]
        return ", ".join(f"last({name} ORDER BY bucket_start) AS {alias or name}" for name, _, alias in parts)

    found: dict[str, object] = {}
    lists = {
        "trends": (
            f"SELECT dimension, key, {last('trend, count AS events, expected, growth, z')}, "
            f"epoch(max(bucket_start)) AS begun FROM {newest('trends_10m')} WHERE trend IS NOT NULL "
            "GROUP BY dimension, key ORDER BY begun DESC, z DESC LIMIT 10"
        ),
        "anomalies": (
            f"SELECT metric, channel, kind, {last('direction, value, expected, lower, upper, surprise')}, "
            "epoch(last(since ORDER BY bucket_start)) AS begun, max(bucket_start) AS newest "
            f"FROM {newest('anomalies_1h')} GROUP BY metric, channel, kind ORDER BY newest DESC, surprise DESC LIMIT 10"
        ),
        "sentiment": (
            "SELECT epoch(bucket_start) AS begun, content_id, channel, texts, positive, negative, csat_ratings + "
            f"nps_ratings + ces_ratings AS ratings FROM {newest('feedback_1h')} "
            "ORDER BY bucket_start DESC, texts DESC, content_id NULLS FIRST, channel LIMIT 10"
        ),
        "scores": (
            f"SELECT score, span_days, n, value, low, high FROM {newest('satisfaction')} WHERE scope = 'all' "
            "ORDER BY 1, 2"
        ),
        "alerts": (
            "SELECT rule, kind, subject, text, epoch(opened_time) AS since, is_muted::INT AS is_muted FROM "
            "alerts WHERE state = 'opened' AND alert_id NOT IN (SELECT alert_id FROM alerts WHERE state = 'resolved') "
            "ORDER BY opened_time DESC, rule"
        ),
    }
    hidden = ("z", "surprise", "newest")
    for name, sql in lists.items():
        rows = ask(sql)
        found[f"{name}.rows"] = len(rows)
        for place, row in enumerate(rows):
            shown = {column: value for column, value in row.items() if column not in hidden}
            found |= {f"{name}.{place}.{column}": value for column, value in shown.items()}
    [sums] = ask(
        "SELECT sum(texts) AS all_texts, sum(scored) AS all_scored, sum(positive) AS all_positive, sum(negative) AS "
        f"all_negative FROM {newest('feedback_1h')}"
    )
    for place in range(int(str(found["sentiment.rows"]))):
        found |= {f"sentiment.{place}.{column}": value for column, value in sums.items()}
    for place in range(int(str(found["alerts.rows"]))):
        found[f"alerts.{place}.all_open"] = found["alerts.rows"]
    return found | _hours(ask, newest, at)


def _hours(ask, newest, at: datetime) -> dict[str, object]:
    found: dict[str, object] = {}
    since = f"TIMESTAMPTZ '{at.replace(minute=0, second=0, microsecond=0) - 24 * HOUR}'"
    for row in ask(
        f"SELECT epoch(bucket_start)::BIGINT AS hour, count FROM {newest('trends_1h')} WHERE dimension = 'whole'"
    ):
        found[f"forecast.{row['hour']}.events"] = row["count"]
    for row in ask(
        "SELECT epoch(bucket_start)::BIGINT AS hour, arg_max(expected, as_of) AS expected, arg_max(lower_95, as_of) AS "
        "lower, arg_max(upper_95, as_of) AS upper FROM forecasts_1h WHERE metric = 'events' AND channel IS NULL AND "
        f"as_of < bucket_end AND bucket_start >= {since} GROUP BY ALL"
    ):
        found |= {f"forecast.{row['hour']}.{name}": row[name] for name in ("expected", "lower", "upper")}
    return found
