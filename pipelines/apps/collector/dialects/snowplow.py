"""The tracker protocol of Snowplow: POST of tp2, and the pixel."""

import base64
import binascii
from collections.abc import Sequence

from pipelines.apps.collector.dialect import Answer, Event, NotThisForm, Request
from pipelines.apps.collector.dialects.bodies import (
    Members,
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

_POST, _PIXEL = "/com.snowplowanalytics.snowplow/tp2", "/i"
_IDS = ("eid",)
_TEXTS = {"ue_px": "ue_pr", "cx": "co"}  # JSON in base64 -> the same as a text
GIF = base64.b64decode("R0lGODlhAQABAPAAAP///wAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
_UNCACHED = ("cache-control", "no-store")


class Snowplow:
    """`{"schema", "data": [...]}` of objects whose values are texts, or one such object as a query.

    What an event says in base64 (`ue_px`, `cx`) is under the name that the protocol has for the plain text (`ue_pr`,
    `co`), so that a mapping can read it. The clients send no key of their own: without one the app id (`aid`) is it.
    """

    name = "snowplow"
    routes = (("POST", _POST), ("GET", _PIXEL))
    signed = False

    def key_of(self, request: Request) -> str | None:
        key = key_in(request)
        if key is None and request.method == "GET":
            return request.query.get("aid") or None
        if key is None:
            try:
                first = next(iter(_data(request)), b"")
                return text_in(members_of(first), "aid") if first[:1] == b"{" else None
            except NotThisForm:
                return None
        return key

    def read(self, request: Request) -> list[Event]:
        if request.method != "GET":
            return [event_of(_plain(element), _IDS) for element in _data(request)]
        said = {key: text_json(value) for key, value in request.query.items() if key != "key"}
        if "e" not in said:
            raise NotThisForm("got a query without e, allowed the kind of the event in it")
        return [event_of(_plain(object_of(said)), _IDS)]

    def accepted(self, request: Request, events: Sequence[Event], verdicts: Sequence[str]) -> Answer:
        if request.method == "GET":
            return Answer(200, GIF, (("content-type", "image/gif"), _UNCACHED))
        return answer(200, counts(verdicts))

    def refused(self, request: Request, status: int, code: str, message: str) -> Answer:
        return answer(status, {"code": code, "message": message})


def _data(request: Request) -> list[bytes]:
    """The events of a POST. Errors: NotThisForm."""
    body = members_of(value_of(request.body))
    if body.get("data", b"")[:1] != b"[":
        got = kind_of(body["data"]) if "data" in body else "nothing"
        raise NotThisForm(f'got {got} as "data", allowed a list')
    return elements_of(body["data"])


def _plain(element: bytes) -> bytes:
    """An event with its texts in base64 as texts; one that is not base64 of UTF-8 stays as it is."""
    if element[:1] != b"{" or not (b'"ue_px"' in element or b'"cx"' in element):
        return element
    try:
        own = members_of(element)
    except NotThisForm:
        return element
    made: Members = {}
    for key, value in own.items():
        text = _decoded(own, key) if key in _TEXTS and _TEXTS[key] not in own else None
        made |= {key: value} if text is None else {_TEXTS[key]: text_json(text)}
    return object_of(made)


def _decoded(own: Members, key: str) -> str | None:
    text = (text_in(own, key) or "").rstrip("=")
    try:
        # Trackers differ: the URL-safe alphabet or the other, with padding or without.
        padded = text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4)
        return base64.b64decode(padded, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
