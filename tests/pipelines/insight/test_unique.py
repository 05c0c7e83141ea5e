"""Events of a kind, each once, are those that the view `events_unique` has: by its own SQL, over many copies."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.insight.shape import Inputs
from pipelines.insight.unique import KEYS, unique_events
from pipelines.settings.config import read_config
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import EVENTS, TABLES
from tests.support.rows import write

ZONE = "Europe/Berlin"
FIRST = datetime(2026, 3, 26, tzinfo=UTC)  # the night of 29 March has 23 hours there
HOUR = timedelta(hours=1)
WHERE = "event_type = 'purchase' AND is_bot IS NOT TRUE"


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> LocalWarehouse:
    """Seven days of few ids, most of which come again: of other kinds and sources, on the same day and on others."""
    draw = random.Random(5)
    kinds, bots = ("purchase", "purchase", "page_view", None), (None, False, True)
    rows = []
    for number in range(1200):
        time = FIRST + draw.randrange(7 * 24 * 4) * HOUR / 4
        rows.append(
            {"event_id": f"e{draw.randrange(300)}", "source": draw.choice(("web", "app")), "event_time": time}
            | {"received_time": time + draw.randrange(4) * HOUR, "input": f"file:{number}"}
            | {"event_type": draw.choice(kinds) or "click", "is_bot": draw.choice(bots), "value": float(number)}
        )
    made = LocalWarehouse.open(tmp_path_factory.mktemp("unique") / "w", time_zone=ZONE, create=True)
    write(made, (EVENTS, rows), declared=TABLES)
    return made


@pytest.mark.parametrize("hours", [(0, 168), (37, 91)])
def test_the_events_are_those_of_the_view(warehouse, hours):
    since, end = (FIRST + hour * HOUR for hour in hours)
    with warehouse.asking() as ask:
        inputs = Inputs(ask, end, ZONE, warehouse.names(), read_config(None))
        found = unique_events(inputs, ("event_type", "value"), since, end, WHERE)
        named = ", ".join((*KEYS, "event_type", "value"))
        span = f"event_time >= TIMESTAMP '{since}' AND event_time < TIMESTAMP '{end}'"
        expected = ask(f"SELECT {named} FROM events_unique WHERE {span} AND {WHERE} ORDER BY 3, 1, 2")
    assert len(found) > 20
    assert found.select("source", "event_id", "value").rows() == expected.select("source", "event_id", "value").rows()
    assert found["event_time"].dt.timestamp().to_list() == expected["event_time"].dt.timestamp().to_list()
