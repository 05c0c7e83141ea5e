"""The simulator's file, read again with `json` alone, is what its ledger says."""

import hashlib
import json
import re
from collections import Counter
from datetime import date, datetime, timedelta
from functools import cache

import msgspec
import pytest

from pipelines.simulator import Faults, Ledger, simulate, simulate_lines
from transforms.errors import OptionError

CODES = {
    "invalid_json",
    "wrong_type",
    "missing_event_type",
    "invalid_event_type",
    "invalid_currency",
    "no_time",
}
TEXTS = {
    "event_id", "event_type", "event_time", "sent_time", "received_time", "source", "user_id", "anonymous_id",
    "session_id", "content_id", "content_type", "category", "channel", "campaign", "referrer", "country",
    "device", "currency", "text",
}  # fmt: skip
KNOWN = TEXTS | {"value", "quantity", "rating", "is_bot", "properties"}
PERSON = ("user_id", "anonymous_id")
NULLISH = {"undefined", "null", "none", "nan", "[object object]", "00000000-0000-0000-0000-000000000000"}
NO_FAULTS = Faults(**{name: 0.0 for name in Faults.__struct_fields__})
MANY_FAULTS = Faults(**{name: 0.05 for name in Faults.__struct_fields__})
HOUR = timedelta(hours=1)


def time_of(record, name):
    return datetime.fromisoformat(record[name]) if name in record else None


@cache
def code_of(line):
    """The quarantine code of a line by the rules of the contract, or None, and the record if there is one."""
    try:
        record = json.loads(line.decode("utf-8", errors="strict"))
    except ValueError:
        return "invalid_json", None
    if not isinstance(record, dict):
        return "invalid_json", None
    types = {
        "value": (int, float),
        "quantity": int,
        "rating": (int, float),
        "is_bot": bool,
        "properties": dict,
    }
    for name in KNOWN & record.keys():
        if not isinstance(record[name], types.get(name, str)):
            return "wrong_type", record
    event_time, received_time = time_of(record, "event_time"), time_of(record, "received_time")
    if event_time is None and received_time is None:
        return "no_time", record
    if "event_type" not in record:
        return "missing_event_type", record
    if not re.fullmatch("[a-z][a-z0-9_]{0,63}", record["event_type"]):
        return "invalid_event_type", record
    if not re.fullmatch("[A-Z]{3}", record.get("currency", "USD")):
        return "invalid_currency", record
    if event_time is not None and received_time - event_time > 24 * HOUR:
        return "too_late", record
    return None, record


def recount(lines):
    """The ledger's numbers, counted from the lines in order: the first delivery of an id is the one kept."""
    found, first = Counter(lines=len(lines)), {}
    quarantined, types, users, conflicted = Counter(), Counter(), set(), set()
    for line in lines:
        code, record = code_of(line)
        if code is not None:
            quarantined[code] += 1
            continue
        same = {name: value for name, value in record.items() if name not in ("received_time", "sent_time")}
        kept = first.setdefault(record["event_id"], same)
        if kept is not same:
            found["repeats" if kept == same else "conflicts"] += 1
            conflicted |= {record["event_id"]} if kept != same else set()
            continue
        found.update(facts(record))
        types[record["event_type"]] += 1
        ids = [record.get(name) for name in PERSON]
        users.update([name for name in ids if name and name.lower() not in NULLISH][:1])
    return found, quarantined, types, len(users), sorted(conflicted)


