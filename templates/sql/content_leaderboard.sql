-- How each content did in the 7 days up to the last one, its rates drawn to the overall rate as if 20 more events had it.
WITH recent AS (
  SELECT engagement_by_content.*
  FROM engagement_by_content CROSS JOIN (SELECT MAX(day) AS last_day FROM engagement_by_content)
  WHERE DATE_DIFF(last_day, day, DAY) < 7
),
contents AS (
  SELECT
    content_id,
    category,
    CAST(SUM(views) AS INT64) AS views,
    CAST(SUM(clicks) AS INT64) AS clicks,
    CAST(SUM(impressions) AS INT64) AS impressions,
    CAST(SUM(likes + shares + comments) AS INT64) AS reactions
  FROM recent
  GROUP BY content_id, category
),
compared AS (
  SELECT
    *,
    SAFE_DIVIDE(SUM(clicks) OVER (), SUM(impressions) OVER ()) AS overall_click_through_rate,
    SAFE_DIVIDE(SUM(reactions) OVER (), SUM(views) OVER ()) AS overall_engagement_rate
  FROM contents
),
rated AS (
  SELECT
    *,
    SAFE_DIVIDE(clicks, impressions) AS click_through_rate,
    SAFE_DIVIDE(reactions, views) AS engagement_rate,
    (clicks + 20 * overall_click_through_rate) / (impressions + 20) AS smoothed_click_through_rate,
    (reactions + 20 * overall_engagement_rate) / (views + 20) AS smoothed_engagement_rate
  FROM compared
)
SELECT
  *,
  IF(
    smoothed_click_through_rate IS NULL,
    NULL,
    RANK() OVER (ORDER BY smoothed_click_through_rate DESC, impressions DESC)
  ) AS click_through_place,
  IF(
    smoothed_engagement_rate IS NULL,
    NULL,
    RANK() OVER (ORDER BY smoothed_engagement_rate DESC, views DESC)
  ) AS engagement_place
FROM rated
