"""Replies: what all answers of the live page share: headers, refusals, and who may read the numbers."""

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from pipelines.apps.live.files import file_at
from pipelines.apps.live.links import Links

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
LIVE = {"cache-control": "no-store", "x-accel-buffering": "no"}
JSON = {"content-type": "application/json", **LIVE}

Scope = Mapping[str, Any]
Call = Callable[..., Awaitable[Any]]


class Guard:
    """Who may read the numbers."""

    def __init__(self, links: Links | None):
        self._links = links

    def refusal(self, headers: Mapping[str, str]) -> str | None:
        """Why not; None: it may."""
        if self._links is None:
            allowed = is_loopback(headers.get("host", ""))
            return None if allowed else "host_not_allowed: open the page by 127.0.0.1, or start it with --links"
        if self._links.until(token_of(headers)) is None:
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


def token_of(headers: Mapping[str, str]) -> str:
    """The token that a request sends; empty without one."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers of a request, names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def start(send: Call, status: int, headers: Mapping[str, str]) -> None:
    """Begin an answer."""
    listed = [(name.encode(), value.encode()) for name, value in {**_FIXED, **headers}.items()]
    await send({"type": "http.response.start", "status": status, "headers": listed})


async def respond(send: Call, status: int, body: bytes, headers: Mapping[str, str], is_head: bool = False) -> None:
    """Send a whole answer; to HEAD without its body."""
    await start(send, status, {**headers, "content-length": str(len(body))})
    await send({"type": "http.response.body", "body": b"" if is_head else body})


class Reading:
    """An endpoint that answers GET and HEAD."""

    async def __call__(self, scope: Scope, receive: Call, send: Call) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await respond(send, 405, b"", {"allow": "GET, HEAD"})
        else:
            await self.answer(scope, receive, send, headers_of(scope))

    async def answer(self, scope: Scope, receive: Call, send: Call, headers: Mapping[str, str]) -> None:
        """Send the answer."""
        raise NotImplementedError


class File(Reading):
    """A file of the page."""

    def __init__(self, path: str):
        self._path = path

    async def answer(self, scope: Scope, receive: Call, send: Call, headers: Mapping[str, str]) -> None:
        file = file_at(self._path)
        own = {"content-type": file.kind, "cache-control": "no-cache", "etag": file.tag, "vary": "Accept-Encoding"}
        if headers.get("if-none-match") == file.tag:
            await respond(send, 304, b"", own)
        elif "gzip" in headers.get("accept-encoding", ""):
            packed = own | {"content-encoding": "gzip"}
            await respond(send, 200, file.packed, packed, scope["method"] == "HEAD")
        else:
            await respond(send, 200, file.plain, own, scope["method"] == "HEAD")


def refused(why: str) -> bytes:
    """`code: message` as the body of a refusal."""
    code, _, message = why.partition(": ")
    return msgspec.json.encode({"code": code, "message": message})
