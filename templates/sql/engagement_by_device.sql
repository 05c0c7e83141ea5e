-- How engaged the sessions were that began on a day, by device. A rate without a denominator is NULL, not 0.
WITH days AS (
  SELECT
    day,
    device,
    COUNT(*) AS sessions,
    COUNTIF(is_engaged) AS engaged_sessions,
    COUNTIF(is_bounce) AS bounces,
    -- Of whole microseconds: a sum of seconds would depend on their order in its last places.
    SUM(IF(is_engaged, TIMESTAMP_DIFF(session_end, session_start, MICROSECOND), 0)) / 1000000 AS engaged_seconds
  FROM visits
  GROUP BY day, device
)
SELECT
  *,
  SAFE_DIVIDE(engaged_sessions, sessions) AS engagement_rate,
  SAFE_DIVIDE(bounces, sessions) AS bounce_rate,
  SAFE_DIVIDE(engaged_seconds, engaged_sessions) AS average_engaged_seconds
FROM days
