"""What is particular to the form of each tracker."""

import base64
import gzip
import json
from urllib.parse import quote

import pytest

from pipelines.apps.collector.dialect import ACCEPTED, DUPLICATE, REJECTED, Event, NotThisForm, Request
from pipelines.apps.collector.dialects import posthog
from pipelines.apps.collector.dialects.snowplow import GIF
from tests.support.captured import dialect_of, events_of, requests


def post(path: str, body: bytes = b"", query=None, **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("POST", path, query or {}, named, body)


def read(path: str, body: bytes, query=None, **headers: str) -> list[Event]:
    request = post(path, body, query, **headers)
    return dialect_of(request).read(request)


def key_of(request: Request) -> str | None:
    return dialect_of(request).key_of(request)


# Segment


def test_the_context_of_a_segment_batch_fills_what_that_of_an_event_lacks():
    (event, bare) = read(
        "/v1/batch",
        b'{"batch": [{"context": {"ip": 1.50}, "integrations": {"All": false}}, {}],'
        b' "context": {"ip": 2, "locale": "de"}, "integrations": {"All": true}}',
    )
    assert json.loads(event.payload) == {"context": {"ip": 1.5, "locale": "de"}, "integrations": {"All": False}}
    assert b'"ip":1.50' in event.payload
    assert json.loads(bare.payload) == {"context": {"ip": 2, "locale": "de"}, "integrations": {"All": True}}


def test_a_context_that_is_no_object_stays():
    (event, other) = read("/v1/batch", b'{"batch": [{"context": 7}, {"context": {"a": 1}}], "context": {"b": 2}}')
    assert event.payload == b'{"context": 7}'
    assert json.loads(other.payload) == {"context": {"a": 1, "b": 2}}
    for context in (b"7", b'{"a": 2}'):
        body = b'{"batch": [{"context": {"a":  1}}], "context": ' + context + b"}"
        assert read("/v1/batch", body)[0].payload == b'{"context": {"a":  1}}'


@pytest.mark.parametrize(("path", "type"), [("/v1/track", "track"), ("/v1/p", "page"), ("/v1/alias", "alias")])
def test_a_single_segment_event_has_the_type_of_its_path(path, type):
    request = post(path, b'{"messageId": "m-1", "value": 1.50, "writeKey": "k"}')
    assert key_of(request) == "k"
    (event,) = dialect_of(request).read(request)
    assert (event.id, event.payload) == ("m-1", b'{"type":"%s","messageId":"m-1","value":1.50}' % type.encode())
    assert json.loads(read(path, b'{"type": "screen"}')[0].payload) == {"type": "screen"}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{}", 'got an object without "batch", allowed {"batch": [...]}'),
        (b'{"batch": {}}', 'got an object as "batch", allowed a list'),
        (b"[]", "got a list, allowed an object"),
    ],
)
def test_a_segment_body_without_a_batch_is_refused(body, problem):
    with pytest.raises(NotThisForm) as refused:
        read("/v1/batch", body)
    assert str(refused.value) == problem


# PostHog

PAGEVIEW = b'{"event":"$pageview","uuid":"u-1","properties":{"token":"phc","distinct_id":"d"}}'
KEPT = b'{"event":"$pageview","uuid":"u-1","properties":{"distinct_id":"d"}}'


@pytest.mark.parametrize("path", ["/e/", "/e", "/i/v0/e/", "/capture/", "/batch"])
def test_one_event_or_a_list_with_the_key_in_the_properties(path):
    for body in (PAGEVIEW, b"[" + PAGEVIEW + b"]", b'{"batch":[' + PAGEVIEW + b"]}"):
        assert read(path, body) == [Event(KEPT, "u-1")]
        assert key_of(post(path, body)) == "phc"


def test_posthog_js_compresses_without_a_header_or_into_a_form():
    form = b"data=" + quote(base64.b64encode(PAGEVIEW), safe="").encode()
    type = "application/x-www-form-urlencoded"
    assert read("/e/", form, content_type=type) == [Event(KEPT, "u-1")]
    assert key_of(post("/e/", form, content_type=type)) == "phc"
    packed = gzip.compress(PAGEVIEW)
    assert read("/e/", packed, {"compression": "gzip-js"}, content_type="text/plain") == [Event(KEPT, "u-1")]


