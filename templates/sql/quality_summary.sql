-- What became of every record, for each source and input. conflicts are among the duplicates.
SELECT
  source,
  input,
  CAST(SUM(received) AS INT64) AS received,
  CAST(SUM(exploded) AS INT64) AS exploded,
  CAST(SUM(events) AS INT64) AS events,
  CAST(SUM(duplicates) AS INT64) AS duplicates,
  CAST(SUM(conflicts) AS INT64) AS conflicts,
  CAST(SUM(quarantined) AS INT64) AS quarantined,
  CAST(SUM(out_of_range) AS INT64) AS out_of_range,
  CAST(SUM(replaced) AS INT64) AS replaced,
  CAST(SUM(erased) AS INT64) AS erased,
  CAST(SUM(balance) AS INT64) AS balance,
  COUNTIF(in_flight) AS minutes_in_flight
FROM quality_1m_current
GROUP BY source, input
