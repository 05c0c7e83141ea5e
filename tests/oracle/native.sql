-- The native form: columns of o_parsed from the lines. A field of the wrong JSON type refuses the record; a time of
-- any other type than string is a time that cannot be read.
CREATE MACRO text_of(v) AS CASE WHEN json_type(v) = 'VARCHAR' THEN v ->> '$' END;
CREATE MACRO number_of(v) AS CASE WHEN json_type(v) IN ('BIGINT', 'UBIGINT', 'HUGEINT', 'DOUBLE') THEN v ->> '$' END;
CREATE MACRO absent(v) AS v IS NULL OR json_type(v) = 'NULL';

CREATE TABLE o_fields AS
SELECT file, line, text, readable, CASE WHEN readable THEN json_keys(text) END AS keys,
    CASE WHEN readable THEN json_extract(text, [
        '$.event_id', '$.event_type', '$.event_time', '$.sent_time', '$.received_time', '$.source', '$.user_id',
        '$.anonymous_id', '$.session_id', '$.content_id', '$.content_type', '$.category', '$.channel', '$.campaign',
        '$.referrer', '$.country', '$.device', '$.currency', '$.text', '$.value', '$.quantity', '$.is_bot', '$.rating',
        '$.properties', '$.sequence']) END AS f
FROM o_lines;

CREATE TABLE o_parsed AS
WITH named AS (
    SELECT file, line, text, readable, keys, f,
        f[1] AS event_id, f[2] AS event_type, f[3] AS event_time, f[4] AS sent_time, f[5] AS received_time,
        f[6] AS source, f[7] AS user_id, f[8] AS anonymous_id, f[9] AS session_id, f[10] AS content_id,
        f[11] AS content_type, f[12] AS category, f[13] AS channel, f[14] AS campaign, f[15] AS referrer,
        f[16] AS country, f[17] AS device, f[18] AS currency, f[19] AS text_field, f[20] AS value,
        f[21] AS quantity, f[22] AS is_bot, f[23] AS rating, f[24] AS properties,
        f[25] AS sequence
    FROM o_fields
),
typed AS (
    SELECT *,
        readable AND (
            len(list_filter([event_id, event_type, source, user_id, anonymous_id, session_id, content_id, content_type,
                             category, channel, campaign, referrer, country, device, currency, text_field],
                            lambda v: NOT absent(v) AND json_type(v) <> 'VARCHAR')) > 0
            OR (NOT absent(value) AND number_of(value) IS NULL)
            OR (NOT absent(rating) AND number_of(rating) IS NULL)
            OR (NOT absent(is_bot) AND json_type(is_bot) <> 'BOOLEAN')
            -- written as an integer (3.0 is none) that fits INT64
            OR (NOT absent(quantity) AND (json_type(quantity) NOT IN ('BIGINT', 'UBIGINT')
                OR try_cast(number_of(quantity) AS BIGINT) IS NULL))
            OR (NOT absent(sequence) AND (json_type(sequence) NOT IN ('BIGINT', 'UBIGINT')
                OR try_cast(number_of(sequence) AS BIGINT) IS NULL))
        ) AS mistyped,
        -- a time that cannot be read, or is finer than a microsecond
        NOT absent(event_time) AND coalesce(text_of(event_time), 'none') <> ''
            AND (read_time(text_of(event_time)) IS NULL
                OR regexp_matches(text_of(event_time), '[.,][0-9]{6}[0-9]*[1-9]')) AS lost
    FROM named
)
SELECT file, line,
    CASE WHEN NOT readable THEN 'invalid_json' WHEN mistyped THEN 'wrong_type' END AS unreadable,
    text_of(event_id) AS event_id,
    text_of(event_type) AS event_type,
    read_time(text_of(event_time)) AS client_time,
    NOT absent(event_time) AS client_time_given,
    read_time(text_of(sent_time)) AS sent_time,
    read_time(text_of(received_time)) AS stated_received_time,
    'client' AS clock,
    -- What cannot be read tells neither its source nor its time.
    CASE WHEN readable AND NOT mistyped THEN coalesce(text_of(source), $source) ELSE $source END AS source,
    text_of(user_id) AS user_id,
    text_of(anonymous_id) AS anonymous_id,
    text_of(session_id) AS session_id,
    text_of(content_id) AS content_id,
    text_of(content_type) AS content_type,
    text_of(category) AS category,
    text_of(channel) AS channel,
    text_of(campaign) AS campaign,
    text_of(referrer) AS referrer,
    text_of(country) AS country,
    text_of(device) AS device,
    number_of(value) AS value_text,
    text_of(currency) AS currency,
    try_cast(number_of(quantity) AS BIGINT) AS quantity,
    try_cast(number_of(sequence) AS BIGINT) AS sequence,
    CASE WHEN json_type(is_bot) = 'BOOLEAN' THEN is_bot::BOOLEAN END AS is_bot,
    text_of(text_field) AS text,
    try_cast(number_of(rating) AS DOUBLE) AS rating,
    CASE WHEN NOT absent(properties) THEN properties::VARCHAR END AS properties,
    pairs_of(text, list_filter(keys, lambda k: NOT list_contains($known, k) OR (k = 'event_time' AND lost))) AS extra,
    CASE WHEN absent(event_id)
         THEN pairs_of(text, list_filter(keys, lambda k: NOT list_contains(['received_time', 'sent_time'], k))) END AS canonical
FROM typed;
