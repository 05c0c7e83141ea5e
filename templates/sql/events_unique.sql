-- One row for each source and event_id: the one received first. An id that returns after its dedup window is in events twice.
SELECT *
FROM events
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY source, event_id ORDER BY received_time, event_time, input) = 1
