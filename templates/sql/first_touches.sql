-- Where each person came from: channel, campaign, country and device of the first event that has one, without programs.
WITH seen AS (
  SELECT
    COALESCE(user_id, anonymous_id) AS person,
    event_time,
    sequence,
    received_time,
    channel,
    campaign,
    country,
    device
  FROM events
  WHERE is_bot IS NOT TRUE AND COALESCE(user_id, anonymous_id) IS NOT NULL
)
SELECT DISTINCT
  person,
  MIN(event_time) OVER (PARTITION BY person) AS first_seen,
  FIRST_VALUE(channel IGNORE NULLS) OVER (
    PARTITION BY person
    ORDER BY event_time, sequence, received_time, channel
    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
  ) AS channel,
  FIRST_VALUE(campaign IGNORE NULLS) OVER (
    PARTITION BY person
    ORDER BY event_time, sequence, received_time, campaign
    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
  ) AS campaign,
  FIRST_VALUE(country IGNORE NULLS) OVER (
    PARTITION BY person
    ORDER BY event_time, sequence, received_time, country
    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
  ) AS country,
  FIRST_VALUE(device IGNORE NULLS) OVER (
    PARTITION BY person
    ORDER BY event_time, sequence, received_time, device
    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
  ) AS device
FROM seen
