"""The form of Plausible's scripts: one event, as text/plain, so that a browser asks no leave first."""

from collections.abc import Sequence

from pipelines.apps.collector.dialect import Answer, Event, NotThisForm, Request
from pipelines.apps.collector.dialects.bodies import event_of, members_of, text_in, value_of
from pipelines.apps.collector.dialects.headers import answer, key_in


class Plausible:
    """`{"n": name, "u": URL, "d": domain, "r": referrer, "p": properties}`, or with the long names of the events API.

    The scripts send no key: without one the domain is it. They never send again, and success is 202, as Plausible's
    own.
    """

    name = "plausible"
    routes = (("POST", "/api/event"),)
    signed = False

    def key_of(self, request: Request) -> str | None:
        key = key_in(request)
        if key is None:
            try:
                return text_in(members_of(value_of(request.body)), "d", "domain")
            except NotThisForm:
                return None
        return key

    def read(self, request: Request) -> list[Event]:
        value = value_of(request.body)
        members_of(value)
        return [event_of(value, ())]

    def accepted(self, request: Request, events: Sequence[Event], verdicts: Sequence[str]) -> Answer:
        return Answer(202, b"ok", (("content-type", "text/plain; charset=utf-8"),))

    def refused(self, request: Request, status: int, code: str, message: str) -> Answer:
        return answer(status, {"code": code, "message": message})
