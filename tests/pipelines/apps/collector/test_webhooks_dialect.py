"""Webhooks: signatures as the senders make them, and what each sender says beside the body."""

import base64
import hashlib
import hmac
import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.apps.collector.dialect import ACCEPTED, NotSigned, NotThisForm, Request
from pipelines.apps.collector.dialects.signatures import SCHEMES, TOLERANCE, check_signature
from pipelines.apps.collector.dialects.webhooks import Webhooks
from tests.support.captured import captured, requests

NOW = 1_772_355_600
SECRET = "invented-secret"
BODY = b'{"id": 820982911946154508, "total_price": "79.90"}'


def digest(text: bytes, secret: str = SECRET) -> bytes:
    return hmac.new(secret.encode(), text, hashlib.sha256).digest()


def signed(scheme: str, body: bytes = BODY, stamp: int = NOW, secret: str = SECRET) -> Request:
    """A delivery with the headers of a sender."""
    if scheme == "stripe":
        text = f"{stamp}.".encode() + body
        headers = {"stripe-signature": f"t={stamp},v1={digest(text, secret).hex()},v0=7"}
    elif scheme == "standard":
        key = base64.b64encode(secret.encode()).decode()
        text = f"msg_1.{stamp}.".encode() + body
        made = base64.b64encode(hmac.new(base64.b64decode(key), text, hashlib.sha256).digest()).decode()
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(stamp),
            "webhook-signature": f"v1a,ed v1,AAAA v1,{made}",
        }
    elif scheme == "shopify":
        headers = {
            "x-shopify-hmac-sha256": base64.b64encode(digest(body, secret)).decode(),
            "x-shopify-topic": "orders/create",
            "x-shopify-webhook-id": "w-1",
            "x-shopify-triggered-at": "2026-03-01T09:00:00.123456789Z",
        }
    else:
        headers = {
            "x-hub-signature-256": f"sha256={digest(body, secret).hex()}",
            "x-github-event": "push",
            "x-github-delivery": "d-1",
        }
    return Request("POST", "/webhooks/shop", {}, {"content-type": "application/json", **headers}, body)


def shown(scheme: str, secret: str = SECRET) -> str:
    """A secret as its sender shows it."""
    return f"whsec_{base64.b64encode(secret.encode()).decode()}" if scheme == "standard" else secret


def webhooks(secret: str, now: float = NOW) -> Webhooks:
    return Webhooks({"shop": secret}, lambda: now)


