"""What holds for every dialect, and what each makes of the requests of the official clients."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.apps.collector.dialect import ACCEPTED, DUPLICATE, REJECTED, NotSigned, NotThisForm, Request
from pipelines.apps.collector.dialects import DIALECTS, dialects_with
from tests.support.captured import captured, dialect_of, events_of, requests
from tests.support.json_values import objects, values, written

KEY = "invented-write-key-0123456789"
KEYS = {
    "segment": KEY,
    "segment-node": KEY,
    "analytics-next": KEY,
    "rudderstack": KEY,
    "posthog": "phc_invented0123456789",
    "posthog-js": "phc_invented0123456789",
    "posthog-v1": "phc_invented0123456789",
    "snowplow": "shop",
    "snowplow-get": "shop",
    "cloudevents": None,
    "plausible": "shop.example",
    "plausible-tracker": "shop.example",
}
ROUTES = [(dialect, method, path) for dialect in dialects_with({"a": "b"}) for method, path in dialect.routes]
# The batch of each dialect that has one: path, body of some elements.
BATCHES = {
    "native": ("/v1/events", lambda batch: batch),
    "segment": ("/v1/batch", lambda batch: {"batch": batch, "context": {"ip": 1}, "sentAt": "now", "writeKey": "k"}),
    "posthog": ("/batch/", lambda batch: {"api_key": "k", "batch": batch, "sent_at": "now"}),
    "posthog-v1": ("/i/v1/analytics/events", lambda batch: {"created_at": "now", "batch": batch}),
    "snowplow": ("/com.snowplowanalytics.snowplow/tp2", lambda batch: {"schema": "s", "data": batch}),
    "ga4-measurement": ("/mp/collect", lambda batch: {"client_id": "c", "events": batch}),
    "cloudevents": ("/v1/cloudevents", lambda batch: batch),
}


def post(path: str, body: bytes, query=None, **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("POST", path, query or {}, named, body)


def read(path: str, body, query=None, **headers: str):
    request = post(path, body if type(body) is bytes else written(body), query, **headers)
    return dialect_of(request).read(request)


def decoded(events) -> list:
    return [json.loads(event.payload) for event in events]


def test_no_two_dialects_share_a_name_or_a_route():
    assert len({dialect.name for dialect in dialects_with({})}) == len(DIALECTS) + 1
    assert len({(method, path) for _, method, path in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("client", KEYS)
def test_what_a_client_sends_is_read_with_its_key_and_ids(client):
    for request in requests(client):
        dialect = dialect_of(request)
        assert dialect.key_of(request) == KEYS[client]
        events = dialect.read(request)
        assert events and [event.error for event in events] == [None] * len(events)
        if client not in ("plausible", "plausible-tracker"):
            assert all(event.id for event in events)
        kept = b"".join(event.payload for event in events)
        assert KEYS[client] in (None, "shop", "shop.example") or KEYS[client].encode() not in kept
        assert all(msgspec.json.decode(event.payload, type=dict) for event in events)


@pytest.mark.parametrize(
    ("client", "list", "shared"),
    [
        ("segment", "batch", {"sentAt"}),
        ("segment-node", "batch", {"sentAt"}),
        ("rudderstack", "batch", {"sentAt"}),
        ("posthog", "batch", {"sent_at", "historical_migration"}),
        ("posthog-v1", "batch", {"created_at"}),
    ],
)
def test_what_a_batch_says_of_all_is_in_each_event(client, list, shared):
    (sent,) = (json.loads(each["body"]) for each in captured(client)["requests"])
    assert decoded(events_of(client)) == [{**{key: sent[key] for key in shared}, **each} for each in sent[list]]


@pytest.mark.parametrize("name", BATCHES)
@given(batch=st.lists(objects, max_size=4), data=st.data())
def test_where_a_batch_is_cut_into_requests_does_not_matter(name, batch, data):
    path, body_of = BATCHES[name]
    cut = data.draw(st.integers(0, len(batch)))
    whole = read(path, body_of(batch))
    assert len(whole) == len(batch)
    assert whole == read(path, body_of(batch[:cut])) + read(path, body_of(batch[cut:]))


@pytest.mark.parametrize("name", BATCHES)
def test_an_element_that_is_no_object_is_rejected_and_not_its_batch(name):
    path, body_of = BATCHES[name]
    events = read(path, body_of([{"a": 1}, 7, None, {"b": float("nan")}]))
    assert [event.error for event in events] == [
        None,
        "got a number, allowed an object",
        "got null, allowed an object",
        None,
    ]
    assert [event.payload for event in events[1:3]] == [b"7", b"null"]
    assert b'"b": NaN' in events[3].payload


@pytest.mark.parametrize("name", ["segment", "posthog", "posthog-v1", "ga4-measurement"])
def test_what_a_batch_says_of_all_its_events_is_bounded_with_their_number(name):
    path, body_of = BATCHES[name]
    for said, is_too_much in ((b"x" * 6_000, False), (b"x" * 7_000, True)):
        body = (
            b'{"context": {"a": "' + said + b'"},' + written(body_of([{}] * 10_000))[1:].replace(b'"context"', b'"c"')
        )
        if is_too_much:
            with pytest.raises(NotThisForm, match="says too much of all its events"):
                read(path, body)
        else:
            assert len(read(path, body)) == 10_000


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("body", [b"", b"hello", b'"text"', b"[" * 100_000, b'{"batch": [', b'{"a": 1}'])
def test_a_body_that_is_not_the_form_is_refused(name, body):
    if name in ("native", "posthog") and body == b'{"a": 1}':
        assert read(BATCHES[name][0], body)  # one event
        return
    with pytest.raises(NotThisForm, match=r"^got "):
        read(BATCHES[name][0], body)


forms = st.sampled_from([body_of for _, body_of in BATCHES.values()])
bodies = st.binary() | values.map(written) | st.builds(lambda form, value: written(form(value)), forms, values)
texts = st.text(st.characters(max_codepoint=255), max_size=9)
header_names = st.sampled_from(
    ["content-type", "authorization", "ce-id", "ce-specversion", "x-write-key", "webhook-signature", "stripe-signature"]
)
header_values = texts | st.sampled_from(["Basic 9g==", "application/x-www-form-urlencoded", "application/json"])


@pytest.mark.parametrize(("dialect", "method", "path"), ROUTES, ids=lambda each: getattr(each, "name", each))
@given(
    body=bodies | bodies.map(lambda body: b"data=" + body) | bodies.map(lambda body: b"\x1f\x8b" + body),
    query=st.dictionaries(texts | st.just("e"), texts, max_size=3),
    headers=st.dictionaries(header_names, header_values, max_size=3),
)
def test_any_request_is_a_list_of_events_or_refused(dialect, method, path, body, query, headers):
    request = Request(method, path.replace("{name}", "a"), query, headers, body)
    assert dialect.key_of(request) is None or dialect.key_of(request)
    try:
        events = dialect.read(request)
    except (NotThisForm, NotSigned):
        return
    assert all(type(event.payload) is bytes for event in events)
    dialect.accepted(request, events, [ACCEPTED] * len(events))


@pytest.mark.parametrize(
    ("path", "success"),
    [("/v1/batch", {"success": True}), ("/batch/", {"status": 1}), ("/v1/cloudevents", {})],
)
def test_a_compatible_route_answers_200_and_counts(path, success):
    request = post(path, b"")
    answer = dialect_of(request).accepted(request, [], [ACCEPTED, DUPLICATE, f"{REJECTED}no"])
    assert answer.status == 200
    counted = {"accepted": 1, "duplicates": 1, "rejected": [{"index": 2, "reason": "no"}]}
    assert json.loads(answer.body) == success | counted
    assert dict(answer.headers) == {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/batch", {"code": "log_full", "message": "later"}),  # RudderStack's client fails without both
        ("/batch/", {"code": "log_full", "detail": "later"}),
        ("/i/v1/analytics/events", {"error": "log_full", "error_description": "later"}),
        ("/i", {"code": "log_full", "message": "later"}),
        ("/mp/collect", {"code": "log_full", "message": "later"}),
        ("/v1/cloudevents", {"code": "log_full", "message": "later"}),
        ("/api/event", {"code": "log_full", "message": "later"}),
    ],
)
def test_a_refusal_is_in_the_form_that_the_client_reads(path, fields):
    request = Request("GET" if path == "/i" else "POST", path, {}, {}, b"")
    answer = dialect_of(request).refused(request, 503, "log_full", "later")
    assert answer.status == 503
    assert fields.items() <= json.loads(answer.body).items()
