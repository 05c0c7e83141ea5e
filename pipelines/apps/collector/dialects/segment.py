"""The form of Segment, which RudderStack shares: batches and single events."""

from collections.abc import Sequence
from contextlib import suppress

from pipelines.apps.collector.dialect import Answer, Event, NotThisForm, Request
from pipelines.apps.collector.dialects.bodies import (
    Members,
    check_merged,
    elements_of,
    event_of,
    kind_of,
    members_of,
    object_of,
    text_in,
    text_json,
    value_of,
)
from pipelines.apps.collector.dialects.headers import answer, counts, key_in

_SINGLE = ("track", "page", "identify", "screen", "group", "alias")
# analytics.js names the kinds by their first letter.
_TYPES = {f"/v1/{path}": kind for kind in _SINGLE for path in (kind, kind[0])}
_BATCHES = ("/v1/batch", "/v1/b", "/v1/import")
_KEY, _IDS = "writeKey", ("messageId",)


class Segment:
    """`{"batch": [...], "context": {}, "integrations": {}, "sentAt": ...}`, or one event at a path that names its type.

    What a batch says of all its events is merged into each, `context` and `integrations` key by key; the event's own
    word wins. Both clients take 200 for success, and RudderStack's no other status.
    """

    name = "segment"
    routes = tuple(("POST", path) for path in (*_BATCHES, *_TYPES))
    signed = False

    def key_of(self, request: Request) -> str | None:
        key = key_in(request)
        if key is not None:
            return key
        try:
            return text_in(members_of(value_of(request.body)), _KEY)
        except NotThisForm:
            return None

    def read(self, request: Request) -> list[Event]:
        value = value_of(request.body)
        body = members_of(value)
        if request.path in _TYPES:
            return [event_of(value, _IDS, {"type": text_json(_TYPES[request.path])}, (_KEY,))]
        if "batch" not in body:
            raise NotThisForm('got an object without "batch", allowed {"batch": [...]}')
        if body["batch"][:1] != b"[":
            raise NotThisForm(f'got {kind_of(body["batch"])} as "batch", allowed a list')
        shared = {key: member for key, member in body.items() if key not in ("batch", _KEY)}
        elements = elements_of(body["batch"])
        check_merged(shared, len(elements))
        return [_event(element, shared) for element in elements]

    def accepted(self, request: Request, events: Sequence[Event], verdicts: Sequence[str]) -> Answer:
        return answer(200, {"success": True, **counts(verdicts)})

    def refused(self, request: Request, status: int, code: str, message: str) -> Answer:
        return answer(status, {"success": False, "code": code, "message": message})


def _event(element: bytes, shared: Members) -> Event:
    """An element of a batch, with what the batch says of all."""
    nested = {key: shared[key] for key in ("context", "integrations") if shared.get(key, b"")[:1] == b"{"}
    if nested and element[:1] == b"{":
        with suppress(NotThisForm):  # event_of says why
            element = _joined(element, nested)
    return event_of(element, _IDS, shared, (_KEY,))


def _joined(element: bytes, nested: Members) -> bytes:
    """An event whose objects have the keys that those of the batch have and they lack. Errors: NotThisForm."""
    own, joined = members_of(element), {}
    for key, value in nested.items():
        if own.get(key, b"")[:1] == b"{":
            inner, whole = members_of(own[key]), members_of(value)
            if whole.keys() - inner.keys():
                joined[key] = object_of(whole | inner)
    return object_of(own | joined) if joined else element
