-- What the views over user_days and events must say, from o_events by other ways than theirs: joins and sets, where the
-- views have windows. Days are UTC.
CREATE MACRO of_day(time) AS time::DATE;

-- An id that came again after its dedup window is one event: the one received first.
CREATE TABLE o_unique AS
SELECT * FROM o_events WHERE event_id IS NULL
UNION ALL
SELECT o_events.* FROM o_events JOIN (
    SELECT source, event_id, min((received_time, event_time)) AS earliest FROM o_events
    WHERE event_id IS NOT NULL GROUP BY ALL
) AS kept USING (source, event_id)
WHERE (o_events.received_time, o_events.event_time) = kept.earliest;

CREATE TABLE o_calendar AS
SELECT unnest(generate_series(min(of_day(event_time)), max(of_day(event_time)), INTERVAL 1 DAY))::DATE AS day
FROM o_events WHERE person IS NOT NULL;

CREATE TABLE o_active AS
SELECT DISTINCT of_day(event_time) AS day, person FROM o_events WHERE person IS NOT NULL AND is_bot IS DISTINCT FROM true;

CREATE TABLE o_activity_by_day AS
SELECT c.day,
    (SELECT count(DISTINCT person) FROM o_active a WHERE a.day = c.day) AS dau,
    (SELECT count(DISTINCT person) FROM o_active a WHERE a.day BETWEEN c.day - 6 AND c.day) AS wau,
    (SELECT count(DISTINCT person) FROM o_active a WHERE a.day BETWEEN c.day - 27 AND c.day) AS mau
FROM o_calendar c;

CREATE TABLE o_lifecycle_by_day AS
WITH judged AS (
    SELECT c.day, p.person,
        EXISTS (SELECT 1 FROM o_active a WHERE a.person = p.person AND a.day = c.day) AS today,
        EXISTS (SELECT 1 FROM o_active a WHERE a.person = p.person AND a.day = c.day - 1) AS yesterday,
        p.first_day = c.day AS is_first
    FROM o_calendar c
    JOIN (SELECT person, min(day) AS first_day, max(day) AS last_day FROM o_active GROUP BY person) p
        ON c.day BETWEEN p.first_day AND p.last_day + 1
)
SELECT c.day,
    count(*) FILTER (today) AS active_persons,
    count(*) FILTER (today AND is_first) AS new_persons,
    count(*) FILTER (today AND yesterday) AS returning_persons,
    count(*) FILTER (today AND NOT yesterday AND NOT is_first) AS resurrecting_persons,
    count(*) FILTER (yesterday AND NOT today) AS dormant_persons
FROM o_calendar c LEFT JOIN judged j USING (day) GROUP BY c.day;

