"""A sync: what changed in a segment goes to its target, each change once by its id, whatever is cut short."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cli import main
from pipelines.insight.sync import targets
from pipelines.insight.sync.members import MEMBERS, applied, changes, customer
from pipelines.insight.sync.state import State
from pipelines.sources.pubsub.client import PubSub
from tests.servers.needed import wait_until
from tests.servers.receiver import receiving

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
PERSONS = 1_200
ALL = "SELECT user_id AS person, COUNT(*) AS events FROM events WHERE user_id IS NOT NULL GROUP BY user_id"


@pytest.fixture(scope="module")
def backfilled(tmp_path_factory) -> Path:
    """A warehouse of PERSONS people with an event each."""
    folder = tmp_path_factory.mktemp("sync")
    events = [
        {
            "event_id": f"{number}",
            "event_type": "signup",
            "event_time": "2026-03-01T10:00:00Z",
            "user_id": f"u{number:04}",
            "content_id": f"Ann.{number}@Example.org",
        }
        for number in range(PERSONS)
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in events))
    assert main(["backfill", "--input", str(folder / "events.jsonl"), "--warehouse", str(folder / "warehouse")]) == 0
    return folder / "warehouse"


@pytest.fixture
def synced(backfilled, tmp_path, monkeypatch):
    """Sync one segment to one target, its state in a folder of the test: the exit status."""
    monkeypatch.setenv("SYNC_SECRET", SECRET)

    def sync(target: dict, query: str, *words: str, consent: str | None = None) -> int:
        return main(command(backfilled, tmp_path, target, query, consent) + list(words))

    return sync


def command(warehouse: Path, folder: Path, target: dict, query: str, consent: str | None = None) -> list[str]:
    segment = {"query": query, "to": ["there"], "consent": consent}
    config = {"sync": {"targets": {"there": target}, "segments": {"everybody": segment}}}
    (folder / "audience.yaml").write_text(json.dumps(config))
    places = ["--config", str(folder / "audience.yaml"), "--state", str(folder / "state")]
    return ["sync", "--warehouse", str(warehouse), *places]


def webhook(url: str) -> dict:
    return {"kind": "webhook", "url": url, "secret": {"env": "SYNC_SECRET"}}


def told(bodies: list[bytes]) -> list[tuple[str, str, str]]:
    """(id, action, person) of each change that a receiver got."""
    data = [json.loads(body)["data"]["changes"] for body in bodies]
    return [(each["id"], each["action"], each["person"]) for changes in data for each in changes]


def actions(bodies: list[bytes]) -> Counter:
    return Counter(action for _, action, _ in told(bodies))


PEOPLE = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["{}", '{"n":1}', '{"n":2}']))


def frame(people: dict[str, str]) -> pl.DataFrame:
    return pl.DataFrame({"person": list(people), "row": list(people.values())}, schema=MEMBERS).sort("person")


@given(known=PEOPLE, now=PEOPLE)
def test_what_a_target_is_told_makes_of_what_it_knows_what_is_so_now(known, now):
    found = changes(frame(now), frame(known))
    assert applied(frame(known), found).equals(frame(now))
    assert applied(applied(frame(known), found), found).equals(frame(now)), "idempotent"
    assert changes(frame(now), frame(now)).is_empty()
    differing = {person for person in known.keys() | now.keys() if known.get(person) != now.get(person)}
    assert found["person"].to_list() == sorted(differing)


def test_a_target_is_told_what_changed_since_the_last_sync_and_nothing_else(synced, capsys):
    with receiving() as receiver:
        target = webhook(receiver.url)
        assert synced(target, ALL, "--dry_run") == 0
        assert receiver.got == []
        assert synced(target, ALL) == 0
        assert len(receiver.got) == 3 and actions([each.body for each in receiver.got]) == {"add": PERSONS}
        assert synced(target, ALL) == 0
        assert len(receiver.got) == 3, "nothing changed"
        changed = f"SELECT person, IF(person = 'u0001', 2, events) AS events FROM ({ALL}) WHERE person <> 'u0002'"
        assert synced(target, changed.replace("IF(", "if(")) == 0
        [last] = receiver.got[3:]
    assert sorted(told([last.body])) == sorted(
        (each[0], *pair)
        for each, pair in zip(told([last.body]), [("change", "u0001"), ("remove", "u0002")], strict=True)
    )
    capsys.readouterr()
    assert synced(target, ALL, "--log", "--csv") == 0
    assert [line.split(",")[2:3] + line.split(",")[4:] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["1", str(PERSONS), "0", "0", "0"],
        ["2", "0", "1", "1", "0"],
    ]


@pytest.mark.parametrize("after", [1, 2, 3])
def test_killed_between_a_send_and_its_mark_the_same_changes_are_sent_again_by_their_ids(
    backfilled, synced, tmp_path, after
):
    with receiving() as receiver:
        words = command(backfilled, tmp_path, webhook(receiver.url), ALL)
        process = subprocess.Popen([sys.executable, "-m", "pipelines.cli", *words], stdout=subprocess.DEVNULL)
        receiver.before_answer = lambda number: os.kill(process.pid, signal.SIGKILL) if number == after else None
        assert process.wait(120) == -signal.SIGKILL
        receiver.before_answer = None
        assert synced(webhook(receiver.url), ALL) == 0
        assert synced(webhook(receiver.url), ALL) == 0
    bodies = {each.headers["webhook-id"]: [] for each in receiver.got}
    for each in receiver.got:
        bodies[each.headers["webhook-id"]].append(each.body)
    assert sorted(map(len, bodies.values())) == [1, 1, 2], "the batch whose mark was cut short comes twice"
    assert all(sent[0] == again for sent in bodies.values() for again in sent)
    once = set(told([sent[0] for sent in bodies.values()]))
    assert len(once) == len({person for _, _, person in once}) == PERSONS


def test_who_left_before_a_plan_is_finished_is_not_added_any_more(synced, monkeypatch):
    monkeypatch.setattr(targets, "LIMIT_SECONDS", 1.0)
    with receiving(204, 500) as receiver:
        receiver.statuses += [500] * 50
        assert synced(webhook(receiver.url), ALL) == 1
        receiver.statuses = []
        sent = len(receiver.got)
        assert synced(webhook(receiver.url), f"SELECT * FROM ({ALL}) WHERE person NOT IN ('u0600', 'u1100')") == 0
        later = told([each.body for each in receiver.got[sent:]])
        before = {person: id for id, _, person in told([each.body for each in receiver.got[:sent]])}
    assert before["u0999"] == next(id for id, _, person in later if person == "u0999"), "the id that it was sent with"
    assert ("add", "u1100") not in {(action, person) for _, action, person in later}
    assert ("remove", "u1100") in {(action, person) for _, action, person in later}


def test_changes_that_the_target_refuses_are_sent_again_by_the_next_sync(synced, capsys):
    with receiving() as receiver:
        receiver.answer = b'{"refused": ["u0003", "u0700"]}'
        assert synced(webhook(receiver.url), ALL) == 1
        assert "2 changes were refused; the next sync tries again" in capsys.readouterr().err
        receiver.answer, sent = b"", len(receiver.got)
        assert synced(webhook(receiver.url), ALL) == 0
        later = told([each.body for each in receiver.got[sent:]])
        assert [(action, person) for _, action, person in later] == [("add", "u0003"), ("add", "u0700")]
        assert not {id for id, _, _ in later} & {id for id, _, _ in told([each.body for each in receiver.got[:sent]])}


def test_of_a_batch_that_is_refused_for_what_it_holds_only_the_refused_changes_stay(synced, capsys):
    bad = {"u0003", "u0700"}
    with receiving() as receiver:

        def refuse(number: int) -> None:
            persons = [person for _, _, person in told([receiver.got[-1].body])]
            receiver.statuses = [413] if len(persons) > 300 else [400] if bad & set(persons) else [204]
            if receiver.statuses == [204]:
                taken.append(receiver.got[-1].body)

        taken: list[bytes] = []
        receiver.before_answer = refuse
        assert synced(webhook(receiver.url), ALL) == 1
        assert "2 changes were refused; the next sync tries again" in capsys.readouterr().err
        assert {person for _, _, person in told(taken)} == {f"u{number:04}" for number in range(PERSONS)} - bad
        assert len(told(taken)) == PERSONS - 2 and len(set(receiver.ids)) == len(receiver.got)
        ids = {(person, id) for id, _, person in told([each.body for each in receiver.got])}
        assert len(ids) == PERSONS, "a change has one id in all of its requests"
        bad.clear()
        taken.clear()
        assert synced(webhook(receiver.url), ALL) == 0
        assert [person for _, _, person in told(taken)] == ["u0003", "u0700"]


@pytest.mark.parametrize(("status", "most"), [(401, 1), (400, targets.MOST_POSTS + 9)])
def test_a_webhook_that_refuses_everything_is_asked_so_often_and_no_more(synced, capsys, status, most):
    with receiving(*[status] * 2_000) as receiver:
        assert synced(webhook(receiver.url), ALL) == 1
        assert len(receiver.got) <= 3 * most
    assert f"{PERSONS:,} changes were refused" in capsys.readouterr().err


def test_who_withdraws_consent_is_removed_and_never_sent_without(synced):
    with receiving() as receiver:
        agreed = "SELECT user_id AS person FROM events WHERE user_id < 'u0003'"
        assert synced(webhook(receiver.url), ALL, consent=agreed) == 0
        assert synced(webhook(receiver.url), ALL, consent=agreed.replace("u0003", "u0002")) == 0
    assert [(action, person) for _, action, person in told([each.body for each in receiver.got])] == [
        ("add", "u0000"), ("add", "u0001"), ("add", "u0002"), ("remove", "u0002"),
    ]  # fmt: skip


def test_a_query_that_loses_most_members_sends_nothing_before_it_is_allowed(synced, capsys):
    with receiving() as receiver:
        assert synced(webhook(receiver.url), ALL) == 0
        few, sent = f"SELECT * FROM ({ALL}) WHERE person < 'u0010'", len(receiver.got)
        assert synced(webhook(receiver.url), few) == 1
        assert "1,190 of 1,200 members would be removed; nothing was sent" in capsys.readouterr().err
        assert len(receiver.got) == sent
        assert synced(webhook(receiver.url), few, "--remove_many") == 0
        assert actions([each.body for each in receiver.got[sent:]]) == {"remove": 1_190}


def test_google_ads_gets_hashes_alone_and_what_was_sent_is_removed_by_them(synced, tmp_path, capsys):
    target = {"kind": "google_ads", "folder": str(tmp_path / "ads")}
    two = "SELECT user_id AS person, content_id AS email FROM events WHERE user_id IN ('u0001', 'u0002')"
    assert synced(target, f"{two} UNION ALL SELECT 'nobody', 'no address'") == 1
    assert "left out, without a usable e-mail address or phone number: 1 members" in capsys.readouterr().err
    [added] = sorted((tmp_path / "ads").glob("*-add.csv"))
    rows = list(csv.DictReader(added.read_text().splitlines()))
    assert list(rows[0]) == ["Email", "Phone", "First Name", "Last Name", "Country", "Zip"]
    hashes = [hashlib.sha256(f"ann.{number}@example.org".encode()).hexdigest() for number in (1, 2)]
    assert [row["Email"] for row in rows] == hashes
    assert synced(target, two.replace("('u0001', 'u0002')", "('u0001')")) == 0
    [removed] = sorted((tmp_path / "ads").glob("*-remove.csv"))
    assert [row["Email"] for row in csv.DictReader(removed.read_text().splitlines())] == hashes[1:]
    assert removed.stat().st_mode & 0o077 == 0
    kept = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert b"xample.org" not in kept, "no address is kept"


def test_who_leaves_while_a_change_waits_is_removed_by_the_address_that_was_sent(synced, tmp_path):
    there, nowhere = ({"kind": "google_ads", "folder": str(tmp_path / name)} for name in ("ads", "a_file/ads"))
    (tmp_path / "a_file").touch()
    assert synced(there, "SELECT 'u1' AS person, 'old@example.org' AS email") == 0
    assert synced(nowhere, "SELECT 'u1' AS person, 'new@example.org' AS email") == 1
    assert synced(there, "SELECT 'u2' AS person, 'other@example.org' AS email") == 0
    removed = [path.read_text() for path in (tmp_path / "ads").glob("*-remove.csv")]
    assert any(hashlib.sha256(b"old@example.org").hexdigest() in text for text in removed)
    added = [path.read_text() for path in (tmp_path / "ads").glob("*-add.csv")]
    assert not any(hashlib.sha256(b"new@example.org").hexdigest() in text for text in added)


@pytest.mark.parametrize(
    ("given", "email", "phone"),
    [
        ({"email": " Jane.Doe+shop@GoogleMail.com "}, "janedoe@googlemail.com", ""),
        ({"email": "jane.doe+shop@example.org"}, "jane.doe+shop@example.org", ""),
        ({"phone": "+1 (800) 888-8888"}, "", "+18008888888"),
        ({"email": "jane", "phone": "0800 1"}, "", ""),
    ],
    ids=["gmail", "other", "phone", "neither"],
)
def test_identifiers_are_hashed_in_the_form_of_customer_match(given, email, phone):
    form = customer(given)
    expected = {"Email": email, "Phone": phone}
    assert form == {name: hashlib.sha256(text.encode()).hexdigest() for name, text in expected.items() if text}


def test_a_file_has_a_change_on_each_line_and_a_second_sync_of_nothing_writes_none(synced, tmp_path):
    target = {"kind": "file", "folder": str(tmp_path / "out")}
    assert synced(target, ALL) == 0
    assert synced(target, ALL) == 0
    [file] = (tmp_path / "out").iterdir()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == PERSONS and lines[0] == {
        "id": lines[0]["id"], "segment": "everybody", "action": "add", "person": "u0000", "attributes": {"events": 1},
    }  # fmt: skip


def test_a_topic_gets_a_message_for_each_change(synced, queue):
    target = {"kind": "pubsub", "topic": queue.topic}
    assert synced(target, f"SELECT * FROM ({ALL}) WHERE person < 'u0003'") == 0
    found = {}

    def pulled() -> bool:
        answer = PubSub(queue.pubsub.emulator).pull(queue.subscription, 10).result()
        for each in answer.received_messages:
            found[each.message.attributes["key"]] = (each.message.attributes["action"], json.loads(each.message.data))
        return len(found) == 3

    wait_until(pulled, 60, "three messages")
    assert found["u0001"][0] == "add" and found["u0001"][1]["attributes"] == {"events": 1}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            "SELECT user_id FROM events",
            "sync.segments.everybody.query: got the columns user_id; allowed: one is `person`",
        ),
        ("SELECT 'x' AS person FROM events LIMIT 3", "got 2 persons more than once"),
        ("SELECT person FROM nowhere", "sync.segments.everybody.query: "),
        ("COPY events TO 'x.csv'", "sync.segments.everybody.query: "),
    ],
    ids=["no_person", "twice", "no_table", "no_question"],
)
def test_a_query_that_cannot_be_is_one_line_and_sends_nothing(synced, capsys, query, said):
    with receiving() as receiver:
        assert synced(webhook(receiver.url), query) == 1
        assert receiver.got == []
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--segment", "x"], "--segment: got 'x'; allowed: everybody"),
        (["--to", "x"], "--to: got 'x'; allowed: there"),
    ],
    ids=["segment", "target"],
)
def test_a_name_that_is_not_there_is_one_line(synced, capsys, words, said):
    assert synced({"kind": "file", "folder": "x"}, ALL, *words) == 2
    assert said in capsys.readouterr().err


def test_an_erased_person_is_removed_by_the_next_sync_and_forgotten(tmp_path, capsys):
    (tmp_path / "events.jsonl").write_text(
        "".join(
            json.dumps({"event_id": id, "event_type": "signup", "event_time": "2026-03-01T10:00:00Z", "user_id": id})
            + "\n"
            for id in ("anna", "bert")
        )
    )
    place = ["--warehouse", str(tmp_path / "w")]
    assert main(["backfill", "--input", str(tmp_path / "events.jsonl"), *place]) == 0
    segment = {"query": ALL, "to": ["there"]}
    target = {"kind": "file", "folder": str(tmp_path / "out")}
    (tmp_path / "a.yaml").write_text(json.dumps({"sync": {"targets": {"there": target}, "segments": {"all": segment}}}))
    sync = ["sync", *place, "--config", str(tmp_path / "a.yaml")]
    assert main(sync) == 0
    capsys.readouterr()
    assert main(["person", "--delete", "anna", *place]) == 0
    assert "targets of `audience sync` (all.there): until the next sync" in capsys.readouterr().err
    assert main(sync) == 0
    last = max((tmp_path / "out").iterdir())
    assert [(each["action"], each["person"]) for each in map(json.loads, last.read_text().splitlines())] == [
        ("remove", "anna")
    ]
    assert State(tmp_path / "w/sync/all.there").members()["person"].to_list() == ["bert"]
    kept = b"".join(path.read_bytes() for path in (tmp_path / "w/sync").rglob("*") if path.is_file())
    assert b"anna" not in kept
