-- Open Bandit impressions, CSV with a header; the first column, a row number, has no name. Every row is an impression,
-- and a click too where `click` is 1.
CREATE TABLE o_parsed AS
SELECT NULL::VARCHAR AS anonymous_id, NULL::VARCHAR AS session_id, NULL::VARCHAR AS content_type,
    NULL::VARCHAR AS category, NULL::VARCHAR AS campaign, NULL::VARCHAR AS referrer, NULL::VARCHAR AS country,
    NULL::VARCHAR AS device, NULL::VARCHAR AS value_text, NULL::VARCHAR AS currency, NULL::BIGINT AS quantity,
    NULL::BOOLEAN AS is_bot, NULL::VARCHAR AS text, NULL::DOUBLE AS rating, NULL::VARCHAR AS properties,
    filename AS file, row_number() OVER (PARTITION BY filename, kind) AS line, NULL::VARCHAR AS unreadable,
    NULL::VARCHAR AS event_id, kind AS event_type, part,
    read_time("timestamp") AS client_time, "timestamp" IS NOT NULL AS client_time_given,
    NULL::TIMESTAMP AS sent_time, NULL::TIMESTAMP AS stated_received_time,
    'client' AS clock, $source AS source,
    -- One text for each combination: as many users as a hash of the four would give.
    concat_ws('|', user_feature_0, user_feature_1, user_feature_2, user_feature_3) AS user_id,
    item_id AS content_id, 'web' AS channel,
    to_json(r)::VARCHAR AS extra, to_json(r)::VARCHAR || '/' || kind AS canonical
FROM read_csv($files, header = true, all_varchar = true, filename = true, compression = 'auto') r,
    (VALUES ('impression', 0), ('click', 1)) made(kind, part)
WHERE kind = 'impression' OR r.click = '1';
