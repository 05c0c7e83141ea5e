-- Records that no attempt could take in: the last attempt of each. An attempt that passed has a row whose code is NULL.
SELECT *
FROM quarantine
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY input, quarantine_id ORDER BY attempt DESC, failed_time DESC) = 1
  AND COUNT(IF(code IS NULL, 1, NULL)) OVER (PARTITION BY input, quarantine_id) = 0