def facts(record):
    """What the ledger counts of one accepted record."""
    event, sent, received = (time_of(record, f"{name}_time") for name in ("event", "sent", "received"))
    yield "accepted"
    if event is None:
        yield "received_missing"
    elif received - event >= 2 * HOUR:
        yield "late"
    elif sent is not None and sent - received > timedelta(seconds=60):
        yield "skew_corrected"
    elif event - received > HOUR:
        yield "future_clamped"
    yield from (f"null_{name}" for name in ("user_id", "anonymous_id") if record.get(name, "").lower() in NULLISH)
    if record.keys() - KNOWN:
        yield "unknown_fields"
    if record.get("is_bot"):
        yield "bots"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A file of more than one block with its ledger: the lines, and the ledger as read from its file."""
    folder = tmp_path_factory.mktemp("simulated")
    returned = simulate(60_000, 11, folder / "events.jsonl", folder / "ledger.json")
    ledger = msgspec.json.decode((folder / "ledger.json").read_bytes(), type=Ledger)
    assert ledger == returned
    return (folder / "events.jsonl").read_bytes().splitlines(), ledger


def assert_balanced(lines, ledger):
    found, quarantined, types, users, conflicted = recount(lines)
    for name in ("lines", "accepted", "repeats", "conflicts", "late", "skew_corrected", "future_clamped",
                 "received_missing", "unknown_fields", "bots"):  # fmt: skip
        assert getattr(ledger, name) == found[name], name
    assert ledger.null_ids == {name: found[name] for name in ("null_user_id", "null_anonymous_id")}
    assert {code: count for code, count in ledger.quarantined.items() if count} == quarantined
    assert ledger.events_by_type == types
    assert ledger.users == users
    assert ledger.conflicted_ids == conflicted
    assert ledger.lines == ledger.accepted + ledger.repeats + ledger.conflicts + sum(ledger.quarantined.values())


def test_the_ledger_is_what_a_second_reading_counts(simulated):
    lines, ledger = simulated
    assert_balanced(lines, ledger)
    assert set(ledger.quarantined) == CODES | {"too_late"}
    assert all(ledger.quarantined.values())


def test_the_ledger_holds_when_half_of_all_events_are_faulty(tmp_path):
    ledger = simulate(8_000, 3, tmp_path / "events.jsonl", faults=MANY_FAULTS, days=1)
    assert_balanced((tmp_path / "events.jsonl").read_bytes().splitlines(), ledger)


def test_each_rate_is_met(simulated):
    _, ledger = simulated
    met = {
        "repeats": ledger.repeats,
        "conflicts": ledger.conflicts,
        "malformed": sum(ledger.quarantined[code] for code in CODES),
        "late": ledger.late,
        "too_late": ledger.quarantined["too_late"],
        "fast_clock": ledger.skew_corrected,
        "future": ledger.future_clamped,
        "missing_time": ledger.received_missing,
        "null_ids": sum(ledger.null_ids.values()),
        "unknown_fields": ledger.unknown_fields,
    }
    for name, count in met.items():
        expected = ledger.events * getattr(ledger.faults, name)
        assert abs(count - expected) < 4 * expected**0.5, name


def test_the_bytes_are_these_on_any_machine(tmp_path):
    simulate(3_000, 7, tmp_path / "events.jsonl")
    assert (
        hashlib.sha256((tmp_path / "events.jsonl").read_bytes()).hexdigest()
        == "8310da66e35440141bf9fe76ed5900f216068d0903f2ea398650980818a2202c"
    )


def test_the_lines_yielded_are_the_lines_written(tmp_path):
    ledger = simulate(2_000, 5, tmp_path / "events.jsonl", days=3, start=date(2026, 5, 31))
    lines = simulate_lines(2_000, 5, days=3, start=date(2026, 5, 31))
    read = []
    while True:
        try:
            received_us, line = next(lines)
        except StopIteration as stop:
            assert stop.value == ledger
            break
        code, record = code_of(line)
        told = time_of(record, "received_time").timestamp() if code not in ("invalid_json", "no_time") else None
        assert received_us == (None if told is None else round(told * 1e6))
        read.append(line)
    assert b"\n".join([*read, b""]) == (tmp_path / "events.jsonl").read_bytes()


def test_another_seed_gives_other_events_and_no_common_id():
    ids = [{line[13:25] for _, line in simulate_lines(1_000, seed, faults=NO_FAULTS)} for seed in (1, 2)]
    assert [len(those) for those in ids] == [1_000, 1_000]
    assert not ids[0] & ids[1]


def test_faults_do_not_change_the_sound_events():
    plain = {line for _, line in simulate_lines(2_000, 9, faults=NO_FAULTS)}
    late = {line for _, line in simulate_lines(2_000, 9, faults=msgspec.structs.replace(NO_FAULTS, late=0.1))}
    assert 1_700 < len(plain & late) < 1_900


def test_delivery_is_in_order_of_received_time_across_blocks(simulated):
    lines, _ = simulated
    received = [record["received_time"] for code, record in map(code_of, lines) if code in (None, "too_late")]
    assert received == sorted(received)


def test_a_copy_keeps_type_person_and_client_time_and_is_received_within_23_hours(simulated):
    lines, _ = simulated
    first, shifts = {}, []
    for code, record in map(code_of, lines):
        if code is None and (kept := first.setdefault(record["event_id"], record)) is not record:
            for name in ("event_type", "event_time", "sent_time", "user_id", "anonymous_id", "session_id"):
                assert record.get(name) == kept.get(name)
            assert time_of(record, "received_time") - time_of(record, "event_time") <= 23 * HOUR
            shifts.append(time_of(record, "received_time") - time_of(kept, "received_time"))
    assert min(shifts) > timedelta(0)
    assert sum(shift < timedelta(seconds=30) for shift in shifts) > len(shifts) / 3
    assert sum(shift > HOUR for shift in shifts) > len(shifts) / 4


def test_a_journey_is_in_order():
    before, needs = {}, {"purchase": "add_to_cart", "add_to_cart": "page_view", "like": "impression"}
    records = [json.loads(line) for _, line in simulate_lines(20_000, 4, faults=NO_FAULTS)]
    for record in sorted(records, key=lambda record: record["event_time"]):
        seen = before.setdefault(record["session_id"], set())
        seen.add((record["event_type"], record.get("content_id")))
        if need := needs.get(record["event_type"]):
            assert (need, record["content_id"]) in seen
    purchases = [record for record in records if record["event_type"] == "purchase"]
    assert len(purchases) > 100
    assert {record["currency"] for record in purchases} == {"USD", "EUR", "GBP"}
    assert all(record["value"] > 0 and record["quantity"] >= 1 for record in purchases)


def test_the_audience_has_a_rhythm_a_head_and_a_tail(simulated):
    lines, ledger = simulated
    records = [record for code, record in map(code_of, lines) if code is None and "event_time" in record]
    hours = Counter(record["event_time"][11:13] for record in records)
    assert hours["04"] * 5 < hours["12"] < hours["20"]
    assert hours["15"] < hours["12"]
    contents = Counter(record["content_id"] for record in records if "content_id" in record).most_common()
    assert contents[0][1] > 30 * contents[len(contents) // 2][1]
    assert ledger.events / 16 < ledger.users < ledger.events / 6
    assert {record["channel"] for record in records} == {"web", "mobile", "social", "iot", "email"}
    texts = [record["text"] for record in records if record["event_type"] == "feedback"]
    assert len(set(texts)) > len(texts) / 2


def test_an_event_is_about_270_bytes(simulated):
    lines, _ = simulated
    assert 255 < sum(map(len, lines)) / len(lines) < 290


def test_one_event_is_enough(tmp_path):
    assert simulate(1, 0, tmp_path / "events.jsonl", faults=NO_FAULTS).accepted == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": 0}, r"--events: got 0; it must be 1 or more"),
        ({"seed": -1}, r"--seed: got -1; it must be 0 or more"),
        ({"days": 0}, r"--days: got 0; it must be 1 or more"),
    ],
)
def test_a_number_out_of_bounds_is_refused_and_nothing_written(tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        simulate(**{"events": 10, "seed": 1, "output": tmp_path / "events.jsonl", **options})
    assert not list(tmp_path.iterdir())


def test_a_rate_out_of_bounds_is_refused():
    with pytest.raises(OptionError, match=r"faults.late: got 1.5; a rate is from 0 to 1"):
        Faults(late=1.5)
    with pytest.raises(OptionError, match=r"faults: the rates add up to 1\.\d+; keep the sum to 1"):
        Faults(late=0.6, repeats=0.6)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OptionError, match=r"missing/events.jsonl: cannot be written \(No such file or directory\)"):
        simulate(10, 1, tmp_path / "missing" / "events.jsonl")
