"""A person is found in every table, and erased from all of them; what stays is as if they had never been."""

import hmac
import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import Phase, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from pipelines.batch.backfill import backfill
from pipelines.batch.person.erase import also_known_as, erase
from pipelines.batch.person.places import LIVE, OWN, REPLACED, STAGED, find, find_similar
from pipelines.batch.person.proof import FILE, key_of, proofs
from pipelines.batch.person.search import ENCODED, INSIDE, MENTION, NAMING, Search
from pipelines.batch.recompute import recompute
from pipelines.batch.replay import replay
from pipelines.cli import main
from pipelines.settings.resolve import resolve
from pipelines.sources.landing import LANDING, Lander
from pipelines.warehouse.local.manifest import LiveFile, save
from pipelines.warehouse.local.run import Run
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.recount import differences
from pipelines.warehouse.sink import shaped
from pipelines.warehouse.tables import ERASURES, Column
from tests.support.encodings import written
from tests.support.once import copy_of
from tests.support.rows import asked
from transforms.block import RAW_SCHEMA
from transforms.errors import OptionError, WarehouseError

DAY = "2026-03-01"
NAMED_IN = (("events", "text"), ("quarantine", "payload"))


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
    native("q", 10, user_id="u1", anonymous_id="v1"),
    native("r", 11, anonymous_id="v1"),
    json.dumps({"event_type": "No", "user_id": "u1", "event_time": f"{DAY}T10:00:00Z"}),
    '{"user_id": "u1", "broken',
]


def backfilled(folder: Path, lines: list[str]) -> LocalWarehouse:
    def make(folder: Path) -> None:
        (folder / "e.jsonl").write_text("".join(line + "\n" for line in lines))
        backfill(resolve({"input": [str(folder / "e.jsonl")], "warehouse": str(folder / "w"), "workers": "1"}))

    return LocalWarehouse.open(copy_of(("test_person", *lines), make, folder) / "w")


def settings(warehouse: LocalWarehouse, **options):
    return resolve({"warehouse": str(warehouse.folder), "workers": "1"} | options, "recompute")


def metrics_and_events(warehouse: LocalWarehouse) -> list[list[tuple]]:
    """What the warehouse says, without the input and the stamps of publication."""
    stamps = "generation, revision, emitted_time, firing"
    tables = ("activity_1m", "content_1h", "campaign_1h", "user_days", "sessions")
    return [
        asked(warehouse, "SELECT * EXCLUDE (input) FROM events ORDER BY ALL").rows(),
        asked(warehouse, "SELECT payload, code FROM quarantine_open ORDER BY ALL").rows(),
        *(asked(warehouse, f"SELECT * EXCLUDE ({stamps}) FROM {t}_current ORDER BY ALL").rows() for t in tables),
    ]


@pytest.fixture
def warehouse(tmp_path) -> LocalWarehouse:
    return backfilled(tmp_path / "all", OTHERS + THEIRS)


def found_in(warehouse: LocalWarehouse, *ids: str) -> dict[tuple[str, str, str], int]:
    found, unread = find(warehouse, Search(ids))
    assert unread == 0 and all(each.place == LIVE for each in found)
    return {(each.table, each.column, each.kind): each.rows for each in found}


def test_a_person_is_found_in_every_table_and_not_taken_for_one_whose_id_begins_alike(warehouse):
    assert found_in(warehouse, "u1") == {
        ("events", "user_id", OWN): 2,
        ("user_days", "person", OWN): 1,
        ("sessions", "user_id", OWN): 2,
        ("quarantine", "payload", MENTION): 2,
        ("quarantine", "payload", INSIDE): 1,
        ("events", "extra", MENTION): 1,
    }
    assert also_known_as(warehouse, ["u1"]) == ["v1"]
    assert found_in(warehouse, "nobody") == {}
    assert find_similar(warehouse, ["U1", "u3"]) == ["u1"]


