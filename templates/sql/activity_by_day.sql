-- How many people were there on each day, in the 7 days up to it and in the 28 days up to it: exact, without programs.
-- A person counts from a day on for 1, 7 or 28 days, but only until the next day on which it is there.
WITH spans AS (
  SELECT day, LEAD(day) OVER (PARTITION BY person ORDER BY day) AS next_day
  FROM active_days
),
changes AS (
  SELECT
    width,
    IF(
      is_end,
      LEAST(CAST(DATE_ADD(day, INTERVAL width DAY) AS DATE), COALESCE(next_day, DATE '9999-12-31')),
      day
    ) AS day,
    IF(is_end, -1, 1) AS change
  FROM spans CROSS JOIN UNNEST([1, 7, 28]) AS width CROSS JOIN UNNEST([FALSE, TRUE]) AS is_end
),
changed AS (
  SELECT
    day,
    SUM(IF(width = 1, change, 0)) AS dau,
    SUM(IF(width = 7, change, 0)) AS wau,
    SUM(IF(width = 28, change, 0)) AS mau
  FROM changes
  GROUP BY day
),
calendar AS (
  SELECT day
  FROM (
    SELECT MIN(DATE(bucket_start, '{{time_zone}}')) AS first_day, MAX(DATE(bucket_start, '{{time_zone}}')) AS last_day
    FROM user_days
  ) CROSS JOIN UNNEST(GENERATE_DATE_ARRAY(first_day, last_day)) AS day
),
counted AS (
  SELECT
    calendar.day AS day,
    CAST(SUM(COALESCE(dau, 0)) OVER (ORDER BY calendar.day) AS INT64) AS dau,
    CAST(SUM(COALESCE(wau, 0)) OVER (ORDER BY calendar.day) AS INT64) AS wau,
    CAST(SUM(COALESCE(mau, 0)) OVER (ORDER BY calendar.day) AS INT64) AS mau,
    LEAST(ROW_NUMBER() OVER (ORDER BY calendar.day), 28) AS days_known
  FROM calendar LEFT JOIN changed ON changed.day = calendar.day
)
SELECT *, SAFE_DIVIDE(dau, mau) AS stickiness
FROM counted
