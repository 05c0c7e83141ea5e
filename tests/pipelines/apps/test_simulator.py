"""The simulator's file, read again with `json` alone, is what its ledger says."""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from datetime import date, datetime, timedelta
from functools import cache

import msgspec
import pytest

from pipelines.apps.simulator.faults import CODES as CODES_BY_FAULT
from pipelines.apps.simulator.faults import GROUPS, NAMES, PRESETS, describe_faults, read_faults
from pipelines.apps.simulator.simulate import Faults, Ledger, faults, simulate, simulate_lines
from transforms.errors import OptionError

CODES = {
    "invalid_json",
    "wrong_type",
    "missing_event_type",
    "invalid_event_type",
    "invalid_event_id",
    "invalid_source",
    "invalid_channel",
    "invalid_currency",
    "invalid_value",
    "too_long",
    "no_time",
    "too_late",
}
CHANNELS = {"web", "mobile", "social", "iot", "email", "pos", "server", "other"}
LONGEST = {
    **dict.fromkeys(("user_id", "anonymous_id", "session_id", "content_id", "content_type", "category"), 256),
    **dict.fromkeys(("campaign", "country", "device"), 256),
    "referrer": 2048,
}
TEXTS = {
    "event_id", "event_type", "event_time", "sent_time", "received_time", "source", "user_id", "anonymous_id",
    "session_id", "content_id", "content_type", "category", "channel", "campaign", "referrer", "country",
    "device", "currency", "text",
}  # fmt: skip
KNOWN = TEXTS | {"value", "quantity", "rating", "is_bot", "properties"}
TIMES = {"event_time", "sent_time", "received_time"}
PERSON = ("user_id", "anonymous_id")
BESIDE = ("bots", "hot_key")  # beside another fault
TIME_SOURCES = ("client", "skew_corrected", "future_clamped", "received_missing", "received_invalid")
NULLISH = {"undefined", "null", "none", "nan", "[object object]", "00000000-0000-0000-0000-000000000000"}
NO_FAULTS = faults("none")
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def time_of(record, name):
    """The time, or None where there is none that can be read."""
    if type(record.get(name)) is not str:
        return None
    try:
        time = datetime.fromisoformat(record[name])
    except ValueError:
        return None
    return time if 1970 <= time.year <= 2200 and time.tzinfo is not None else None


@cache
def code_of(line):
    """The quarantine code of a line by the rules of the contract, or None, and the record if there is one."""
    try:
        record = json.loads(line.decode("utf-8", errors="strict"))
    except ValueError:
        return "invalid_json", None
    if not isinstance(record, dict):
        return "invalid_json", None
    return refusal_of(record), record


def refusal_of(record):
    types = {
        "value": (int, float),
        "quantity": int,
        "rating": (int, float),
        "is_bot": bool,
        "properties": dict,
    }
    for name in (KNOWN - TIMES) & record.keys():
        if record[name] is not None and not isinstance(record[name], types.get(name, str)):
            return "wrong_type"
    if abs(record.get("value", 0)) >= 10**18:
        return "invalid_value"
    id = record.get("event_id")
    if id is not None and not (1 <= len(id) <= 128 and all(unicodedata.category(c)[0] != "C" for c in id)):
        return "invalid_event_id"
    if "event_type" not in record:
        return "missing_event_type"
    for name, pattern in (("event_type", "[a-z][a-z0-9_]{0,63}"), ("source", "[a-z0-9][a-z0-9_.-]{0,63}"),
                          ("currency", "[A-Z]{3}")):  # fmt: skip
        if name in record and not re.fullmatch(pattern, record[name]):
            return f"invalid_{name}"
    if record.get("channel", "web") not in CHANNELS:
        return "invalid_channel"
    if any(len(record.get(name, "")) > longest for name, longest in LONGEST.items()):
        return "too_long"
    if len(record.get("text", "").encode()) > 8192:
        return "too_long"
    return untimely(record)


