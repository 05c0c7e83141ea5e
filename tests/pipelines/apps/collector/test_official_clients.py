"""The official Python clients against the dialects: what they take for success, for a reason to send again, and for a
refusal."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest
import rudderstack.analytics.client
import segment.analytics.client
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from posthog import Posthog
from snowplow_tracker import Emitter, StructuredEvent, Tracker
from standardwebhooks import Webhook

from pipelines.apps.collector.dialect import ACCEPTED, DUPLICATE, REJECTED, Request
from pipelines.apps.collector.dialects.signatures import check_signature
from tests.servers.needed import LIMIT
from tests.support.dialect_server import Answers, dialect_server

KEY = "invented-write-key"


@pytest.fixture
def answers():
    with dialect_server() as running:
        yield running


def send_segment(address: str, errors: list, module=segment.analytics.client) -> None:
    client = module.Client(
        KEY, host=address, gzip=True, upload_interval=0.1, on_error=lambda error, _: errors.append(error)
    )
    for at in range(3):
        client.track(user_id="u-1", event="Product Added", properties={"price": at})
    client.flush()
    client.join()


def send_rudderstack(address: str, errors: list) -> None:
    send_segment(address, errors, rudderstack.analytics.client)


def send_posthog(address: str, errors: list, mode: str = "v0") -> None:
    client = Posthog(
        "phc_invented",
        host=address,
        gzip=True,
        flush_interval=0.1,
        capture_mode=mode,
        on_error=lambda error, _: errors.append(error),
    )
    for at in range(3):
        client.capture("product added", distinct_id="u-1", properties={"price": at})
    client.flush()
    client.shutdown()


def send_posthog_v1(address: str, errors: list) -> None:
    send_posthog(address, errors, "v1")


def send_snowplow(address: str, errors: list, method: str = "post") -> None:
    done = threading.Event()
    host, port = address.removeprefix("http://").split(":")
    emitter = Emitter(
        host,
        protocol="http",
        port=int(port),
        method=method,
        batch_size=3,
        max_retry_delay_seconds=1,
        on_success=lambda sent: done.set(),
        on_failure=lambda sent, unsent: errors.append(unsent),
    )
    tracker = Tracker(namespace="web", emitters=emitter, app_id="shop")
    for at in range(3):
        tracker.track(StructuredEvent(category="shop", action="add", value=at))
    assert done.wait(LIMIT), errors


def send_snowplow_pixels(address: str, errors: list) -> None:
    send_snowplow(address, errors, "get")


CLIENTS: dict[str, Callable[[str, list], None]] = {
    "segment": send_segment,
    "rudderstack": send_rudderstack,
    "posthog": send_posthog,
    "posthog-v1": send_posthog_v1,
    "snowplow": send_snowplow,
}


@pytest.mark.parametrize("name", [*CLIENTS, "snowplow-pixels"])
def test_a_client_takes_the_answer_for_success(answers: Answers, name):
    errors: list = []
    (CLIENTS | {"snowplow-pixels": send_snowplow_pixels})[name](answers.address, errors)
    assert errors == []
    ids = [event.id for event in answers.kept]
    assert len(ids) == len(set(ids)) == 3 and None not in ids
    assert [id for each in answers.tried for id in each] == ids


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("status", [503, 429])
def test_a_client_that_is_to_wait_sends_the_same_events_again(answers: Answers, name, status):
    errors: list = []
    answers.refusals = [(status, "log_full", "send again later")]
    CLIENTS[name](answers.address, errors)
    if name != "snowplow":  # its callback counts each try
        assert errors == []
    assert answers.tried[0] and answers.tried[-1] == answers.tried[0]
    assert [event.id for event in answers.kept] == [id for each in answers.tried[1:] for id in each]
    assert len({event.id for event in answers.kept}) == 3


@pytest.mark.parametrize("name", [name for name in CLIENTS if name != "snowplow"])
def test_a_client_that_is_refused_reports_why_and_does_not_send_again(answers: Answers, name):
    errors: list = []
    answers.refusals = [(400, "not_this_form", "got a list, allowed an object")] * 3
    CLIENTS[name](answers.address, errors)
    assert answers.kept == []
    assert len({id for each in answers.tried for id in each}) == sum(map(len, answers.tried))
    assert errors and all("got a list, allowed an object" in str(error) for error in errors)


def test_snowplow_drops_what_is_refused(answers: Answers):
    answers.refusals = [(400, "not_this_form", "no")]
    done = threading.Event()
    host, port = answers.address.removeprefix("http://").split(":")
    emitter = Emitter(host, protocol="http", port=int(port), batch_size=1, on_failure=lambda *_: done.set())
    Tracker(namespace="web", emitters=emitter, app_id="shop").track(StructuredEvent(category="shop", action="add"))
    assert done.wait(LIMIT)
    assert (answers.kept, len(answers.tried)) == ([], 1)


def test_the_newer_posthog_client_reads_a_verdict_for_each_event(answers: Answers):
    errors: list = []
    answers.verdicts = lambda events: [ACCEPTED, DUPLICATE, ACCEPTED][: len(events)]
    send_posthog_v1(answers.address, errors)
    assert errors == []
    answers.verdicts = lambda events: [f"{REJECTED}got a number, allowed an object"] * len(events)
    send_posthog_v1(answers.address, errors)
    drops = [drop for error in errors for drop in error.drops]
    assert {details for _, details in drops} == {"got a number, allowed an object"}
    assert {id for id, _ in drops} == {event.id for event in answers.kept[3:]}


def test_events_of_the_cloudevents_package(answers: Answers):
    event = CloudEvent(
        attributes={
            "id": "ä 1",
            "type": "com.shop.order.completed",
            "source": "/shop",
            "specversion": "1.0",
            "time": datetime(2026, 3, 1, 9, tzinfo=UTC),
            "datacontenttype": "application/json",
        },
        data={"total": 79.9},
    )
    for message in (to_structured_event(event), to_binary_event(event)):
        sent = HttpRequest(f"{answers.address}/v1/cloudevents", message.body, dict(message.headers))
        with urlopen(sent) as answer:
            assert answer.status == 200
            assert json.load(answer)["accepted"] == 1
    structured, binary = answers.kept
    assert structured.id == binary.id == "/shop ä 1"
    assert json.loads(structured.payload) == json.loads(binary.payload)


def test_a_signature_of_the_standardwebhooks_package():
    secret = "whsec_aW52ZW50ZWQgc2VjcmV0IG9mIDI0IGJ5"
    now = datetime.now(UTC)
    body = '{"type": "order.created", "customer": "Zoë"}'
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", now, body),
    }
    request = Request("POST", "/webhooks/shop", {}, headers, body.encode())
    assert check_signature(request, secret, now.timestamp()) == "standard"
    assert Webhook(secret).verify(body, headers)["type"] == "order.created"
