-- The present truth of {{table}}: rows are only appended, and the highest (generation, revision) of a key counts.
SELECT *
FROM {{table}}
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY {{day}}, {{key}} ORDER BY generation DESC, revision DESC) = 1
