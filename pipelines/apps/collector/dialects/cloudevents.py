"""CloudEvents 1.0 over HTTP: structured, binary and batched."""

import base64
from collections.abc import Sequence
from urllib.parse import unquote

from pipelines.apps.collector.dialect import Answer, Event, NotThisForm, Request
from pipelines.apps.collector.dialects.bodies import (
    Members,
    elements_of,
    event_of,
    is_json,
    members_of,
    object_of,
    text_in,
    text_json,
    value_of,
)
from pipelines.apps.collector.dialects.headers import answer, counts, key_in, media_type

_STRUCTURED, _BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
_ATTRIBUTE = "ce-"


class CloudEvents:
    """An event as an object (structured), a list of them (batch), or its data with its attributes in `ce-` headers
    (binary), which becomes the object that the structured form has. Source and id together are the id of an event."""

    name = "cloudevents"
    routes = (("POST", "/v1/cloudevents"),)
    signed = False

    def key_of(self, request: Request) -> str | None:
        return key_in(request)

    def read(self, request: Request) -> list[Event]:
        type = media_type(request)
        if f"{_ATTRIBUTE}specversion" in request.headers and type not in (_STRUCTURED, _BATCH):
            return [_identified(Event(_from_headers(request)))]
        value = value_of(request.body)
        if value[:1] == b"[" and type != _STRUCTURED:
            return [_identified(event_of(element, ())) for element in elements_of(value)]
        body = members_of(value)
        if type not in (_STRUCTURED, _BATCH) and "specversion" not in body:
            raise NotThisForm(
                f"got an object without specversion, allowed a CloudEvent as {_STRUCTURED}, a list as {_BATCH}, or its"
                " data beside ce- headers"
            )
        return [_identified(event_of(value, ()))]

    def accepted(self, request: Request, events: Sequence[Event], verdicts: Sequence[str]) -> Answer:
        return answer(200, counts(verdicts))

    def refused(self, request: Request, status: int, code: str, message: str) -> Answer:
        return answer(status, {"code": code, "message": message})


def _identified(event: Event) -> Event:
    """An event with the id that its source and its id make."""
    if event.error is not None:
        return event
    own = members_of(event.payload)
    source, id = text_in(own, "source"), text_in(own, "id")
    return event if id is None else event._replace(id=id if source is None else f"{source} {id}")


def _from_headers(request: Request) -> bytes:
    """The structured form of an event in the binary one."""
    made: Members = {
        name.removeprefix(_ATTRIBUTE): text_json(unquote(value))
        for name, value in request.headers.items()
        if name.startswith(_ATTRIBUTE) and name not in (f"{_ATTRIBUTE}data", f"{_ATTRIBUTE}data_base64")
    }
    stated = request.headers.get("content-type", "").strip()
    if stated:
        made["datacontenttype"] = text_json(stated)
    type = media_type(request)
    if not request.body:
        return object_of(made)
    if (not type or type.endswith(("/json", "+json"))) and is_json(request.body):
        made["data"] = value_of(request.body)
        return object_of(made)
    try:
        made["data"] = text_json(request.body.decode())
    except UnicodeDecodeError:
        made["data_base64"] = text_json(base64.b64encode(request.body).decode())
    return object_of(made)
