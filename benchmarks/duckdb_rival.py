"""The practical limit: the tables of the graph from the same JSON lines, by DuckDB alone, on one machine.

    python benchmarks/duckdb_rival.py INPUT.jsonl OUT_DIR
    prints {"seconds", "events", "rows": {table: rows}}

Read in one pass (text, then one struct a line), validated by the contract's rules, event time, lateness,
dedup per (source, id, day), events to Parquet by day, quarantine with its payload, the four metrics of the
catalog, sessions, audit counts. What it does not do: sketches (it has approx_count_distinct only), errors with paths,
`wrong_type` for text fields (a number is taken as its text), a canonical order of keys in derived ids, JSON
stricter than DuckDB's (it takes trailing commas), blocks of bounded memory, a stream. INPUT may be gz.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

import duckdb

THREADS = 2
TEXTS = (
    *(
        "event_id",
        "event_type",
        "event_time",
        "sent_time",
        "received_time",
        "source",
        "user_id",
        "anonymous_id",
    ),
    *("session_id", "content_id", "content_type", "category", "channel", "campaign", "referrer", "country"),
    *("device", "currency", "text"),
)
# Taken as JSON, because a cast would hide a wrong type: "5" is no number.
TYPED = ("value", "quantity", "is_bot", "rating", "properties")
KNOWN = [*TEXTS, *TYPED]
STRUCT = json.dumps(dict.fromkeys(TEXTS, "VARCHAR") | dict.fromkeys(TYPED, "JSON"))
DROP_KNOWN = json.dumps(dict.fromkeys(KNOWN))  # a merge patch: null removes the key
KNOWN_STATED = " + ".join(f"(e.{name} IS NOT NULL)::INT" for name in KNOWN)
NULL_IDS = ("", "null", "undefined", "none", "nan", "[object object]", "00000000-0000-0000-0000-000000000000")
CHANNELS = ("web", "mobile", "social", "iot", "email", "pos", "server", "other")


def read_time(column: str) -> str:
    """SQL that reads an RFC 3339 text as UTC: a cast to TIMESTAMP itself would drop the offset unseen."""
    tells_zone = f"(suffix({column}, 'Z') OR regexp_matches({column}, '[+-][0-9][0-9]:[0-9][0-9]$'))"
    return f"CASE WHEN {tells_zone} THEN make_timestamp(epoch_us(try_cast({column} AS TIMESTAMPTZ))) END"


READ = f"""
CREATE TEMP TABLE records AS
WITH lines AS (
    SELECT line, json_valid(line) AND line LIKE '{{%' AS readable
    FROM read_csv($input, columns = {{'line': 'VARCHAR'}}, delim = chr(7), quote = '', escape = '',
                  header = false, auto_detect = false, new_line = '\\n', strict_mode = false,
                  ignore_errors = true, store_rejects = true)
    WHERE rtrim(line, chr(13)) <> ''
),
structs AS (
    SELECT line, readable, CASE WHEN readable THEN from_json(line, '{STRUCT}') END AS e,
        CASE WHEN readable THEN len(json_keys(line)) END AS keys
    FROM lines
),
fields AS (
    SELECT line, readable, unnest(e),
        -- Most records have no key of their own: only those with more keys than known ones are parsed again.
        CASE WHEN keys > {KNOWN_STATED} THEN nullif(json_merge_patch(line, '{DROP_KNOWN}')::VARCHAR, '{{}}')
        END AS extra,
        coalesce(try_cast(e.quantity AS BIGINT) IS NULL AND e.quantity IS NOT NULL, false)
        OR coalesce(e.is_bot NOT IN ('true', 'false'), false)
        OR coalesce(NOT regexp_matches(e.value, '^-?[0-9]'), false)
        OR coalesce(NOT regexp_matches(e.rating, '^-?[0-9]'), false) AS mistyped
    FROM structs
),
times AS (
    SELECT * EXCLUDE (event_time, sent_time, received_time) REPLACE (
            CASE WHEN lower(user_id) NOT IN {NULL_IDS} THEN user_id END AS user_id,
            CASE WHEN lower(anonymous_id) NOT IN {NULL_IDS} THEN anonymous_id END AS anonymous_id,
            coalesce(source, 'events') AS source),
        nullif(concat_ws(',', CASE WHEN lower(user_id) IN {NULL_IDS} THEN 'null_user_id' END,
            CASE WHEN lower(anonymous_id) IN {NULL_IDS} THEN 'null_anonymous_id' END), '') AS warnings,
        event_time IS NOT NULL AS time_given,
        {read_time("event_time")} AS client_time,
        {read_time("sent_time")} AS sent_time,
        {read_time("received_time")} AS stated_received
    FROM fields
),
shifted AS (
    SELECT *, coalesce(stated_received, client_time) AS received_time,
        CASE WHEN sent_time > stated_received + INTERVAL 60 SECOND
             THEN client_time - (sent_time - stated_received) ELSE client_time END AS shifted_time
    FROM times
),
sourced AS (
    SELECT *, CASE
            WHEN received_time IS NULL THEN NULL
            WHEN client_time IS NULL AND time_given THEN 'received_invalid'
            WHEN client_time IS NULL THEN 'received_missing'
            WHEN shifted_time > received_time + INTERVAL 1 HOUR THEN 'future_clamped'
            WHEN sent_time > stated_received + INTERVAL 60 SECOND THEN 'skew_corrected'
            ELSE 'client' END AS time_source
    FROM shifted
),
timed AS (
    SELECT *, CASE WHEN time_source IN ('client', 'skew_corrected') THEN shifted_time
                   ELSE received_time END AS event_time
    FROM sourced
),
judged AS (
    SELECT *, CASE
            WHEN NOT readable THEN 'invalid_json'
            WHEN mistyped THEN 'wrong_type'
            WHEN length(event_id) NOT BETWEEN 1 AND 128 OR regexp_matches(event_id, '\\p{{C}}')
                THEN 'invalid_event_id'
            WHEN event_type IS NULL THEN 'missing_event_type'
            WHEN NOT regexp_full_match(event_type, '[a-z][a-z0-9_]{{0,63}}') THEN 'invalid_event_type'
            WHEN NOT regexp_full_match(source, '[a-z0-9][a-z0-9_.-]{{0,63}}') THEN 'invalid_source'
            WHEN length(user_id) > 256 OR length(anonymous_id) > 256 OR length(session_id) > 256
                OR length(content_id) > 256 OR length(content_type) > 256 OR length(category) > 256
                OR length(campaign) > 256 OR length(country) > 256 OR length(device) > 256
                OR length(referrer) > 2048 THEN 'too_long'
            WHEN channel NOT IN {CHANNELS} THEN 'invalid_channel'
            WHEN NOT regexp_full_match(currency, '[A-Z]{{3}}') THEN 'invalid_currency'
            WHEN value IS NOT NULL AND try_cast(value AS DECIMAL(38, 9)) IS NULL THEN 'invalid_value'
            WHEN strlen(text) > 8192 THEN 'too_long'
            WHEN event_time IS NULL THEN 'no_time'
            WHEN received_time > event_time + INTERVAL 1 DAY THEN 'too_late' END AS code
    FROM timed
)
SELECT coalesce(event_id, 'derived:' || md5(source || chr(31)
        || regexp_replace(line, ',?"(received|sent)_time":"[^"]*"', '', 'g'))) AS event_id,
    CASE WHEN event_id IS NULL THEN 'derived' ELSE 'client' END AS id_source,
    event_type, event_time, time_source,
    -- what is refused for its types tells no time
    CASE WHEN code IS DISTINCT FROM 'wrong_type' THEN received_time END AS received_time,
    client_time, sent_time, source, 'native' AS source_format, $input AS input,
    user_id, anonymous_id, session_id, NULL::BIGINT AS sequence, content_id, content_type, category, channel, campaign,
    referrer, country, device, try_cast(value AS DECIMAL(38, 9)) AS value, currency,
    try_cast(quantity AS BIGINT) AS quantity, try_cast(is_bot AS BOOLEAN) AS is_bot, text,
    try_cast(rating AS DOUBLE) AS rating, properties::VARCHAR AS properties, extra, warnings, code,
    CASE WHEN code IS NOT NULL THEN line END AS payload,
    -- the day of the client's own time: two deliveries of an event share it
    epoch_us(coalesce(client_time, received_time)) // 86400000000 AS dedup_day
