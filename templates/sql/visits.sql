-- The sessions that views count: of no program and of at most 24 hours. day: that of its start; visitor: whose it is.
SELECT
  *,
  DATE(session_start, '{{time_zone}}') AS day,
  COALESCE(anonymous_id, user_id) AS visitor
FROM sessions_current
WHERE NOT is_bot AND NOT is_long
