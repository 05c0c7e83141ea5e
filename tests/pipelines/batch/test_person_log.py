"""A person is found in write-ahead logs, and erased from them before the tables change."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.batch.person.logs import count_entries, erase_in, logs_of
from pipelines.batch.person.places import OWN
from pipelines.batch.person.search import ENCODED, INSIDE, MENTION, Search
from pipelines.cli import main
from pipelines.sources.log.folder import Position, segments, write_position
from pipelines.sources.log.writer import LogWriter
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.pipelines.sources.log.log_hand import entry, fill, stored

PERSON = "canary-u1"
OTHER = b'{"event_type":"page_view","user_id":"u2"}'
NATIVE = b'{"event_type":"page_view","user_id":"canary-u1","event_time":"2026-03-01T10:00:00Z"}'
NESTED = b'{"context":{"traits":[{"id":"canary-u1"}]}}'
MENTIONS = b'{"event_type":"comment","user_id":"u2","text":"ask canary-u1 about it"}'
LONGER = b'{"event_type":"page_view","user_id":"canary-u17"}'


@pytest.fixture
def log(tmp_path) -> Path:
    """Two segments; the first entries of one are read and not deleted yet."""
    fill(tmp_path / "log", [entry(NATIVE), entry(OTHER), entry(NESTED)])
    fill(tmp_path / "log", [entry(MENTIONS), entry(LONGER), entry(b"no json", ip="canary-u1")])
    write_position(tmp_path / "log", Position(1, 10))
    return tmp_path / "log"


@pytest.fixture
def warehouse(tmp_path) -> str:
    events = tmp_path / "events.jsonl"
    time = {"event_time": "2026-03-01T09:00:00Z", "received_time": "2026-03-01T09:00:00Z"}
    lines = [{"event_id": str(at), "event_type": "page_view", "user_id": f"u{at}", **time} for at in (2, 3)]
    events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["backfill", "--input", str(events), "--warehouse", str(tmp_path / "w"), "--workers", "1"]) == 0
    return str(tmp_path / "w")


def payloads(log: Path) -> list[bytes]:
    return [each.payload for each in stored(log)]


def person(warehouse: str, *words: str) -> int:
    workers = ("--workers", "1") if "--delete" in words else ()
    return main(["person", *words, "--warehouse", warehouse, *workers])


def test_a_person_is_found_and_erased_and_the_proof_says_so(warehouse, log, capsys):
    assert person(warehouse, "--find", PERSON, "--log", str(log), "--csv") == 0
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("log,")]
    assert [(line.split(",")[2:4], line.rsplit(",", 1)[1]) for line in found] == [
        (["inside a longer word", "1"], str(log)),
        (["mention", "2"], str(log)),
        (["own row", "2"], str(log)),
    ]
    assert person(warehouse, "--delete", PERSON, "--log", str(log)) == 0
    said = capsys.readouterr().err
    assert "deleted: 4 rows of log" in said and "write-ahead log" not in said
    assert payloads(log) == [OTHER, LONGER]
    sql = 'SELECT "rows", "columns" FROM erasures'
    assert main(["query", sql, "--warehouse", warehouse, "--json"]) == 0
    proof = json.loads(capsys.readouterr().out)
    assert json.loads(proof["rows"]) == {"log": 4}
    outcomes = {(each["kind"], each["outcome"], each["rows"]) for each in json.loads(proof["columns"])}
    assert outcomes == {(OWN, "deleted", 2), (MENTION, "deleted", 2), (INSIDE, "kept", 1)}
    assert person(warehouse, "--delete", PERSON, "--log", str(log)) == 0
    assert "nothing left to erase" in capsys.readouterr().err


def test_mentions_of_others_may_be_kept_and_many_are_asked_about(warehouse, log, capsys, monkeypatch):
    monkeypatch.setattr("pipelines.batch.person.logs.MANY", 1)
    before = payloads(log)
    assert person(warehouse, "--delete", PERSON, "--log", str(log)) == 2
    assert "2 entries of logs mention the person" in capsys.readouterr().err and payloads(log) == before
    assert person(warehouse, "--delete", PERSON, "--log", str(log), "--mentions", "keep") == 0
    assert payloads(log) == [OTHER, MENTIONS, LONGER, b"no json"]
    assert person(warehouse, "--delete", PERSON, "--log", str(log), "--mentions", "redact") == 0
    assert payloads(log) == [OTHER, LONGER]


def test_a_log_in_use_is_named_and_nothing_is_changed(warehouse, log, capsys):
    writer = LogWriter(log, most_bytes=1 << 30)
    assert person(warehouse, "--delete", PERSON, "--log", str(log)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "is written by process" in said and "stop it" in said
    writer.close()
    assert NATIVE in payloads(log)
    assert main(["query", "SELECT COUNT(*) AS n FROM erasures", "--warehouse", warehouse, "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "0"


def test_what_is_no_log_is_refused_before_anything_runs(warehouse, tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "none"):
        assert person(warehouse, "--delete", PERSON, "--log", str(folder)) == 2
        assert "allowed: the folder of a write-ahead log" in capsys.readouterr().err


def test_logs_that_a_stream_has_read_are_known(tmp_path, log):
    from pipelines.warehouse.tables import QUALITY_1M
    from tests.pipelines.warehouse.test_metric_views import write

    made = LocalWarehouse.open(tmp_path / "w", "UTC", create=True)
    write(made, (QUALITY_1M, [{"source": "s", "input": f"{log}@1"}, {"source": "s", "input": "/gone/log@2"}]))
    assert logs_of(made) == [log.resolve()]


@pytest.mark.parametrize("payload", [b'{"url":"/p?u=canary%2Du1"}', b'{"note":"Y2FuYXJ5LXUx"}', b"\xffcanary-u1\xff"])
def test_an_encoded_name_goes_too(tmp_path, payload):
    fill(tmp_path / "log", [entry(payload), entry(OTHER)])
    search = Search([PERSON])
    found = count_entries(tmp_path / "log", search)
    assert found[ENCODED] + found[MENTION] == 1
    assert erase_in(tmp_path / "log", search, True).entries == 1 and payloads(tmp_path / "log") == [OTHER]


@given(st.lists(st.sampled_from([NATIVE, OTHER, NESTED, MENTIONS, LONGER]), max_size=8), st.integers(1, 4))
def test_where_segments_are_cut_does_not_matter(tmp_path_factory, sent, each):
    folder = tmp_path_factory.mktemp("log")
    fill(folder, *[[entry(payload) for payload in sent[at : at + each]] for at in range(0, len(sent), each)])
    search = Search([PERSON])
    found = count_entries(folder, search)
    own = sum(payload in (NATIVE, NESTED) for payload in sent)
    assert (found[OWN], found[MENTION]) == (own, sent.count(MENTIONS)) and not found[ENCODED]
    assert erase_in(folder, search, True).entries == own + sent.count(MENTIONS)
    assert payloads(folder) == [payload for payload in sent if payload in (OTHER, LONGER)]
    assert not any(PERSON.encode() + b'"' in path.read_bytes() for path in segments(folder).values())
