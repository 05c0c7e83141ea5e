-- Of the people first seen in a week, by the channel that they came from: how many were there week N on; NULL until it is over.
WITH lives AS (
  SELECT
    active_days.person AS person,
    channel,
    CAST(DATE_TRUNC(day, WEEK(MONDAY)) AS DATE) AS period,
    MIN(CAST(DATE_TRUNC(day, WEEK(MONDAY)) AS DATE)) OVER (PARTITION BY active_days.person) AS cohort,
    MAX(CAST(DATE_TRUNC(day, WEEK(MONDAY)) AS DATE)) OVER (PARTITION BY active_days.person) AS last_period
  FROM active_days LEFT JOIN first_touches ON first_touches.person = active_days.person
),
counted AS (
  SELECT
    cohort,
    channel,
    DIV(DATE_DIFF(period, cohort, DAY), 7) AS age,
    COUNT(DISTINCT person) AS persons,
    COUNT(DISTINCT IF(period = last_period, person, NULL)) AS last_seen
  FROM lives
  GROUP BY cohort, channel, age
),
known AS (
  SELECT MAX(DATE(bucket_start, '{{time_zone}}')) AS last_day
  FROM user_days
),
cells AS (
  SELECT
    cohort,
    channel,
    cell AS n,
    CAST(SUM(IF(age = 0, persons, 0)) AS INT64) AS cohort_size,
    CAST(SUM(IF(age = cell, persons, 0)) AS INT64) AS persons,
    CAST(SUM(IF(age >= cell, last_seen, 0)) AS INT64) AS persons_from
  FROM counted CROSS JOIN UNNEST(GENERATE_ARRAY(0, 12)) AS cell
  GROUP BY cohort, channel, cell
),
judged AS (
  SELECT cells.*, DATE_DIFF(last_day, cohort, DAY) >= 7 * n + 6 AS is_over
  FROM cells CROSS JOIN known
)
SELECT
  cohort AS cohort_week,
  channel,
  n AS week_n,
  cohort_size,
  IF(is_over, persons, NULL) AS retained_on,
  IF(is_over, persons_from, NULL) AS retained_on_or_after,
  IF(is_over, SAFE_DIVIDE(persons, cohort_size), NULL) AS retention_on,
  IF(is_over, SAFE_DIVIDE(persons_from, cohort_size), NULL) AS retention_on_or_after
FROM judged