def test_what_stays_is_as_if_they_had_never_been_sketches_too(warehouse, tmp_path):
    done = erase(settings(warehouse), ["u1", "v1"])
    assert done.rows == {"events": 3, "user_days": 2, "sessions": 3, "quarantine": 2}
    assert [day.isoformat() for day in done.days] == [DAY]
    assert done.kept_sketches == []
    [note] = asked(warehouse, "SELECT extra FROM events WHERE extra IS NOT NULL").row(0)
    assert re.fullmatch(r'{"extra_note":"wrote to erased-[0-9a-f]{16} about it"}', note)
    others = [line.replace("wrote to u1", "wrote to " + note.split()[2]) for line in OTHERS]
    assert metrics_and_events(warehouse) == metrics_and_events(backfilled(tmp_path / "others", others))
    assert found_in(warehouse, "u1", "v1") == {("quarantine", "payload", INSIDE): 1}
    assert differences(warehouse) == []
    counts = "sum(received), sum(events), sum(quarantined), sum(erased), sum(replaced), sum(balance)"
    assert asked(warehouse, f"SELECT {counts} FROM quality_1m_current").row(0) == (10, 4, 1, 5, 0, 0)


def everything(folder: Path) -> str:
    """Every value of every file in the folder, also of files that are not live."""
    return "\n".join(map(everything_of, folder.rglob("*.parquet")))


def everything_of(path: Path) -> str:
    frames = [pl.read_parquet(path, hive_partitioning=False)]
    columns = [column for frame in frames for column in frame.iter_columns() if column.dtype in (pl.String, pl.Binary)]
    values = {value for column in columns for value in column.drop_nulls()}
    return "\n".join(each if isinstance(each, str) else each.decode("latin-1") for each in values)


def test_no_file_of_the_warehouse_holds_their_bytes_afterwards(warehouse):
    assert re.search(r"\bv1\b", everything(warehouse.folder))
    erase(settings(warehouse), ["u1", "v1"])
    files = [path for path in warehouse.folder.rglob("*.parquet")]
    assert {str(path.relative_to(warehouse.folder)) for path in files} == warehouse.manifest().paths()
    assert "u10" in everything(warehouse.folder)
    assert not re.search(r"\b(u1|v1)\b", everything(warehouse.folder))


@example_settings(max_examples=1, phases=[Phase.generate])
@given(st.lists(written(st.text("aé+@.7 ", min_size=4).map(lambda tail: f"x{tail}z")), min_size=10, max_size=10))
def test_in_whatever_form_a_name_was_sent_no_file_holds_it_afterwards(drawn):
    with TemporaryDirectory() as folder:
        lines = [native(f"n{n}", 10, user_id="other", text=f"to {text},") for n, (_, text) in enumerate(drawn)]
        lines += [f'{{"event_type": "No", "user_id": "{text}"}}' for _, text in drawn]
        warehouse = backfilled(Path(folder) / "all", lines)
        ids = sorted({id for id, _ in drawn})
        before = found_in(warehouse, *ids)
        named = {column: sum(before.get((table, column, kind), 0) for kind in NAMING) for table, column in NAMED_IN}
        assert named == {"text": len(drawn), "payload": len(drawn)}
        erase(settings(warehouse), ids)
        held = everything(warehouse.folder)
        assert "other" in held and not [text for _, text in drawn if text in held]
        recompute(settings(warehouse))
        replay(resolve({"warehouse": str(warehouse.folder), "workers": "1", "accept_late": True}, "replay"))
        assert not {key for key in found_in(warehouse, *ids) if key[2] != INSIDE}
        assert differences(warehouse) == []


def proofs_in(warehouse: LocalWarehouse) -> list[tuple]:
    return asked(warehouse, "SELECT * FROM erasures ORDER BY erased_time, subject_hmac").rows()


def test_the_proof_says_what_became_of_each_row_and_names_the_person_to_the_holder_of_the_key_alone(warehouse):
    erase(settings(warehouse), ["u1", "v1"])
    key_file = warehouse.folder / FILE
    assert key_file.stat().st_mode & 0o777 == 0o600
    key = key_of(warehouse, None)
    proofs_ = asked(warehouse, "SELECT subject_hmac, key_id, rows, days, columns FROM erasures").rows()
    secret = key_file.read_bytes().strip()
    assert {proof[0] for proof in proofs_} == {hmac.new(secret, each, "sha256").hexdigest() for each in (b"u1", b"v1")}
    assert proofs_[0][1] == key.id and key.id.encode() not in secret
    assert json.loads(proofs_[0][2]) == {"events": 3, "user_days": 2, "sessions": 3, "quarantine": 2}
    assert json.loads(proofs_[0][3]) == [DAY]
    said = {tuple(each.values()) for each in json.loads(proofs_[0][4])}
    longer = "a longer word, which may belong to another person"
    assert ("events", "extra", MENTION, "redacted", 1, "") in said
    assert ("events", "anonymous_id", OWN, "deleted", 2, "") in said
    assert ("quarantine", "payload", INSIDE, "kept", 1, longer) in said
    assert [id for id, _, _ in proofs(warehouse, ["u1", "u2"], key).of_ids] == ["u1"]


