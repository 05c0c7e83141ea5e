-- What came of the sessions that began on a day, by the campaign that led to them and their channel.
WITH days AS (
  SELECT
    day,
    campaign,
    channel,
    COUNT(*) AS sessions,
    COUNTIF(is_converted) AS converted_sessions,
    COUNT(DISTINCT visitor) AS visitors,
    COUNT(DISTINCT IF(is_converted, visitor, NULL)) AS converters
  FROM visits
  GROUP BY day, campaign, channel
)
SELECT
  *,
  SAFE_DIVIDE(converted_sessions, sessions) AS session_conversion_rate,
  SAFE_DIVIDE(converters, visitors) AS visitor_conversion_rate
FROM days
