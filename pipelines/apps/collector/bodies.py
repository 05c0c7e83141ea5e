"""Bodies: what a request carries, read within bounds of bytes and time, and inflated within bounds of bytes.

    await read_body(...)          the bytes of a request as they were sent
    inflate_body(body, encoding)  the bytes without their Content-Encoding

Errors  TooLarge, TooSlow, Gone, Busy; NotInflated for an encoding that is unknown, or bytes that are not of it.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.sources.files.inflate import inflate

MOST_BYTES = 9_000_000  # of a body, as sent and inflated: a record of the graph, or a message of Pub/Sub, has 10 MB
MOST_DRAINED = 4 * MOST_BYTES  # of a body that is too large: a client that still sends does not read its answer
BODY_SECONDS = 30.0
MOST_ENCODINGS = 2  # of one body; each costs a pass
PIECE_BYTES = 1 << 16

Receive = Callable[[], Awaitable[Any]]


class TooLarge(Exception):
    """The body has more bytes than allowed."""


class TooSlow(Exception):
    """The body was not complete in time."""


class Gone(Exception):
    """The client closed the connection before its body was complete."""


class NotInflated(Exception):
    """The Content-Encoding is unknown, or the body is not of it; the text quotes nothing of the body."""


class Busy(Exception):
    """The bodies that are in memory now leave no room for this one; a retry may succeed."""


class Held:
    """The bytes of all bodies that are in memory, with a limit for all of them."""

    def __init__(self, most: int = 256 << 20):
        self.most, self.bytes = most, 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """Give a request its share, which is free again when the request has ended."""
        share = Share(self)
        try:
            yield share
        finally:
            self.bytes -= share.bytes


class Share:
    """The bytes of one request."""

    def __init__(self, held: Held):
        self._held, self.bytes = held, 0

    def add(self, size: int) -> None:
        """Count bytes. Errors: Busy."""
        if self._held.bytes + size > self._held.most:
            raise Busy
        self.bytes += size
        self._held.bytes += size


async def read_body(receive: Receive, length: str | None, share: Share, seconds: float | None = None) -> bytes:
    """Return the body of an ASGI request that is complete within `seconds` (BODY_SECONDS); `length` is its
    Content-Length. Errors: TooLarge, TooSlow, Gone, Busy."""
    stated = int(length) if length is not None and length.isascii() and length.isdigit() else 0
    try:
        async with asyncio.timeout(BODY_SECONDS if seconds is None else seconds):
            return await _gather(receive, share, stated > MOST_BYTES)
    except TimeoutError:
        raise TooSlow from None


async def _gather(receive: Receive, share: Share, is_large: bool) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in _parts(receive):
        size += len(part)
        is_large = is_large or size > MOST_BYTES
        if not is_large:
            share.add(len(part))
            parts.append(part)
        elif size > MOST_DRAINED:
            break
        else:
            parts.clear()
    if is_large:
        raise TooLarge
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _parts(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Gone
        yield message.get("body", b"")
        more = message.get("more_body", False)


def inflate_body(body: bytes, encoding: str) -> bytes:
    """Return the body without its encodings, e.g. `gzip`, undone from the last to the first.

    Errors: NotInflated, and TooLarge for one that inflates to more than MOST_BYTES.
    """
    names = [name.strip().lower() for name in encoding.split(",") if name.strip()]
    if len(names) > MOST_ENCODINGS or not all(name in _INFLATERS for name in names):
        raise NotInflated(f"the Content-Encoding is unknown; allowed: {', '.join(sorted(_INFLATERS))}")
    for name in reversed(names):
        body = _inflated(body, name)
    return body


def _inflated(body: bytes, name: str) -> bytes:
    parts, size = [], 0
    try:
        for part in _INFLATERS[name](body):
            size += len(part)
            if size > MOST_BYTES:
                raise TooLarge
            parts.append(part)
    except (EOFError, OSError, ValueError, zlib.error):
        raise NotInflated(f"the body is not {name}, which its Content-Encoding says") from None
    return b"".join(parts)


def _pieces(body: bytes) -> Iterator[bytes]:
    return (body[start : start + PIECE_BYTES] for start in range(0, len(body), PIECE_BYTES))


def _undeflated(body: bytes) -> Iterator[bytes]:
    """Inflate `deflate`, which is zlib by the standard and a bare stream as some clients send it."""
    is_zlib = len(body) >= 2 and body[0] & 0x0F == 8 and not int.from_bytes(body[:2], "big") % 31
    decoder = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
    while data := decoder.decompress(body, PIECE_BYTES):
        yield data
        body = decoder.unconsumed_tail
    if not decoder.eof or decoder.unused_data:
        raise EOFError


_INFLATERS: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "identity": lambda body: (body,),
    "gzip": lambda body: inflate(_pieces(body), "gzip"),
    "x-gzip": lambda body: inflate(_pieces(body), "gzip"),
    "deflate": _undeflated,
    "zstd": lambda body: inflate(_pieces(body), "zstd"),
}
