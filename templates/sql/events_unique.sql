-- One row for each source and event_id: the one received first. An id that returns after its dedup window is in events twice.
-- An event is compared with those of its day and of the days before and after: a condition on day reads three days.
WITH copies AS (
  SELECT
    {{event_columns}},
    DATE(event_time, '{{time_zone}}') AS day,
    TRUE AS is_own
  FROM events
  UNION ALL
  SELECT
    {{copied_columns}},
    CAST(DATE_ADD(DATE(event_time, '{{time_zone}}'), INTERVAL 1 DAY) AS DATE) AS day,
    FALSE AS is_own
  FROM events
  UNION ALL
  SELECT
    {{copied_columns}},
    CAST(DATE_SUB(DATE(event_time, '{{time_zone}}'), INTERVAL 1 DAY) AS DATE) AS day,
    FALSE AS is_own
  FROM events
)
SELECT
  {{event_columns}},
  day,
  COALESCE(user_id, anonymous_id) AS person
FROM copies
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY day, source, event_id ORDER BY received_time, event_time, input) = 1
  AND is_own
