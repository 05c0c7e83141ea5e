-- The catalogue's metrics and the audit counts. Tables of rows that are right once everything has arrived.
CREATE TABLE o_activity_1m AS
SELECT date_trunc('minute', event_time) AS bucket_start, channel, event_type,
    count(*) AS events, count(DISTINCT person) AS users
FROM o_events GROUP BY ALL;

CREATE TABLE o_content_1h AS
SELECT date_trunc('hour', event_time) AS bucket_start, content_id, category,
    count(*) FILTER (event_type = 'page_view') AS views,
    count(*) FILTER (event_type = 'click') AS clicks,
    count(*) FILTER (event_type = 'impression') AS impressions,
    count(*) FILTER (event_type = 'like') AS likes,
    count(*) FILTER (event_type = 'share') AS shares,
    count(*) FILTER (event_type = 'comment') AS comments,
    count(DISTINCT person) AS users
FROM o_events WHERE content_id IS NOT NULL GROUP BY ALL;

-- Revenue is NULL where no purchase states a value: no sum is not a sum of nothing.
CREATE TABLE o_campaign_1h AS
SELECT date_trunc('hour', event_time) AS bucket_start, campaign, channel, currency,
    count(DISTINCT person) AS users,
    count(*) FILTER (event_type = 'signup') AS signups,
    count(*) FILTER (event_type = 'add_to_cart') AS carts,
    count(*) FILTER (event_type = 'purchase') AS purchases,
    count(DISTINCT person) FILTER (event_type = 'purchase') AS purchasers,
    sum(value) FILTER (event_type = 'purchase') AS revenue
FROM o_events WHERE campaign IS NOT NULL GROUP BY ALL;

CREATE TABLE o_user_days AS
SELECT date_trunc('day', event_time)::TIMESTAMP AS bucket_start, person,
    count(*) AS events,
    count(*) FILTER (is_bot) AS bot_events,
    count(*) FILTER (event_type = 'page_view') AS views,
    count(*) FILTER (event_type = 'click') AS clicks,
    count(*) FILTER (event_type = 'like') AS likes,
    count(*) FILTER (event_type = 'share') AS shares,
    count(*) FILTER (event_type = 'comment') AS comments,
    count(*) FILTER (event_type = 'add_to_cart') AS carts,
    count(*) FILTER (event_type = 'purchase') AS purchases,
    min(event_time) AS first_time, max(event_time) AS last_time
FROM o_events WHERE person IS NOT NULL GROUP BY ALL;

-- bucket_start is NULL for records that tell no time (or cannot be read).
CREATE TABLE o_quality AS
WITH fates AS (
    SELECT source, received_time, 'quarantined' AS fate, false AS conflict, part FROM o_quarantine
    UNION ALL SELECT source, received_time, 'out_of_range', false, part FROM o_judged WHERE outside_margin
    UNION ALL SELECT source, received_time, 'out_of_range', false, part FROM o_copies WHERE outside_range
    UNION ALL SELECT source, received_time, 'duplicates', conflict, part FROM o_duplicates
    UNION ALL SELECT source, received_time, 'events', false, part FROM o_events
)
SELECT source, date_trunc('minute', received_time) AS bucket_start,
    count(*) FILTER (part = 0) AS received,
    count(*) FILTER (part > 0) AS exploded,
    count(*) FILTER (fate = 'events') AS events,
    count(*) FILTER (fate = 'duplicates') AS duplicates,
    count(*) FILTER (conflict) AS conflicts,
    count(*) FILTER (fate = 'quarantined') AS quarantined,
    count(*) FILTER (fate = 'out_of_range') AS out_of_range
FROM fates GROUP BY ALL;
