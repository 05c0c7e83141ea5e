"""Kafka messages as what ../messages.py makes blocks of.

payload        the value, by its schema as JSON where there is a registry; of a tombstone none, which no mapping reads
position       topic:partition:offset
received_time  the header `timestamp_attribute` where it is given and readable; otherwise the message's timestamp: by
               the topic's setting the time of the producer or that of the broker; the clock where a message has none
attributes     beside the received time: key, topic, partition, timestamp, and the headers as `message`. Of headers of
               one name the last counts; bytes that are not UTF-8 are written in base64
"""

from base64 import b64encode
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from pipelines.sources.messages import Poll
from pipelines.sources.pubsub.messages import Stamped, received_times

_encode = msgspec.json.Encoder().encode


def poll_of(
    messages: Sequence[Any],
    timestamp_attribute: str | None,
    now: float,
    decode: Callable[[bytes], bytes] | None = None,
) -> Poll:
    """Messages without an error as a Poll; `now` in seconds since 1970. `decode` makes records of values."""
    payloads, ids, times, attributes, stamps, size = [], [], [], [], [], 0
    clock = int(now * 1e6)
    for message in messages:
        value, topic, partition = message.value(), message.topic(), message.partition()
        key, pairs, time = message.key(), message.headers(), message.timestamp()[1]
        own = dict(_texts(pairs)) if pairs else {}
        text = f',"topic":"{topic}","partition":{partition}'
        if time > 0:
            text += f',"timestamp":{time}'
        if value is None:
            text += ',"tombstone":true'
        elif decode is not None:
            value = decode(value)
        elif value.startswith(BOM_UTF8):
            value = value.removeprefix(BOM_UTF8)
        if key is not None:
            text += f',"key":{_json(_text(key))}'
        if own:
            text += f',"message":{_json(own)}'
        payloads.append(value or b"")
        ids.append(f"{topic}:{partition}:{message.offset()}")
        times.append(time * 1_000 if time > 0 else clock)
        attributes.append(text)
        if timestamp_attribute is not None:
            stamps.append(own.get(timestamp_attribute))
        size += len(payloads[-1]) + len(text)
    stamped = Stamped(times) if timestamp_attribute is None else received_times(stamps, times)
    return Poll([], payloads, ids, stamped.times, attributes, size, stamped.unreadable)


def _texts(headers: Iterable[tuple[str, bytes | str | None]]) -> Iterable[tuple[str, str]]:
    return ((name, _text(value)) for name, value in headers if value is not None)


def _text(value: bytes | str) -> str:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return b64encode(value).decode()


def _json(value: Any) -> str:
    return _encode(value).decode()
