"""Dialect: what the collector asks of a form in which clients send events, and in which they expect an answer.

To add a dialect, write a class with these members in a module of dialects/ and name an instance in its table. A dialect
reads a request that is complete and inflated, and writes answers; it opens nothing and waits for nothing.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

ACCEPTED, DUPLICATE, REJECTED = "accepted", "duplicate", "rejected: "


class Request(NamedTuple):
    """A request: the path without the query, the last value of each key of the query, headers by names in lower case,
    and the body after its Content-Encoding was undone."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Event(NamedTuple):
    """An event of a request.

    payload  the JSON of this one event: the bytes that the client sent, or, where the batch says something of all its
             events, one object with that merged in. Write keys of the batch are not in it
    id       the client's own id, the same in each try; None without one
    error    why this is no event of the dialect: its verdict is "rejected: " and this, and its payload goes to the
             log all the same, so to quarantine; None for an event
    """

    payload: bytes
    id: str | None = None
    error: str | None = None


class Answer(NamedTuple):
    """A response: its status, its body, and its headers, Content-Type among them where there is a body."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class NotThisForm(Exception):
    """The body is not the dialect at all: 400, with the text in the answer. The body goes to the log all the same, so
    to quarantine. The text quotes no value of the body."""


class NotSigned(Exception):
    """A signature is absent, wrong or too old: 401, with the text in the answer. Nothing goes to the log."""


class Dialect(Protocol):
    """A form of events on the wire.

    name    the attribute `dialect` of each entry of the log
    routes  its methods and paths, as templates of starlette; no two dialects share one
    signed  whether `read` checks a signature, which then stands in place of the write key
    """

    @property
    def name(self) -> str: ...
    @property
    def routes(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def signed(self) -> bool: ...

    def key_of(self, request: Request) -> str | None:
        """The write key as the client sends it; None without one. Never raises."""

    def read(self, request: Request) -> list[Event]:
        """The events in their order. Errors: NotThisForm; NotSigned if `signed`; no other."""

    def accepted(self, request: Request, events: Sequence[Event], verdicts: Sequence[str]) -> Answer:
        """The answer once all is in the log. `verdicts`: for each event ACCEPTED, DUPLICATE, or REJECTED and why."""

    def refused(self, request: Request, status: int, code: str, message: str) -> Answer:
        """The answer to a request that is not read or not kept: 400, 401, 413, 429 or 503, with a code in snake_case
        and a line for people, in the client's own form. The server adds Retry-After."""
