-- Who is there now: events of the last 5 minutes by the clock, without programs.
WITH recent AS (
  SELECT COALESCE(user_id, anonymous_id) AS person, event_type, content_id, event_time
  FROM events
  WHERE DATE(event_time, '{{time_zone}}') >= DATE(TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 5 MINUTE), '{{time_zone}}')
    AND event_time > TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 5 MINUTE)
    AND event_time <= CURRENT_TIMESTAMP()
    AND is_bot IS NOT TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY source, event_id ORDER BY received_time, event_time, input) = 1
)
SELECT
  COUNT(DISTINCT person) AS persons,
  COUNT(*) AS events,
  COUNTIF(event_type = 'page_view') AS views,
  COUNTIF(event_type = 'purchase') AS purchases,
  COUNT(DISTINCT content_id) AS contents,
  MAX(event_time) AS last_event_time
FROM recent
