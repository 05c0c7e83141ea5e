"""The server of the live page: an ASGI application that only reads.

    application(viewers, links)  its routes: the files of the page, /events, /state and /healthz

The files hold no number and are open to everybody who reaches the port. /events and /state ask for the token of a link,
in a header; without --links they answer this machine alone, by its loopback names: a page of elsewhere whose name leads
here (DNS rebinding) is refused. Nothing of a request is printed.
"""

from collections.abc import Mapping

import msgspec
from starlette.applications import Starlette
from starlette.routing import Route

from pipelines.apps.live.files import FILES
from pipelines.apps.live.links import Links
from pipelines.apps.live.replies import JSON, LIVE, Call, File, Guard, Reading, Scope, refused, respond, start
from pipelines.apps.live.viewers import MOST_VIEWERS, Viewers


class _State(Reading):
    """Everything at once, as JSON."""

    def __init__(self, viewers: Viewers, guard: Guard):
        self._viewers, self._guard = viewers, guard

    async def answer(self, scope: Scope, receive: Call, send: Call, headers: Mapping[str, str]) -> None:
        if why := self._guard.refusal(headers):
            await respond(send, 403, refused(why), JSON)
            return
        body = msgspec.json.encode(await self._viewers.state())
        await respond(send, 200, body, JSON, scope["method"] == "HEAD")


class _Events(Reading):
    """The stream of one viewer."""

    def __init__(self, viewers: Viewers, guard: Guard):
        self._viewers, self._guard = viewers, guard

    async def answer(self, scope: Scope, receive: Call, send: Call, headers: Mapping[str, str]) -> None:
        why = self._guard.refusal(headers)
        if why or self._viewers.count >= MOST_VIEWERS:
            busy = JSON | {"retry-after": "10"}
            await (
                respond(send, 403, refused(why), JSON)
                if why
                else respond(send, 503, refused(f"too_many_viewers: allowed: {MOST_VIEWERS} at once"), busy)
            )
            return
        await start(send, 200, {"content-type": "text/event-stream", **LIVE})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        last = headers.get("last-event-id", "")[:64]
        try:
            async for piece in self._viewers.events(last, lambda: self._guard.refusal(headers) is None):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except OSError:
            return  # the viewer has gone


class _Health(Reading):
    async def answer(self, scope: Scope, receive: Call, send: Call, headers: Mapping[str, str]) -> None:
        await respond(send, 200, b"ok\n", {"content-type": "text/plain", **LIVE}, scope["method"] == "HEAD")


class _Application:
    """The routes of the page, and further endpoints by path, or by the first two parts of the path: what follows there
    may be any text."""

    def __init__(self, page: Call, more: Mapping[str, Call]):
        self._page, self._more = page, more

    async def __call__(self, scope: Scope, receive: Call, send: Call) -> None:
        path = scope["path"] if self._more and scope["type"] == "http" else ""
        endpoint = self._more.get(path) or self._more.get(path[: path.find("/", path.find("/", 1) + 1) + 1])
        await (endpoint or self._page)(scope, receive, send)


def application(viewers: Viewers, links: Links | None, more: Mapping[str, Call]) -> Call:
    """The application; without links it answers loopback names alone. `more`: further endpoints, which check by
    themselves who may read them."""
    guard = Guard(links)
    routes = [Route(path, File(path)) for path in FILES]
    routes += [Route("/events", _Events(viewers, guard)), Route("/state", _State(viewers, guard))]
    return _Application(Starlette(routes=[*routes, Route("/healthz", _Health())]), more)
