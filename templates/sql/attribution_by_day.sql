-- Which visits the signups and purchases of a day are attributed to, by four models; the shares of a conversion add up to it.
-- An event is compared with those of its day and of the days before and after, as in events_unique. The visits of a
-- conversion are those that its person began on its day, up to its time, and on the {{look_back_days}} days before.
WITH copies AS (
  SELECT
    DATE(event_time, '{{time_zone}}') AS day,
    TRUE AS is_own,
    event_type,
    event_time,
    user_id,
    anonymous_id,
    currency,
    value,
    source,
    event_id,
    received_time,
    input
  FROM events
  WHERE event_type IN ('signup', 'purchase') AND is_bot IS NOT TRUE
  UNION ALL
  SELECT
    CAST(DATE_ADD(DATE(event_time, '{{time_zone}}'), INTERVAL 1 DAY) AS DATE) AS day,
    FALSE AS is_own,
    event_type,
    event_time,
    user_id,
    anonymous_id,
    currency,
    value,
    source,
    event_id,
    received_time,
    input
  FROM events
  WHERE event_type IN ('signup', 'purchase') AND is_bot IS NOT TRUE
  UNION ALL
  SELECT
    CAST(DATE_SUB(DATE(event_time, '{{time_zone}}'), INTERVAL 1 DAY) AS DATE) AS day,
    FALSE AS is_own,
    event_type,
    event_time,
    user_id,
    anonymous_id,
    currency,
    value,
    source,
    event_id,
    received_time,
    input
  FROM events
  WHERE event_type IN ('signup', 'purchase') AND is_bot IS NOT TRUE
),
conversions AS (
  SELECT
    day,
    event_type,
    event_time,
    user_id,
    anonymous_id,
    IF(event_type = 'purchase', currency, NULL) AS currency,
    IF(event_type = 'purchase', COALESCE(value, 0), 0) AS value
  FROM copies
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY day, source, event_id ORDER BY received_time, event_time, input) = 1
    AND is_own
),
begun AS (
{{branches}}
),
moments AS (
  SELECT
    day,
    TRUE AS is_visit,
    session_start AS time,
    user_id,
    anonymous_id,
    channel,
    campaign,
    campaign IS NULL AND (channel IS NULL OR channel NOT IN ('email', 'social')) AS is_direct,
    NULL AS event_type,
    NULL AS currency,
    NULL AS value
  FROM begun
  UNION ALL
  SELECT
    day,
    FALSE AS is_visit,
    event_time AS time,
    user_id,
    anonymous_id,
    NULL AS channel,
    NULL AS campaign,
    NULL AS is_direct,
    event_type,
    currency,
    value
  FROM conversions
),
owned AS (
  -- What a device did before a login is of the user who logs in there next; after the last one, of that one.
  SELECT
    *,
    IF(
      anonymous_id IS NULL,
      user_id,
      COALESCE(
        user_id,
        FIRST_VALUE(user_id IGNORE NULLS) OVER (
          PARTITION BY day, anonymous_id
          ORDER BY time, user_id
          ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
        ),
        LAST_VALUE(user_id IGNORE NULLS) OVER (
          PARTITION BY day, anonymous_id
          ORDER BY time, user_id
          ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        )
      )
    ) AS owner
  FROM moments
),
placed AS (
  -- place: of a visit its own, of a conversion that of the last visit before it; 0 where there is none.
  SELECT
    *,
    IF(owner IS NULL, anonymous_id, NULL) AS device,
    COUNT(IF(is_visit, 1, NULL)) OVER (
      PARTITION BY day, owner, IF(owner IS NULL, anonymous_id, NULL)
      ORDER BY time, IF(is_visit, 0, 1), channel, campaign
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS place
  FROM owned
  WHERE TRUE
  QUALIFY COUNT(IF(is_visit, NULL, 1)) OVER (PARTITION BY day, owner, IF(owner IS NULL, anonymous_id, NULL)) > 0
),
judged AS (
  SELECT
    *,
    MAX(IF(is_visit AND NOT is_direct, place, NULL)) OVER (
      PARTITION BY day, owner, device
      ORDER BY time, IF(is_visit, 0, 1), channel, campaign
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS non_direct_place
  FROM placed
),
paired AS (
  -- A conversion, once with each of its visits, whose rows have the same place.
  SELECT
    day,
    is_visit,
    COALESCE(owner, device) AS person,
    event_type,
    currency,
    value,
    place AS visits,
    COALESCE(non_direct_place, place) AS non_direct_place,
    nth,
    FIRST_VALUE(channel) OVER (
      PARTITION BY day, owner, device, nth
      ORDER BY IF(is_visit, 0, 1)
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS channel,
    FIRST_VALUE(campaign) OVER (
      PARTITION BY day, owner, device, nth
      ORDER BY IF(is_visit, 0, 1)
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS campaign
  FROM judged CROSS JOIN UNNEST(GENERATE_ARRAY(IF(is_visit, place, LEAST(place, 1)), place)) AS nth
),
weighed AS (
  -- Of one conversion and of its value: what the first visit gets, and each one in the middle.
  SELECT
    *,
    CAST(IF(visits = 2, 0.5, 0.4) AS NUMERIC) AS first_share,
    CAST(COALESCE(SAFE_DIVIDE(1, 5 * (visits - 2)), 0) AS NUMERIC) AS middle_share,
    CAST(IF(visits = 2, value / 2, value * 2 / 5) AS NUMERIC) AS first_value,
    CAST(COALESCE(SAFE_DIVIDE(value, 5 * (visits - 2)), 0) AS NUMERIC) AS middle_value
  FROM paired
  WHERE NOT is_visit
),
credited AS (
  -- The last visit gets the rest, so that the shares add up in the last place, too.
  SELECT
    day,
    model,
    event_type,
    channel,
    campaign,
    currency,
    person,
    CASE
      WHEN model <> 'position_based' OR visits < 2 THEN 1
      WHEN nth = 1 THEN first_share
      WHEN nth = visits THEN 1 - first_share - middle_share * (visits - 2)
      ELSE middle_share
    END AS share,
    CASE
      WHEN model <> 'position_based' OR visits < 2 THEN value
      WHEN nth = 1 THEN first_value
      WHEN nth = visits THEN value - first_value - middle_value * (visits - 2)
      ELSE middle_value
    END AS value
  FROM weighed CROSS JOIN UNNEST(['first_touch', 'last_touch', 'last_non_direct', 'position_based']) AS model
  WHERE CASE model
    WHEN 'first_touch' THEN nth = LEAST(visits, 1)
    WHEN 'last_touch' THEN nth = visits
    WHEN 'last_non_direct' THEN nth = non_direct_place
    ELSE TRUE
  END
)
SELECT
  day,
  model,
  event_type,
  channel,
  campaign,
  currency,
  COUNT(DISTINCT person) AS converters,
  CAST(SUM(share) AS NUMERIC) AS conversions,
  CAST(SUM(value) AS NUMERIC) AS revenue
FROM credited
GROUP BY day, model, event_type, channel, campaign, currency
