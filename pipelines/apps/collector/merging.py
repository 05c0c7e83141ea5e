"""The bound of what a batch says of all its events.

A dialect merges it into each event, so a body of 200 kB could become a gigabyte: 100 kB for all of 10,000 empty events.
What is checked is the product, before a dialect reads the body.
"""

import base64
import binascii
from urllib.parse import parse_qs

import msgspec
from msgspec import Raw

from pipelines.apps.collector.bodies import NotInflated, TooLarge, inflate_body

MOST_MERGED = 64 << 20  # bytes of what is said of all, times the events
MOST_UNKNOWN = 256 << 20  # the same where the body is no strict JSON, so that only its length and its objects are known
_GZIP, _FORM = b"\x1f\x8b", b"data="
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_elements = msgspec.json.Decoder(list[Raw]).decode


def merges_too_much(body: bytes) -> bool:
    """Return whether the events of a body would have too many bytes, also of one that is packed as PostHog packs it."""
    try:
        return _is_too_much(_unpacked(body))
    except TooLarge:
        return True


def _unpacked(body: bytes) -> bytes:
    if body.startswith(_FORM):
        try:
            body = base64.b64decode(parse_qs(body.decode("ascii"), max_num_fields=9)["data"][0])
        except (ValueError, KeyError, binascii.Error):
            return body
    if body.startswith(_GZIP):
        try:
            return inflate_body(body, "gzip")
        except NotInflated:
            return body
    return body


def _is_too_much(body: bytes) -> bool:
    objects = body.count(b"{")
    if len(body) * objects <= MOST_MERGED:
        return False
    try:
        members = _members(body)
    except (ValueError, RecursionError):
        return body.lstrip()[:1] == b"{" and len(body) * objects > MOST_UNKNOWN
    batch = max((value for value in map(bytes, members.values()) if value[:1] == b"["), key=len, default=b"[]")
    return (len(body) - len(batch)) * len(_elements(batch)) > MOST_MERGED
