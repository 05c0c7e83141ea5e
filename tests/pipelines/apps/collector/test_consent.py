"""Consent: an event without it is dropped, or kept without the person, before anything is stored."""

import base64
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.apps.collector.consent import needing, stated_in
from pipelines.apps.collector.dialects import DIALECTS
from pipelines.apps.collector.intake import Rules
from pipelines.apps.collector.keys import KeyFile, add_webhook
from pipelines.apps.collector.privacy import without_person
from pipelines.cli import main
from tests.pipelines.apps.collector.test_intake import Signed, served
from tests.servers.collector import collecting, entries_of

CANARY = "canary@example.org"
SNOWPLOW = "iglu:com.snowplowanalytics.snowplow"


def contexts(kind: str | None, scopes: list[str]) -> str:
    data = {"eventType": kind, "consentScopes": scopes, "consentVersion": "1"}
    own = {"schema": f"{SNOWPLOW}/consent_preferences/jsonschema/1-0-0", "data": data}
    other = {"schema": f"{SNOWPLOW}/client_session/jsonschema/1-0-2", "data": {"userId": CANARY}}
    return json.dumps({"schema": f"{SNOWPLOW}/contexts/jsonschema/1-0-0", "data": [other, own]})


def snowplow(kind, scopes):
    return {"e": "pv", "eid": "1", "uid": CANARY, "co": contexts(kind, scopes)}


def in_base64(kind, scopes):
    text = base64.urlsafe_b64encode(contexts(kind, scopes).encode()).decode().rstrip("=")
    return {"e": "pv", "eid": "1", "uid": CANARY, "cx": text}


def native(consent):
    return {"event_id": "1", "event_type": "page_view", "user_id": CANARY, "consent": consent}


def segment(context):
    return {"messageId": "1", "type": "track", "event": "Seen", "userId": CANARY, "context": context}


