"""Rows of a small audience around one time, and what each number of the page is in SQL over them.

The SQL reads tables alone, and nothing of the page: `EXPECTED` has a statement for each key, with the times of the page
worked out here. Rows are repeated, revised, late, of bots, of other days, and of times after the page's.
"""

import random
from datetime import UTC, datetime, timedelta

from pipelines.warehouse.tables import EVENTS, QUALITY_1M, QUARANTINE, SESSIONS
from tests.pipelines.warehouse.test_metric_views import METRICS, write

AT = datetime(2026, 3, 12, 14, 30, 20, tzinfo=UTC)  # 15:30 in Berlin
ZONE = "Europe/Berlin"
DAY = "DATE '2026-03-12'"
DAY_START = datetime(2026, 3, 11, 23, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
EMAIL, ADDRESS, TOKEN = "ann.canary@example.org", "203.0.113.77", "sk_live_51CanaryCanaryCanary99"
CANARIES = (EMAIL, ADDRESS, TOKEN, "canary-person")
CHANNELS, COUNTRIES = ("web", "mobile", None, HOSTILE), ("DE", "FR", None, "<b>US</b>")
KINDS = ("page_view", "page_view", "page_view", "click", "add_to_cart", "purchase", "refund", "like", "feedback")


def events(at: datetime, hours: int = 30, count: int = 900, seed: int = 7) -> list[dict]:
    """Events of the hours before a time and of the hour after it, most of them recent; some twice, some of bots."""
    chance, made = random.Random(seed), []
    for n in range(count):
        time = at - HOUR * hours * chance.random() ** 3 + MINUTE * 5 * (n % 40 == 0)
        kind = chance.choice(KINDS)
        row = {"event_id": f"e{n}", "event_type": kind, "event_time": time, "received_time": time + MINUTE * (n % 3)}
        row |= {"source": "s", "input": "f", "user_id": f"canary-person-{chance.randrange(60)}"}
        row |= {"content_id": chance.choice(["home", HOSTILE, f"mail?to={EMAIL}", f"/p/{ADDRESS}", TOKEN, None])}
        row |= {"channel": chance.choice(CHANNELS), "is_bot": chance.random() < 0.1}
        if kind in ("purchase", "refund"):
            row |= {"value": f"{chance.randrange(1, 9000) / 100}", "currency": chance.choice(["EUR", "USD", None])}
        if kind == "feedback":
            row |= {"rating": float(chance.randrange(1, 6)), "text": f"call {EMAIL}"}
        made.append(row)
        if n % 50 == 0:
            made.append(row | {"received_time": row["received_time"] + HOUR})
    return made


def sessions(at: datetime, count: int = 260, seed: int = 8) -> list[dict]:
    """Sessions of two days, some revised, some taken back, some of bots or too long."""
    chance, made = random.Random(seed), []
    for n in range(count):
        start = at - HOUR * 40 * chance.random() ** 3 + HOUR * (n % 40 == 0)
        engaged = chance.random() < 0.6
        row = {"visit_id": f"v{n}", "session_start": start, "session_end": start + MINUTE, "events": 2}
        row |= {"channel": chance.choice(CHANNELS), "country": chance.choice(COUNTRIES)}
        row |= {"campaign": chance.choice(["spring", HOSTILE, EMAIL, None]), "anonymous_id": f"canary-person-{n % 90}"}
        row |= {"is_engaged": engaged, "is_bounce": not engaged, "is_converted": engaged and n % 3 == 0}
        row |= {"is_bot": n % 17 == 0, "is_long": n % 19 == 0, "is_tombstone": False}
        row |= {"generation": 1, "revision": 1, "firing": "early", "emitted_time": start + MINUTE}
        made.append(row)
        revised = row | {"is_engaged": True, "is_bounce": False, "revision": 2}
        if n % 12 == 0:  # a later event moved its start, which decides the id
            made.append(row | {"is_tombstone": True, "revision": 2})
            made.append(revised | {"visit_id": f"v{n}m", "session_start": start - MINUTE * 20})
        elif n % 4 == 0:
            made.append(revised)
    return made


def buckets(at: datetime, seed: int = 9) -> dict[str, list[dict]]:
    """Rows of the metrics and audit counts: two firings of most buckets, the newest open."""
    chance = random.Random(seed)
    minute, hour = at.replace(second=0, microsecond=0), at.replace(minute=0, second=0, microsecond=0)
    activity, contents, counts = [], [], []
    for n in range(200):
        start = minute - MINUTE * n
        for revision in (1, 2):
            stamp = {"bucket_start": start, "bucket_end": start + MINUTE, "generation": 1, "revision": revision}
            stamp |= {"firing": "early" if n < 2 else "on_time", "emitted_time": start + MINUTE * revision}
            for channel in ("web", HOSTILE):
                activity.append(stamp | {"channel": channel, "event_type": "click", "events": chance.randrange(90)})
            received = chance.randrange(20, 50)
            under_way = 3 if n < 2 else 0
            own = {"source": "s", "input": "f", "received": received, "duplicates": 2, "quarantined": 1, "exploded": 0}
            counts.append(stamp | own | {"events": received - 3 - under_way, "replaced": 0, "erased": 0})
    for n in range(4):
        for content in ("home", HOSTILE, f"mail?to={EMAIL}", *(f"p{each}" for each in range(12))):
            stamp = {"bucket_start": hour - HOUR * n, "bucket_end": hour - HOUR * (n - 1), "firing": "early"}
            stamp |= {"generation": 1, "emitted_time": at - HOUR * n, "content_id": content, "category": "c"}
            for revision in (1, 2):
                measures = {name: chance.randrange(60) for name in ("views", "clicks", "impressions", "likes")}
                measures["views"] += 100 * (content == HOSTILE)
                contents.append(stamp | measures | {"revision": revision, "shares": 0, "comments": 0})
    return {"activity_1m": activity, "content_1h": contents, "quality_1m": counts}


def quarantine(at: datetime) -> list[dict]:
    """Refused records of two days, one accepted by a replay."""
    made = []
    for n in range(70):
        time = at - MINUTE * 25 * n
        stage, code, path = (("late", "too_late", "$.event_time"), ("validate", "missing", "$.user"))[n % 3 == 0]
        row = {"quarantine_id": f"q{n}", "source": "s", "input": "f", "received_time": time, "failed_time": time}
        row |= {"stage": stage, "code": code, "payload": EMAIL.encode(), "attempt": 1}
        errors = f'[{{"path": "{path}", "code": "{code}", "message": "m"}}]' if n % 7 else None
        made.append(row | {"errors": errors})
        if n % 11 == 0:
            made.append(row | {"attempt": 2, "stage": None, "code": None, "payload": None})
    return made


def fill(warehouse, at: datetime = AT, parts: int = 1, order: int = 0) -> None:
    """Write all rows in so many commits, shuffled by `order`."""
    kept = buckets(at)
    tables = [(EVENTS, events(at)), (SESSIONS, sessions(at)), (QUARANTINE, quarantine(at))]
    tables += [(METRICS[name], kept[name]) for name in ("activity_1m", "content_1h")]
    tables += [(QUALITY_1M, kept["quality_1m"])]
    for _, rows in tables if order else ():
        random.Random(order).shuffle(rows)
    for part in range(parts):
        write(warehouse, *((table, rows[part::parts]) for table, rows in tables))


def _time(time: datetime) -> str:
    return f"TIMESTAMPTZ '{time:%Y-%m-%d %H:%M:%S}+00:00'"


def expected(warehouse, at: datetime = AT) -> dict[str, object]:
    """What each key is, by SQL over the tables."""

    def ask(sql: str) -> list[dict]:
        frame = warehouse.answer(sql).frame()
        return list(frame.iter_rows(named=True))

    now, hour = _time(at), at.replace(second=0, microsecond=0) - 59 * MINUTE
    found: dict[str, object] = {}
    person = "coalesce(user_id, anonymous_id)"
    rows = ask(
        f"SELECT count(DISTINCT {person}) AS people, count(DISTINCT content_id) AS contents, epoch(max(event_time)) AS "
        f"newest FROM events WHERE NOT is_bot AND event_time >= {_time(at - 5 * MINUTE)} AND event_time <= {now}"
    )
    found |= {f"now.{name}": value for name, value in rows[0].items()}
    for row in ask(
        "SELECT epoch(bucket_start)::BIGINT AS minute, sum(events) AS events, max(firing = 'early') AS is_open FROM ("
        "SELECT *, max(revision) OVER (PARTITION BY bucket_start, channel, event_type) AS newest FROM activity_1m) "
        f"WHERE revision = newest AND bucket_start >= {_time(hour)} AND bucket_start <= {now} GROUP BY ALL"
    ):
        found |= {f"minutes.{row['minute']}.events": row["events"], f"minutes.{row['minute']}.is_open": row["is_open"]}
    visits = (
        f"(SELECT *, (session_start AT TIME ZONE '{ZONE}')::DATE AS day FROM (SELECT *, max(revision) OVER (PARTITION "
        f"BY visit_id) AS newest FROM sessions WHERE session_start <= {now}) WHERE revision = newest AND NOT "
        "is_tombstone AND NOT is_bot AND NOT is_long)"
    )
    for row in ask(
        f"SELECT epoch(date_trunc('minute', session_start))::BIGINT AS minute, count(*) AS n FROM {visits} "
        f"WHERE session_start >= {_time(hour)} GROUP BY ALL"
    ):
        found[f"starts.{row['minute']}.sessions"] = row["n"]
    rows = ask(
        "SELECT count(*) AS sessions, sum(is_engaged::INT) AS engaged, sum(is_bounce::INT) AS bounces, "
        "sum(is_converted::INT) AS converted, count(DISTINCT coalesce(anonymous_id, user_id)) AS visitors "
        f"FROM {visits} WHERE day = {DAY}"
    )
    found |= {f"engagement.{name}": value for name, value in rows[0].items()}
    found |= _lists(ask, visits, at, hour)
    found |= _books(ask, at)
    return found


def _numbered(name: str, rows: list[dict]) -> dict[str, object]:
    found: dict[str, object] = {f"{name}.rows": len(rows)}
    for place, row in enumerate(rows):
        found |= {f"{name}.{place}.{column}": value for column, value in row.items()}
    return found


def _lists(ask, visits: str, at: datetime, hour: datetime) -> dict[str, object]:
    now, start = _time(at), _time(DAY_START)
    once = (
        "(SELECT DISTINCT ON (source, event_id) * FROM events WHERE "
        f"event_time >= {start} AND event_time <= {now} ORDER BY source, event_id, received_time)"
    )
    found = _numbered(
        "revenue",
        ask(
            "SELECT coalesce(currency, 'no currency') AS currency, sum((event_type = 'purchase')::INT) AS orders, "
            "sum(CASE WHEN event_type = 'purchase' THEN value ELSE 0 END) AS revenue, "
            "sum(CASE WHEN event_type = 'refund' THEN abs(value) ELSE 0 END) AS refunds, "
            "sum(CASE WHEN event_type = 'purchase' THEN value ELSE -abs(value) END) AS net "
            f"FROM {once} WHERE event_type IN ('purchase', 'refund') AND NOT is_bot GROUP BY ALL ORDER BY 2 DESC, 1"
        ),
    )
    for name, column in (("countries", "country"), ("channels", "channel")):
        sql = (
            f"SELECT {column}, count(*) AS sessions, sum(is_converted::INT) AS converted FROM {visits} "
            f"WHERE day = {DAY} GROUP BY ALL ORDER BY sessions DESC, {column} NULLS FIRST LIMIT 10"
        )
        found |= _numbered(name, ask(sql))
    before = _time(hour - HOUR)
    found |= _numbered(
        "campaigns",
        ask(
            f"SELECT campaign, sum((day = {DAY})::INT) AS sessions, sum((day = {DAY} AND is_converted)::INT) AS "
            f"converted, sum((session_start >= {_time(hour)})::INT) AS last_hour, sum((session_start < {_time(hour)} "
            f"AND session_start >= {before})::INT) AS hour_before FROM {visits} WHERE campaign IS NOT NULL AND "
            f"(day = {DAY} OR session_start >= {before}) GROUP BY ALL ORDER BY 2 DESC, 4 DESC, 1 LIMIT 10"
        ),
    )
    this = _time(at.replace(minute=0, second=0, microsecond=0))
    last = _time(at.replace(minute=0, second=0, microsecond=0) - HOUR)
    found |= _numbered(
        "contents",
        ask(
            f"SELECT content_id, sum(CASE WHEN bucket_start >= {this} THEN views ELSE 0 END) AS views, "
            f"sum(CASE WHEN bucket_start < {this} THEN views ELSE 0 END) AS views_before FROM (SELECT *, max(revision) "
            "OVER (PARTITION BY bucket_start, content_id, category) AS newest FROM content_1h) WHERE revision = newest "
            f"AND bucket_start >= {last} AND bucket_start <= {now} GROUP BY content_id ORDER BY sum(views) DESC, "
            f"sum(CASE WHEN bucket_start >= {this} THEN clicks + impressions + likes ELSE 0 END) DESC, 1 LIMIT 10"
        ),
    )
    found |= _numbered(
        "feedback",
        ask(
            "SELECT event_type, channel, count(*) AS answers, count(rating) AS ratings, avg(rating) AS mean, "
            f"epoch(max(event_time)) AS newest FROM {once} WHERE rating IS NOT NULL AND NOT is_bot GROUP BY ALL "
            "ORDER BY newest DESC, 1, 2 LIMIT 10"
        ),
    )
    return found


def _books(ask, at: datetime) -> dict[str, object]:
    now, start = _time(at), _time(DAY_START)
    balance = "received + exploded - events - duplicates - quarantined - out_of_range - replaced - erased"
    rows = ask(
        "SELECT sum(received + exploded) AS received, sum(events) AS events, sum(duplicates) AS duplicates, "
        "sum(quarantined) AS quarantined, sum(out_of_range + replaced + erased) AS others, "
        f"sum(CASE firing WHEN 'early' THEN 0 ELSE {balance} END) AS balance, sum((firing = 'early')::INT) AS "
        f"open_minutes, sum(CASE firing WHEN 'early' THEN {balance} ELSE 0 END) AS under_way FROM (SELECT *, "
        "max(revision) OVER (PARTITION BY bucket_start, source, input) AS newest FROM quality_1m) WHERE revision = "
        f"newest AND bucket_start >= {start} AND bucket_start <= {now}"
    )
    found = {f"books.{name}": value for name, value in rows[0].items()}
    refused = (
        "SELECT stage, code, json_extract_string(errors, '$[0].path') AS path, count(*) AS records, "
        "epoch(max(received_time)) AS newest FROM quarantine WHERE quarantine_id NOT IN (SELECT quarantine_id FROM "
        f"quarantine WHERE code IS NULL) AND received_time >= {start} AND received_time <= {now} GROUP BY ALL "
        "ORDER BY records DESC, stage, code, path NULLS FIRST"
    )
    all_rows = ask(refused)
    sums = {
        "all_records": sum(row["records"] for row in all_rows),
        "late": sum(row["records"] for row in all_rows if row["stage"] == "late"),
    }
    return found | _numbered("quarantine", [row | sums for row in all_rows])


def stray(at: datetime, days: int) -> list[tuple]:
    """Rows of every table on each of so many days before a time: a history."""
    old = [at - timedelta(days=day + 3) for day in range(days)]
    made = []
    for table, rows in (
        (EVENTS, [each for day in old for each in events(day, 2, 20, seed=day.toordinal())]),
        (SESSIONS, [each for day in old for each in sessions(day, 10, seed=day.toordinal())]),
        (QUARANTINE, [quarantine(day)[0] | {"quarantine_id": f"{day}"} for day in old]),
    ):
        made.append((table, rows))
    return made
