-- Edits of Wikipedia: {time, channel, namespace, page, user, isRobot, isNew, countryIsoCode, delta, ...}; no event id.
CREATE TABLE o_parsed AS
WITH named AS (
    SELECT file, line, text, readable, CASE WHEN readable THEN json_extract_string(text, [
        '$.time', '$.channel', '$.page', '$.user', '$.isNew', '$.isRobot', '$.delta', '$.countryIsoCode',
        '$.namespace']) END AS f
    FROM o_lines
)
SELECT NULL::VARCHAR AS anonymous_id, NULL::VARCHAR AS session_id, NULL::VARCHAR AS content_type,
    NULL::VARCHAR AS campaign, NULL::VARCHAR AS referrer, NULL::VARCHAR AS device, NULL::VARCHAR AS currency,
    NULL::BIGINT AS quantity, NULL::VARCHAR AS text, NULL::DOUBLE AS rating, NULL::VARCHAR AS properties,
    file, line, CASE WHEN NOT readable THEN 'invalid_json' END AS unreadable,
    NULL::VARCHAR AS event_id,
    CASE WHEN f[5] = 'true' THEN 'publish' ELSE 'edit' END AS event_type,
    read_time(f[1]) AS client_time, f[1] IS NOT NULL AS client_time_given,
    NULL::TIMESTAMP AS sent_time, NULL::TIMESTAMP AS stated_received_time,
    'client' AS clock, $source AS source,
    f[4] AS user_id, f[2] || '/' || f[3] AS content_id, 'web' AS channel, f[9] AS category, f[8] AS country,
    f[7] AS value_text, f[6]::BOOLEAN AS is_bot,
    text AS extra, text AS canonical
FROM named;
