-- The current audit counts. balance is 0 once a minute is closed; while it is in flight, records are still under way.
SELECT
  *,
  received + exploded - events - duplicates - quarantined - out_of_range - replaced - erased AS balance,
  firing = 'early' AS in_flight
FROM quality_1m
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY {{day}}, {{key}} ORDER BY generation DESC, revision DESC) = 1
