"""The Measurement Protocol of Google Analytics 4."""

from collections.abc import Sequence

from pipelines.apps.collector.dialect import Answer, Event, NotThisForm, Request
from pipelines.apps.collector.dialects.bodies import elements_of, events_of, kind_of, members_of, text_json, value_of
from pipelines.apps.collector.dialects.headers import answer, key_in

_STREAMS = ("measurement_id", "firebase_app_id")


class GA4:
    """`{"client_id", "user_id", "timestamp_micros", "events": [{"name", "params"}]}`.

    What the body says beside its events is merged into each, and the stream of the query; the key is `api_secret` in
    the query. Success is 204, as Google's own.
    """

    name = "ga4-measurement"
    routes = (("POST", "/mp/collect"),)
    signed = False

    def key_of(self, request: Request) -> str | None:
        return request.query.get("api_secret") or key_in(request)

    def read(self, request: Request) -> list[Event]:
        body = members_of(value_of(request.body))
        if body.get("events", b"")[:1] != b"[":
            got = kind_of(body["events"]) if "events" in body else "nothing"
            raise NotThisForm(f'got {got} as "events", allowed a list')
        shared = {key: text_json(request.query[key]) for key in _STREAMS if request.query.get(key)}
        shared |= {key: member for key, member in body.items() if key != "events"}
        return events_of(elements_of(body["events"]), (), shared)

    def accepted(self, request: Request, events: Sequence[Event], verdicts: Sequence[str]) -> Answer:
        return Answer(204)

    def refused(self, request: Request, status: int, code: str, message: str) -> Answer:
        return answer(status, {"code": code, "message": message})
