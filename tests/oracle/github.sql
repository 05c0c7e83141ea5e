-- GH Archive, minimised: {id, dt, repo, type, actor, ...}.
CREATE TABLE o_parsed AS
WITH named AS (
    SELECT file, line, text, readable,
        CASE WHEN readable THEN json_extract_string(text, ['$.id', '$.dt', '$.repo', '$.type', '$.actor']) END AS f
    FROM o_lines
)
SELECT NULL::VARCHAR AS anonymous_id, NULL::VARCHAR AS session_id, NULL::VARCHAR AS content_type,
    NULL::VARCHAR AS category, NULL::VARCHAR AS campaign, NULL::VARCHAR AS referrer, NULL::VARCHAR AS country,
    NULL::VARCHAR AS device, NULL::VARCHAR AS value_text, NULL::VARCHAR AS currency, NULL::BIGINT AS quantity,
    NULL::BOOLEAN AS is_bot, NULL::VARCHAR AS text, NULL::DOUBLE AS rating, NULL::VARCHAR AS properties,
    file, line, CASE WHEN NOT readable THEN 'invalid_json' END AS unreadable,
    f[1] AS event_id,
    CASE f[4]
        WHEN 'watch' THEN 'like'
        WHEN 'fork' THEN 'share'
        WHEN 'icomment' THEN 'comment'
        WHEN 'ccomment' THEN 'comment'
        WHEN 'prcomment' THEN 'comment'
        WHEN 'push' THEN 'publish'
        WHEN 'create' THEN 'publish'
        WHEN 'release' THEN 'publish'
        WHEN 'golem' THEN 'publish'
        WHEN 'public' THEN 'publish'
        WHEN 'pr' THEN 'submit'
        WHEN 'issue' THEN 'submit'
        WHEN 'member' THEN 'follow'
        WHEN 'del' THEN 'delete'
    END AS event_type,
    read_time(f[2]) AS client_time, f[2] IS NOT NULL AS client_time_given,
    NULL::TIMESTAMP AS sent_time, NULL::TIMESTAMP AS stated_received_time,
    'client' AS clock, $source AS source,
    f[5] AS user_id, f[3] AS content_id, 'social' AS channel,
    text AS extra, CASE WHEN f[1] IS NULL THEN text END AS canonical
FROM named;
