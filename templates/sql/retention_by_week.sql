-- Of the people first seen in a week, how many were there week N on, and in week N or later; NULL until week N is over.
WITH lives AS (
  SELECT
    person,
    CAST(DATE_TRUNC(day, WEEK(MONDAY)) AS DATE) AS period,
    MIN(CAST(DATE_TRUNC(day, WEEK(MONDAY)) AS DATE)) OVER (PARTITION BY person) AS cohort,
    MAX(CAST(DATE_TRUNC(day, WEEK(MONDAY)) AS DATE)) OVER (PARTITION BY person) AS last_period
  FROM active_days
),
counted AS (
  SELECT
    cohort,
    DIV(DATE_DIFF(period, cohort, DAY), 7) AS age,
    COUNT(DISTINCT person) AS persons,
    COUNT(DISTINCT IF(period = last_period, person, NULL)) AS last_seen
  FROM lives
  GROUP BY cohort, age
),
known AS (
  SELECT MAX(DATE(bucket_start, '{{time_zone}}')) AS last_day
  FROM user_days
),
cells AS (
  SELECT
    cohort,
    cell AS n,
    CAST(SUM(IF(age = 0, persons, 0)) AS INT64) AS cohort_size,
    CAST(SUM(IF(age = cell, persons, 0)) AS INT64) AS persons,
    CAST(SUM(IF(age >= cell, last_seen, 0)) AS INT64) AS persons_from
  FROM counted CROSS JOIN UNNEST(GENERATE_ARRAY(0, 12)) AS cell
  GROUP BY cohort, cell
),
judged AS (
  SELECT cells.*, DATE_DIFF(last_day, cohort, DAY) >= 7 * n + 6 AS is_over
  FROM cells CROSS JOIN known
)
SELECT
  cohort AS cohort_week,
  n AS week_n,
  cohort_size,
  IF(is_over, persons, NULL) AS retained_on,
  IF(is_over, persons_from, NULL) AS retained_on_or_after,
  IF(is_over, SAFE_DIVIDE(persons, cohort_size), NULL) AS retention_on,
  IF(is_over, SAFE_DIVIDE(persons_from, cohort_size), NULL) AS retention_on_or_after
FROM judged
