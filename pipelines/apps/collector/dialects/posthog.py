"""The two forms of PostHog: batches and single events, and the protocol that answers for each event."""

import base64
import binascii
import zlib
from collections.abc import Sequence
from urllib.parse import parse_qs

from pipelines.apps.collector.dialect import ACCEPTED, DUPLICATE, REJECTED, Answer, Event, NotThisForm, Request
from pipelines.apps.collector.dialects.bodies import (
    Members,
    elements_of,
    event_of,
    kind_of,
    members_of,
    text_in,
    value_of,
)
from pipelines.apps.collector.dialects.headers import answer, counts, key_in, media_type

MOST_INFLATED = 20 << 20  # bytes, of a body that says that it is compressed in its query
_KEYS = ("api_key", "token")
_IDS = ("uuid", "$insert_id")
_PATHS = ("batch", "capture", "e", "i/v0/e")


class PostHog:
    """`{"api_key", "batch": [...], "sent_at"}`, one event, or a list of events; also as posthog-js sends it, gzipped
    without a header (`compression=gzip-js`) or as base64 in a form. The clients take no status but 200 for success."""

    name = "posthog"
    routes = tuple(("POST", f"/{path}{slash}") for path in _PATHS for slash in ("/", ""))
    signed = False

    def key_of(self, request: Request) -> str | None:
        key = key_in(request)
        if key is not None:
            return key
        try:
            value = _unpacked(request)
            if value[:1] == b"[":
                value = next(iter(elements_of(value)), b"{}")
            return _key_in(members_of(value))
        except NotThisForm:
            return None

    def read(self, request: Request) -> list[Event]:
        value = _unpacked(request)
        if value[:1] == b"[":
            return [_event(element, {}) for element in elements_of(value)]
        body = members_of(value)
        if "batch" not in body:
            return [_event(value, {})]
        return _batch(body)

    def accepted(self, request: Request, events: Sequence[Event], verdicts: Sequence[str]) -> Answer:
        return answer(200, {"status": 1, **counts(verdicts)})

    def refused(self, request: Request, status: int, code: str, message: str) -> Answer:
        return answer(status, {"type": "invalid_request", "code": code, "detail": message})


class PostHogV1:
    """`{"created_at", "batch": [...]}` with the key as a bearer token, and a verdict for each uuid in the answer."""

    name = "posthog-v1"
    routes = (("POST", "/i/v1/analytics/events"),)
    signed = False

    def key_of(self, request: Request) -> str | None:
        return key_in(request)

    def read(self, request: Request) -> list[Event]:
        body = members_of(value_of(request.body))
        if "batch" not in body:
            raise NotThisForm('got an object without "batch", allowed {"batch": [...]}')
        return _batch(body)

    def accepted(self, request: Request, events: Sequence[Event], verdicts: Sequence[str]) -> Answer:
        results = {}
        for event, verdict in zip(events, verdicts, strict=True):
            if event.id is not None:
                results[event.id] = _result(verdict)
        return answer(200, {"results": results})

    def refused(self, request: Request, status: int, code: str, message: str) -> Answer:
        return answer(status, {"error": code, "error_description": message})


def _result(verdict: str) -> dict[str, str]:
    """A verdict in PostHog's words; the client takes `ok` and `warning` for success, and does not send `drop` again."""
    if verdict == ACCEPTED:
        return {"result": "ok"}
    if verdict == DUPLICATE:
        return {"result": "warning", "details": "duplicate"}
    return {"result": "drop", "details": verdict.removeprefix(REJECTED)}


def _batch(body: Members) -> list[Event]:
    """The events of a batch, each with what the batch says of all. Errors: NotThisForm."""
    if body["batch"][:1] != b"[":
        raise NotThisForm(f'got {kind_of(body["batch"])} as "batch", allowed a list')
    shared = {key: member for key, member in body.items() if key not in ("batch", *_KEYS)}
    return [_event(element, shared) for element in elements_of(body["batch"])]


def _event(element: bytes, shared: Members) -> Event:
    return event_of(element, _IDS, shared, _KEYS)


def _key_in(body: Members) -> str | None:
    """The project key: of the body, or of its first event, or in the properties of an event, as posthog-js sends it."""
    key = text_in(body, *_KEYS)
    if key is None and body.get("batch", b"")[:1] == b"[":
        first = next(iter(elements_of(body["batch"])), b"")
        return _key_in(members_of(first)) if first[:1] == b"{" else None
    if key is None and body.get("properties", b"")[:1] == b"{":
        key = text_in(members_of(body["properties"]), "token")
    return key


def _unpacked(request: Request) -> bytes:
    """The JSON of a body. Errors: NotThisForm."""
    body = request.body
    if media_type(request) == "application/x-www-form-urlencoded" and body[:5] == b"data=":
        try:
            body = base64.b64decode(parse_qs(body.decode("ascii"), max_num_fields=9)["data"][0], validate=True)
        except (ValueError, KeyError, binascii.Error):
            raise NotThisForm("got a form whose data is not base64") from None
    elif body[:2] == b"\x1f\x8b":
        body = _inflated(body)
    return value_of(body)


def _inflated(body: bytes) -> bytes:
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        made = inflate.decompress(body, MOST_INFLATED)
    except zlib.error:
        raise NotThisForm("got a body that is not gzip, as its first bytes say") from None
    if inflate.unconsumed_tail or not inflate.eof:
        raise NotThisForm(f"got a gzip body that is cut, or has more than {MOST_INFLATED} bytes")
    return made