FROM judged
"""

NOT_STATED = (
    "id_source, event_time, time_source, received_time, sent_time, source, source_format, input, warnings, "
    "code, payload, dedup_day"
)

# Few ids come twice: only their copies are compared.
DEDUPLICATE = f"""
CREATE TEMP TABLE losers AS
WITH repeated AS (
    SELECT source, event_id, dedup_day FROM records WHERE code IS NULL GROUP BY ALL HAVING count(*) > 1
),
copies AS (
    SELECT r.rowid AS record, r.source, r.event_id, r.dedup_day, r.received_time,
        hash(*COLUMNS(r.* EXCLUDE ({NOT_STATED}))) AS fingerprint
    FROM records r JOIN repeated USING (source, event_id, dedup_day)
    WHERE r.code IS NULL
),
ranked AS (
    SELECT *, row_number() OVER kept AS copy, first_value(fingerprint) OVER kept AS kept_fingerprint
    FROM copies
    WINDOW kept AS (PARTITION BY source, event_id, dedup_day ORDER BY received_time, fingerprint)
)
SELECT record, source, received_time, fingerprint <> kept_fingerprint AS conflict FROM ranked WHERE copy > 1;
DELETE FROM records WHERE rowid IN (SELECT record FROM losers);
CREATE TEMP VIEW events AS
SELECT * EXCLUDE (code, payload, dedup_day), coalesce(user_id, anonymous_id) AS person
FROM records WHERE code IS NULL;
"""


def counted(alias: str, event_type: str) -> str:
    return f"count(*) FILTER (event_type = '{event_type}') AS {alias}"


COUNTS = {
    "views": "page_view", "clicks": "click", "impressions": "impression", "likes": "like", "shares": "share",
    "comments": "comment", "signups": "signup", "carts": "add_to_cart", "purchases": "purchase",
}  # fmt: skip


def metric(bucket: str, dimensions: str, measures: list[str], where: str = "true") -> str:
    """The query of one metric table; a measure is SQL or a name of COUNTS."""
    measured = ", ".join(counted(m, COUNTS[m]) if m in COUNTS else m for m in measures)
    start = f"date_trunc('{bucket}', event_time)::TIMESTAMP"
    return (
        f"SELECT {start} AS bucket_start, {start} + INTERVAL 1 {bucket} AS bucket_end, "
        f"{dimensions}, {measured} FROM events WHERE {where} GROUP BY ALL"
    )


def first(column: str) -> str:
    """SQL of the value seen first in a group; of several at one time the one received first, then the smallest."""
    return f"min({{t: event_time, r: received_time, v: {column}}}) FILTER ({column} IS NOT NULL).v"


def last(column: str) -> str:
    """SQL of the value seen last; the largest."""
    return f"max({{t: event_time, r: received_time, v: {column}}}) FILTER ({column} IS NOT NULL).v"


SESSION_COUNTS = ("views", "clicks", "likes", "shares", "comments", "carts", "signups", "purchases")
SESSIONS = f"""
    WITH cut AS (
        SELECT *, anonymous_id IS NOT NULL AS known, coalesce(anonymous_id, user_id) AS visitor,
            coalesce(event_time - lag(event_time) OVER (PARTITION BY known, visitor ORDER BY event_time)
                >= INTERVAL 30 MINUTE, true) AS begins
        FROM events WHERE person IS NOT NULL
    ),
    numbered AS (
        SELECT *, count(*) FILTER (begins) OVER
            (PARTITION BY known, visitor ORDER BY event_time RANGE UNBOUNDED PRECEDING) AS visit
        FROM cut
    ),
    money AS (
        SELECT known, visitor, visit, list({{currency: currency, value: value}}) AS revenue
        FROM (SELECT known, visitor, visit, currency, sum(value) AS value FROM numbered
              WHERE event_type = 'purchase' AND value IS NOT NULL GROUP BY ALL)
        GROUP BY ALL
    ),
    visits AS (
        SELECT known, visitor, visit, any_value(anonymous_id) AS anonymous_id, {last("user_id")} AS user_id,
            min(event_time) AS session_start, max(event_time) AS session_end, count(*) AS events,
            {", ".join(counted(name, COUNTS[name]) for name in SESSION_COUNTS)},
            {first("content_id")} AS entry_content_id, {last("content_id")} AS exit_content_id,
            {first("channel")} AS channel, {first("campaign")} AS campaign,
            {first("country")} AS country, {first("device")} AS device,
            max(CASE event_type WHEN 'page_view' THEN 1 WHEN 'add_to_cart' THEN 2 WHEN 'purchase' THEN 3 ELSE 0 END)
                AS furthest_step,
            bool_or(coalesce(is_bot, false)) AS is_bot
        FROM numbered GROUP BY known, visitor, visit
    )
    SELECT md5(concat_ws(chr(31), known, visitor, epoch_us(session_start))) AS visit_id,
        visits.* EXCLUDE (known, visitor, visit), revenue,
        epoch_us(session_end - session_start) / 1e6 AS duration_seconds,
        signups + purchases > 0 AS is_converted,
        duration_seconds > 10 OR views >= 2 OR is_converted AS is_engaged,
        NOT is_engaged AS is_bounce, session_end - session_start > INTERVAL 24 HOUR AS is_long
    FROM visits LEFT JOIN money USING (known, visitor, visit)"""

USERS = "approx_count_distinct(person) AS users"
TABLES = {
    "activity_1m": metric("minute", "channel, event_type", ["count(*) AS events", USERS]),
    "content_1h": metric(
        "hour",
        "content_id, category",
        ["views", "clicks", "impressions", "likes", "shares", "comments", USERS],
        "content_id IS NOT NULL",
    ),
    "campaign_1h": metric(
        "hour",
        "campaign, channel, currency",
        [
            USERS, "signups", "carts", "purchases",
            "approx_count_distinct(person) FILTER (event_type = 'purchase') AS purchasers",
            "sum(value) FILTER (event_type = 'purchase') AS revenue",
        ],
        "campaign IS NOT NULL",
    ),
    "user_days": metric(
        "day",
        "person",
        [
            "count(*) AS events", "views", "clicks", "likes", "shares", "comments", "carts", "purchases",
            "min(event_time) AS first_time", "max(event_time) AS last_time", "count(*) FILTER (is_bot) AS bot_events",
        ],
        "person IS NOT NULL",
    ),
    "sessions": SESSIONS,
    "quarantine": """
        SELECT md5(concat_ws(chr(31), source, payload)) AS quarantine_id, source, received_time, code, payload
        FROM records WHERE code IS NOT NULL
        UNION ALL
        SELECT md5(csv_line), 'events', NULL, 'invalid_json', csv_line FROM reject_errors""",
    "quality_1m": """
        WITH fates AS (
            SELECT source, received_time, code IS NOT NULL AS refused, 0 AS lost, 0 AS conflict FROM records
            UNION ALL SELECT source, received_time, false, 1, conflict::INT FROM losers
            UNION ALL SELECT 'events', NULL, true, 0, 0 FROM reject_errors
        )
        SELECT source, date_trunc('minute', received_time) AS bucket_start, count(*) AS received,
            count(*) FILTER (NOT refused) - sum(lost) AS events, sum(lost) AS duplicates,
            sum(conflict) AS conflicts, count(*) FILTER (refused) AS quarantined
        FROM fates GROUP BY ALL""",
}  # fmt: skip


def run(input: str, out: Path) -> dict:
    """Build every table of `input` under `out`, which is emptied first."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    begun = time.perf_counter()
    connection = duckdb.connect(config={"threads": THREADS, "preserve_insertion_order": False})
    connection.execute(READ, {"input": input})
    connection.execute(DEDUPLICATE)
    rows = {"events": write_events(connection, out / "events")}
    for name, query in TABLES.items():
        rows[name] = write(connection, query, out / f"{name}.parquet")
    return {"seconds": round(time.perf_counter() - begun, 3), "events": rows["events"], "rows": rows}


def write_events(connection: duckdb.DuckDBPyConnection, folder: Path) -> int:
    """Write one Parquet file a day and return the rows; PARTITION_BY took half as long again."""
    days = connection.execute("SELECT DISTINCT event_time::DATE FROM events").fetchall()
    written = 0
    for (day,) in days:
        (folder / f"day={day}").mkdir(parents=True)
        query = (
            "SELECT * EXCLUDE person FROM events "
            f"WHERE event_time >= TIMESTAMP '{day}' AND event_time < TIMESTAMP '{day}' + INTERVAL 1 DAY"
        )
        written += write(connection, query, folder / f"day={day}" / "events.parquet")
    return written


def write(connection: duckdb.DuckDBPyConnection, query: str, file: Path) -> int:
    """Write the rows of a query as Parquet and return how many."""
    copied = connection.execute(f"COPY ({query}) TO $file (FORMAT parquet)", {"file": str(file)}).fetchone()
    return copied[0] if copied else 0


def main() -> None:
    """Run on the command line's arguments and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.input, arguments.out)))


if __name__ == "__main__":
    main()
