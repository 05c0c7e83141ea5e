"""The ready mappings, over what the official clients send to the collector."""

import base64
import hmac
import json
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest

from pipelines.apps.collector.dialect import Request
from pipelines.apps.collector.dialects.webhooks import Webhooks
from tests.support.captured import captured, dialect_of, events_of, requests
from tests.support.mapped import RECEIVED, mapped
from transforms.deduplicate import fingerprint

AT = datetime(2026, 3, 1, 9, 0, 0, 123000, UTC)
SHORT = ("event_type", "user_id", "anonymous_id", "content_id", "value")


def sent_by(client: str, mapping: str) -> list[dict]:
    """The events of what a client sent; none is in quarantine."""
    payloads = [event.payload for event in events_of(client)]
    events, codes = mapped(mapping, payloads)
    assert codes == []
    assert len(events) == len(payloads)
    return events


def short(events: list[dict]) -> list[tuple]:
    return [tuple(event[name] for name in SHORT) for event in events]


@pytest.mark.parametrize("client", ["segment", "rudderstack"])
def test_calls_of_segment_and_rudderstack(client):
    events = sent_by(client, client)
    assert short(events) == [
        ("identify", "u-1", None, "/boots", None),
        ("page_view", "u-1", None, "/boots", None),
        ("page_view", None, "a-1", "/boots", None),
        ("purchase", "u-1", None, "/boots", 75),
        ("add_to_cart", None, "a-1", "boots", Decimal("79.9")),
        ("group", "u-1", None, "/boots", None),
        ("alias", "u-1", None, "/boots", None),
    ]
    assert {event["event_time"].replace(microsecond=123000) for event in events} == {AT}
    assert {(event["time_source"], event["campaign"], event["device"]) for event in events} == {
        ("client", "spring", "mobile")
    }
    assert [event["event_id"] for event in events] == [event.id for event in events_of(client)]
    assert events[4]["quantity"] == 2 and events[4]["currency"] == "EUR" and events[4]["category"] == "Shoes"
    channels = {"segment": ["web", "web", "mobile"], "rudderstack": ["server"] * 3}[client]
    assert [event["channel"] for event in events[:3]] == channels


def test_calls_of_segment_in_node():
    assert short(sent_by("segment-node", "segment")) == [
        ("purchase", "u-1", None, None, Decimal("75.5")),
        ("page_view", None, "a-1", "/boots", None),
    ]


def test_calls_of_segment_in_a_browser():
    events = sent_by("analytics-next", "segment")
    anonymous = events[0]["anonymous_id"]
    assert short(events) == [
        ("page_view", "u-1", anonymous, "/boots", None),
        ("add_to_cart", "u-1", anonymous, "boots", Decimal("79.9")),
        ("identify", "u-1", anonymous, "/boots", None),
    ]
    assert {(event["channel"], event["campaign"], event["referrer"]) for event in events} == {
        ("web", "spring", "https://search.example/")
    }


def test_captures_of_posthog_in_a_browser():
    events = sent_by("posthog-js", "posthog")
    device = events[0]["anonymous_id"]
    assert len(device) == 36
    assert short(events) == [
        ("page_view", "u-1", device, "/boots", None),
        ("identify", "u-1", device, "/boots", None),
        ("purchase", "u-1", device, "/boots", Decimal("79.9")),
    ]
    assert len({event["session_id"] for event in events} - {None}) == 1
    assert {(event["channel"], event["campaign"], event["device"]) for event in events} == {
        ("web", "spring", "Desktop")
    }


@pytest.mark.parametrize("client", ["posthog", "posthog-v1"])
def test_captures_of_posthog_in_both_protocols(client):
    events = sent_by(client, "posthog")
    assert short(events) == [
        ("page_view", "u-1", None, "/boots", None),
        ("purchase", "u-1", None, None, Decimal("79.9")),
        ("set", "u-1", None, None, None),
        ("create_alias", "a-1", None, None, None),
    ]
    view = events[0]
    assert (view["session_id"], view["campaign"], view["country"], view["device"]) == ("s-1", "spring", "DE", "Mobile")
    assert [event["channel"] for event in events] == ["web", "server", "server", "server"]
    assert (view["sent_time"] is None) == (client == "posthog-v1")


@pytest.mark.parametrize("client", ["snowplow", "snowplow-get"])
def test_events_of_snowplow(client):
    events = sent_by(client, "snowplow")
    assert short(events[:4]) == [
        ("page_view", "u-1", "a-1", "/boots", None),
        ("add_to_cart", "u-1", "a-1", "boots", Decimal("79.9")),
        ("click", "u-1", "a-1", None, None),
        ("page_ping", "u-1", "a-1", "/boots", None),
    ]
    assert short(events[4:]) in ([], short(events[:4]))  # with base64 and without
    assert [event["event_time"] for event in events[:2]] == [AT, AT]
    assert events[0]["sent_time"].year == 2026
    assert {(event["channel"], event["session_id"]) for event in events} == {
        ("web", "0e6f4f8e-0000-4000-8000-000000000001")
    }


def test_both_forms_of_a_cloudevent_are_one_event():
    structured, binary = sent_by("cloudevents", "cloudevents")
    assert structured["event_id"] == binary["event_id"] and len(binary["event_id"]) == 32
    assert short([structured]) == short([binary]) == [("purchase", None, None, "o-1", Decimal("79.9"))]
    other = json.loads(events_of("cloudevents")[0].payload) | {"source": "/shop/app"}
    (event,), _ = mapped("cloudevents", [json.dumps(other).encode()])
    assert event["event_id"] != structured["event_id"]


