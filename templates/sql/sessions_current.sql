-- The sessions as they stand: the newest row of each, without those that a tombstone took back.
-- visit_id decides the start: with the start in the key, a condition on it or on its day reaches the scan.
SELECT *
FROM {{table}}
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (
    PARTITION BY {{day}}, session_start, {{key}}
    ORDER BY generation DESC, revision DESC
  ) = 1
  AND NOT is_tombstone