def test_a_second_erasure_finds_nothing_and_leaves_the_proof_as_it_is(warehouse):
    erase(settings(warehouse), ["u1"])
    before = proofs_in(warehouse)
    assert erase(settings(warehouse), ["u1"]).before == before[0][0]
    assert proofs_in(warehouse) == before
    erase(settings(warehouse), ["u1", "never-there"])
    assert len(proofs_in(warehouse)) == 3


def test_a_proof_of_another_key_is_counted_and_a_file_that_is_no_key_refused(warehouse, tmp_path):
    erase(settings(warehouse), ["u1"], str(tmp_path / "mine"))
    assert not (warehouse.folder / FILE).exists()
    assert proofs(warehouse, ["u1"], key_of(warehouse, None)) == ([], 1)
    assert len(proofs(warehouse, ["u1"], key_of(warehouse, str(tmp_path / "mine"))).of_ids) == 1
    (tmp_path / "short").write_text("secret\n")
    with pytest.raises(OptionError, match=r"--proof_key: .* has 6 bytes; allowed: a file of at least 16"):
        erase(settings(warehouse), ["v1"], str(tmp_path / "short"))


def test_all_that_an_erasure_changes_is_one_commit(warehouse, monkeypatch):
    commits, before = [], warehouse.manifest()
    commit = Run.commit
    monkeypatch.setattr(Run, "commit", lambda run, *given, **named: commits.append(1) or commit(run, *given, **named))
    erase(settings(warehouse), ["u1", "v1"])
    assert commits == [1] and warehouse.manifest() != before


KILLED_BEFORE_PURGE = """
import os, signal, sys
from pipelines.settings.resolve import resolve
from pipelines.batch.person.erase import erase
from pipelines.warehouse.local.run import Run

Run.purge = lambda run: os.kill(os.getpid(), signal.SIGKILL)
erase(resolve({"warehouse": sys.argv[1], "workers": "1"}, "recompute"), ["u1", "v1"])
"""