def test_what_only_looks_compressed_is_refused(monkeypatch):
    packed = gzip.compress(b" " * 1_000 + PAGEVIEW)
    for body in (b"\x1f\x8bx", packed[:-9]):
        with pytest.raises(NotThisForm, match="gzip"):
            read("/e/", body)
    with pytest.raises(NotThisForm, match="base64"):
        read("/e/", b"data=%21", content_type="application/x-www-form-urlencoded")
    monkeypatch.setattr(posthog, "MOST_INFLATED", 1_000)
    with pytest.raises(NotThisForm, match="has more than 1000 bytes"):
        read("/e/", packed)
    assert key_of(post("/e/", packed)) is None


def test_a_token_that_is_not_the_key_is_a_property():
    other = PAGEVIEW.replace(b"phc", b"another")
    assert read("/e/", b'{"api_key":"phc","batch":[' + other + b"," + PAGEVIEW + b',{"token":7}]}') == [
        Event(other, "u-1"),
        Event(KEPT, "u-1"),
        Event(b"{}"),
    ]
    for odd in (b'{"properties":"token"}', b'{"properties":{"a":"token"}}', b"7"):
        assert read("/e/", b'{"api_key":"phc","batch":[' + odd + b"]}")[0].payload == odd


def test_the_key_of_a_posthog_event_is_not_kept():
    request = post("/capture/", b'{"api_key": "phc", "event": "a", "value": 1.50}')
    assert key_of(request) == "phc"
    assert dialect_of(request).read(request)[0].payload == b'{"event":"a","value":1.50}'
    for odd in (b"\xff", b"\\ud83d"):
        (event,) = read("/capture/", b'{"api_key": "phc", "%s": 1}' % odd)
        assert event.payload.startswith(b'{"\\ud') and b"phc" not in event.payload
    assert key_of(post("/batch/", b'{"batch": [{"api_key": "phc"}]}')) == "phc"
    assert key_of(post("/batch/", b'{"batch": [7], "api_key": 1}')) == "1"
    assert key_of(post("/batch/", b'{"batch": [7]}')) is None


def test_the_newer_posthog_protocol_has_a_result_for_each_uuid():
    (request,) = requests("posthog-v1")
    events = dialect_of(request).read(request)
    verdicts = [ACCEPTED, DUPLICATE, f"{REJECTED}no room", ACCEPTED]
    answer = dialect_of(request).accepted(request, events, verdicts)
    assert answer.status == 200
    results = json.loads(answer.body)["results"]
    assert [results[event.id] for event in events] == [
        {"result": "ok"},
        {"result": "warning", "details": "duplicate"},
        {"result": "drop", "details": "no room"},
        {"result": "ok"},
    ]
    nameless = [Event(b"{}")]
    assert json.loads(dialect_of(request).accepted(request, nameless, [ACCEPTED]).body) == {"results": {}}


# Snowplow


def test_base64_of_snowplow_becomes_the_plain_text_that_the_protocol_knows():
    encoded, plain = ([json.loads(event.payload) for event in events_of("snowplow")[at : at + 4]] for at in (0, 4))
    from_pixel = [json.loads(event.payload) for event in events_of("snowplow-get")]
    for made, other, pixel in zip(encoded, plain, from_pixel, strict=True):
        for own in (made, other, pixel):
            own |= dict.fromkeys(("eid", "dtm", "stm"), "")
        assert made == other == pixel
    assert json.loads(encoded[2]["ue_pr"])["data"]["data"] == {"targetUrl": "https://shop.example/bags"}


@pytest.mark.parametrize("text", ["!", "_w==", "e", 'e30=","ue_pr":"'])
def test_what_is_no_base64_of_a_text_or_is_beside_one_stays(text):
    event = b'{"e":"ue","ue_px":"' + text.encode() + b'"}'
    (made,) = read("/com.snowplowanalytics.snowplow/tp2", b'{"data":[' + event + b"]}")
    assert json.loads(made.payload) == json.loads(event)


def test_base64_without_padding_and_of_the_url_safe_alphabet_is_read():
    text = '{"a": "?>~~"}'
    for encoded in (base64.urlsafe_b64encode(text.encode()), base64.b64encode(text.encode())):
        body = b'{"data":[{"cx":"' + encoded.rstrip(b"=") + b'"}]}'
        assert json.loads(read("/com.snowplowanalytics.snowplow/tp2", body)[0].payload) == {"co": text}


