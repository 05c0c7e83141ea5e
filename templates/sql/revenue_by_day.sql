-- What was bought and refunded on each day, by channel, country and currency, without programs.
-- An event is compared with those of its day and of the days before and after, as in events_unique.
WITH copies AS (
  SELECT
    DATE(event_time, '{{time_zone}}') AS day,
    TRUE AS is_own,
    channel,
    country,
    currency,
    COALESCE(user_id, anonymous_id) AS person,
    event_type = 'purchase' AS is_order,
    COALESCE(value, 0) AS value,
    source,
    event_id,
    received_time,
    event_time,
    input
  FROM events
  WHERE event_type IN ('purchase', 'refund') AND is_bot IS NOT TRUE
  UNION ALL
  SELECT
    CAST(DATE_ADD(DATE(event_time, '{{time_zone}}'), INTERVAL 1 DAY) AS DATE) AS day,
    FALSE AS is_own,
    channel,
    country,
    currency,
    COALESCE(user_id, anonymous_id) AS person,
    event_type = 'purchase' AS is_order,
    COALESCE(value, 0) AS value,
    source,
    event_id,
    received_time,
    event_time,
    input
  FROM events
  WHERE event_type IN ('purchase', 'refund') AND is_bot IS NOT TRUE
  UNION ALL
  SELECT
    CAST(DATE_SUB(DATE(event_time, '{{time_zone}}'), INTERVAL 1 DAY) AS DATE) AS day,
    FALSE AS is_own,
    channel,
    country,
    currency,
    COALESCE(user_id, anonymous_id) AS person,
    event_type = 'purchase' AS is_order,
    COALESCE(value, 0) AS value,
    source,
    event_id,
    received_time,
    event_time,
    input
  FROM events
  WHERE event_type IN ('purchase', 'refund') AND is_bot IS NOT TRUE
),
payments AS (
  SELECT day, channel, country, currency, person, is_order, value
  FROM copies
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY day, source, event_id ORDER BY received_time, event_time, input) = 1
    AND is_own
),
days AS (
  SELECT
    day,
    channel,
    country,
    currency,
    COUNTIF(is_order) AS orders,
    COUNT(DISTINCT IF(is_order, person, NULL)) AS buyers,
    SUM(IF(is_order, value, 0)) AS revenue,
    -- A source writes a refund of 5 as 5 or as -5.
    SUM(IF(is_order, 0, ABS(value))) AS refunds,
    COUNT(DISTINCT IF(is_order, NULL, person)) AS refunded_buyers
  FROM payments
  GROUP BY day, channel, country, currency
)
SELECT *, revenue - refunds AS net_revenue
FROM days
