-- One row for each source and event_id: the one received first. An id that returns after its dedup window is in events twice.
SELECT
  {{event_columns}},
  DATE(event_time, '{{time_zone}}') AS day,
  COALESCE(user_id, anonymous_id) AS person
FROM events
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY source, event_id ORDER BY received_time, event_time, input) = 1
