-- Who buys: recency, frequency and monetary value of each person in each currency, scored 1 to 5, and a named segment.
WITH purchases AS (
  SELECT COALESCE(user_id, anonymous_id) AS person, currency, value, event_time
  FROM events
  WHERE event_type = 'purchase' AND is_bot IS NOT TRUE AND COALESCE(user_id, anonymous_id) IS NOT NULL
  QUALIFY ROW_NUMBER() OVER (PARTITION BY source, event_id ORDER BY received_time, event_time, input) = 1
),
known AS (
  SELECT MAX(DATE(event_time, '{{time_zone}}')) AS last_day
  FROM events
),
buyers AS (
  SELECT
    person,
    currency,
    MAX(DATE(event_time, '{{time_zone}}')) AS last_purchase_day,
    COUNT(*) AS purchases,
    SUM(value) AS revenue
  FROM purchases
  GROUP BY person, currency
),
measured AS (
  SELECT buyers.*, DATE_DIFF(last_day, last_purchase_day, DAY) AS recency_days
  FROM buyers CROSS JOIN known
),
ranked AS (
  SELECT
    *,
    COUNT(*) OVER (PARTITION BY currency) AS persons,
    RANK() OVER (PARTITION BY currency ORDER BY recency_days DESC) AS recency_rank,
    RANK() OVER (PARTITION BY currency ORDER BY purchases) AS frequency_rank,
    RANK() OVER (PARTITION BY currency ORDER BY COALESCE(revenue, 0)) AS monetary_rank
  FROM measured
),
rated AS (
  SELECT
    person,
    currency,
    last_purchase_day,
    recency_days,
    purchases,
    revenue,
    DIV(5 * (recency_rank - 1), persons) + 1 AS recency_score,
    DIV(5 * (frequency_rank - 1), persons) + 1 AS frequency_score,
    DIV(5 * (monetary_rank - 1), persons) + 1 AS monetary_score
  FROM ranked
),
scored AS (
  -- Where no buyer of a currency scores above 1, most bought last on the most recent day: recency says nothing.
  SELECT
    person,
    currency,
    last_purchase_day,
    recency_days,
    purchases,
    revenue,
    IF(MAX(recency_score) OVER (PARTITION BY currency) = 1, NULL, recency_score) AS recency_score,
    frequency_score,
    monetary_score
  FROM rated
)
SELECT
  *,
  CASE
    WHEN recency_score IS NULL THEN 'unknown'
    WHEN recency_score >= 4 AND frequency_score >= 4 AND monetary_score >= 4 THEN 'champion'
    WHEN recency_score >= 3 AND frequency_score >= 4 THEN 'loyal'
    WHEN recency_score >= 4 AND purchases = 1 THEN 'new'
    WHEN recency_score >= 3 THEN 'promising'
    WHEN frequency_score >= 4 OR monetary_score >= 4 THEN 'at_risk'
    ELSE 'lost'
  END AS segment
FROM scored
