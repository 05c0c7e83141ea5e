"""What an agent may ask: the tables and views of the warehouse, without those about single people unless allowed.

A view is about single people if one of its columns names a person, or holds what a person wrote or sent.
"""

import time
from dataclasses import dataclass, field
from threading import Lock

from pipelines.insight.alerts.table import ALERTS
from pipelines.insight.passes import PASSES
from pipelines.warehouse.answers import LATEST, REFRESHES
from pipelines.warehouse.bounds import Bounds
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.views import VIEWS
from transforms.errors import OptionError

PERSONAL = frozenset(
    {
        *("user_id", "anonymous_id", "person", "visitor", "session_id", "visit_id", "event_id", "subject_hmac"),
        *("text", "referrer", "properties", "extra", "payload", "attributes", "position", "quarantine_id"),
    }
)
ANSWERS = frozenset(
    {*(f"{table.name}{LATEST}" for each in PASSES for table in each.tables), REFRESHES.name, ALERTS.name}
)
OUR_TEXT = {ALERTS.name: {"text"}}  # columns of texts that this package writes, not people
NAMES_SECONDS = 60.0  # for which the names of a dataset are remembered: each question would list them
HOW_PEOPLE = "start the server with `audience mcp --people` to allow it"
HOW_SQL = "start the server with `audience mcp --allow_sql` to allow it"
SHOWN = {"STRING", "TIMESTAMP", "DATE", "NUMERIC", "INT64", "FLOAT64", "BOOL", "JSON"}  # types that an answer holds


@dataclass(frozen=True)
class Limits:
    """Limits of each answer: rows, bytes of its text, seconds, and bytes that BigQuery may bill."""

    rows: int = 1_000
    bytes: int = 200_000
    seconds: float = 30.0
    billed_bytes: int = 10_000_000_000


@dataclass
class Scope:
    """The warehouse as an agent sees it. `people`: views about single people, too; `sql`: free SQL."""

    warehouse: Warehouse
    people: bool = False
    sql: bool = False
    limits: Limits = Limits()
    _columns: dict[str, dict[str, str]] = field(default_factory=dict)
    _known: set[str] | None = None
    _known_since: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def columns(self, name: str) -> dict[str, str]:
        """The columns of a view that an answer may hold, with their types.

        Errors: OptionError if it may not be asked.
        """
        names = self.names()
        if name not in names:
            if name in self.warehouse.names():
                raise OptionError(f"view: {name!r} may tell of single people; {HOW_PEOPLE}")
            raise OptionError(f"view: got {name!r}; allowed: {', '.join(sorted(names))}")
        found = self._of({name})[name]
        return {column: kind for column, kind in found.items() if kind in SHOWN}

    def names(self) -> set[str]:
        """The tables and views that may be asked."""
        known = self.known()
        if self.people:
            return known
        return {
            name for name, has in self._of(known).items() if not (has.keys() - OUR_TEXT.get(name, set())) & PERSONAL
        }

    def known(self) -> set[str]:
        """The views that this package makes, and with `people` whatever else the warehouse has: what somebody else put
        into a dataset may call a person by any name."""
        now = time.monotonic()
        with self._lock:
            if self._known is None or now - self._known_since > NAMES_SECONDS:
                names = self.warehouse.names()
                ours = (
                    {view.name for view in VIEWS} | {f"{table}_current" for table in self.warehouse.tables()} | ANSWERS
                )
                self._known, self._known_since = names if self.people else names & ours, now
            return self._known

    def bounds(self, *, free: bool = False) -> Bounds:
        """The bounds of a question; `free`: of a person's own SQL, whose relations are checked."""
        relations = frozenset(self.names()) if free else None
        return Bounds(relations, (), self.limits.seconds, self.limits.billed_bytes)

    def _of(self, names: set[str]) -> dict[str, dict[str, str]]:
        with self._lock:
            if missing := names - self._columns.keys():
                self._columns |= self.warehouse.columns(missing)
            return {name: self._columns[name] for name in names}