-- period 1: days, of 31; period 7: weeks from Monday, of 13.
CREATE MACRO retention(period, cells) AS TABLE
WITH lives AS (
    SELECT person, day, period * (date_diff('day', DATE '2000-01-03', day) // period) AS start FROM o_active
),
cohorts AS (SELECT person, min(start) AS cohort FROM lives GROUP BY person),
last AS (SELECT date_diff('day', DATE '2000-01-03', max(day)) AS day FROM o_calendar),
sizes AS (SELECT cohort, count(*) AS cohort_size FROM cohorts GROUP BY cohort),
grid AS (SELECT cohort, cohort_size, n FROM sizes CROSS JOIN range(cells) t(n))
SELECT (DATE '2000-01-03' + g.cohort::INT)::DATE AS cohort, g.n, g.cohort_size,
    CASE WHEN g.cohort + period * (g.n + 1) - 1 <= (SELECT day FROM last)
        THEN count(DISTINCT l.person) FILTER (l.start = g.cohort + period * g.n) END AS retained_on,
    CASE WHEN g.cohort + period * (g.n + 1) - 1 <= (SELECT day FROM last)
        THEN count(DISTINCT l.person) FILTER (l.start >= g.cohort + period * g.n) END AS retained_on_or_after
FROM grid g JOIN cohorts c USING (cohort) JOIN lives l USING (person)
GROUP BY g.cohort, g.n, g.cohort_size;

-- Chained minima: the first event of each kind that is not before the one of the kind before it.
CREATE MACRO funnel(kinds, window_s) AS TABLE
WITH asked AS (
    SELECT person, event_type, event_time, of_day(event_time) AS day
    FROM o_unique WHERE person IS NOT NULL AND is_bot IS DISTINCT FROM true
),
one AS (SELECT person, day, min(event_time) AS at_1 FROM asked WHERE event_type = kinds[1] GROUP BY ALL),
two AS (
    SELECT one.*, (SELECT min(event_time) FROM asked a WHERE a.person = one.person AND a.event_type = kinds[2]
        AND a.event_time >= at_1 AND a.event_time <= at_1 + to_seconds(window_s)) AS at_2 FROM one
),
three AS (
    SELECT two.*, (SELECT min(event_time) FROM asked a WHERE a.person = two.person AND a.event_type = kinds[3]
        AND a.event_time >= at_2 AND a.event_time <= at_1 + to_seconds(window_s)) AS at_3 FROM two
)
SELECT day, count(*) AS persons_1, count(at_2) AS persons_2, count(at_3) AS persons_3,
    median(epoch_us(at_2) - epoch_us(at_1)) / 1e6 AS median_2,
    median(epoch_us(at_3) - epoch_us(at_2)) / 1e6 AS median_3
FROM three GROUP BY day;

-- Scores: how many of the same currency are worse, in fifths.
CREATE TABLE o_buyers AS
SELECT person, currency, date_diff('day', max(of_day(event_time)), (SELECT max(of_day(event_time)) FROM o_events))
        AS recency_days,
    count(*) AS purchases, sum(value) AS revenue
FROM o_unique
WHERE event_type = 'purchase' AND person IS NOT NULL AND is_bot IS DISTINCT FROM true
GROUP BY person, currency;

CREATE TABLE o_rfm AS
SELECT b.*,
    5 * (SELECT count(*) FROM o_buyers o WHERE o.currency IS NOT DISTINCT FROM b.currency
        AND o.recency_days > b.recency_days) // n + 1 AS recency_score,
    5 * (SELECT count(*) FROM o_buyers o WHERE o.currency IS NOT DISTINCT FROM b.currency
        AND o.purchases < b.purchases) // n + 1 AS frequency_score
FROM o_buyers b JOIN (SELECT currency, count(*) AS n FROM o_buyers GROUP BY currency) t
    ON t.currency IS NOT DISTINCT FROM b.currency;

-- Recency says nothing where nobody of a currency has more than a fifth of its buyers behind.
CREATE OR REPLACE TABLE o_rfm AS
SELECT * REPLACE (CASE WHEN (SELECT max(o.recency_score) FROM o_rfm o WHERE o.currency IS NOT DISTINCT FROM r.currency) > 1
    THEN recency_score END AS recency_score)
FROM o_rfm r;

-- Money by day: a refund counts without its sign.
CREATE TABLE o_revenue AS
SELECT of_day(event_time) AS day, channel, country, currency,
    count(*) FILTER (event_type = 'purchase') AS orders,
    count(DISTINCT person) FILTER (event_type = 'purchase') AS buyers,
    coalesce(sum(value) FILTER (event_type = 'purchase'), 0)::DECIMAL(38, 9) AS revenue,
    coalesce(sum(abs(value)) FILTER (event_type = 'refund'), 0)::DECIMAL(38, 9) AS refunds,
    count(DISTINCT person) FILTER (event_type = 'refund') AS refunded_buyers
FROM o_unique WHERE event_type IN ('purchase', 'refund') AND is_bot IS DISTINCT FROM true
GROUP BY ALL;

-- Which visits conversions are attributed to: every pair of a conversion and a visit of its person, by joins.
CREATE MACRO attribution(look_back) AS TABLE
WITH conversions AS (
    SELECT row_number() OVER () AS id, of_day(event_time) AS day, event_time AS time, event_type, user_id, anonymous_id,
        CASE WHEN event_type = 'purchase' THEN currency END AS currency,
        CASE WHEN event_type = 'purchase' THEN coalesce(value, 0) ELSE 0 END AS value
    FROM o_unique WHERE event_type IN ('signup', 'purchase') AND is_bot IS DISTINCT FROM true
),
moments AS (
    SELECT d.day, s.session_start AS time, s.user_id, s.anonymous_id, s.channel, s.campaign, NULL AS id
    FROM (SELECT DISTINCT day FROM conversions) d
    JOIN o_sessions s ON of_day(s.session_start) BETWEEN d.day - look_back AND d.day
    WHERE NOT s.is_bot AND NOT s.is_long
    UNION ALL
    SELECT day, time, user_id, anonymous_id, NULL, NULL, id FROM conversions
),
logins AS (
    SELECT day, anonymous_id, time, user_id FROM moments WHERE user_id IS NOT NULL AND anonymous_id IS NOT NULL
),
owned AS (
    SELECT m.*, coalesce(m.user_id,
        (SELECT arg_min(l.user_id, (l.time, l.user_id)) FROM logins l
            WHERE l.day = m.day AND l.anonymous_id = m.anonymous_id AND l.time >= m.time),
        (SELECT arg_max(l.user_id, (l.time, l.user_id)) FROM logins l
            WHERE l.day = m.day AND l.anonymous_id = m.anonymous_id AND l.time < m.time)) AS owner
    FROM moments m
),
pairs AS (
    SELECT c.*, o.owner, v.channel, v.campaign, v.time IS NULL AS is_alone,
        v.campaign IS NOT NULL OR v.channel IN ('email', 'social') AS is_led,
        row_number() OVER (PARTITION BY c.id ORDER BY v.time, coalesce(v.channel, ''), coalesce(v.campaign, '')) AS n,
        count(*) OVER (PARTITION BY c.id) AS visits
    FROM conversions c JOIN owned o USING (id)
    LEFT JOIN owned v ON v.id IS NULL AND v.day = c.day AND v.time <= c.time
        AND (v.owner = o.owner OR (v.owner IS NULL AND o.owner IS NULL AND v.anonymous_id = c.anonymous_id))
),
led AS (SELECT *, coalesce(max(n) FILTER (is_led) OVER (PARTITION BY id), visits) AS led_by FROM pairs),
shares AS (
    SELECT *, unnest([
        {'model': 'first_touch', 'share': (n = 1)::INT::DOUBLE},
        {'model': 'last_touch', 'share': (n = visits)::INT::DOUBLE},
        {'model': 'last_non_direct', 'share': (n = led_by)::INT::DOUBLE},
        {'model': 'position_based', 'share': CASE WHEN visits = 1 THEN 1 WHEN visits = 2 THEN 0.5
            WHEN n IN (1, visits) THEN 0.4 ELSE 0.2 / (visits - 2) END}], recursive := true)
    FROM led
)
SELECT day, model, event_type, channel, campaign, currency, count(DISTINCT coalesce(owner, anonymous_id)) AS converters,
    round(sum(share), 6) AS conversions, round(sum(value * share), 6) AS revenue
FROM shares WHERE share > 0 GROUP BY ALL;

-- The channel of a person's first event that has one.
CREATE TABLE o_first_channel AS
SELECT person, min(seen(event_time, sequence, received_time, channel)) FILTER (channel IS NOT NULL).v AS channel
FROM o_events WHERE person IS NOT NULL AND is_bot IS DISTINCT FROM true
GROUP BY person;

CREATE TABLE o_leaderboard AS
WITH recent AS (
    SELECT * FROM o_events WHERE content_id IS NOT NULL AND of_day(event_time) >
        (SELECT max(of_day(event_time)) - 7 FROM o_events WHERE content_id IS NOT NULL)
),
contents AS (
    SELECT content_id, category,
        count(*) FILTER (event_type = 'page_view') AS views,
        count(*) FILTER (event_type = 'click') AS clicks,
        count(*) FILTER (event_type = 'impression') AS impressions,
        count(*) FILTER (event_type IN ('like', 'share', 'comment')) AS reactions
    FROM recent GROUP BY ALL
),
overall AS (SELECT sum(clicks) / nullif(sum(impressions), 0) AS c, sum(reactions) / nullif(sum(views), 0) AS e FROM contents)
SELECT contents.*, (clicks + 20 * c) / (impressions + 20) AS smoothed_click_through_rate,
    (reactions + 20 * e) / (views + 20) AS smoothed_engagement_rate
FROM contents, overall;
