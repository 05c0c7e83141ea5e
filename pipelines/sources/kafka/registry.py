"""Values of a Schema Registry as records: JSON, Avro and Protobuf with the id of their schema become JSON.

A value is a zero byte, the id (4 bytes, big endian), for Protobuf the path of the message in its file, and the data.
One that has another form, an unknown id, or data that its schema does not read stays as it is, and goes to quarantine
with its bytes. A registry that does not answer is asked for PATIENCE_SECONDS; then the run ends, and resumes when it is
restarted.
"""

import json
import re
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from io import BytesIO
from typing import Any

import msgspec
import requests

from pipelines.sources.kafka.client import Connection, registry_login
from transforms.errors import SourceError, first_line

Decode = Callable[[bytes], bytes]
PATIENCE_SECONDS, PAUSE_SECONDS, ANSWER_SECONDS = 30.0, 1.0, 10.0
FORGET_SECONDS = 60.0  # so long an id is unknown; then it is looked for again
_HEAD = 5  # bytes
_SHIPPED = re.compile(r"google/protobuf/[a-z_]+\.proto")


class Undecodable(Exception):
    """A value that its schema does not read."""


class Registry:
    """The schemas of a registry, each asked for once. For one process; any thread."""

    def __init__(self, connection: Connection):
        self.url, self._login = str(connection.registry).rstrip("/"), registry_login(connection)
        self._known: dict[int, Decode] = {}
        self._unknown: dict[int, float] = {}
        self._lock = threading.Lock()

    def decode(self, value: bytes) -> bytes:
        """The record in a value, as JSON; the value itself if there is none. Errors: SourceError without a registry."""
        if len(value) < _HEAD or value[0] != 0:
            return value
        decode = self._decoder(int.from_bytes(value[1:_HEAD], "big"))
        if decode is None:
            return value
        try:
            return decode(value[_HEAD:])
        except Exception:  # whatever a decoder says of hostile bytes: they are kept as they are
            return value

    def _decoder(self, id: int) -> Decode | None:
        with self._lock:
            if id in self._known:
                return self._known[id]
            if time.monotonic() < self._unknown.get(id, 0.0):
                return None
            found = self._ask(f"schemas/ids/{id}")
            try:
                decode = None if found is None else self._make(id, found)
            except Exception:  # a schema that no decoder reads
                decode = None
            if decode is None:
                self._unknown[id] = time.monotonic() + FORGET_SECONDS
            else:
                self._known[id] = decode
            return decode

    def _make(self, id: int, found: dict[str, Any]) -> Decode | None:
        kind = found.get("schemaType", "AVRO")
        if kind == "JSON":
            return bytes
        if kind == "AVRO":
            return self._avro(found)
        if kind == "PROTOBUF":
            serialized = self._ask(f"schemas/ids/{id}?format=serialized")
            return None if serialized is None else self._protobuf(serialized)
        return None

    def _avro(self, found: dict[str, Any]) -> Decode:
        from fastavro import parse_schema, schemaless_reader

        named: dict[str, Any] = {}
        for each in self._references(found, ""):
            parse_schema(json.loads(each["schema"]), named)
        schema = parse_schema(json.loads(found["schema"]), named)

        def decode(data: bytes) -> bytes:
            held = BytesIO(data)
            record = schemaless_reader(held, schema, None)
            if held.tell() != len(data):
                raise Undecodable
            return msgspec.json.encode(record)

        return decode

    def _protobuf(self, found: dict[str, Any]) -> Decode:
        from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

        pool = descriptor_pool.DescriptorPool()
        added: set[str] = set()

        def add(text: str, name: str | None = None) -> str:
            file = descriptor_pb2.FileDescriptorProto.FromString(b64decode(text))
            file.name = name or file.name or "main.proto"
            for used in file.dependency:
                if _SHIPPED.fullmatch(used) and used not in added:
                    added.add(used)
                    shipped = descriptor_pb2.FileDescriptorProto()
                    _shipped(used).CopyToProto(shipped)
                    pool.Add(shipped)
            if file.name not in added:
                added.add(file.name)
                pool.Add(file)
            return file.name

        for each in self._references(found, "?format=serialized"):
            add(each["schema"], each["name"])
        file = pool.FindFileByName(add(found["schema"]))

        @lru_cache
        def message_at(path: tuple[int, ...]) -> Any:
            described: Any = list(file.message_types_by_name.values())[path[0]]
            for number in path[1:]:
                described = described.nested_types[number]
            return message_factory.GetMessageClass(described)

        def decode(data: bytes) -> bytes:
            path, at = read_path(data)
            message = message_at(path).FromString(data[at:])
            return json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None).encode()

        return decode

    def _references(self, found: dict[str, Any], form: str) -> list[dict[str, Any]]:
        """The schemas that one refers to, each before those that refer to it; `name` is what it is called there."""
        schemas: list[dict[str, Any]] = []
        for each in found.get("references") or ():
            subject = requests.utils.quote(each["subject"], safe="")
            other = self._ask(f"subjects/{subject}/versions/{each['version']}{form}")
            if other is None:
                raise Undecodable
            schemas += [*self._references(other, form), {**other, "name": each["name"]}]
        return schemas

    def _ask(self, path: str) -> dict[str, Any] | None:
        """What the registry answers; None if it knows no such thing. Errors: SourceError if it does not answer."""
        end, why = time.monotonic() + PATIENCE_SECONDS, ""
        while True:
            try:
                answer = requests.get(f"{self.url}/{path}", auth=self._login, timeout=ANSWER_SECONDS)
                if answer.status_code == 404:
                    return None
                if answer.ok:
                    return msgspec.json.decode(answer.content, type=dict[str, Any])
                why = f"status {answer.status_code}"
            except (requests.RequestException, msgspec.DecodeError) as error:
                why = first_line(error)
            if time.monotonic() >= end or why in ("status 401", "status 403"):
                raise SourceError(f"--kafka_registry: {self.url} answers {why}; check its URL and login, then restart")
            time.sleep(PAUSE_SECONDS)


def read_path(data: bytes) -> tuple[tuple[int, ...], int]:
    """The path of a message in its file, and where the message begins: zigzag varints, how many and then each; a zero
    byte alone is the first message."""
    count, at = _varint(data, 0)
    if count == 0:
        return (0,), at
    path = []
    for _ in range(count):
        number, at = _varint(data, at)
        path.append(number)
    return tuple(path), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 35:
        byte = data[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return value >> 1, at  # of numbers from 0
    raise Undecodable


def _shipped(name: str) -> Any:
    """A file of Protobuf's own types."""
    return import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2").DESCRIPTOR


@lru_cache
def registry_of(connection: Connection) -> Registry | None:
    """The registry of a connection in this process; None if it names none."""
    return Registry(connection) if connection.registry is not None else None
