-- The days on which a person was there: at least one event of the day is not flagged as a program's.
SELECT DISTINCT
  DATE(bucket_start, '{{time_zone}}') AS day,
  person
FROM user_days_current
WHERE person IS NOT NULL AND events > COALESCE(bot_events, 0)
