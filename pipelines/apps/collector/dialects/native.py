"""The native form: POST /v1/events, with one object, a list of objects, or JSON lines."""

from collections.abc import Sequence

from pipelines.apps.collector.dialect import Answer, Event, NotThisForm, Request
from pipelines.apps.collector.dialects.bodies import elements_of, event_of, kind_of, lines_of, members_of, value_of
from pipelines.apps.collector.dialects.headers import answer, counts, key_in, media_type

_LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_IDS = ("event_id",)


class Native:
    """Events as they are in the log and in files. A body is JSON lines if its type says so, or if it has more than one
    value; any other type is taken for JSON, so that sendBeacon may send text/plain."""

    name = "native"
    routes = (("POST", "/v1/events"),)
    signed = False

    def key_of(self, request: Request) -> str | None:
        return key_in(request)

    def read(self, request: Request) -> list[Event]:
        value = value_of(request.body)
        if media_type(request) in _LINES:
            return _lines(value)
        if value[:1] == b"[":
            return [event_of(element, _IDS) for element in elements_of(value)]
        if value[:1] != b"{":
            raise NotThisForm(f"got {kind_of(value)}, allowed an object, a list of objects, or lines of them")
        if b"\n" not in value:
            members_of(value)
            return [event_of(value, _IDS)]
        try:
            members_of(value)
        except NotThisForm:
            members_of(value_of(value.partition(b"\n")[0]))
            return _lines(value)
        return [event_of(value, _IDS)]

    def accepted(self, request: Request, events: Sequence[Event], verdicts: Sequence[str]) -> Answer:
        return answer(202, counts(verdicts))

    def refused(self, request: Request, status: int, code: str, message: str) -> Answer:
        return answer(status, {"code": code, "message": message})


def with_source(payload: bytes, source: str) -> bytes:
    """A native event with the source of its key, unless it states one; what is no object stays as it is."""
    try:
        if "source" in members_of(payload):
            return payload
    except NotThisForm:
        return payload
    rest = payload.lstrip()[1:].lstrip()
    comma = b"" if rest.startswith(b"}") else b","
    return b'{"source":"' + source.encode() + b'"' + comma + rest


def _lines(value: bytes) -> list[Event]:
    """The lines; one that is no object is a rejected event."""
    return [event_of(line, _IDS) for line in lines_of(value)]
