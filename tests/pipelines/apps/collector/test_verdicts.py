"""The verdict on a native event is what the graph makes of it later; a rejected event is in the log all the same."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.apps.collector.consent import needing
from pipelines.apps.collector.intake import Rules
from pipelines.apps.collector.keys import KeyFile, add_key
from tests.pipelines.apps.collector.test_intake import served
from tests.servers.collector import entries_of
from transforms.block import RAW_SCHEMA, tag_input
from transforms.contract import CHANNELS, KNOWN, LONGEST, broken_rule
from transforms.lateness import Lateness
from transforms.parse import parse
from transforms.settle import Rules as Steps
from transforms.settle import judge
from transforms.validate import Validator

STEPS = Steps((), "log", Validator(), Lateness(None))


def outcomes(payloads: list[bytes], source: str) -> list[tuple[str, str] | None]:
    """(path, code) of each record that the steps of the graph reject, None for an event."""
    count = len(payloads)
    columns = {
        "payload": payloads,
        "received_time": [datetime.now(UTC)] * count,
        "source": [source] * count,
        "position": [str(at) for at in range(count)],
        "attributes": ["{}"] * count,
    }
    parsed = parse(tag_input(pl.DataFrame(columns, RAW_SCHEMA), "log"), None, source)
    found: list[tuple[str, str] | None] = [None] * count
    for rejected in (parsed.rejected, *judge(parsed.passed, STEPS).rejected):
        for at, errors in rejected.select("position", "errors").iter_rows():
            first = json.loads(errors)[0]
            found[int(at)] = (first["path"], first["code"])
    return found


def of_contract(payload: bytes, source: str) -> tuple[str, str] | None:
    broken = broken_rule(payload, source)
    return None if broken is None else (broken.path, broken.code)


WRONG = {
    "no type": {},
    "null type": {"event_type": None},
    "a type of another type": {"event_type": 5},
    "a type in capitals": {"event_type": "Page View"},
    "a type with a line end": {"event_type": "page_view\n"},
    "an empty id": {"event_id": ""},
    "a long id": {"event_id": "x" * 129},
    "an id with a control character": {"event_id": "a\tb"},
    "an id with an invisible character": {"event_id": "a\u200bb"},
    "an id with an unassigned character": {"event_id": "a\U000e0080b"},
    "a number as an id": {"event_id": 1},
    "a channel of no name": {"channel": "pigeon"},
    "a currency in small letters": {"currency": "eur"},
    "a value as a text": {"value": "12"},
    "a value that is too large": {"value": 10**18},
    "a value out of range": b'{"event_type":"a","value":1e999999999999}',
    "a quantity with a fraction": {"quantity": 1.5},
    "a quantity that is too large": {"quantity": 2**63},
    "a long user": {"user_id": "\u00fc" * 257},
    "a long text": {"text": "\u00fc" * 4097},
    "a source in capitals": {"source": "Web Shop"},
    "is_bot as a text": {"is_bot": "true"},
    "a rating as a text": {"rating": "5"},
    "deep properties": b'{"event_type":"a","properties":' + b"[" * 300 + b"]" * 300 + b"}",
    "bytes that are no UTF-8": b'{"event_type":"a","properties":{"x":"\xff"}}',
    "NaN": b'{"event_type":"a","value":NaN}',
    "half of a surrogate pair": b'{"event_type":"a","user_id":"\\ud800"}',
    "NaN among properties": b'{"event_type":"a","properties":{"n":NaN}}',
}
RIGHT = {
    "an id with a letter above ASCII": {"event_id": "bestellung-\u00fc\u4e00\U0001f600"},
    "a false person": {"user_id": "undefined"},
    "fields of its own": {"shop": {"a": [1, 2.5]}, "nothing": None},
    "a time that nobody can read": {"event_time": "yesterday", "sent_time": {}},
    "the largest value": {"value": 10**18 - 1},
    "a value of many places": b'{"event_type":"a","value":1.0000000000000000001}',
    "a text of many bytes": {"text": "\u00fc" * 4096},
    "the longest user": {"user_id": "\u00fc" * 256},
    "no value at all": {"value": None, "channel": None, "currency": None, "source": None},
}


def payload_of(case: dict | bytes) -> bytes:
    if isinstance(case, bytes):
        return case
    return json.dumps({"event_type": "page_view", **case} if case else {}).encode()


@pytest.mark.parametrize("case", [*WRONG, *RIGHT])
def test_the_verdict_is_what_the_graph_makes_of_it(case, tmp_path):
    payload = payload_of((WRONG | RIGHT)[case])
    (outcome,) = outcomes([payload], "events")
    assert of_contract(payload, "events") == outcome and (outcome is None) is (case in RIGHT)
    with served(tmp_path) as made:
        answer = made.ask(payload, content_type="application/x-ndjson").json()
        assert made.payloads == [payload]  # nothing is lost
    if outcome is None:
        assert answer == {"accepted": 1, "rejected": [], "duplicates": 0}
    else:
        (rejected,) = answer["rejected"]
        assert answer["accepted"] == 0 and rejected["index"] == 0
        assert rejected["reason"].startswith(f"{outcome[0]}: ") or "not JSON" in rejected["reason"]


def test_a_rejected_event_is_no_duplicate_of_the_right_one_that_follows(tmp_path):
    wrong, right = {"event_id": "e1", "event_type": "No"}, {"event_id": "e1", "event_type": "yes"}
    with served(tmp_path) as made:
        reason = "$.event_type: like page_view: ^[a-z][a-z0-9_]{0,63}$ (invalid_event_type)"
        assert made.ask(json.dumps(wrong).encode()).json()["rejected"] == [{"index": 0, "reason": reason}]
        assert made.ask(json.dumps(right).encode()).json() == {"accepted": 1, "rejected": [], "duplicates": 0}
        assert made.ask(json.dumps(right).encode()).json()["duplicates"] == 1
        assert len(made.payloads) == 3 and all("error" not in each.attributes for each in entries_of(made.folder))


def test_the_verdict_is_on_what_is_stored(tmp_path):
    """The source of a key stands in for one that is not stated, and without the person no field of it can be wrong."""
    keys = tmp_path / "keys.json"
    key = f"Bearer {add_key(keys, 'web', 'shop')}"
    with served(tmp_path, Rules(KeyFile(keys), consent=needing(["analytics"]))) as made:
        answer = made.ask(
            b'[{"event_type":"a","user_id":5},{"event_type":"a","source":"No"}]', authorization=key
        ).json()
        assert answer["accepted"] == 1 and [each["index"] for each in answer["rejected"]] == [1]
        assert outcomes(made.payloads, "shop") == [None, ("$.source", "invalid_source")]


def test_events_of_other_forms_are_judged_by_their_mapping_later(tmp_path):
    from pipelines.apps.collector.dialects.segment import Segment

    with served(tmp_path, dialects=(Segment(),)) as made:
        assert made.ask(b'{"type":"track"}', "/v1/track").json()["accepted"] == 1


texts = st.text(max_size=6) | st.sampled_from(
    ["page_view", "web", "EUR", "shop-1", "x" * 257, "\u00fc" * 2049, "a\n", ""]
)
anything = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.lists(texts, max_size=2)
likely = {
    "event_type": st.just("page_view") | texts,
    "event_id": st.text(min_size=1, max_size=130) | texts,
    "channel": st.sampled_from(CHANNELS) | texts,
    "value": st.decimals(allow_nan=False, allow_infinity=False).map(float) | st.integers(-(10**19), 10**19),
    "quantity": st.integers(-(2**64), 2**64),
    **{name: st.text(max_size=3) | st.just("y" * (most + 1)) for name, most in LONGEST.items()},
}
events = st.fixed_dictionaries(
    {"event_type": likely["event_type"]},
    optional={
        name: st.one_of(*[likely[name]] * 3, anything) if name in likely else anything
        for name in sorted({*KNOWN, "own"} - {"event_type"})
    },
)


@settings(max_examples=150)
@given(st.lists(events.map(lambda event: json.dumps(event).encode()) | st.binary(max_size=30), min_size=1, max_size=8))
def test_the_verdicts_on_any_events_are_those_of_the_graph(payloads):
    assert [of_contract(payload, "events") for payload in payloads] == outcomes(payloads, "events")
