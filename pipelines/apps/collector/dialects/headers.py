"""Write keys in headers and queries, and answers in JSON."""

import base64
import binascii
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from pipelines.apps.collector.dialect import ACCEPTED, DUPLICATE, REJECTED, Answer, Request

JSON = (("content-type", "application/json"),)


def media_type(request: Request) -> str:
    """The type of the body in lower case, without parameters; empty if none is stated."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def key_in(request: Request) -> str | None:
    """The write key: `X-Write-Key`, the token of `Authorization: Bearer`, the user of `Authorization: Basic`, or `key`
    in the query, for sendBeacon, which sets no header; None without one."""
    scheme, _, rest = request.headers.get("authorization", "").strip().partition(" ")
    rest = rest.strip()
    found = request.headers.get("x-write-key", "").strip()
    if not found and scheme.lower() == "bearer":
        found = rest
    if not found and scheme.lower() == "basic":
        try:
            found = base64.b64decode(rest, validate=True).decode().partition(":")[0]
        except (binascii.Error, ValueError):
            found = ""
    return found or request.query.get("key") or None


def answer(status: int, body: Any) -> Answer:
    """An answer in JSON."""
    return Answer(status, msgspec.json.encode(body), JSON)


def counts(verdicts: Sequence[str]) -> dict[str, Any]:
    """What became of the events: {"accepted": n, "rejected": [{"index", "reason"}], "duplicates": n}."""
    found = Counter(verdicts)
    rejected = [
        {"index": at, "reason": verdict.removeprefix(REJECTED)}
        for at, verdict in enumerate(verdicts)
        if verdict.startswith(REJECTED)
    ]
    return {"accepted": found[ACCEPTED], "rejected": rejected, "duplicates": found[DUPLICATE]}
