"""The event contract for one native record: its fields with their types, and the rules that an event keeps.

    broken_rule(payload, source) -> Broken | None     as parse.py and validate.py judge it, for whoever has no block

validate.py checks the same rules for blocks. Imports no Beam: `audience collect` answers by it.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from transforms.json_objects import UNREADABLE, Broken, broken_by, check_depth, decode_object, encode_json
from transforms.numbers import VALUE_DIGITS, to_nine_places

CHANNELS = ("web", "mobile", "social", "iot", "email", "pos", "server", "other")
ID_CHARACTERS = 128
ID_ALLOWED = f"1 to {ID_CHARACTERS} printable characters"
UNPRINTABLE = r"\p{C}"
TEXT_BYTES = 8192
TEXT_ALLOWED = f"at most {TEXT_BYTES} bytes of UTF-8"
LONGEST = {
    **dict.fromkeys(("user_id", "anonymous_id", "session_id", "content_id", "content_type", "category"), 256),
    **dict.fromkeys(("campaign", "country", "device"), 256),
    "referrer": 2048,
}
PATTERNS = {
    "event_type": (r"^[a-z][a-z0-9_]{0,63}$", "like page_view: ^[a-z][a-z0-9_]{0,63}$"),
    "source": (r"^[a-z0-9][a-z0-9_.-]{0,63}$", "like web-shop: ^[a-z0-9][a-z0-9_.-]{0,63}$"),
    "currency": ("^[A-Z]{3}$", "three capital letters, ISO 4217"),
}
VALUE_ALLOWED = f"at most {VALUE_DIGITS} digits before the point"
TRANSPORT = ("received_time", "sent_time")  # about how a record travelled: not part of a derived id
INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class NativeEvent(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The native format: one JSON object. Times may have any type here: an unreadable time is not an error."""

    event_id: str | None = None
    event_type: str | None = None
    event_time: Any = None
    sent_time: Any = None
    received_time: Any = None
    source: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    session_id: str | None = None
    sequence: INT64 | None = None
    content_id: str | None = None
    content_type: str | None = None
    category: str | None = None
    channel: str | None = None
    campaign: str | None = None
    referrer: str | None = None
    country: str | None = None
    device: str | None = None
    value: Any = None  # as Decimal it could also be a text, even "NaN"
    currency: str | None = None
    quantity: INT64 | None = None
    is_bot: bool | None = None
    text: str | None = None
    rating: float | None = None
    properties: msgspec.Raw = msgspec.Raw(b"")


class OpenEvent(NativeEvent, gc=False, forbid_unknown_fields=False):
    """The same with custom fields: slower, since the record is decoded twice."""


KNOWN = frozenset(NativeEvent.__struct_fields__)
_decode = msgspec.json.Decoder(NativeEvent, float_hook=Decimal).decode
_decode_open = msgspec.json.Decoder(OpenEvent, float_hook=Decimal).decode
NUMBERS = {type(None), int, Decimal}
NO_NUMBER = "Expected `number | null` - at `$.value`"
_COMPILED = {name: re.compile(pattern).fullmatch for name, (pattern, _) in PATTERNS.items()}
_ABOVE_ASCII = re.compile(r"[^ -~]").search


def decode_native(payload: bytes) -> tuple[NativeEvent, str | None]:
    """(event, its unknown fields as JSON). Errors: UNREADABLE."""
    extra = None
    check_depth(payload)
    try:
        event = _decode(payload)
    except UNREADABLE:
        event, extra = _decode_with_extra(payload)
    if type(event.value) not in NUMBERS:
        raise msgspec.ValidationError(NO_NUMBER)
    if not payload.isascii():
        payload.decode()  # msgspec does not look into what stays raw
    return event, extra


def _decode_with_extra(payload: bytes) -> tuple[OpenEvent, str | None]:
    event = _decode_open(payload)
    record = decode_object(payload)
    unknown = {name: value for name, value in record.items() if name not in KNOWN}
    return event, encode_json(unknown).decode() if unknown else None


def longest_allowed(name: str) -> str:
    """What is allowed of a text field."""
    return f"at most {LONGEST[name]} characters"


def allowed_channels() -> str:
    """What is allowed as a channel."""
    return f"one of {', '.join(CHANNELS)}"


def broken_rule(payload: bytes, source: str) -> Broken | None:
    """The first rule that a native record breaks, in the order in which blocks are checked; None for an event.

    source  of a record that states none
    """
    try:
        event, _ = decode_native(payload)
        if event.event_id is None:
            encode_json({name: value for name, value in decode_object(payload).items() if name not in TRANSPORT})
    except UNREADABLE as problem:
        return broken_by(problem)
    return next(_broken(event, source), None)


def _broken(event: NativeEvent, source: str) -> Iterator[Broken]:
    if event.value is not None and to_nine_places(event.value) is None:
        yield Broken("$.value", "invalid_value", VALUE_ALLOWED)
    if event.event_id is not None and not _is_id(event.event_id):
        yield Broken("$.event_id", "invalid_event_id", ID_ALLOWED)
    if event.event_type is None:
        yield Broken("$.event_type", "missing_event_type", "required")
    else:
        yield from _pattern("event_type", event.event_type)
    yield from _pattern("source", source if event.source is None else event.source)
    for name, most in LONGEST.items():
        if len(getattr(event, name) or "") > most:
            yield Broken(f"$.{name}", "too_long", longest_allowed(name))
    if event.channel is not None and event.channel not in CHANNELS:
        yield Broken("$.channel", "invalid_channel", allowed_channels())
    if event.currency is not None:
        yield from _pattern("currency", event.currency)
    if event.text is not None and len(event.text) > TEXT_BYTES // 4 and len(event.text.encode()) > TEXT_BYTES:
        yield Broken("$.text", "too_long", TEXT_ALLOWED)


def _pattern(name: str, value: str) -> Iterator[Broken]:
    if not _COMPILED[name](value):
        yield Broken(f"$.{name}", f"invalid_{name}", PATTERNS[name][1])


def _is_id(text: str) -> bool:
    if not 0 < len(text) <= ID_CHARACTERS:
        return False
    if not _ABOVE_ASCII(text):
        return True
    import polars as pl  # Python's own Unicode is of another year than that of blocks

    return not pl.select(pl.lit(text).str.contains(UNPRINTABLE)).item()