def untimely(record):
    event_time, received_time = time_of(record, "event_time"), time_of(record, "received_time")
    if received_time is None:
        return "no_time" if event_time is None else None
    return "too_late" if event_time is not None and received_time - event_time > 24 * HOUR else None


def identity(record):
    """What a second delivery of the record shares with it: its id, else all that it says."""
    return record.get("event_id") or json.dumps(said(record), sort_keys=True)


def said(record):
    return {name: value for name, value in record.items() if name not in ("received_time", "sent_time")}


class Recount:
    """The ledger's numbers, counted from the lines in order: the first delivery of an id is the one kept."""

    def __init__(self, lines):
        self.found, self.quarantined = Counter(lines=len(lines)), Counter(dict.fromkeys(CODES, 0))
        self.sources, self.types, self.users, self.conflicted, first = Counter(), Counter(), set(), [], {}
        for line in lines:
            code, record = code_of(line)
            if code is not None:
                self.quarantined[code] += 1
                continue
            kept = first.setdefault(identity(record), record)
            if kept is record:
                self.accept(record)
            elif said(kept) == said(record):
                self.found["repeats"] += 1
            else:
                self.found["conflicts"] += 1
                self.conflicted.append(record["event_id"])

    def accept(self, record):
        self.found.update(facts(record))
        self.sources[time_source(record)] += 1
        self.types[record["event_type"]] += 1
        ids = [record.get(name) for name in PERSON]
        self.users.update([name for name in ids if name and name.lower() not in NULLISH][:1])


def time_source(record):
    event, sent, received = (time_of(record, f"{name}_time") for name in ("event", "sent", "received"))
    if event is None:
        return "received_invalid" if record.get("event_time") is not None else "received_missing"
    skew = sent - received if sent is not None and sent - received > MINUTE else timedelta(0)
    if event - skew > received + HOUR:
        return "future_clamped"
    return "skew_corrected" if skew else "client"


