-- Why records are in quarantine, for each source and input.
SELECT
  source,
  input,
  stage,
  code,
  COUNT(*) AS records,
  MIN(received_time) AS first_received_time,
  MAX(received_time) AS last_received_time
FROM quarantine_open
GROUP BY source, input, stage, code
