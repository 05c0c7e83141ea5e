"""The server of the live page: an ASGI application that only reads.

    application(viewers, links)  its routes: the files of the page, /events, /state and /healthz

The files hold no number and are open to everybody who reaches the port. /events and /state ask for the token of a link,
in a header; without --links they answer this machine alone, by its loopback names: a page of elsewhere whose name leads
here (DNS rebinding) is refused. Nothing of a request is printed.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.routing import Route

from pipelines.apps.live.files import FILES, file_at
from pipelines.apps.live.links import Links
from pipelines.apps.live.viewers import MOST_VIEWERS, Viewers

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_FIXED = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_LIVE = {"cache-control": "no-store", "x-accel-buffering": "no"}
_JSON = {"content-type": "application/json", **_LIVE}

Scope = Mapping[str, Any]
Call = Callable[..., Awaitable[Any]]


class _Guard:
    """Who may read the numbers."""

    def __init__(self, links: Links | None):
        self._links = links

    def refusal(self, headers: Mapping[str, str]) -> str | None:
        """Why not; None: it may."""
        if self._links is None:
            allowed = is_loopback(headers.get("host", ""))
            return None if allowed else "host_not_allowed: open the page by 127.0.0.1, or start it with --links"
        if self._links.until(_token(headers)) is None:
            return "link_not_valid: the link is unknown or has ended; ask for a new one"
        return None


def is_loopback(host: str) -> bool:
    """Whether the Host of a request names this machine alone."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _token(headers: Mapping[str, str]) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def _start(send: Call, status: int, headers: Mapping[str, str]) -> None:
    listed = [(name.encode(), value.encode()) for name, value in {**_FIXED, **headers}.items()]
    await send({"type": "http.response.start", "status": status, "headers": listed})


async def _respond(send: Call, status: int, body: bytes, headers: Mapping[str, str], is_head: bool = False) -> None:
    await _start(send, status, {**headers, "content-length": str(len(body))})
    await send({"type": "http.response.body", "body": b"" if is_head else body})


class _Reading:
    """An endpoint that answers GET and HEAD."""

    async def __call__(self, scope: Scope, receive: Call, send: Call) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await _respond(send, 405, b"", {"allow": "GET, HEAD"})
        else:
            await self.answer(scope, receive, send, _headers(scope))

    async def answer(self, scope: Scope, receive: Call, send: Call, headers: Mapping[str, str]) -> None:
        raise NotImplementedError


class _File(_Reading):
    def __init__(self, path: str):
        self._path = path

    async def answer(self, scope: Scope, receive: Call, send: Call, headers: Mapping[str, str]) -> None:
        file = file_at(self._path)
        own = {"content-type": file.kind, "cache-control": "no-cache", "etag": file.tag, "vary": "Accept-Encoding"}
        if headers.get("if-none-match") == file.tag:
            await _respond(send, 304, b"", own)
        elif "gzip" in headers.get("accept-encoding", ""):
            packed = own | {"content-encoding": "gzip"}
            await _respond(send, 200, file.packed, packed, scope["method"] == "HEAD")
        else:
            await _respond(send, 200, file.plain, own, scope["method"] == "HEAD")


class _State(_Reading):
    """Everything at once, as JSON."""

    def __init__(self, viewers: Viewers, guard: _Guard):
        self._viewers, self._guard = viewers, guard

    async def answer(self, scope: Scope, receive: Call, send: Call, headers: Mapping[str, str]) -> None:
        if why := self._guard.refusal(headers):
            await _respond(send, 403, _refused(why), _JSON)
            return
        body = msgspec.json.encode(await self._viewers.state())
        await _respond(send, 200, body, _JSON, scope["method"] == "HEAD")


class _Events(_Reading):
    """The stream of one viewer."""

    def __init__(self, viewers: Viewers, guard: _Guard):
        self._viewers, self._guard = viewers, guard

    async def answer(self, scope: Scope, receive: Call, send: Call, headers: Mapping[str, str]) -> None:
        why = self._guard.refusal(headers)
        if why or self._viewers.count >= MOST_VIEWERS:
            busy = _JSON | {"retry-after": "10"}
            await (
                _respond(send, 403, _refused(why), _JSON)
                if why
                else _respond(send, 503, _refused(f"too_many_viewers: allowed: {MOST_VIEWERS} at once"), busy)
            )
            return
        await _start(send, 200, {"content-type": "text/event-stream", **_LIVE})
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


class _Health(_Reading):
    async def answer(self, scope: Scope, receive: Call, send: Call, headers: Mapping[str, str]) -> None:
        await _respond(send, 200, b"ok\n", {"content-type": "text/plain", **_LIVE}, scope["method"] == "HEAD")


def _refused(why: str) -> bytes:
    code, _, message = why.partition(": ")
    return msgspec.json.encode({"code": code, "message": message})


def application(viewers: Viewers, links: Links | None) -> Starlette:
    """The application; without links it answers loopback names alone."""
    guard = _Guard(links)
    routes = [Route(path, _File(path)) for path in FILES]
    routes += [Route("/events", _Events(viewers, guard)), Route("/state", _State(viewers, guard))]
    return Starlette(routes=[*routes, Route("/healthz", _Health())])
