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
    events_of,
    kind_of,
    members_of,
    object_of,
    text_in,
    value_of,
)
from pipelines.apps.collector.dialects.headers import answer, counts, key_in, media_type

MOST_INFLATED = 10_000_000  # bytes, of a body that is gzip without a header that says so
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
            return _key_in(_unpacked(request))
        except NotThisForm:
            return None

    def read(self, request: Request) -> list[Event]:
        value = _unpacked(request)
        events = _events(value)
        if b'"token"' not in value or (key := self.key_of(request)) is None:
            return events
        return [_without_token(event, key) for event in events]

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
    return events_of(elements_of(body["batch"]), _IDS, shared, _KEYS)


def _events(value: bytes) -> list[Event]:
    """The events of a body in any form of the first protocol. Errors: NotThisForm."""
    if value[:1] == b"[":
        return events_of(elements_of(value), _IDS, {}, _KEYS)
    body = members_of(value)
    return _batch(body) if "batch" in body else [event_of(value, _IDS, without=_KEYS)]


def _key_in(value: bytes) -> str | None:
    """The project key: of the body, or of its first event, or in that one's properties, as posthog-js sends it.

    Errors: NotThisForm.
    """
    body = {} if value[:1] == b"[" else members_of(value)
    batch, event = value if value[:1] == b"[" else body.get("batch", b""), body
    if (key := text_in(body, *_KEYS)) is not None:
        return key
    if batch[:1] == b"[":
        first = next(iter(elements_of(batch)), b"")
        event = members_of(first) if first[:1] == b"{" else {}
    properties = event.get("properties", b"")
    in_properties = members_of(properties) if properties[:1] == b"{" else {}
    return text_in(event, *_KEYS) or text_in(in_properties, "token")


def _without_token(event: Event, key: str) -> Event:
    """An event whose properties do not have the project key; another token in them is the sender's own."""
    if event.error is not None or b'"token"' not in event.payload:
        return event
    own = members_of(event.payload)
    properties = own.get("properties", b"")
    inner = members_of(properties) if properties[:1] == b"{" else {}
    if text_in(inner, "token") != key:
        return event
    own["properties"] = object_of({name: value for name, value in inner.items() if name != "token"})
    return event._replace(payload=object_of(own))


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
