-- OTTO sessions: {session, events: [{aid, ts, type}, ...]}; each element is an event.
CREATE TABLE o_parsed AS
WITH elements AS (
    SELECT file, line, readable, json_extract_string(text, '$.session') AS session,
        unnest(json_extract(text, '$.events[*]')) AS event,
        generate_subscripts(json_extract(text, '$.events[*]'), 1) - 1 AS part
    FROM o_lines
)
SELECT NULL::VARCHAR AS anonymous_id, session AS session_id, NULL::VARCHAR AS content_type,
    NULL::VARCHAR AS category, NULL::VARCHAR AS campaign, NULL::VARCHAR AS referrer, NULL::VARCHAR AS country,
    NULL::VARCHAR AS device, NULL::VARCHAR AS value_text, NULL::VARCHAR AS currency, NULL::BIGINT AS quantity,
    NULL::BOOLEAN AS is_bot, NULL::VARCHAR AS text, NULL::DOUBLE AS rating, NULL::VARCHAR AS properties,
    file, line, part, NULL::VARCHAR AS unreadable, NULL::VARCHAR AS event_id,
    CASE event ->> 'type' WHEN 'clicks' THEN 'click' WHEN 'carts' THEN 'add_to_cart' WHEN 'orders' THEN 'purchase' END
        AS event_type,
    make_timestamp((event ->> 'ts')::BIGINT * 1000) AS client_time, true AS client_time_given,
    NULL::TIMESTAMP AS sent_time, NULL::TIMESTAMP AS stated_received_time,
    'client' AS clock, $source AS source,
    session AS user_id, event ->> 'aid' AS content_id, 'web' AS channel,
    NULL::VARCHAR AS extra, session || event::VARCHAR AS canonical
FROM elements;
