-- From o_parsed to what every record finally is: quarantined, out of range, a duplicate, or an event.
CREATE MACRO is_null_id(id) AS lower(id) IN
    ('', 'null', 'undefined', 'none', 'nan', '[object object]', '00000000-0000-0000-0000-000000000000');
CREATE MACRO too_long(field, characters) AS coalesce(length(field) > characters, false);

-- Validation. `invalid` is the code of the first rule broken; NULL where none is.
CREATE TABLE o_validated AS
SELECT * REPLACE (
        CASE WHEN NOT is_null_id(user_id) THEN user_id END AS user_id,
        CASE WHEN NOT is_null_id(anonymous_id) THEN anonymous_id END AS anonymous_id),
    concat_ws(',', CASE WHEN is_null_id(user_id) THEN 'null_user_id' END,
                   CASE WHEN is_null_id(anonymous_id) THEN 'null_anonymous_id' END) AS warnings,
    try_cast(value_text AS DECIMAL(38, 9)) AS value,
    coalesce(stated_received_time, client_time) AS received_time,
    CASE
        WHEN unreadable IS NOT NULL THEN NULL
        WHEN length(event_id) NOT BETWEEN 1 AND 128 OR regexp_matches(event_id, '\p{C}') THEN 'invalid_event_id'
        WHEN event_type IS NULL THEN 'missing_event_type'
        WHEN NOT regexp_full_match(event_type, '[a-z][a-z0-9_]{0,63}') THEN 'invalid_event_type'
        WHEN NOT regexp_full_match(source, '[a-z0-9][a-z0-9_.-]{0,63}') THEN 'invalid_source'
        WHEN too_long(user_id, 256) OR too_long(anonymous_id, 256) OR too_long(session_id, 256)
            OR too_long(content_id, 256) OR too_long(content_type, 256) OR too_long(category, 256)
            OR too_long(campaign, 256) OR too_long(country, 256) OR too_long(device, 256)
            OR too_long(referrer, 2048) THEN 'too_long'
        WHEN channel NOT IN ('web', 'mobile', 'social', 'iot', 'email', 'pos', 'server', 'other')
            THEN 'invalid_channel'
        WHEN NOT regexp_full_match(currency, '[A-Z]{3}') THEN 'invalid_currency'
        WHEN value_text IS NOT NULL AND try_cast(value_text AS DECIMAL(38, 9)) IS NULL THEN 'invalid_value'
        WHEN strlen(text) > 8192 THEN 'too_long'
    END AS invalid
FROM o_parsed;

-- Event time. Only a received_time that the record itself states proves a skew.
CREATE TABLE o_timed AS
WITH skewed AS (
    SELECT *, CASE WHEN epoch_us(sent_time) - epoch_us(stated_received_time) > 60 * 1000000
                   THEN epoch_us(sent_time) - epoch_us(stated_received_time) END AS skew_us
    FROM o_validated
),
shifted AS (
    SELECT *, make_timestamp(epoch_us(client_time) - coalesce(skew_us, 0)) AS shifted_time FROM skewed
),
sourced AS (
    SELECT *, CASE
            WHEN received_time IS NULL THEN NULL
            WHEN client_time IS NOT NULL AND clock = 'trusted' THEN 'trusted'
            WHEN client_time IS NULL AND client_time_given THEN 'received_invalid'
            WHEN client_time IS NULL THEN 'received_missing'
            WHEN epoch_us(shifted_time) > epoch_us(received_time) + 3600 * 1000000::BIGINT THEN 'future_clamped'
            WHEN skew_us IS NOT NULL THEN 'skew_corrected'
            ELSE 'client'
        END AS time_source
    FROM shifted
)
SELECT *, CASE time_source
        WHEN 'trusted' THEN client_time
        WHEN 'client' THEN client_time
        WHEN 'skew_corrected' THEN shifted_time
        ELSE received_time
    END AS event_time
FROM sourced;

-- What becomes of each record before dedup: the first stage that refuses it, else whether it is within the margin.
CREATE TABLE o_judged AS
WITH staged AS (
    SELECT *, CASE
            WHEN unreadable IS NOT NULL THEN 'parse'
            WHEN invalid IS NOT NULL THEN 'validate'
            WHEN event_time IS NULL THEN 'event_time'
            WHEN epoch_us(received_time) - epoch_us(event_time) > $max_lateness_us THEN 'late'
        END AS stage
    FROM o_timed
)
SELECT *,
    CASE stage WHEN 'parse' THEN unreadable WHEN 'validate' THEN invalid WHEN 'event_time' THEN 'no_time'
               WHEN 'late' THEN 'too_late' END AS code,
    CASE WHEN stage IS NULL THEN event_time < $range_start - INTERVAL 1 DAY
                              OR event_time >= $range_end + INTERVAL 1 DAY ELSE false END AS outside_margin,
    coalesce('id ' || event_id, 'payload ' || canonical) AS identity,
    coalesce(client_time, received_time)::DATE AS dedup_day,
    to_json([event_id, event_type, client_time::VARCHAR, user_id, anonymous_id, session_id, content_id, content_type,
             category, channel, campaign, referrer, country, device, value::VARCHAR, currency, quantity::VARCHAR,
             is_bot::VARCHAR, text, rating::VARCHAR, properties, extra])::VARCHAR AS stated
FROM staged;

CREATE TABLE o_quarantine AS
SELECT stage, code, source, CASE WHEN stage <> 'parse' THEN received_time END AS received_time, file, line, part
FROM o_judged WHERE stage IS NOT NULL;

-- Dedup: within the day, the copy with the smallest received_time is kept. Which of several that differ and were
-- received together is kept is up to a hash that only the product has: o_conflicted marks those ids `tied`.
CREATE TABLE o_copies AS
WITH ranked AS (
    SELECT *, row_number() OVER copies AS copy, first_value(stated) OVER copies AS kept_stated,
        first_value(received_time) OVER copies AS kept_received_time
    FROM o_judged
    WHERE stage IS NULL AND NOT outside_margin
    WINDOW copies AS (PARTITION BY source, identity, dedup_day ORDER BY received_time, stated)
)
SELECT *, stated <> kept_stated AS conflicts,
    copy = 1 AND (event_time < $range_start OR event_time >= $range_end) AS outside_range
FROM ranked;

CREATE TABLE o_events AS
SELECT event_id, CASE WHEN event_id IS NULL THEN 'derived' ELSE 'client' END AS id_source, event_type, event_time,
    time_source, received_time, client_time, sent_time, source, user_id, anonymous_id,
    coalesce(user_id, anonymous_id) AS person, session_id, sequence, content_id, content_type, category, channel,
    campaign, referrer, country, device, value, currency, quantity, is_bot, text, rating, properties,
    nullif(warnings, '') AS warnings, file, line, part
FROM o_copies WHERE copy = 1 AND NOT outside_range;

CREATE TABLE o_duplicates AS
SELECT source, event_id, dedup_day, received_time, conflicts AS conflict, file, line, part FROM o_copies WHERE copy > 1;

CREATE TABLE o_conflicted AS
SELECT source, any_value(event_id) AS event_id, dedup_day, count(*) AS copies, count(*) FILTER (conflicts) AS conflicts,
    bool_or(conflicts AND received_time = kept_received_time) AS tied
FROM o_copies
GROUP BY source, identity, dedup_day
HAVING bool_or(conflicts);
