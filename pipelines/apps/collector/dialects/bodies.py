"""JSON bodies taken apart and put together without a change to what a client wrote.

A value is its bytes: a number keeps its digits, a text its escapes. Clients also write what is not JSON: half of a
surrogate pair where a script cut a text, NaN from Python. One such event must not cost the others of its batch, so a
body that msgspec refuses is split by the scanner of the standard library, which takes both. That event is then invalid
by itself, and goes to quarantine alone.
"""

import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence

import msgspec
from msgspec import Raw

from pipelines.apps.collector.dialect import Event, NotThisForm

Members = dict[str, bytes]  # of an object: the JSON of each value

MOST_EVENTS = 10_000  # of a request; no client sends a tenth of that, and each costs time and memory before it is kept
TOO_MANY = f"got more than {MOST_EVENTS:,} events in a request, allowed {MOST_EVENTS:,}: send several requests"
_MANY = 50 * MOST_EVENTS  # commas, above which the elements of a list are counted before they are all made

# Bytes of what a batch says of all its events, times the events: 200 kB could become a gigabyte.
MOST_MERGED = 64 << 20
TOO_LARGE = "got a batch that says too much of all its events, allowed 64 MiB in all of them: send smaller batches"

_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"
_KINDS = {b"{": "an object", b"[": "a list", b'"': "a text", b"t": "a boolean", b"f": "a boolean", b"n": "null"}
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_value = msgspec.json.Decoder(Raw).decode
_decode_text = msgspec.json.Decoder(str).decode
_NUMERIC = (b"-", b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9")
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?")
# Numbers stay texts: the digits of a large one would take quadratic time.
_scan = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, strict=False).raw_decode


def value_of(body: bytes) -> bytes:
    """A body without a byte order mark and blanks around it. Errors: NotThisForm if nothing is left."""
    value = body.removeprefix(_BOM).strip(_BLANKS)
    if not value:
        raise NotThisForm("got an empty body, allowed JSON")
    return value


def kind_of(value: bytes) -> str:
    """What a JSON value is by its first sign, in words."""
    return _KINDS.get(value[:1], "a number" if value[:1] in _NUMERIC else "what is not JSON")


def is_json(body: bytes) -> bool:
    """Whether a body is one JSON value, and nothing that only some clients take for one."""
    try:
        _decode_value(body.removeprefix(_BOM).strip(_BLANKS))
    except (ValueError, RecursionError):
        return False
    return True


def elements_of(value: bytes) -> list[bytes]:
    """The elements of a list. Errors: NotThisForm if it is no JSON, no list, or one of more than MOST_EVENTS."""
    _expect(value, b"[")
    if value.count(b",") > _MANY:
        return [element for _, element in _split(value, MOST_EVENTS)]
    try:
        elements = _decode_list(value)
    except RecursionError:
        raise NotThisForm("got JSON that is nested too deeply") from None
    except ValueError:
        return [element for _, element in _split(value, MOST_EVENTS)]
    if len(elements) > MOST_EVENTS:
        raise NotThisForm(TOO_MANY)
    return list(map(bytes, elements))


def lines_of(value: bytes) -> list[bytes]:
    """The lines that are not blank. Errors: NotThisForm if there are more than MOST_EVENTS."""
    if value.count(b"\n") >= MOST_EVENTS:
        raise NotThisForm(TOO_MANY)
    return [line for line in map(bytes.strip, value.split(b"\n")) if line]


def members_of(value: bytes) -> Members:
    """The members of an object; of a key that occurs again, the last. Errors: NotThisForm if it is no JSON or no
    object."""
    _expect(value, b"{")
    try:
        return {key: bytes(member) for key, member in _decode_object(value).items()}
    except RecursionError:
        raise NotThisForm("got JSON that is nested too deeply") from None
    except ValueError:
        return dict(_split(value))


def text_in(members: Mapping[str, bytes], *names: str) -> str | None:
    """The first of these members that is a number or a text with something in it; None without one."""
    for name in names:
        value = members.get(name, b"")
        if value[:1] == b'"':
            try:
                text = _decode_text(value)
            except ValueError:
                continue
            if text.strip():
                return text
        elif _NUMBER.fullmatch(value):
            return value.decode()
    return None


