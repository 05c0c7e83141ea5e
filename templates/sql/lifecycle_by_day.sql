-- Who was there on a day: new, back from the day before, or back after a gap; and who was there the day before only.
WITH known AS (
  SELECT
    day,
    LAG(day) OVER (PARTITION BY person ORDER BY day) AS previous_day,
    LEAD(day) OVER (PARTITION BY person ORDER BY day) AS next_day
  FROM active_days
),
told AS (
  SELECT
    CAST(DATE_ADD(day, INTERVAL later DAY) AS DATE) AS day,
    later = 0 AS is_active,
    later = 0 AND previous_day IS NULL AS is_new,
    later = 0 AND DATE_DIFF(day, previous_day, DAY) = 1 AS is_returning,
    later = 0 AND DATE_DIFF(day, previous_day, DAY) > 1 AS is_resurrecting,
    later = 1 AND COALESCE(DATE_DIFF(next_day, day, DAY) > 1, TRUE) AS is_dormant
  FROM known CROSS JOIN UNNEST([0, 1]) AS later
),
calendar AS (
  SELECT day
  FROM (
    SELECT MIN(DATE(bucket_start, '{{time_zone}}')) AS first_day, MAX(DATE(bucket_start, '{{time_zone}}')) AS last_day
    FROM user_days
  ) CROSS JOIN UNNEST(GENERATE_DATE_ARRAY(first_day, last_day)) AS day
)
SELECT
  calendar.day AS day,
  COUNTIF(is_active) AS active_persons,
  COUNTIF(is_new) AS new_persons,
  COUNTIF(is_returning) AS returning_persons,
  COUNTIF(is_resurrecting) AS resurrecting_persons,
  COUNTIF(is_dormant) AS dormant_persons
FROM calendar LEFT JOIN told ON told.day = calendar.day
GROUP BY calendar.day
