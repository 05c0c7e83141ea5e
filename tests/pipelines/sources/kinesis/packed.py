"""Pack records as the Kinesis Producer Library does, written from its description and without protobuf."""

import hashlib
from collections.abc import Sequence

MAGIC = bytes([0xF3, 0x89, 0x9A, 0xC2])


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes) -> bytes:
    """A field with a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def body(records: Sequence[tuple[str, bytes]], with_more: bool = False) -> bytes:
    """The message of (partition key, data). `with_more`: with explicit hash keys and tags, which nobody reads here."""
    keys = list(dict.fromkeys(key for key, _ in records))
    out = b"".join(field(1, key.encode()) for key in keys)
    if with_more:
        out += field(2, b"170141183460469231731687303715884105728")
    for key, data in records:
        more = varint(2 << 3) + varint(0) if with_more else b""
        tag = field(4, field(1, b"a tag") + field(2, b"its value")) if with_more else b""
        out += field(3, varint(1 << 3) + varint(keys.index(key)) + more + field(3, data) + tag)
    return out


def pack(records: Sequence[tuple[str, bytes]], with_more: bool = False) -> bytes:
    """An aggregated record."""
    message = body(records, with_more)
    return MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()