def object_of(members: Mapping[str, bytes]) -> bytes:
    """The JSON of an object."""
    try:
        return msgspec.json.encode({key: Raw(value) for key, value in members.items()})
    except UnicodeEncodeError:  # half of a surrogate pair in a key
        return b"{" + b",".join(json.dumps(key).encode() + b":" + value for key, value in members.items()) + b"}"


def text_json(text: str) -> bytes:
    """The JSON of a text; whatever is no Unicode in it becomes U+FFFD."""
    return msgspec.json.encode(text.encode("utf-8", "replace").decode())


def check_merged(batch: Mapping[str, bytes], events: int) -> None:
    """Errors: NotThisForm if so many events with these members would have more than MOST_MERGED bytes of them."""
    if events * sum(len(key) + len(member) for key, member in batch.items()) > MOST_MERGED:
        raise NotThisForm(TOO_LARGE)


def events_of(
    elements: Sequence[bytes], ids: Collection[str], batch: Mapping[str, bytes], without: Collection[str] = ()
) -> list[Event]:
    """The elements of a batch, each as `event_of` makes it. Errors: NotThisForm, as of `check_merged`."""
    check_merged(batch, len(elements))
    return [event_of(element, ids, batch, without) for element in elements]


def event_of(
    value: bytes, ids: Collection[str], batch: Mapping[str, bytes] | None = None, without: Collection[str] = ()
) -> Event:
    """An element of a batch as an event.

    ids      the members that may hold the client's own id
    batch    members for events that lack them
    without  members to leave out, such as write keys
    """
    if value[:1] != b"{":
        return Event(value, error=f"got {kind_of(value)}, allowed an object")
    try:
        own = members_of(value)
    except NotThisForm as problem:
        return Event(value, error=str(problem))
    id = text_in(own, *ids)
    added = {key: member for key, member in (batch or {}).items() if key not in own}
    if any(key in own for key in without):
        kept = {key: member for key, member in own.items() if key not in without}
        return Event(object_of(added | kept), id)
    if not added:
        return Event(value, id)
    return Event((object_of(added)[:-1] + b"," + value[1:]) if own else object_of(added), id)


def _expect(value: bytes, opening: bytes) -> None:
    if value[:1] != opening:
        raise NotThisForm(f"got {kind_of(value)}, allowed {_KINDS[opening]}")


def _split(value: bytes, most: int = sys.maxsize) -> list[tuple[str, bytes]]:
    """(key, value) of each member of an object, or ("", element) of a list, as the standard library scans them.

    Errors: NotThisForm if that takes it for no JSON either, and if there are more than `most`.
    """
    text = value.decode("utf-8", "surrogateescape")
    named, closing = text[0] == "{", "}" if text[0] == "{" else "]"
    found: list[tuple[str, bytes]] = []
    try:
        at = _after(text, 1)
        while text[at] != closing or found:
            key = ""
            if named:
                key, at = _scan(text, _expected(text, at, '"') - 1)
                at = _after(text, _expected(text, _after(text, at), ":"))
            _, end = _scan(text, at)
            if len(found) == most:
                raise NotThisForm(TOO_MANY)
            found.append((key, text[at:end].encode("utf-8", "surrogateescape")))
            at = _after(text, end)
            if text[at] == closing:
                break
            at = _after(text, _expected(text, at, ","))
        if at + 1 != len(text):
            raise ValueError("more than one value")
    except (ValueError, IndexError):
        raise NotThisForm("got what is not JSON") from None
    except RecursionError:
        raise NotThisForm("got JSON that is nested too deeply") from None
    return found


def _after(text: str, at: int) -> int:
    """The place behind blanks."""
    while text[at] in " \t\r\n":
        at += 1
    return at


def _expected(text: str, at: int, sign: str) -> int:
    """The place behind this sign. Errors: ValueError if another stands there."""
    if text[at] != sign:
        raise ValueError(f"no {sign}")
    return at + 1