@pytest.mark.parametrize("name", ["stripe", "standard-webhooks"])
def test_what_the_package_of_the_sender_signs_is_taken_until_it_is_too_old(name):
    sent = captured(name)
    (request,) = requests(name)
    for off in (0, TOLERANCE, -TOLERANCE):
        (event,) = Webhooks({name: sent["secret"]}, lambda off=off: sent["now"] + off).read(request)
        assert event.id in ("evt_1", "msg_1")
        assert json.loads(event.payload).items() >= json.loads(request.body).items()
    for off in (TOLERANCE + 1, -TOLERANCE - 1):
        with pytest.raises(NotSigned, match="more than 300 seconds from this clock"):
            Webhooks({name: sent["secret"]}, lambda off=off: sent["now"] + off).read(request)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_another_body_secret_or_name_is_refused_without_a_word_of_them(scheme):
    request, secret = signed(scheme), shown(scheme)
    assert check_signature(request, secret, NOW) == scheme
    header, _ = SCHEMES[scheme]
    others = [
        webhooks(secret).read,
        webhooks(shown(scheme, "another")).read,
        Webhooks({}, lambda: NOW).read,
        webhooks(secret).read,
        webhooks(secret).read,
    ]
    wrong = [
        request._replace(body=BODY + b" "),
        request,
        request,
        request._replace(headers=dict.fromkeys(request.headers, "")),
        request._replace(headers={name: value for name, value in request.headers.items() if name != header}),
    ]
    for read, asked in zip(others, wrong, strict=True):
        with pytest.raises(NotSigned) as refused:
            read(asked)
        assert SECRET not in str(refused.value) and secret not in str(refused.value)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_secrets_rotate_with_overlap(scheme):
    both = f"{shown(scheme, 'the-next-secret')} {shown(scheme)}"
    for secret in (SECRET, "the-next-secret"):
        assert webhooks(both).read(signed(scheme, secret=secret))
    with pytest.raises(NotSigned):
        webhooks(both).read(signed(scheme, secret="the-last-secret"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_signed_body_that_is_no_object_goes_to_quarantine(scheme):
    for body in (b"hello", b"[]", b""):
        with pytest.raises(NotThisForm):
            webhooks(shown(scheme)).read(signed(scheme, body))


def test_only_the_version_that_is_a_digest_counts():
    request = signed("standard")
    other = request.headers["webhook-signature"].replace("v1,", "v2,")
    with pytest.raises(NotSigned, match="another body or secret"):
        webhooks(shown("standard")).read(request._replace(headers=request.headers | {"webhook-signature": other}))


@pytest.mark.parametrize("stamp", ["", "-1", "NaN", "1e9", "٣", "9" * 5_000])
def test_a_time_that_is_none_is_refused(stamp):
    request = signed("stripe")
    header = f"t={stamp},v1={digest(stamp.encode() + b'.' + BODY).hex()}"
    with pytest.raises(NotSigned, match="without a time"):
        webhooks(SECRET).read(request._replace(headers={"stripe-signature": header}))


def test_a_secret_that_is_not_of_standard_webhooks_is_refused_without_it():
    with pytest.raises(NotSigned, match=r"^the secret of this webhook is not base64") as refused:
        webhooks("whsec_!!secret!!").read(signed("standard"))
    assert "!!secret!!" not in str(refused.value)


def test_what_a_sender_says_in_headers_is_beside_the_body():
    (shopify,) = webhooks(SECRET).read(signed("shopify"))
    metadata = {
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-Webhook-Id": "w-1",
        "X-Shopify-Triggered-At": "2026-03-01T09:00:00.123456789Z",
    }
    assert shopify.id == "w-1"
    assert json.loads(shopify.payload) == {"metadata": metadata, "payload": json.loads(BODY)}
    assert BODY in shopify.payload
    (github,) = webhooks(SECRET).read(signed("github"))
    assert (github.id, json.loads(github.payload)["metadata"]) == (
        "d-1",
        {"X-GitHub-Event": "push", "X-GitHub-Delivery": "d-1"},
    )
    (standard,) = webhooks(shown("standard")).read(signed("standard"))
    assert (standard.id, standard.payload) == ("msg_1", b'{"webhook-id":"msg_1",' + BODY[1:])
    (stripe,) = webhooks(SECRET).read(signed("stripe"))
    assert (stripe.id, stripe.payload) == ("820982911946154508", BODY)


def test_github_may_send_a_form():
    request = signed("github", urlencode({"payload": BODY.decode()}).encode())
    form = request._replace(headers=request.headers | {"content-type": "application/x-www-form-urlencoded"})
    assert json.loads(webhooks(SECRET).read(form)[0].payload)["payload"] == json.loads(BODY)
    other = signed("github", b"payload=")
    with pytest.raises(NotThisForm, match="without a payload"):
        webhooks(SECRET).read(
            other._replace(headers=other.headers | {"content-type": "application/x-www-form-urlencoded"})
        )


def test_secrets_are_read_for_each_request_and_shown_nowhere():
    secrets: dict[str, str] = {}
    dialect = Webhooks(secrets, lambda: NOW)
    with pytest.raises(NotSigned, match="name of no webhook"):
        dialect.read(signed("github"))
    secrets["shop"] = SECRET
    assert dialect.read(signed("github"))
    assert SECRET not in repr(dialect)
    assert dialect.key_of(signed("github")) is None and dialect.signed
    assert json.loads(dialect.accepted(signed("github"), [], [ACCEPTED]).body)["accepted"] == 1
    assert json.loads(dialect.refused(signed("github"), 401, "not_signed", "no").body) == {
        "code": "not_signed",
        "message": "no",
    }


@given(st.sampled_from(list(SCHEMES)), st.text(st.characters(max_codepoint=0x2FF), max_size=30), st.booleans())
def test_no_other_text_is_a_signature(scheme, text, with_time):
    request, (header, _) = signed(scheme), SCHEMES[scheme]
    text = f"t={NOW},v1={text}" if scheme == "stripe" and with_time else text
    with pytest.raises(NotSigned):
        webhooks(shown(scheme)).read(request._replace(headers=request.headers | {header: text}))
