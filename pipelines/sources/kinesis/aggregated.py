"""Aggregated records: those that the Kinesis Producer Library (KPL) packs into one record of a stream.

Format   four bytes F3 89 9A C2, a protobuf message, and its MD5 (16 bytes); documented by its makers:
         https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md
Others   a record that begins so but has another MD5, no such message, or no record in it, is a record like any other
Kept     every record in it. The consumer library of AWS drops those whose key belongs to another shard, as their
         producer sends them again; here they are kept, and the second is a duplicate by its id
"""

import hashlib
from functools import cache
from typing import Any, NamedTuple

MAGIC, _DIGEST = b"\xf3\x89\x9a\xc2", 16
_FIELD = {"bytes": 12, "string": 9, "uint64": 4, "message": 11}  # types of a protobuf field
_ONE, _MANY = 1, 3


class Inner(NamedTuple):
    """A record in an aggregated one: its partition key, None where its index is wrong, and its data."""

    key: str | None
    data: bytes


def unpack(data: bytes) -> list[Inner] | None:
    """The records in an aggregated record, in their order; None for a record that is not aggregated."""
    if not data.startswith(MAGIC) or len(data) < len(MAGIC) + _DIGEST:
        return None
    body, digest = data[len(MAGIC) : -_DIGEST], data[-_DIGEST:]
    if hashlib.md5(body, usedforsecurity=False).digest() != digest:
        return None
    message = _message_type()()
    try:
        message.ParseFromString(body)
        keys = list(message.keys)
    except Exception:  # DecodeError, of whichever implementation protobuf runs on, or a key that is no text
        return None
    if body and not message.records:
        return None
    return [Inner(keys[one.key] if one.key < len(keys) else None, one.data) for one in message.records]


@cache
def _message_type() -> Any:
    """The class of the message, of which only what is read here is declared."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="audience/kinesis_aggregated.proto", package="audience.kinesis")
    outer, inner = file.message_type.add(name="Aggregated"), file.message_type.add(name="Inner")
    for message, name, number, kind, label in (
        (outer, "keys", 1, "string", _MANY),
        (outer, "records", 3, "message", _MANY),
        (inner, "key", 1, "uint64", _ONE),
        (inner, "data", 3, "bytes", _ONE),
    ):
        field = message.field.add(name=name, number=number, type=_FIELD[kind], label=label)
        if kind == "message":
            field.type_name = ".audience.kinesis.Inner"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("audience.kinesis.Aggregated"))
