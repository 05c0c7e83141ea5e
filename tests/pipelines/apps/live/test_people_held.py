"""What is held of persons, without the loop that keeps it: a look at a request drops what may not be shown."""

from datetime import UTC, datetime, timedelta

from pipelines.apps.live.people.held import Held
from pipelines.insight.place import answers_of, forget_answers
from pipelines.insight.profile_tables import USER_PROFILES
from pipelines.warehouse.answers import REFRESHES
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import ERASURES
from tests.support.rows import write

T = datetime(2026, 3, 1, 12, tzinfo=UTC)


def refreshed(warehouse: LocalWarehouse, as_of: datetime) -> None:
    """Add answers about one person as of a time, as a refresh does."""
    row = {"as_of": as_of, "person": "u1", "first_seen": T, "last_seen": T, "segment": "new"}
    note = {"as_of": as_of, "table_name": USER_PROFILES.name, "row_count": 1}
    with answers_of(warehouse) as inner:
        write(inner, (USER_PROFILES, [row]), (REFRESHES, [note]), declared=[USER_PROFILES, REFRESHES])


def test_answers_are_dropped_by_a_look_once_they_are_removed_or_somebody_was_erased(tmp_path):
    warehouse = LocalWarehouse.open(tmp_path / "w", create=True)
    refreshed(warehouse, T)
    held = Held(warehouse, print)
    held.load()
    first = held.current()
    assert first is not None and first.persons.rows("u1", [USER_PROFILES.name])
    refreshed(warehouse, T + timedelta(minutes=5))
    assert held.current() is first, "a refresh alone drops nothing before it is read"
    held.load()
    write(warehouse, (ERASURES, [{"erased_time": T}]))
    refreshed(warehouse, T + timedelta(minutes=10))
    assert held.current() is None, "who was erased may be among them"
    held.load()
    again = held.current()
    assert again is not None and again.persons.as_of == {USER_PROFILES.name: T + timedelta(minutes=10)}
    forget_answers(warehouse)
    gone = held.current()
    assert gone is not None and len(gone.persons) == 0 and gone.since is None
