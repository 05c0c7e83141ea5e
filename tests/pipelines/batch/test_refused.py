"""A run that has refused most of a file says so first, with what to do, and ends with exit status 3."""

import json

import pytest

from pipelines.batch.refused import STATUS
from pipelines.cli import main

EVENT = {"event_id": "a", "event_type": "page_view", "event_time": "2026-03-01T10:00:00Z"}
FIELDS = "source: s\nfields:\n  event_time: {path: at, time: rfc3339}\n  event_type: {const: view}\n"


@pytest.fixture
def backfill(tmp_path, capsys):
    def run(*words, mapping=None):
        if mapping is not None:
            (tmp_path / "m.yaml").write_text(mapping)
            words = (*words, "--mapping", str(tmp_path / "m.yaml"))
        status = main(["backfill", "--warehouse", str(tmp_path / "w"), "--workers", "1", *map(str, words)])
        return status, capsys.readouterr().err.splitlines()

    return run


def lines(path, good, bad):
    texts = [json.dumps(EVENT | {"event_id": f"{path.name}{n}"}) for n in range(good)] + ["{"] * bad
    path.write_text("\n".join(texts) + "\n")
    return path


@pytest.mark.parametrize(("good", "bad", "status"), [(2, 2, 0), (1, 2, STATUS), (0, 1, STATUS), (3, 0, 0), (0, 0, 0)])
def test_more_than_half_is_too_many(tmp_path, backfill, good, bad, status):
    path = lines(tmp_path / "x.jsonl", good, bad)
    found, told = backfill("--input", path)
    assert found == status
    first = f"refused: {bad} of {good + bad} records of {path}, mostly invalid_json (parse): not a JSON object in UTF-8"
    assert told[0].startswith(first) is (status == STATUS)
    if status:
        assert told[1].endswith("run it again, or replay; --allow_quarantine accepts this")


def test_what_was_read_is_committed_and_an_option_accepts_it(tmp_path, backfill, capsys):
    path = lines(tmp_path / "x.jsonl", 1, 2)
    assert backfill("--input", path, "--allow_quarantine")[0] == 0
    assert main(["query", "SELECT count(*) AS n FROM events", "--json", "--warehouse", str(tmp_path / "w")]) == 0
    assert json.loads(capsys.readouterr().out) == {"n": 1}


def test_a_file_that_is_refused_is_told_among_many_that_are_not(tmp_path, backfill):
    for n in range(3):
        lines(tmp_path / f"good{n}.jsonl", 5, 0)
    lines(tmp_path / "bad.jsonl", 1, 4)
    status, told = backfill("--input", tmp_path / "*.jsonl")
    assert status == STATUS
    assert told[0].startswith(f"refused: 4 of 5 records of {tmp_path}/bad.jsonl, mostly invalid_json")
    assert not any("good" in line for line in told[:2])
    status, again = backfill("--input", tmp_path / "*.jsonl", "--add")  # which reads its input twice
    assert (status, again[0]) == (STATUS, told[0])


def test_text_of_another_encoding_is_told_with_the_key_that_states_it(tmp_path, backfill):
    path = tmp_path / "x.csv"
    path.write_bytes("at,who\n2026-03-01T10:00:00Z,José\n".encode("latin-1"))
    status, told = backfill("--input", path, mapping=FIELDS)
    assert status == STATUS
    assert told[0].endswith("it is not UTF-8: state its `encoding` in the mapping, such as latin-1")
    assert backfill("--input", path, mapping=FIELDS + "encoding: latin-1\n")[0] == 0


@pytest.mark.parametrize("indent", [None, 1])
def test_a_document_is_told_with_the_list_that_its_records_are_in(tmp_path, backfill, indent):
    path = tmp_path / "x.json"
    some = [{"at": f"2026-03-01T10:00:0{n}Z"} for n in range(4)]
    path.write_text(json.dumps({"total": 4, "page": {"items": some, "tags": [{}]}}, indent=indent))
    status, told = backfill("--input", path, mapping=FIELDS)
    assert status == STATUS
    hint = "its list `page.items` holds 4 objects: if they are the records, state `records: page.items` in the mapping"
    assert told[0].endswith(hint)
    status, told = backfill("--input", path, mapping=FIELDS + "records: page.items\n")
    assert status == 0
    assert told[1].split()[:2] == ["received", "4"]


def test_a_replay_that_refuses_again_has_lost_nothing_new(tmp_path, backfill):
    path = tmp_path / "x.jsonl"
    path.write_text('{"at": "never"}\n')
    assert backfill("--input", path, mapping=FIELDS)[0] == STATUS
    words = ["replay", "--mapping", str(tmp_path / "m.yaml"), "--warehouse", str(tmp_path / "w")]
    assert main(words) == 0


def test_elements_count_where_records_create_several_events(tmp_path, backfill):
    path = tmp_path / "x.jsonl"
    good, bad = {"at": "2026-03-01T10:00:00Z"}, {"at": "never"}
    mapping = FIELDS.replace("path: at", "path: items.at") + "explode: items\n"
    path.write_text(json.dumps({"items": [good, bad | {"n": 1}, bad | {"n": 2}]}) + "\n")
    status, told = backfill("--input", path, mapping=mapping)
    assert status == STATUS
    assert told[0].startswith("refused: 2 of 3 records of x.jsonl #")
    path.write_text(json.dumps({"items": [good, good | {"n": 1}, bad]}) + "\n")
    assert backfill("--input", path, "--add", mapping=mapping)[0] == 0
