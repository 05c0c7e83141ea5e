-- How each content did on each day of the warehouse's time zone. A rate without a denominator is NULL, not 0.
WITH days AS (
  SELECT
    DATE(bucket_start, '{{time_zone}}') AS day,
    content_id,
    category,
    CAST(SUM(views) AS INT64) AS views,
    CAST(SUM(clicks) AS INT64) AS clicks,
    CAST(SUM(impressions) AS INT64) AS impressions,
    CAST(SUM(likes) AS INT64) AS likes,
    CAST(SUM(shares) AS INT64) AS shares,
    CAST(SUM(comments) AS INT64) AS comments
  FROM content_1h_current
  GROUP BY day, content_id, category
)
SELECT
  *,
  SAFE_DIVIDE(clicks, impressions) AS click_through_rate,
  SAFE_DIVIDE(likes + shares + comments, views) AS engagement_rate
FROM days