# path -> (the body of an event, with what it must be)
CASES = {
    "native, object": ("/v1/events", native({"analytics": True, "ads": False}), True),
    "native, texts": ("/v1/events", native({"Analytics": "granted"}), True),
    "native, denied": ("/v1/events", native({"analytics": "denied"}), False),
    "native, list": ("/v1/events", native(["ads", "ANALYTICS"]), True),
    "native, another list": ("/v1/events", native(["ads"]), False),
    "native, one word": ("/v1/events", native("granted"), True),
    "native, no word": ("/v1/events", native("perhaps"), False),
    "native, an odd value": ("/v1/events", native({"analytics": {"x": 1}}), False),
    "native, unstated": ("/v1/events", {"event_type": "page_view", "user_id": CANARY}, False),
    "native, in properties": ("/v1/events", {**native(None), "properties": {"consent": {"analytics": 1}}}, True),
    "native, one place denies": ("/v1/events", {**native(["analytics"]), "properties": {"consent": False}}, False),
    "native, a purpose denied later": (
        "/v1/events",
        {**native({"analytics": True}), "properties": {"consent": {"analytics": False}}},
        False,
    ),
    "native, a purpose denied first": (
        "/v1/events",
        {**native({"analytics": False}), "properties": {"consent": {"analytics": True}}},
        False,
    ),
    "segment": ("/v1/track", segment({"consent": {"categoryPreferences": {"Analytics": True}}}), True),
    "segment, denied": ("/v1/track", segment({"consent": {"categoryPreferences": {"Analytics": False}}}), False),
    "segment, batch": (
        "/v1/batch",
        {"batch": [segment({})], "context": {"consent": {"categoryPreferences": {"Analytics": True}}}},
        True,
    ),
    "rudderstack": (
        "/v1/track",
        segment({"consentManagement": {"allowedConsentIds": ["analytics"], "deniedConsentIds": ["ads"]}}),
        True,
    ),
    "rudderstack, denied": (
        "/v1/track",
        segment({"consentManagement": {"allowedConsentIds": [], "deniedConsentIds": ["analytics"]}}),
        False,
    ),
    "posthog": (
        "/e/",
        {"event": "x", "distinct_id": CANARY, "properties": {"$consent": {"analytics": "granted"}}},
        True,
    ),
    "posthog, denied": (
        "/e/",
        {"event": "x", "distinct_id": CANARY, "properties": {"consent": {"analytics": False}}},
        False,
    ),
    "ga4": (
        "/mp/collect?api_secret=s",
        {"client_id": CANARY, "consent": {"analytics": "GRANTED"}, "events": [{"name": "x"}]},
        True,
    ),
    "ga4, denied": (
        "/mp/collect?api_secret=s",
        {"client_id": CANARY, "consent": {"analytics": "DENIED"}, "events": [{"name": "x"}]},
        False,
    ),
    "snowplow": (f"/com.{SNOWPLOW[9:]}/tp2", {"data": [snowplow("allow_selected", ["analytics"])]}, True),
    "snowplow, all": (f"/com.{SNOWPLOW[9:]}/tp2", {"data": [snowplow("allow_all", [])]}, True),
    "snowplow, base64": (f"/com.{SNOWPLOW[9:]}/tp2", {"data": [in_base64("allow_selected", ["analytics"])]}, True),
    "snowplow, denied": (f"/com.{SNOWPLOW[9:]}/tp2", {"data": [snowplow("deny_all", ["analytics"])]}, False),
    "snowplow, base64, denied": (f"/com.{SNOWPLOW[9:]}/tp2", {"data": [in_base64("withdrawn", [])]}, False),
    "cloudevents": (
        "/v1/cloudevents",
        {
            "specversion": "1.0",
            "id": "1",
            "source": "s",
            "type": "t",
            "data": {"consent": ["analytics"], "email": CANARY},
        },
        True,
    ),
    "plausible": ("/api/event", {"n": "x", "u": "https://x.y/", "p": {"consent": "yes", "email": CANARY}}, True),
    "plausible, denied": ("/api/event", {"n": "x", "u": "https://x.y/", "p": {"email": CANARY}}, False),
}


@pytest.mark.parametrize("case", CASES)
def test_what_an_event_states_decides_what_is_stored(case, tmp_path):
    path, body, given_it = CASES[case]
    for without in ("anonymous", "drop"):
        rules = Rules(consent=needing(["Analytics"], without))
        with served(tmp_path / without, rules, DIALECTS) as made:
            assert made.ask(json.dumps(body).encode(), path, user_agent="canary-agent").status in (200, 202, 204)
            entries = entries_of(made.folder)
            metrics = made.collector.metrics
        stored = b"".join(entry.payload for entry in entries).decode() + repr([each.attributes for each in entries])
        outcome = "given" if given_it else {"drop": "dropped"}.get(without, without)
        assert [each for _, each in metrics.consent] == [outcome]
        if given_it:
            assert len(entries) == 1 and CANARY in stored and "canary-agent" in stored
        else:
            assert len(entries) == (without == "anonymous") and "canary" not in stored
            assert without == "drop" or entries[0].attributes["privacy"] == "anonymous"


def test_a_purpose_of_which_nothing_is_said_is_what_the_operator_says():
    event = b'{"consent":{"ads":true}}'
    assert needing(["analytics"], "drop").of(event) == "drop"
    assert needing(["analytics"], "drop", "granted").of(event) is None
    assert needing(["analytics"], "drop", "granted").of(b'{"consent":{"analytics":false}}') == "drop"
    assert needing(["ads", "analytics"], "drop").of(b'{"consent":["ads","analytics"]}') is None
    assert needing([]).of(b"{}") is None


