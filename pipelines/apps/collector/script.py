"""The script that a web page loads from the collector: templates/collector/a.js, at /a.js.

It sends page views, clicks on what has `data-event`, and the seconds and depth of a visit, as native events.
"""

import gzip
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from hashlib import sha256
from importlib.resources import files
from typing import Any

CACHE_SECONDS = 3_600


class Script:
    """The ASGI application of /a.js: compressed where the browser takes it, and 304 where it has it already."""

    @cached_property
    def plain(self) -> bytes:
        """Its text."""
        return (files("templates") / "collector/a.js").read_bytes()

    @cached_property
    def packed(self) -> bytes:
        """The same by gzip."""
        return gzip.compress(self.plain, mtime=0)

    @cached_property
    def tag(self) -> bytes:
        """What tells this text from that of another version."""
        return b'"' + sha256(self.plain).hexdigest()[:16].encode() + b'"'

    async def __call__(
        self, scope: Mapping[str, Any], receive: Callable[..., Awaitable[Any]], send: Callable[..., Awaitable[Any]]
    ) -> None:
        asked = {name.lower(): value for name, value in scope["headers"]}
        headers = [
            (b"content-type", b"text/javascript; charset=utf-8"),
            (b"cache-control", b"public, max-age=%d" % CACHE_SECONDS),
            (b"etag", self.tag),
            (b"vary", b"Accept-Encoding"),
            (b"x-content-type-options", b"nosniff"),
            (b"cross-origin-resource-policy", b"cross-origin"),
        ]
        status, body = 200, self.plain
        if scope["method"] not in ("GET", "HEAD"):
            status, body, headers = 405, b"", [(b"allow", b"GET")]
        elif asked.get(b"if-none-match") == self.tag:
            status, body = 304, b""
        elif b"gzip" in asked.get(b"accept-encoding", b""):
            body = self.packed
            headers.append((b"content-encoding", b"gzip"))
        if status != 304:
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
