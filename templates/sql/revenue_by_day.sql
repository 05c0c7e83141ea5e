-- What was bought and refunded on each day, by channel, country and currency, without programs.
WITH payments AS (
  SELECT
    DATE(event_time, '{{time_zone}}') AS day,
    channel,
    country,
    currency,
    COALESCE(user_id, anonymous_id) AS person,
    event_type = 'purchase' AS is_order,
    COALESCE(value, 0) AS value
  FROM events
  WHERE event_type IN ('purchase', 'refund') AND is_bot IS NOT TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY source, event_id ORDER BY received_time, event_time, input) = 1
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