def test_what_a_killed_erasure_left_is_found_where_it_lies_and_removed_by_the_same_again(warehouse, capsys):
    command = [sys.executable, "-c", KILLED_BEFORE_PURGE, str(warehouse.folder)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    proof = proofs_in(warehouse)
    assert len(proof) == 2
    [old] = [path for path in (warehouse.folder / "data/events" / DAY).iterdir() if "to u1 " in everything_of(path)]
    staged = warehouse.folder / "staging/run/events" / DAY
    staged.mkdir(parents=True)
    shutil.copy(old, staged)  # as a run that was killed before its commit leaves it
    places = {(each.table, each.place) for each in find(warehouse, Search(["u1"]))[0] if each.kind != INSIDE}
    assert places >= {("events", REPLACED), ("quarantine", REPLACED), ("events", STAGED)}
    assert LIVE not in {place for _, place in places}
    assert main(["person", "--find", "u1", "--warehouse", str(warehouse.folder)]) == 0
    assert "files that are not live are removed by the next run that writes" in capsys.readouterr().err
    assert main(["person", "--delete", "u1", "--delete", "v1", "--warehouse", str(warehouse.folder)]) == 0
    assert "nothing left to erase" in capsys.readouterr().err
    assert found_in(warehouse, "u1") == {("quarantine", "payload", INSIDE): 1} and proofs_in(warehouse) == proof


MENTIONING = [
    native(
        "order:zq77", 12, user_id="other", content_id="profile/zq77", category="zq77", campaign="mail zq77",
        content_type="zq77", country="zq77", device="zq77", session_id="s:zq77", referrer="https://x/?u=%7Aq77",
        text="zq77", properties={"friend": "zq77"}, unknown="zq77",
    ),
    native("order:other", 13, user_id="other", content_id="profile/other"),
]  # fmt: skip


def test_a_mention_in_any_column_of_others_is_redacted_and_every_table_and_book_agrees(tmp_path):
    warehouse = backfilled(tmp_path / "all", MENTIONING)
    done = erase(settings(warehouse), ["zq77"])
    assert done.rows == {} and [day.isoformat() for day in done.days] == [DAY]
    redacted = {(each.table, each.column) for each in done.outcomes if each.outcome == "redacted"}
    in_events = {"event_id", "content_id", "category", "campaign", "content_type", "country", "device"}
    in_events |= {"session_id", "referrer", "text"}
    assert {column for table, column in redacted if table == "events"} == in_events | {"properties", "extra"}
    assert {("sessions", "entry_content_id"), ("content_1h", "content_id"), ("campaign_1h", "campaign")} <= redacted
    assert "zq77" not in everything(warehouse.folder) and differences(warehouse) == []
    ids = asked(warehouse, "SELECT event_id FROM events ORDER BY 1").rows()
    assert re.fullmatch("order:erased-[0-9a-f]{16}", ids[0][0]) and ids[1:] == [("order:other",)]


def test_metric_rows_of_a_day_whose_events_are_gone_go_too_beside_days_that_are_rebuilt(tmp_path):
    about = native("f", 12, day="2026-03-02", user_id="other", content_id="profile/u2")
    warehouse = backfilled(tmp_path / "all", [*OTHERS, about])
    with warehouse.writer() as run:
        run.commit([], {"events": [date(2026, 3, 2)]})
    done = erase(settings(warehouse), ["u2"])
    assert [day.isoformat() for day in done.days] == [DAY] and done.rows["user_days"] == 2
    assert found_in(warehouse, "u2") == {}
    days = "SELECT CAST(bucket_start AS DATE), person FROM user_days ORDER BY ALL"
    people = [(date(2026, 3, 1), "u10"), (date(2026, 3, 1), "u3"), (date(2026, 3, 2), "other")]
    assert asked(warehouse, days).rows() == people
    contents = "SELECT content_id FROM content_1h WHERE content_id IS NOT NULL"
    assert re.fullmatch("profile/erased-[0-9a-f]{16}", asked(warehouse, contents).row(0)[0])


def test_mentions_are_kept_if_asked_and_a_word_that_many_rows_hold_is_no_name_without_being_asked(
    tmp_path, monkeypatch
):
    warehouse = backfilled(tmp_path / "all", MENTIONING)
    monkeypatch.setattr("pipelines.batch.person.erase.MANY", 0)
    with pytest.raises(WarehouseError, match=r"1 rows of other people mention the person.*--mentions redact or --me"):
        erase(settings(warehouse), ["zq77"])
    before = metrics_and_events(warehouse)
    done = erase(settings(warehouse), ["zq77"], mentions="keep")
    assert {(each.outcome, each.reason) for each in done.outcomes} == {("kept", "--mentions keep")}
    assert metrics_and_events(warehouse) == before
    assert erase(settings(warehouse), ["zq77"], mentions="redact").days


def test_names_of_sources_files_and_words_of_the_contract_stay_and_the_proof_says_why(tmp_path):
    warehouse = backfilled(tmp_path / "web", [native("a", 1, user_id="web"), native("b", 2, user_id="other"), "broken"])
    done = erase(settings(warehouse), ["web"])
    kept = {(each.table, each.column): each.reason for each in done.outcomes if each.outcome == "kept"}
    assert kept[("events", "channel")] == "a word of the contract"
    assert done.rows == {"events": 1, "sessions": 1, "user_days": 1}
    assert asked(warehouse, "SELECT user_id, channel FROM events").rows() == [("other", "web")]


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
    users = asked(warehouse, "SELECT user_id FROM old_1d ORDER BY 1 NULLS LAST").rows()
    assert users == [("u10",), ("u2",), ("u2",), ("u3",), (None,)]


def test_the_id_of_another_script_is_found_as_json_escapes_it_too(tmp_path):
    escaped = json.dumps({"event_type": "No", "user_id": "zoë"})
    plain = json.dumps({"event_type": "No", "user_id": "zoë"}, ensure_ascii=False)
    warehouse = backfilled(tmp_path / "all", [escaped, plain, native("a", 1)])
    assert found_in(warehouse, "zoë") == {("quarantine", "payload", ENCODED): 1, ("quarantine", "payload", MENTION): 1}


def test_a_record_that_left_quarantine_is_no_longer_there_to_be_erased_from_its_books(tmp_path):
    at = f"{DAY}T10:00:00Z"
    received = "2026-03-04T10:00:00Z"
    late = json.dumps({"event_type": "click", "event_time": at, "received_time": received, "user_id": "u1"})
    warehouse = backfilled(tmp_path / "all", [late, native("a", 1)])
    replay(resolve({"warehouse": str(warehouse.folder), "workers": "1", "accept_late": True}, "replay"))
    erase(settings(warehouse), ["u1"])
    assert differences(warehouse) == []
    assert asked(warehouse, "SELECT count(*) FROM quarantine").row(0) == (0,)
    counts = "sum(received), sum(events), sum(quarantined), sum(erased), sum(balance)"
    assert asked(warehouse, f"SELECT {counts} FROM quality_1m_current").row(0) == (2, 1, 0, 1, 0)


def test_the_command_shows_what_there_is_and_says_what_it_did(warehouse, capsys):
    home = ["--warehouse", str(warehouse.folder)]
    assert main(["person", "--find", "u1", "--json", *home]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out.splitlines()[0])["rows"] == 2
    assert "also known as v1" in told.err
    assert main(["person", "--delete", "u1", *home]) == 0
    said = capsys.readouterr().err
    assert "2 rows of events" in said and "1 rows of user_days" in said and f"rebuilt without them: {DAY}" in said
    assert "redacted: 1 rows of events, extra (mention)" in said and "kept: 1 rows of quarantine, payload" in said
    assert "not covered: Pub/Sub dead-letter topic" in said and "exports, backups" in said
    assert main(["person", "--find", "u1", *home]) == 0
    assert re.search("u1 was erased on .* UTC, by proof [0-9a-f]{64}", capsys.readouterr().err)
    assert main(["person", "--find", "u1", "--mentions", "keep", *home]) == 2
    assert main(["person", "--find", "", *home]) == 2
    assert "got ''; allowed: a user_id or an anonymous_id" in capsys.readouterr().err
    assert main(["person", *home]) == 2


def test_while_records_of_a_stream_wait_to_be_read_again_nobody_is_taken_out_and_a_search_says_so(tmp_path, capsys):
    warehouse = backfilled(tmp_path / "w", OTHERS + THEIRS)
    row = {"payload": b'{"user_id":"\\u0075\\u0031"}', "received_time": datetime(2026, 3, 1, tzinfo=UTC)}
    Lander(str(warehouse.folder / LANDING), "sub", "run", 0).land(pl.DataFrame([row], schema=RAW_SCHEMA))
    assert main(["person", "--delete", "u1", "--warehouse", str(warehouse.folder)]) == 2
    assert "1 landed records of a stream are not committed yet" in capsys.readouterr().err
    assert main(["person", "--find", "u1", "--json", "--warehouse", str(warehouse.folder)]) == 0
    told = capsys.readouterr()
    landed = [row for row in map(json.loads, told.out.splitlines()) if row["place"] == "landed"]
    assert [(row["column"], row["kind"], row["rows"]) for row in landed] == [("payload", ENCODED, 1)]
    assert "drain it before --delete" in told.err


def test_an_identifier_is_shown_so_that_neither_a_terminal_nor_a_shell_takes_it_for_a_command(tmp_path, capsys):
    others = ("x$(touch y)", "-x", "x\u202ey")
    lines = [native(f"e{n}", 1, user_id="u1", anonymous_id=each) for n, each in enumerate(others)]
    warehouse = backfilled(tmp_path / "all", lines)
    assert main(["person", "--find", "u1", "--warehouse", str(warehouse.folder)]) == 0
    said = capsys.readouterr().err
    assert r"person --find=-x --find 'x$(touch y)' --find $'x\342\200\256y' " in said
    assert "x\\u202ey" in said and "\u202e" not in said


def test_a_warehouse_whose_proofs_have_no_key_still_opens(tmp_path):
    warehouse = backfilled(tmp_path / "all", OTHERS + THEIRS)
    former = replace(ERASURES, key=("erased_time",), columns=(ERASURES.columns[0], Column("subject_sha256", "STRING")))
    before = pl.DataFrame({"erased_time": [datetime(2026, 3, 1, tzinfo=UTC)], "subject_sha256": ["ab"]})
    manifest = warehouse.manifest()
    manifest.tables["erasures"] = former
    place = warehouse.folder / "data" / "erasures" / DAY
    place.mkdir(parents=True)
    shaped(before, former).write_parquet(place / "a.parquet")
    size = (place / "a.parquet").stat().st_size
    manifest.files["erasures"] = {DAY: [LiveFile(f"data/erasures/{DAY}/a.parquet", 1, size)]}
    save(warehouse.folder, manifest)
    erase(settings(warehouse), ["u1"])
    assert proofs(warehouse, ["u1"], key_of(warehouse, None)).by_other_keys == 1
    assert len(proofs_in(warehouse)) == 2
