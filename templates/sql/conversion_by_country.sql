-- What came of the sessions that began on a day, by country.
WITH days AS (
  SELECT
    day,
    country,
    COUNT(*) AS sessions,
    COUNTIF(is_converted) AS converted_sessions,
    COUNT(DISTINCT visitor) AS visitors,
    COUNT(DISTINCT IF(is_converted, visitor, NULL)) AS converters
  FROM visits
  GROUP BY day, country
)
SELECT
  *,
  SAFE_DIVIDE(converted_sessions, sessions) AS session_conversion_rate,
  SAFE_DIVIDE(converters, visitors) AS visitor_conversion_rate
FROM days
