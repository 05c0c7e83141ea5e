-- How each channel did on each day of the warehouse's time zone. A rate without a denominator is NULL, not 0.
WITH days AS (
  SELECT
    DATE(bucket_start, '{{time_zone}}') AS day,
    channel,
    CAST(SUM(events) AS INT64) AS events,
    CAST(SUM(IF(event_type = 'page_view', events, 0)) AS INT64) AS views,
    CAST(SUM(IF(event_type = 'click', events, 0)) AS INT64) AS clicks,
    CAST(SUM(IF(event_type = 'impression', events, 0)) AS INT64) AS impressions,
    CAST(SUM(IF(event_type = 'like', events, 0)) AS INT64) AS likes,
    CAST(SUM(IF(event_type = 'share', events, 0)) AS INT64) AS shares,
    CAST(SUM(IF(event_type = 'comment', events, 0)) AS INT64) AS comments
  FROM activity_1m_current
  GROUP BY day, channel
)
SELECT
  *,
  SAFE_DIVIDE(clicks, impressions) AS click_through_rate,
  SAFE_DIVIDE(likes + shares + comments, views) AS engagement_rate
FROM days