def test_events_of_plausible_have_the_time_of_the_collector_and_ids_by_their_place():
    events = sent_by("plausible", "plausible")
    assert short(events) == [
        ("page_view", None, None, "/boots", None),
        ("purchase", None, None, "/boots", Decimal("79.9")),
        ("signup", None, None, "/boots", None),
    ]
    assert {(event["event_time"], event["time_source"]) for event in events} == {(RECEIVED, "received_missing")}
    assert {(event["campaign"], event["referrer"]) for event in events} == {("spring", "https://search.example/")}
    assert [event["event_type"] for event in sent_by("plausible-tracker", "plausible")] == ["page_view", "signup"]
    twice, codes = mapped("plausible", [events_of("plausible")[0].payload] * 2, user_agent="Examplebot/1.0")
    assert codes == [] and twice[0]["event_id"] != twice[1]["event_id"]
    assert [event["is_bot"] for event in twice] == [True, True]


@pytest.mark.parametrize(
    ("name", "payload"),
    [("plausible", b'{"n": "pageview"}'), ("ga4-measurement", b'{"name": "page_view", "client_id": "c.1"}')],
)
def test_an_event_that_has_no_id_and_that_a_collector_published_twice_is_one(name, payload):
    """Its two messages have two places in the queue."""
    for id in ("m-1", "m-2"):
        events, codes = mapped(name, [payload] * 2, message_id=id)
        assert ([event["event_id"] for event in events], codes) == ([id, id], [])


@pytest.mark.parametrize(
    ("event", "type"),
    [
        ({"n": "engagement", "sd": 80, "e": 1200, "u": "https://shop.example/"}, "engagement"),
        ({"n": "404", "u": "https://shop.example/x"}, "not_found"),
        ({"n": "Outbound Link: Click", "p": {"url": "https://a.example/"}}, "click"),
        ({"name": "pageview", "url": "https://shop.example/", "domain": "shop.example"}, "page_view"),
        ({"name": "Größe gewählt"}, "other"),
        ({"n": "Größe gewählt"}, "other"),
        ({"name": "File Download"}, "file_download"),
    ],
)
def test_names_of_plausible(event, type):
    (made,), codes = mapped("plausible", [json.dumps(event).encode()])
    assert (made["event_type"], codes) == (type, [])


def test_events_of_ga4_are_each_one_by_their_place():
    body = {
        "client_id": "c.1",
        "events": [{"name": "page_view", "params": {"page_location": "https://shop.example/boots"}}] * 2,
    }
    (request,) = [
        requests("plausible")[0]._replace(
            path="/mp/collect", query={"measurement_id": "G-1"}, body=json.dumps(body).encode()
        )
    ]
    events, codes = mapped("ga4-measurement", [event.payload for event in dialect_of(request).read(request)])
    assert codes == []
    assert short(events) == [("page_view", None, "c.1", "/boots", None)] * 2
    assert events[0]["event_id"] != events[1]["event_id"]
    assert {event["time_source"] for event in events} == {"received_missing"}


def test_a_webhook_of_stripe():
    sent = captured("stripe")
    (request,) = requests("stripe")
    read = Webhooks({"stripe": sent["secret"]}, lambda: sent["now"]).read(request)
    (event,), codes = mapped("stripe", [each.payload for each in read])
    assert codes == []
    assert short([event]) == [("payment_intent_succeeded", "cus_1", None, None, None)]
    assert (event["event_id"], event["event_time"]) == ("evt_1", datetime(2026, 3, 1, 9, tzinfo=UTC))


def test_a_webhook_of_shopify():
    body = b'{"id": 1, "total_price": "79.90", "currency": "EUR", "source_name": "pos", "customer": {"id": 7}}'
    headers = {
        "x-shopify-hmac-sha256": base64.b64encode(hmac.digest(b"secret", body, "sha256")).decode(),
        "x-shopify-topic": "orders/create",
        "x-shopify-webhook-id": "w-1",
        "x-shopify-triggered-at": "2026-03-01T09:00:00.123Z",
    }
    read = Webhooks({"shop": "secret"}).read(Request("POST", "/webhooks/shop", {}, headers, body))
    (event,), codes = mapped("shopify", [each.payload for each in read])
    assert codes == []
    assert short([event]) == [("purchase", "7", None, None, Decimal("79.9"))]
    assert (event["event_id"], event["event_time"], event["channel"]) == ("w-1", AT, "pos")


@pytest.mark.parametrize(
    ("client", "mapping"), [("segment", "segment"), ("rudderstack", "rudderstack"), ("posthog", "posthog")]
)
def test_another_try_has_another_sent_time_and_the_same_content(client, mapping):
    (request,) = requests(client)
    body = json.loads(request.body)
    (sent,) = body.keys() & {"sentAt", "sent_at"}
    again = request._replace(body=json.dumps(body | {sent: "2026-11-30T00:00:00+00:00"}).encode())
    first, second = (
        mapped(mapping, [event.payload for event in dialect_of(each).read(each)])[0] for each in (request, again)
    )
    assert [event["sent_time"] for event in first] != [event["sent_time"] for event in second]
    assert list(fingerprint(pl.DataFrame(first, infer_schema_length=None))) == list(
        fingerprint(pl.DataFrame(second, infer_schema_length=None))
    )


def test_an_odd_field_costs_one_event():
    (request,) = requests("segment")
    body = json.loads(request.body)
    body["batch"][3]["properties"]["revenue"] = "a pound"
    body["batch"][4]["properties"]["price"] = float("nan")
    odd = request._replace(body=json.dumps(body).encode())
    events, codes = mapped("segment", [event.payload for event in dialect_of(odd).read(odd)])
    assert (len(events), codes) == (5, ["invalid_json", "not_a_number"])
