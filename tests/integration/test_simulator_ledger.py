"""The simulator's ledger against the tables, fault by fault: nothing lost, nothing double, each in its place."""

import json
from collections import Counter
from datetime import date

import pytest

from pipelines.apps.simulator.faults import CODES, NAMES
from pipelines.apps.simulator.ledger import expectations, unmet
from pipelines.apps.simulator.simulate import faults, simulate
from pipelines.batch.backfill import backfill
from pipelines.settings.resolve import resolve
from pipelines.warehouse.dialect import to_duckdb
from pipelines.warehouse.local.warehouse import LocalWarehouse

SEEDS = range(1, 5)
EVENTS = 4_000
TRANSPORT = (
    "received_time",
    "sent_time",
)  # of records without an id that differ in no other field, one is an event


@pytest.fixture(scope="module", params=SEEDS)
def run(request, tmp_path_factory):
    """(the file, its ledger, the warehouse that it was read into) of a seed, with all faults on."""
    folder = tmp_path_factory.mktemp(f"seed{request.param}")
    file = folder / "events.jsonl"
    ledger = simulate(EVENTS, request.param, file, days=2, start=date(2026, 3, 1), faults=faults("many"))
    read(file, folder / "warehouse")
    return file, ledger, folder / "warehouse"


def read(file, warehouse, **given):
    backfill(resolve({"input": [str(file)], "warehouse": str(warehouse), "workers": "1", **given}))


def connect(warehouse):
    return LocalWarehouse.open(warehouse).connect()


def test_each_fault_is_where_its_rule_puts_it(run):
    _, ledger, warehouse = run
    assert set(ledger.injected) == set(NAMES)
    assert min(ledger.injected.values()) > 0
    assert set(ledger.quarantined) == set(CODES.values())
    assert unmet(ledger, LocalWarehouse.open(warehouse)) == []


def passed(file, connection):
    """The records of the lines that are not in quarantine, byte for byte, in order of delivery."""
    refused = Counter(payload for (payload,) in connection.execute("SELECT payload FROM quarantine").fetchall())
    records = []
    for line in file.read_bytes().splitlines():
        if refused[line]:
            refused[line] -= 1
        else:
            records.append(json.loads(line))
    assert refused.total() == 0, "quarantine holds what was not in the file"
    return records


def test_each_line_of_the_file_is_in_one_place_and_no_place_holds_anything_else(run):
    file, ledger, warehouse = run
    connection = connect(warehouse)
    records = passed(file, connection)
    assert len(records) == ledger.lines - sum(ledger.quarantined.values())
    named = [record["event_id"] for record in records if record.get("event_id") is not None]
    stored = connection.execute("SELECT event_id FROM events WHERE id_source = 'client'").fetchall()
    assert sorted(id for (id,) in stored) == sorted(set(named))
    nameless = [record for record in records if record.get("event_id") is None]
    said = {json.dumps({name: record[name] for name in record if name not in TRANSPORT}) for record in nameless}
    (derived,) = connection.execute("SELECT count(*) FROM events WHERE id_source = 'derived'").fetchone()
    assert 0 < derived == len(said) < len(nameless)
    assert len(records) - len(set(named)) - len(said) == ledger.repeats + ledger.conflicts


def test_the_copy_that_was_delivered_first_is_the_one_kept(run):
    file, ledger, warehouse = run
    connection = connect(warehouse)
    first = {}
    for record in passed(file, connection):
        first.setdefault(record.get("event_id"), (record.get("content_id"), record.get("value")))
    asked = "SELECT event_id, content_id, CAST(value AS DOUBLE) FROM events WHERE id_source = 'client'"
    kept = {id: said for id, *said in connection.execute(asked).fetchall()}
    assert len(ledger.conflicted_ids) > 50
    for id in ledger.conflicted_ids:
        assert tuple(kept[id]) == first[id]


METRICS = ("activity_1m_current", "content_1h_current", "campaign_1h_current", "user_days_current")
STAMPS = {"firing", "generation", "revision", "emitted_time", "failed_time"}


def contents(warehouse):
    """All rows of all tables, without what says when and by which run a row was written."""
    connection, found = connect(warehouse), {}
    for table in ("events", "quarantine", "quality_1m_current", *METRICS):
        columns = [name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall() if name not in STAMPS]
        found[table] = connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY ALL").fetchall()
    return found


def test_a_second_add_of_the_same_file_changes_nothing(tmp_path):
    file = tmp_path / "events.jsonl"
    ledger = simulate(EVENTS, 1, file, faults=faults("many"))
    read(file, tmp_path / "warehouse")
    before = contents(tmp_path / "warehouse")
    assert all(before.values())
    read(file, tmp_path / "warehouse", add="true")
    assert contents(tmp_path / "warehouse") == before
    assert unmet(ledger, LocalWarehouse.open(tmp_path / "warehouse")) == []


def test_a_row_that_is_lost_double_or_elsewhere_is_told(run):
    _, ledger, warehouse = run
    connection = connect(warehouse)
    for table in ("events", "quarantine"):
        connection.execute(f"CREATE TEMP TABLE kept_{table} AS SELECT * FROM {table}")
    asked = [each._replace(sql=each.sql.replace("FROM events", "FROM kept_events")) for each in expectations(ledger)]
    asked = [each._replace(sql=each.sql.replace("FROM quarantine", "FROM kept_quarantine")) for each in asked]

    def wrong():
        return {each.name for each in asked if connection.execute(to_duckdb(each.sql)).fetchone()[0] != each.expected}

    assert wrong() == set()
    connection.execute("INSERT INTO kept_events SELECT * FROM kept_events WHERE id_source = 'derived' LIMIT 1")
    assert {"events: rows", "events: derived ids"} <= wrong()
    connection.execute("UPDATE kept_quarantine SET code = 'no_time' WHERE code = 'too_late'")
    assert {"quarantine: no_time", "quarantine: too_late"} <= wrong()
