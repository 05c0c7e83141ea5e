-- Visits: the events of a visitor (anonymous_id, or the user of an event that has none) with less than 30 minutes
-- between one and the next. First and last by time, then sequence (none before any), then received_time; of several that
-- are equal in all of these, the smallest text is first and the largest last.
CREATE MACRO seen(time, sequence, received, value) AS
    struct_pack(t := time, s := coalesce(sequence, -9223372036854775808), r := received, v := value);

CREATE TABLE o_visits AS
WITH visitors AS (
    SELECT *, anonymous_id IS NOT NULL AS is_anonymous, coalesce(anonymous_id, user_id) AS visitor
    FROM o_events WHERE person IS NOT NULL
),
cut AS (
    SELECT *, coalesce(event_time - lag(event_time) OVER (PARTITION BY is_anonymous, visitor ORDER BY event_time)
        >= INTERVAL 30 MINUTE, true) AS begins
    FROM visitors
)
SELECT *, count(*) FILTER (begins) OVER
    (PARTITION BY is_anonymous, visitor ORDER BY event_time RANGE UNBOUNDED PRECEDING) AS visit  -- equal times count as one
FROM cut;

CREATE TABLE o_sessions AS
SELECT any_value(anonymous_id) AS anonymous_id,
    max(seen(event_time, sequence, received_time, user_id)) FILTER (user_id IS NOT NULL).v AS user_id,
    min(event_time) AS session_start, max(event_time) AS session_end,
    (epoch_us(max(event_time)) - epoch_us(min(event_time))) / 1e6 AS duration_seconds,
    count(*) AS events,
    count(*) FILTER (event_type = 'page_view') AS views,
    count(*) FILTER (event_type = 'click') AS clicks,
    count(*) FILTER (event_type = 'like') AS likes,
    count(*) FILTER (event_type = 'share') AS shares,
    count(*) FILTER (event_type = 'comment') AS comments,
    count(*) FILTER (event_type = 'add_to_cart') AS carts,
    count(*) FILTER (event_type = 'signup') AS signups,
    count(*) FILTER (event_type = 'purchase') AS purchases,
    min(seen(event_time, sequence, received_time, content_id)) FILTER (content_id IS NOT NULL).v AS entry_content_id,
    max(seen(event_time, sequence, received_time, content_id)) FILTER (content_id IS NOT NULL).v AS exit_content_id,
    min(seen(event_time, sequence, received_time, channel)) FILTER (channel IS NOT NULL).v AS channel,
    min(seen(event_time, sequence, received_time, campaign)) FILTER (campaign IS NOT NULL).v AS campaign,
    min(seen(event_time, sequence, received_time, country)) FILTER (country IS NOT NULL).v AS country,
    min(seen(event_time, sequence, received_time, device)) FILTER (device IS NOT NULL).v AS device,
    max(CASE event_type WHEN 'page_view' THEN 1 WHEN 'add_to_cart' THEN 2 WHEN 'purchase' THEN 3 ELSE 0 END)
        AS furthest_step,
    bool_or(event_type IN ('signup', 'purchase')) AS is_converted,
    max(event_time) - min(event_time) > INTERVAL 10 SECOND OR count(*) FILTER (event_type = 'page_view') >= 2
        OR bool_or(event_type IN ('signup', 'purchase')) AS is_engaged,
    NOT is_engaged AS is_bounce,
    max(event_time) - min(event_time) > INTERVAL 24 HOUR AS is_long,
    bool_or(coalesce(is_bot, false)) AS is_bot
FROM o_visits GROUP BY is_anonymous, visitor, visit;

CREATE TABLE o_session_revenue AS
WITH starts AS (SELECT *, min(event_time) OVER (PARTITION BY is_anonymous, visitor, visit) AS session_start FROM o_visits)
SELECT is_anonymous, visitor, session_start, currency, sum(value) AS value
FROM starts WHERE event_type = 'purchase' AND value IS NOT NULL
GROUP BY is_anonymous, visitor, session_start, currency;
