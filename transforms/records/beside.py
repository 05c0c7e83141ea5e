"""Beside: what a message says beside its payload, read as if the record itself had it.

    $attributes     the message's attributes (Pub/Sub) or headers (Kafka), each a text
    $ordering_key   its ordering key (Pub/Sub)
    $key            its key (Kafka)
    $topic          the topic that it is from (Kafka)
    $partition      the number of its partition (Kafka)
    $timestamp      its timestamp, in milliseconds since 1970 (Kafka)

A mapping that reads one of these keys gets it in each record of a queue: before a payload is decoded, the keys are
written into it, so what reads a record knows nothing of messages. The message always wins over a key of that name in
the payload, which anybody may have written. Records of a file have such a key only if they state it themselves.
"""

import re
from collections.abc import Collection

import msgspec
import polars as pl

ATTRIBUTES, ORDERING_KEY = "$attributes", "$ordering_key"
# key -> its name in the attributes of a record
_NAMES = {
    ATTRIBUTES: "message",
    ORDERING_KEY: "ordering_key",
    "$key": "key",
    "$topic": "topic",
    "$partition": "partition",
    "$timestamp": "timestamp",
}
ROOTS = frozenset(_NAMES)
# Attributes that clients and the service itself add on the way: no part of a derived id, since a message that is
# published or forwarded again has others.
CARRIED = tuple(
    (ATTRIBUTES, name)
    for name in (
        "traceparent",
        "tracestate",
        "baggage",
        "googclient_traceparent",
        "googclient_tracestate",
        "googclient_schemaname",
        "googclient_schemarevisionid",
        "googclient_schemaencoding",
        "CloudPubSubDeadLetterSourceDeliveryCount",
        "CloudPubSubDeadLetterSourceDeliveryErrorMessage",
        "CloudPubSubDeadLetterSourceSubscription",
        "CloudPubSubDeadLetterSourceSubscriptionProject",
        "CloudPubSubDeadLetterSourceTopicPublishTime",
    )
)
# A key of ours in the payload, also one whose `$` or letters are escaped, as no encoder does.
_STATED = re.compile(rb'"\$(?:attributes|ordering_key|key|topic|partition|timestamp)"|\\u00(?:24|[5-7][0-9a-fA-F])')
_NONE, _BLANKS = b"null", b" \t\r\n"  # what JSON takes for blanks


class _Message(msgspec.Struct):
    """The attributes of a record as a reader of a queue writes them; a record of a file has no received time there."""

    received_time: str | None = None
    ordering_key: msgspec.Raw = msgspec.Raw(b"")
    message: msgspec.Raw = msgspec.Raw(b"")
    key: msgspec.Raw = msgspec.Raw(b"")
    topic: msgspec.Raw = msgspec.Raw(b"")
    partition: msgspec.Raw = msgspec.Raw(b"")
    timestamp: msgspec.Raw = msgspec.Raw(b"")
    tombstone: bool = False  # a message that deletes a key, and has no payload (Kafka)


_decode = msgspec.json.Decoder(_Message).decode


def with_message(raw: pl.DataFrame, roots: Collection[str]) -> pl.DataFrame:
    """Return a RECORD_SCHEMA block whose payloads have the keys `roots` of their messages, as the last of all.

    A payload that is no object stays as it is, but for an empty one, which becomes an object of these keys alone.
    """
    payloads, told = raw["payload"].to_list(), raw["attributes"].to_list()
    made = [
        payload if text is None else _with_keys(payload or b"", text, roots)
        for payload, text in zip(payloads, told, strict=True)
    ]
    return raw.with_columns(payload=pl.Series(made, dtype=pl.Binary))


def _with_keys(payload: bytes, told: str, roots: Collection[str]) -> bytes:
    message = _decode(told)
    if message.received_time is None or message.tombstone:
        return payload
    stated = _STATED.search(payload) is not None
    values = ((root, getattr(message, name)) for root, name in _NAMES.items())
    keys = [
        b'"%s":%s' % (name.encode(), bytes(value) or _NONE)
        for name, value in values
        if name in roots and (bytes(value) or stated)
    ]
    text = payload.strip(_BLANKS)
    if not keys or (text and not (text.startswith(b"{") and text.endswith(b"}"))):
        return payload
    # As the last keys they win, and no payload that is invalid becomes valid: a text that is open here would end in
    # front of a `$`, and the brackets balance only if they did before.
    within = text[1:-1]
    comma = b"," if within.strip(_BLANKS) else b""
    return b"{" + within + comma + b",".join(keys) + b"}"
