"""Entries of a log, and how a segment file holds them.

A segment is a sequence of frames: the length of the body (u32, little endian), its CRC-32 (u32), and the body, which is
the msgpack array of an entry. Frames are only appended, so a crash can leave a torn one at the end alone.

    frame_of     an entry as a frame
    erased       a frame in place of one whose entry was erased, as long as that one: no place in the log moves
    read_frames  the entries of bytes that begin at a frame, and why it stopped
    find_frame   where the frames go on behind a wrong one
"""

import struct
from typing import NamedTuple
from zlib import crc32

import msgspec

MOST_BODY = 32 << 20  # bytes of an entry; a frame that states more is wrong
_AT_ONCE = 4 << 20  # bytes whose entries are in memory at a time
HEADER = struct.Struct("<II")
_FIRST = b"\x95"  # of each body: an array of five
_ERASED = b"\xc1"  # of a body without an entry: a byte that msgpack does not use


class Entry(NamedTuple):
    """What a log holds: a record as it came, and what is known of it.

    message_id  names the entry; two entries of one id are one record that was sent twice
    received    us since 1970
    source      the name for a record that states none
    payload     the bytes of the record
    attributes  beside the payload: a mapping reads them as `$attributes.NAME`
    """

    message_id: str
    received: int
    source: str
    payload: bytes
    attributes: dict[str, str]


class Frames(NamedTuple):
    """What `read_frames` found: the entries, where each frame ends, erased ones too, and why it ended before the end of
    the bytes.

    problem   None at the end of the bytes
    is_short  whether more bytes may complete the frame at which it stopped
    """

    entries: list[Entry]
    ends: list[int]
    problem: str | None
    is_short: bool


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


def frame_of(entry: Entry) -> bytes:
    """The entry as a frame. Errors: ValueError for one of more than MOST_BODY bytes."""
    body = _encode(entry)
    if len(body) > MOST_BODY:
        raise ValueError(f"an entry has {len(body):,} bytes; allowed: up to {MOST_BODY:,}")
    return HEADER.pack(len(body), crc32(body)) + body


def erased(frame: bytes | memoryview) -> bytes:
    """A frame of the same length that holds nothing."""
    body = _ERASED + bytes(len(frame) - HEADER.size - 1)
    return HEADER.pack(len(body), crc32(body)) + body


def read_frames(
    held: bytes | memoryview, at: int = 0, most_entries: int | None = None, most_bytes: int | None = None
) -> Frames:
    """The entries of the frames from `at` on, until the bytes or the frames end or one of the bounds is reached.

    A frame that is wrong ends it, as does one that is short: only a caller who knows whether the file still grows can
    tell a torn frame from one that is not written to its end yet.
    """
    entries: list[Entry] = []
    ends: list[int] = []
    view, start = memoryview(held), at
    size = len(view)
    while at < size and len(entries) != most_entries and (most_bytes is None or at - start < most_bytes):
        if size - at < HEADER.size:
            return Frames(entries, ends, "the header of a frame is cut short", True)
        length, checksum = HEADER.unpack_from(view, at)
        begin = at + HEADER.size
        if not 0 < length <= MOST_BODY:
            return Frames(entries, ends, f"a frame states {length:,} bytes", False)
        if size - begin < length:
            return Frames(entries, ends, f"a frame of {length:,} bytes is cut short", True)
        body = view[begin : begin + length]
        if crc32(body) != checksum:
            return Frames(entries, ends, "the checksum of a frame is wrong", False)
        try:
            if body[0] != _ERASED[0]:
                entries.append(_decode(body))
        except msgspec.MsgspecError as error:
            return Frames(entries, ends, f"a frame holds no entry: {error}", False)
        at = begin + length
        ends.append(at)
    return Frames(entries, ends, None, False)


def end_of_frames(held: bytes | memoryview) -> Frames:
    """As `read_frames` of all bytes, with the last entry and its end alone."""
    at, last = 0, Frames([], [], None, False)
    while at < len(held) and last.problem is None:
        found = read_frames(held, at, most_bytes=_AT_ONCE)
        last = Frames(found.entries[-1:] or last.entries, found.ends[-1:] or last.ends, found.problem, found.is_short)
        at = found.ends[-1] if found.ends else at
    return last


def find_frame(held: bytes, at: int) -> int | None:
    """Where the next whole frame begins behind a wrong one at `at`; None where there is none."""
    if len(held) - at >= HEADER.size:
        length, _ = HEADER.unpack_from(held, at)
        if _is_frame(held, behind := at + HEADER.size + length):
            return behind
    place = held.find(_FIRST, at + HEADER.size + 1)
    while place >= 0:
        if _is_frame(held, place - HEADER.size):
            return place - HEADER.size
        place = held.find(_FIRST, place + 1)
    return None


def _is_frame(held: bytes, at: int) -> bool:
    return bool(read_frames(held, at, most_entries=1).ends)
