"""A person is found in every table, and taken out of all of them; what stays is as if they had never been."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.backfill import backfill
from pipelines.cli import main
from pipelines.options import resolve
from pipelines.person import also_known_as, erase, find
from pipelines.sources.landing import LANDING, Lander
from pipelines.warehouse.local import LocalWarehouse
from pipelines.warehouse.recount import differences
from transforms.block import RAW_SCHEMA

DAY = "2026-03-01"


def native(id: str, hour: int, day: str = DAY, **fields) -> str:
    time = f"{day}T{hour:02}:00:00Z"
    stated = {"event_id": id, "event_type": "page_view", "event_time": time, "received_time": time, "channel": "web"}
    return json.dumps(stated | fields)


OTHERS = [
    native("b", 10, user_id="u10"),
    native("c", 11, anonymous_id="a2", user_id="u2"),
    native("d", 11, day="2026-03-02", user_id="u2"),
    native("e", 11, user_id="u3", extra_note="wrote to u1 about it"),
    json.dumps({"event_type": "No", "user_id": "u10", "event_time": f"{DAY}T10:00:00Z"}),
]
THEIRS = [
    native("p", 9, user_id="u1"),
    native("q", 10, user_id="u1", anonymous_id="a1"),
    native("r", 11, anonymous_id="a1"),
    json.dumps({"event_type": "No", "user_id": "u1", "event_time": f"{DAY}T10:00:00Z"}),
    '{"user_id": "u1", "broken',
]


def backfilled(folder: Path, lines: list[str]) -> LocalWarehouse:
    folder.mkdir()
    (folder / "e.jsonl").write_text("".join(line + "\n" for line in lines))
    backfill(resolve({"input": [str(folder / "e.jsonl")], "warehouse": str(folder / "w"), "workers": "1"}))
    return LocalWarehouse.open(folder / "w")


def settings(warehouse: LocalWarehouse, **options):
    return resolve({"warehouse": str(warehouse.folder), "workers": "1"} | options, "recompute")


def metrics_and_events(warehouse: LocalWarehouse) -> list[list[tuple]]:
    """What the warehouse says, without the input and the stamps of publication."""
    stamps = "generation, revision, emitted_time, firing"
    connection = warehouse.connect()
    tables = ("activity_1m", "content_1h", "campaign_1h", "user_days", "sessions")
    return [
        connection.execute("SELECT * EXCLUDE (input) FROM events ORDER BY ALL").fetchall(),
        connection.execute("SELECT payload, code FROM quarantine_open ORDER BY ALL").fetchall(),
        *(connection.execute(f"SELECT * EXCLUDE ({stamps}) FROM {t}_current ORDER BY ALL").fetchall() for t in tables),
    ]


@pytest.fixture
def warehouse(tmp_path) -> LocalWarehouse:
    return backfilled(tmp_path / "all", OTHERS + THEIRS)


def test_a_person_is_found_in_every_table_and_not_taken_for_one_whose_id_begins_alike(warehouse):
    found = {(each.table, each.column): each.rows for each in find(warehouse, ["u1"])}
    assert found == {
        ("events", "user_id"): 2,
        ("user_days", "person"): 1,
        ("sessions", "user_id"): 2,
        ("quarantine", "payload"): 2,
        ("events", "extra (a mention)"): 1,
    }
    assert also_known_as(warehouse, ["u1"]) == ["a1"]
    assert find(warehouse, ["nobody"]) == []


def test_what_stays_is_as_if_they_had_never_been_sketches_too(warehouse, tmp_path):
    done = erase(settings(warehouse), ["u1", "a1"])
    assert done.rows == {"events": 3, "user_days": 2, "sessions": 3, "quarantine": 2}
    assert [day.isoformat() for day in done.days] == [DAY]
    assert done.kept_sketches == []
    assert metrics_and_events(warehouse) == metrics_and_events(backfilled(tmp_path / "others", OTHERS))
    assert [each.column for each in find(warehouse, ["u1", "a1"])] == ["extra (a mention)"]
    assert differences(warehouse) == []
    counts = "sum(received), sum(events), sum(quarantined), sum(erased), sum(replaced), sum(balance)"
    assert warehouse.connect().execute(f"SELECT {counts} FROM quality_1m_current").fetchone() == (10, 4, 1, 5, 0, 0)


def test_no_file_of_the_warehouse_holds_their_bytes_afterwards(warehouse):
    erase(settings(warehouse), ["u1", "a1"])
    files = [path for path in warehouse.folder.rglob("*.parquet")]
    assert {str(path.relative_to(warehouse.folder)) for path in files} == warehouse.manifest().paths()
    held = [pl.read_parquet(path).select(pl.col(pl.String)) for path in files]
    texts = [text for frame in held for name in frame.columns if name != "extra" for text in frame[name].drop_nulls()]
    assert "u10" in texts and not {"u1", "a1"} & set(texts)
    payloads = [payload for path in files if "quarantine" in str(path) for payload in pl.read_parquet(path)["payload"]]
    assert payloads == [OTHERS[-1].encode()]


def test_the_proof_tells_whose_without_naming_them(warehouse):
    erase(settings(warehouse), ["u1", "a1"])
    proofs = warehouse.connect().execute("SELECT subject_sha256, rows, days FROM erasures").fetchall()
    assert {subject for subject, _, _ in proofs} == {hashlib.sha256(id.encode()).hexdigest() for id in ("u1", "a1")}
    assert json.loads(proofs[0][1]) == {"events": 3, "user_days": 2, "sessions": 3, "quarantine": 2}
    assert json.loads(proofs[0][2]) == [DAY]
    erase(settings(warehouse), ["u1"])
    assert warehouse.connect().execute("SELECT rows FROM erasures ORDER BY erased_time").fetchall()[-1] == ("{}",)


def test_rows_of_a_metric_that_is_no_longer_in_force_go_too_and_its_sketches_are_told(tmp_path):
    folder = tmp_path / "all"
    folder.mkdir()
    config = tmp_path / "audience.yaml"
    config.write_text(
        "metrics: {old_1d: {bucket: 1d, dimensions: [user_id], measures: {n: {count: all}, ids: {distinct: person}}}}"
    )
    (folder / "e.jsonl").write_text("".join(line + "\n" for line in OTHERS + THEIRS))
    given = {"input": [str(folder / "e.jsonl")], "warehouse": str(folder / "w"), "workers": "1"}
    backfill(resolve(given | {"config": str(config)}))
    warehouse = LocalWarehouse.open(folder / "w")
    done = erase(settings(warehouse), ["u1"])
    assert done.kept_sketches == ["old_1d"]
    users = warehouse.connect().execute("SELECT user_id FROM old_1d ORDER BY 1 NULLS LAST").fetchall()
    assert users == [("u10",), ("u2",), ("u2",), ("u3",), (None,)]


def test_the_id_of_another_script_is_found_as_json_escapes_it_too(tmp_path):
    escaped = json.dumps({"event_type": "No", "user_id": "zoë"})
    plain = json.dumps({"event_type": "No", "user_id": "zoë"}, ensure_ascii=False)
    warehouse = backfilled(tmp_path / "all", [escaped, plain, native("a", 1)])
    assert [(each.table, each.rows) for each in find(warehouse, ["zoë"])] == [("quarantine", 2)]


def test_a_record_that_left_quarantine_is_no_longer_there_to_be_erased_from_its_books(tmp_path):
    from pipelines.replay import replay

    at = f"{DAY}T10:00:00Z"
    received = "2026-03-04T10:00:00Z"
    late = json.dumps({"event_type": "click", "event_time": at, "received_time": received, "user_id": "u1"})
    warehouse = backfilled(tmp_path / "all", [late, native("a", 1)])
    replay(resolve({"warehouse": str(warehouse.folder), "workers": "1", "take_late": True}, "replay"))
    erase(settings(warehouse), ["u1"])
    assert differences(warehouse) == []
    assert warehouse.connect().execute("SELECT count(*) FROM quarantine").fetchone() == (0,)
    counts = "sum(received), sum(events), sum(quarantined), sum(erased), sum(balance)"
    assert warehouse.connect().execute(f"SELECT {counts} FROM quality_1m_current").fetchone() == (2, 1, 0, 1, 0)


def test_the_command_shows_what_there_is_and_says_what_it_did(warehouse, capsys):
    home = ["--warehouse", str(warehouse.folder)]
    assert main(["person", "--find", "u1", "--json", *home]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out.splitlines()[0])["rows"] == 2
    assert "also known as a1" in told.err
    assert main(["person", "--delete", "u1", *home]) == 0
    said = capsys.readouterr().err
    assert "2 rows of events" in said and "1 rows of user_days" in said and f"written anew without them: {DAY}" in said
    assert main(["person", "--find", "", *home]) == 2
    assert "got ''; allowed: a user_id or an anonymous_id" in capsys.readouterr().err
    assert main(["person", *home]) == 2


def test_while_records_of_a_stream_wait_to_be_read_again_nobody_is_taken_out_and_a_search_says_so(tmp_path, capsys):
    warehouse = backfilled(tmp_path / "w", OTHERS + THEIRS)
    block = pl.DataFrame([{"payload": b"{}", "received_time": datetime(2026, 3, 1, tzinfo=UTC)}], schema=RAW_SCHEMA)
    Lander(str(warehouse.folder / LANDING), "sub", "run", 0).land(block)
    assert main(["person", "--delete", "u1", "--warehouse", str(warehouse.folder)]) == 2
    assert "1 records of a stream landed and are not in the books yet" in capsys.readouterr().err
    assert main(["person", "--find", "u1", "--warehouse", str(warehouse.folder)]) == 0
    assert "not searched: 1 records" in capsys.readouterr().err
