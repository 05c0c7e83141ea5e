-- The sessions as they stand: the newest row of each, without those that a tombstone took back.
SELECT *
FROM {{table}}
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY {{key}} ORDER BY generation DESC, revision DESC) = 1 AND NOT is_tombstone