def test_the_pixel_is_a_gif_of_43_bytes_and_a_post_is_answered_in_json():
    (request, *_) = requests("snowplow-get")
    answer = dialect_of(request).accepted(request, [], [ACCEPTED])
    assert (answer.status, answer.body, len(answer.body)) == (200, GIF, 43)
    assert dict(answer.headers) == {"content-type": "image/gif", "cache-control": "no-store"}
    assert json.loads(dialect_of(post("/com.snowplowanalytics.snowplow/tp2")).accepted(post("/"), [], []).body) == {
        "accepted": 0,
        "rejected": [],
        "duplicates": 0,
    }
    with pytest.raises(NotThisForm, match="without e"):
        dialect_of(request).read(request._replace(query={"aid": "shop"}))
    with pytest.raises(NotThisForm, match='got nothing as "data"'):
        read("/com.snowplowanalytics.snowplow/tp2", b"{}")


def test_a_key_in_the_query_of_the_pixel_is_not_kept():
    request = Request("GET", "/i", {"e": "pv", "aid": "shop", "key": "k"}, {}, b"")
    assert key_of(request) == "k"
    assert json.loads(dialect_of(request).read(request)[0].payload) == {"e": "pv", "aid": "shop"}


# Google Analytics 4


def test_each_event_of_ga4_has_the_client_and_the_stream_and_not_the_secret():
    body = (
        b'{"client_id":"c.1","user_id":"u-1","timestamp_micros":1772355600123456,"events":['
        b'{"name":"purchase","params":{"value":79.90,"currency":"EUR"}},{"name":"a","timestamp_micros":"7"}]}'
    )
    query = {"measurement_id": "G-1", "api_secret": "s3cret"}
    request = post("/mp/collect", body, query)
    assert key_of(request) == "s3cret"
    first, second = dialect_of(request).read(request)
    assert b'"value":79.90' in first.payload and b"s3cret" not in first.payload
    assert json.loads(second.payload) == {
        "measurement_id": "G-1",
        "client_id": "c.1",
        "user_id": "u-1",
        "name": "a",
        "timestamp_micros": "7",
    }
    assert dialect_of(request).accepted(request, [first], [ACCEPTED]) == (204, b"", ())
    with pytest.raises(NotThisForm, match='got nothing as "events", allowed a list'):
        read("/mp/collect", b'{"client_id":"c.1"}')


# CloudEvents


def test_the_binary_form_becomes_the_structured_one():
    structured, binary = events_of("cloudevents")
    assert json.loads(structured.payload) == json.loads(binary.payload)
    assert structured.id == binary.id == "/shop/web e-1"


CE = {"ce_specversion": "1.0", "ce_id": "a%20b", "ce_source": "s", "ce_type": "t"}


@pytest.mark.parametrize(
    ("body", "type", "data"),
    [
        (b'{"a": 1.50}', "application/json; charset=utf-8", {"data": {"a": 1.5}}),
        (b"7", "application/vnd.shop+json", {"data": 7}),
        (b"{", "application/json", {"data": "{"}),
        (b"<a/>", "text/xml", {"data": "<a/>"}),
        (b"\xff\x00", "application/octet-stream", {"data_base64": "/wA="}),
        (b"", "text/plain", {}),
    ],
)
def test_data_of_the_binary_form_is_json_text_or_base64(body, type, data):
    (event,) = read("/v1/cloudevents", body, content_type=type, **CE)
    assert json.loads(event.payload) == {
        "specversion": "1.0",
        "id": "a b",
        "source": "s",
        "type": "t",
        "datacontenttype": type,
        **data,
    }


def test_cloudevents_come_in_a_list_too_and_others_do_not():
    event = b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": 1.50}'
    assert read("/v1/cloudevents", b"[" + event + b"]", content_type="application/cloudevents-batch+json") == [
        Event(event, "s 1")
    ]
    assert read("/v1/cloudevents", event, content_type="application/json") == [Event(event, "s 1")]
    assert read("/v1/cloudevents", b'{"id": "1"}', content_type="application/cloudevents+json")[0].id == "1"
    for body, type in ((b"{}", "application/json"), (b"[]", "application/cloudevents+json")):
        with pytest.raises(NotThisForm):
            read("/v1/cloudevents", body, content_type=type)


# Plausible


def test_plausible_gets_202_and_its_own_key_wins_over_the_domain():
    (request, *_) = requests("plausible")
    assert dialect_of(request).accepted(request, [], [ACCEPTED]).status == 202
    assert key_of(request._replace(query={"key": "k"})) == "k"
    assert key_of(post("/api/event", b'{"domain": "a.example"}')) == "a.example"
    assert key_of(post("/api/event", b"hello")) is None
    assert [event.payload.decode() for event in events_of("plausible")] == [
        each.body.decode() for each in requests("plausible")
    ]