def facts(record):
    """What the ledger counts of one accepted record, beside its time_source."""
    event, sent, received = (time_of(record, f"{name}_time") for name in ("event", "sent", "received"))
    slow = sent is not None and received - sent > MINUTE
    yield "accepted"
    if slow:
        yield "slow"
    elif event is not None and received - event >= 2 * HOUR:
        yield "late"
    if record.get("event_id") is None:
        yield "derived_ids"
    yield from (f"null_{name}" for name in PERSON if record.get(name, "").lower() in NULLISH)
    unknown = {name: value for name, value in record.items() if name not in KNOWN}
    if unknown or time_source(record) == "received_invalid":  # a time that cannot be read stays as it came
        yield "with_extra"
    if len(json.dumps(unknown)) > 100_000 or len(json.dumps(record.get("properties"))) > 100_000:
        yield "huge"
    if record.get("is_bot"):
        yield "bots"
    if record.get("user_id") == "hot":
        yield "hot"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A file of more than one block with its ledger: the lines, and the ledger as read from its file."""
    folder = tmp_path_factory.mktemp("simulated")
    returned = simulate(60_000, 11, folder / "events.jsonl", folder / "ledger.json")
    ledger = msgspec.json.decode((folder / "ledger.json").read_bytes(), type=Ledger)
    assert ledger == returned
    return (folder / "events.jsonl").read_bytes().splitlines(), ledger


def assert_balanced(lines, ledger):
    recount = Recount(lines)
    for name in ("lines", "accepted", "repeats", "conflicts", "late", "slow", "derived_ids", "with_extra", "huge",
                 "bots", "hot"):  # fmt: skip
        assert getattr(ledger, name) == recount.found[name], name
    assert ledger.warnings == {name: recount.found[name] for name in ("null_user_id", "null_anonymous_id")}
    assert ledger.quarantined == recount.quarantined
    assert {name: count for name, count in ledger.time_sources.items() if count} == recount.sources
    assert ledger.events_by_type == recount.types
    assert ledger.users == len(recount.users)
    assert ledger.conflicted_ids == sorted(recount.conflicted)
    assert ledger.lines == ledger.accepted + ledger.repeats + ledger.conflicts + sum(ledger.quarantined.values())
    assert ledger.accepted == sum(ledger.time_sources.values()) == sum(ledger.events_by_type.values())
    assert ledger.events == sum(n for name, n in ledger.injected.items() if name not in BESIDE) + sound(ledger)


def sound(ledger):
    """Events with no fault but `bots` and `hot_key`: what is left of the accepted, and had no second delivery."""
    accepted = ("repeats_near", "repeats_far", "repeats_too_late", "conflicts", "missing_id", "late", "fast_clock",
                "slow_clock", "future", "missing_time", "unreadable_time", "null_ids", "unknown_fields",
                "huge_lines")  # fmt: skip
    return ledger.accepted - sum(ledger.injected[name] for name in accepted)


def test_the_ledger_is_what_a_second_reading_counts(simulated):
    lines, ledger = simulated
    assert_balanced(lines, ledger)
    assert all(ledger.quarantined.values())
    assert all(ledger.time_sources.values())


@pytest.mark.parametrize("seed", [3, 4])
def test_the_ledger_holds_when_half_of_all_events_are_faulty(tmp_path, seed):
    ledger = simulate(8_000, seed, tmp_path / "events.jsonl", faults=faults("many"), days=1)
    assert_balanced((tmp_path / "events.jsonl").read_bytes().splitlines(), ledger)
    assert all(ledger.injected.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_alone_does_what_it_says_and_nothing_else(tmp_path, name):
    ledger = simulate(400, 2, tmp_path / "events.jsonl", faults=faults("none", **{name: 0.2}))
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert_balanced(lines, ledger)
    assert [fault for fault, count in ledger.injected.items() if count] == [name]
    given, text = ledger.injected[name], describe_faults()[name]
    recount = Recount(lines)
    if code := next((code for code in CODES if text.endswith(f": {code}")), None):
        assert recount.quarantined == dict.fromkeys(CODES, 0) | {code: given}
        assert CODES_BY_FAULT[name] == code
    elif source := next((source for source in TIME_SOURCES if text.endswith(f": {source}")), None):
        assert recount.sources[source] == (400 if source == "client" else given)
    else:
        facts = {"repeats_near": "repeats", "repeats_far": "repeats", "conflicts": "conflicts", "late": "late",
                 "missing_id": "derived_ids", "unknown_fields": "with_extra", "huge_lines": "huge", "bots": "bots",
                 "hot_key": "hot"}  # fmt: skip
        counted = recount.quarantined["too_late"] if name == "repeats_too_late" else recount.found[facts.get(name)]
        assert (sum(ledger.warnings.values()) if name == "null_ids" else counted) == given


def test_each_rate_is_met(simulated):
    _, ledger = simulated
    assert ledger.injected.keys() == set(NAMES)
    for name, count in ledger.injected.items():
        expected = ledger.events * getattr(ledger.faults, name)
        allowed = 4 * expected**0.5 * (2.5 if name == "bots" else 1)  # of sessions, not of events
        assert abs(count - expected) <= max(allowed, 3), name


@pytest.mark.parametrize(
    ("preset", "digest"),
    [
        ("usual", "56db2dd449287f5eeb06dbaffc3a555955f092c02bfd78b683508a088c255cbf"),
        ("many", "a47d307dc510c07524f337ed4a2a5d9bc37bd929dcfd9a0ff84a619de681f1fd"),
    ],
)
def test_the_bytes_are_these_on_any_machine(tmp_path, preset, digest):
    simulate(3_000, 7, tmp_path / "events.jsonl", faults=faults(preset))
    assert hashlib.sha256((tmp_path / "events.jsonl").read_bytes()).hexdigest() == digest


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


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_changes_no_event_but_those_that_it_is_given_to(name):
    plain = {line for _, line in simulate_lines(400, 2, faults=NO_FAULTS)}
    lines = simulate_lines(400, 2, faults=faults("none", **{name: 0.2}))
    faulty, ledger = [], None
    while ledger is None:
        try:
            faulty.append(next(lines)[1])
        except StopIteration as stop:
            ledger = stop.value
    only_again = ("repeats_near", "repeats_far", "repeats_too_late", "conflicts")
    assert len(plain - set(faulty)) == (0 if name in only_again else ledger.injected[name])


def test_delivery_is_in_order_of_received_time_across_blocks(simulated):
    lines, _ = simulated
    received = [record["received_time"] for code, record in map(code_of, lines) if code in (None, "too_late")]
    assert received == sorted(received)


def test_a_copy_keeps_type_person_and_client_time_and_is_received_within_23_hours(simulated):
    lines, _ = simulated
    first, shifts = {}, []
    for code, record in map(code_of, lines):
        if code is None and (kept := first.setdefault(identity(record), record)) is not record:
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
    records = [record for code, record in map(code_of, lines) if code is None and time_of(record, "event_time")]
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
        ({"events": 10**10}, r"--events: got 10000000000; it must be 1,000,000,000 or less"),
        ({"seed": -1}, r"--seed: got -1; it must be 0 or more"),
        ({"days": 0}, r"--days: got 0; it must be 1 or more"),
        ({"days": 10**9}, r"--days: got 1000000000; 2026-03-01 and so many days must end by 2200-01-01"),
        ({"start": date(1969, 7, 20)}, r"--start: got '1969-07-20'; it must be 1970-01-02 or later"),
    ],
)
def test_a_number_out_of_bounds_is_refused_and_nothing_written(tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        simulate(**{"events": 10, "seed": 1, "output": tmp_path / "events.jsonl", **options})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("start", "days"), [(date(1970, 1, 2), 1), (date(2199, 12, 31), 1), (date(1970, 1, 2), 84_003)]
)
def test_the_first_and_the_last_day_hold_readable_times(tmp_path, start, days):
    ledger = simulate(500, 1, tmp_path / "events.jsonl", start=start, days=days, faults=faults("many"))
    assert_balanced((tmp_path / "events.jsonl").read_bytes().splitlines(), ledger)


def test_a_rate_out_of_bounds_is_refused():
    with pytest.raises(OptionError, match=r"faults.late: got 1.5; a rate is from 0 to 1"):
        Faults(late=1.5)
    with pytest.raises(OptionError, match=r"faults: the rates add up to 1\.\d+; their sum must be at most 1"):
        Faults(late=0.6, repeats_near=0.6)


def test_faults_are_a_preset_and_the_rates_of_ones_own():
    assert faults() == read_faults([]) == Faults() == PRESETS["usual"]
    assert (
        faults("none", late=0.25)
        == read_faults(["none", "late=0.25"])
        == Faults(**dict.fromkeys(NAMES, 0) | {"late": 0.25})
    )
    assert read_faults(["late=0.25", "none"]) == NO_FAULTS
    spread = faults("none", malformed=0.14, repeats=0.5)
    assert {name for name in NAMES if getattr(spread, name)} == {*GROUPS["malformed"], *GROUPS["repeats"]}
    assert (spread.repeats_near, spread.no_time) == (0.25, pytest.approx(0.01))
    # In turn, so a sum that is too large on the way is no mistake.
    assert read_faults(["many", "late=0.9", "none"]) == NO_FAULTS


@pytest.mark.parametrize("word", ["", "some", "late", "late=", "late=1.5", "late=-0.1", "late=nan", "lat=0.1", "=0.1"])
def test_a_fault_that_is_none_is_refused_with_what_is_allowed(word):
    allowed = f"--faults: got {word!r}; allowed: none, usual, many, or NAME=RATE of repeats, malformed, repeats_near, "
    with pytest.raises(OptionError, match=re.escape(allowed)):
        read_faults([word])


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OptionError, match=r"missing/events.jsonl: cannot be written \(No such file or directory\)"):
        simulate(10, 1, tmp_path / "missing" / "events.jsonl")