def test_a_batch_is_judged_event_by_event_and_a_client_need_not_send_a_dropped_one_again(tmp_path):
    batch = [native(["analytics"]) | {"event_id": "a"}, native([]) | {"event_id": "b"}]
    with served(tmp_path, Rules(consent=needing(["analytics"], "drop"))) as made:
        for _ in range(2):
            answer = made.ask(json.dumps(batch).encode())
        assert answer.json() == {"accepted": 1, "rejected": [], "duplicates": 1}
        assert [json.loads(payload)["event_id"] for payload in made.payloads] == ["a", "a"]
        assert made.collector.metrics.events["native", "dropped"] == 2


def test_a_signal_of_the_browser_holds_also_where_consent_is_given(tmp_path):
    with served(tmp_path, Rules(consent=needing(["analytics"]))) as made:
        made.ask(json.dumps(native(["analytics"])).encode(), sec_gpc="1")
        assert CANARY.encode() not in b"".join(made.payloads) and len(made.payloads) == 1


def test_a_body_that_nobody_can_read_states_nothing(tmp_path):
    with served(tmp_path, Rules(consent=needing(["analytics"]))) as made:
        assert made.ask(CANARY.encode()).status == 400
        assert made.payloads == [b"{}"]


def test_webhooks_are_not_asked(tmp_path):
    keys = tmp_path / "keys.json"
    add_webhook(keys, "shop", "payments", "whsec_canary")
    with served(tmp_path, Rules(KeyFile(keys), consent=needing(["analytics"], "drop")), (Signed(),)) as made:
        assert made.ask(b'{"user_id":"u"}', "/hooks/shop", signature="good").status == 202
        assert [json.loads(each)["user_id"] for each in made.payloads] == ["u"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(["granted", "denied"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["consent", "analytics", "properties", "context", "data", "schema"]), inner)
    ),
    max_leaves=12,
)


@given(values, st.booleans())
def test_no_event_breaks_it_and_a_denied_purpose_is_never_granted_elsewhere(value, is_first):
    assert isinstance(stated_in(json.dumps({"consent": value, "co": json.dumps(value)}).encode()), dict)
    other = {"consent": value} if isinstance(value, dict) else {}
    event = {"consent": {"analytics": False}, "properties": other}
    event = event if is_first else dict(reversed(event.items()))
    assert needing(["analytics"]).of(json.dumps(event).encode()) == "anonymous"


@given(st.text(max_size=8), values)
def test_a_text_that_is_json_loses_the_person_too(text, value):
    assume(text.lstrip()[:1] not in ("{", "["))  # which may be JSON itself
    inner = json.dumps({"userId": CANARY, "kept": text, "consent": value})
    left = json.loads(without_person(json.dumps({"co": inner, "rest": text}).encode()))
    assert json.loads(left["co"]) == {"kept": text, "consent": value} and left["rest"] == text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--without_consent", "drop"], "--without_consent: only with --consent PURPOSE"),
        (["--consent", " "], "--consent: got a purpose that is empty"),
        (["--consent", "a", "--unstated_consent", "maybe"], "invalid choice: 'maybe'"),
    ],
)
def test_wrong_options_are_one_line(options, said, capsys, tmp_path):
    assert main(["collect", "--log", str(tmp_path / "log"), *options]) == 2
    assert said in capsys.readouterr().err


def test_no_answer_line_or_metric_of_a_collector_tells_of_an_event_without_consent(tmp_path):
    options = ("--consent", "analytics", "--without_consent", "anonymous")
    with collecting(tmp_path, *options) as server:
        body = json.dumps([native({"analytics": CANARY}), native({CANARY: True}) | {"event_id": "2"}]).encode()
        answer = server.ask(body=body, user_agent="canary-agent")
        assert answer.json()["accepted"] == 2
        shown = answer.body.decode() + server.ask("/metrics").body.decode() + server.said()
        assert 'consent_total{dialect="native",outcome="anonymous"} 2' in shown
        stored = [entry.payload.decode() + repr(entry.attributes) for entry in entries_of(server.log)]
    assert "canary" not in shown and len(stored) == 2 and "canary-agent" not in "".join(stored)
    assert all("user_id" not in each for each in stored)
