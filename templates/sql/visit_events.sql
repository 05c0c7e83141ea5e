-- Every event with the session that it belongs to: visit_id joins it to visits. NULL: of nobody, or not yet in a session.
WITH dated AS (
  SELECT
    {{event_columns}},
    DATE(event_time, '{{time_zone}}') AS day,
    COALESCE(user_id, anonymous_id) AS person
  FROM events
)
SELECT dated.*, found.visit_id
FROM dated LEFT JOIN sessions_current AS found
  ON COALESCE(dated.anonymous_id, dated.user_id) = COALESCE(found.anonymous_id, found.user_id)
  AND (dated.anonymous_id IS NULL) = (found.anonymous_id IS NULL)
  AND dated.event_time BETWEEN found.session_start AND found.session_end
