"""What persons have done since the answers were computed: events of a folder, counted by person, up to its last commit.

An event is counted for its user id, or for its anonymous id where it has no user id: who an anonymous id belongs to is
known as of a refresh.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from pipelines.apps.live.people.index import place_of
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import EVENTS

LONGEST = timedelta(days=1)  # back to which events are counted: answers that are older have nothing beside them
_SQL = """
SELECT coalesce(user_id, anonymous_id) AS person, count(*) AS events, max(event_time) AS last_seen,
       arg_max(event_type, (event_time, event_id)) AS last_event_type,
       arg_max(content_id, (event_time, event_id)) AS last_content_id
FROM events
WHERE event_time >= TIMESTAMPTZ '{since}' AND is_bot IS NOT TRUE AND coalesce(user_id, anonymous_id) IS NOT NULL
GROUP BY 1
"""


class Since:
    """Events since a time, by person.

    time   from which on they are counted, UTC
    """

    def __init__(self, time: datetime, rows: pl.DataFrame):
        """`rows`: person, events, last_seen, last_event_type, last_content_id, in the order of persons."""
        self.time = time
        self._persons, self._rows = rows["person"].rechunk(), rows.drop("person").rechunk()

    def of(self, person: str) -> dict[str, Any] | None:
        """The row of a person; None: it did nothing."""
        at = place_of(person, self._persons)
        return None if at is None else self._rows.row(at, named=True)


def read_since(warehouse: LocalWarehouse, time: datetime) -> Since | None:
    """The events from a time on; None where that is more than LONGEST ago. Errors: those of the warehouse."""
    if datetime.now(UTC) - time > LONGEST:
        return None
    with warehouse.asking_recent({EVENTS.name: time}) as recent:
        rows = recent.ask(_SQL.format(since=time.astimezone(UTC).isoformat()))
    return Since(time, rows.with_columns(pl.col("last_seen").dt.convert_time_zone("UTC")).sort("person"))
