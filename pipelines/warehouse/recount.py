"""Recount: compare the tables with their audit counts, and check the balance of each minute.

    differences(warehouse) -> [(what, source, input, minute, told, found)], none if the counts reconcile

The counts `events` and `quarantined` are compared with the rows of `events` and `quarantine_open`; `balance` has to
be 0 in every closed minute. The other counts are of records that are in no table. Where a row may be written twice,
each delivery of an event counts once.
"""

from datetime import datetime
from typing import NamedTuple

from pipelines.warehouse.interface import Warehouse


class Difference(NamedTuple):
    """What the audit counts of a minute say, and what was found."""

    what: str
    source: str
    input: str | None
    minute: datetime | None
    told: int
    found: int


_KEYS = "source, input, minute"
# While a stream writes, rows are there before their audit counts: only minutes whose window has closed count.
_CLOSED = "SELECT source, input, minute FROM told WHERE NOT in_flight"
_QUERY = f"""
WITH found AS (
  SELECT source, input, TIMESTAMP_TRUNC(received_time, MINUTE) AS minute, count(*) AS events, 0 AS quarantined
  FROM {{events}} GROUP BY ALL
  UNION ALL
  SELECT source, input, TIMESTAMP_TRUNC(received_time, MINUTE), 0, count(*) FROM quarantine_open GROUP BY ALL
),
told AS (
  SELECT source, input, bucket_start AS minute, events, quarantined, balance, in_flight FROM quality_1m_current
),
compared AS (
  SELECT 'events' AS what, {_KEYS}, events AS told, 0 AS found FROM told
  UNION ALL SELECT 'events', {_KEYS}, 0, events FROM found
  UNION ALL SELECT 'quarantined', {_KEYS}, quarantined, 0 FROM told
  UNION ALL SELECT 'quarantined', {_KEYS}, 0, quarantined FROM found
  UNION ALL SELECT 'balance', {_KEYS}, balance, 0 FROM told WHERE NOT in_flight
)
SELECT what, {_KEYS}, CAST(SUM(told) AS INT64) AS told, CAST(SUM(found) AS INT64) AS found
FROM compared {{only}} GROUP BY ALL HAVING SUM(told) <> SUM(found)
ORDER BY minute, source, input, what
"""


_EACH_ONCE = "(SELECT DISTINCT source, input, event_id, received_time, client_time FROM events)"


def differences(warehouse: Warehouse, writing: bool = False) -> list[Difference]:
    """Every difference, by minute; with `writing` those of minutes that are in flight are left out."""
    only = f"JOIN ({_CLOSED}) AS closed USING ({_KEYS})" if writing else ""
    query = _QUERY.format(only=only, events=_EACH_ONCE if warehouse.at_least_once else "events")
    return [Difference(*row) for part in warehouse.ask(query) for row in part.iter_rows()]
