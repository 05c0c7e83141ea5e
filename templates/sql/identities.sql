-- Which user was seen with which anonymous_id. users above 1: a device that several people share.
SELECT
  anonymous_id,
  user_id,
  COUNT(*) AS sessions,
  MIN(session_start) AS first_seen,
  MAX(session_end) AS last_seen,
  COUNT(*) OVER (PARTITION BY anonymous_id) AS users
FROM visits
WHERE anonymous_id IS NOT NULL AND user_id IS NOT NULL
GROUP BY anonymous_id, user_id
