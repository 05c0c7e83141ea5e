"""Clients of a server that is measured: connections of one process, each of which waits for an answer before it sends.

    closed(port, requests, connections, seconds)   as fast as they are answered
    paced(port, requests, connections, seconds, every)   one request each `every` seconds, whoever is still unanswered

A time begins when a request was due, not when a connection was free: a server that stalls is not asked less.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

FIRST_SECONDS = 0.5  # in which nothing is counted


class Answers(NamedTuple):
    """Requests that were answered in `seconds`, and how long each took, in ms."""

    seconds: float
    took: list[float]


def request_of(path: str, body: bytes) -> bytes:
    """The bytes of a POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class _Client(asyncio.Protocol):
    """One connection. Errors: RuntimeError for an answer that is none of success."""

    def __init__(self, load: "_Load"):
        self._load, self._due, self._held = load, 0.0, b""

    def connection_made(self, transport) -> None:
        self._transport = transport
        self._load.free(self)

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, body = self._held.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        if not self._held.startswith(b"HTTP/1.1 20"):
            self._load.fail(RuntimeError(f"an answer is {head[:60]!r}"))
        self._held = b""
        self._load.answered(self._due)
        self._load.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.fail(RuntimeError("the server closed a connection"))


def _length(head: bytes) -> int:
    at = head.lower().index(b"content-length:") + 15
    return int(head[at : at + 12].partition(b"\r")[0])


class _Load:
    """What all connections share."""

    def __init__(self, requests: Iterator[bytes], paced: bool):
        self._requests, self._paced, self._free, self._due = requests, paced, deque[_Client](), deque[float]()
        self.took: list[tuple[float, float]] = []  # (when it was answered, ms)
        self.ended = asyncio.get_running_loop().create_future()

    def free(self, client: _Client) -> None:
        if self.ended.done():
            return
        if not self._paced:
            client.send(next(self._requests), time.perf_counter())
        elif self._due:
            client.send(next(self._requests), self._due.popleft())
        else:
            self._free.append(client)

    def due(self, at: float) -> None:
        """A request is due."""
        if self._free:
            self._free.popleft().send(next(self._requests), at)
        else:
            self._due.append(at)

    def answered(self, due: float) -> None:
        now = time.perf_counter()
        self.took.append((now, (now - due) * 1e3))

    def fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)


async def _run(port: int, requests: Iterator[bytes], connections: int, seconds: float, every: float | None) -> Answers:
    loop, load = asyncio.get_running_loop(), _Load(requests, every is not None)
    made = [(await loop.create_connection(lambda: _Client(load), "127.0.0.1", port))[0] for _ in range(connections)]
    begun = time.perf_counter()
    end, number = begun + FIRST_SECONDS + seconds, 0
    while (now := time.perf_counter()) < end and not load.ended.done():
        while every is not None and begun + number * every <= now:
            load.due(begun + number * every)
            number += 1
        await asyncio.sleep(0.02 if every is None else max(begun + number * every - time.perf_counter(), 0))
    if load.ended.done():
        load.ended.result()
    load.ended.set_result(None)
    for transport in made:
        transport.abort()
    return Answers(seconds, [took for at, took in load.took if begun + FIRST_SECONDS <= at])


def _cycle(requests: Sequence[bytes]) -> Iterator[bytes]:
    while True:
        yield from requests


def closed(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Answers:
    """Send as fast as it is answered. Errors: RuntimeError for an answer that is no success."""
    return asyncio.run(_run(port, _cycle(requests), connections, seconds, None))


def paced(port: int, requests: Sequence[bytes], connections: int, seconds: float, every: float) -> Answers:
    """Send one request each `every` seconds. Errors: RuntimeError for an answer that is no success."""
    return asyncio.run(_run(port, _cycle(requests), connections, seconds, every))
