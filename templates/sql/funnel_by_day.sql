-- How many people came how far through the steps of the funnel, by the day of the first step; rates NULL without people.
-- A person begins with the first {{first_step}} of a day; each further step is the first event of its kind that is not
-- before the previous step. At one time, events are in the order of the steps. time_N of a row is when step N is reached
-- by whoever stands at that row.
-- Each day has the events that its steps may be reached with, and those that they may repeat: {{reach}}.
WITH steps AS (
{{branches}}
),
unique_steps AS (
  SELECT day, reach, person, event_type, event_time
  FROM steps
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY {{by_day}}source, event_id ORDER BY received_time, event_time, input) = 1
    AND (reach = 0 OR (reach BETWEEN 1 AND {{days_ahead}} AND event_type <> {{first_step}}))
),
placed AS (
  SELECT
    day,
    reach,
    person,
    event_type,
    event_time,
    ROW_NUMBER() OVER (
      PARTITION BY {{by_day}}person
      ORDER BY event_time, CASE event_type {{step_of_kind}} END
    ) AS place
  FROM unique_steps
),
{{times}}
begun AS (
  SELECT day, event_time AS time_1, {{later_times}}
  FROM times_2
  WHERE event_type = {{first_step}} AND reach = 0
  QUALIFY ROW_NUMBER() OVER (PARTITION BY day, person ORDER BY place) = 1
),
asked AS (
  SELECT
    day,
    CAST(step AS INT64) AS step,
    CASE step {{kind_of_step}} END AS event_type,
    CASE step {{time_of_step}} END AS step_time,
    CASE step {{time_before_step}} END AS previous_time,
    TIMESTAMP_ADD(time_1, INTERVAL {{window_seconds}} SECOND) AS end_time
  FROM begun CROSS JOIN UNNEST([{{numbers}}]) AS step
),
timed AS (
  SELECT
    day,
    step,
    event_type,
    step_time <= end_time AS is_reached,
    TIMESTAMP_DIFF(step_time, previous_time, MICROSECOND) / 1000000 AS seconds
  FROM asked
),
ranked AS (
  SELECT
    *,
    ROW_NUMBER() OVER (PARTITION BY day, step, is_reached ORDER BY seconds) AS place,
    COUNT(*) OVER (PARTITION BY day, step, is_reached) AS persons
  FROM timed
),
reached AS (
  SELECT
    day,
    step,
    event_type,
    COUNTIF(is_reached) AS persons,
    AVG(IF(is_reached AND place IN (DIV((persons + 1), 2), DIV((persons + 2), 2)), seconds, NULL))
      AS median_seconds_from_previous
  FROM ranked
  GROUP BY day, step, event_type
),
compared AS (
  SELECT
    day,
    step,
    event_type,
    persons,
    MAX(persons) OVER (PARTITION BY day) AS first_persons,
    LAG(persons) OVER (PARTITION BY day ORDER BY step) AS previous_persons,
    median_seconds_from_previous
  FROM reached
)
SELECT
  day,
  step,
  event_type,
  persons,
  first_persons,
  previous_persons,
  SAFE_DIVIDE(persons, first_persons) AS conversion_from_first,
  SAFE_DIVIDE(persons, previous_persons) AS conversion_from_previous,
  median_seconds_from_previous
FROM compared
