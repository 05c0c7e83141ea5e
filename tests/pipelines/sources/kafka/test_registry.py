"""Values of a Schema Registry, against a server of this test that answers as the REST API of one does."""

import json
import threading
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.kafka import registry as registries
from pipelines.sources.kafka.client import Connection
from pipelines.sources.kafka.queue import KafkaQueue
from pipelines.sources.kafka.registry import Registry
from pipelines.sources.kafka.source import KafkaSource
from tests.pipelines.sources.queue_contract import ByHand, Clock
from transforms.block import tag_input
from transforms.errors import SourceError
from transforms.parse import parse

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PERSON = {"type": "record", "name": "shop.Person", "fields": [{"name": "user_id", "type": "string"}]}
EVENT = {
    "type": "record",
    "name": "shop.Event",
    "fields": [
        {"name": "event_type", "type": {"type": "enum", "name": "kind", "symbols": ["click", "view"]}},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "who", "type": ["null", "shop.Person"]},
        {"name": "raw", "type": "bytes"},
    ],
}


@dataclass
class Server:
    """`schemas` by path, as the JSON that is answered; `status` is that of each answer while it is given."""

    url: str = ""
    schemas: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)
    status: int | None = None

    @property
    def registry(self) -> Registry:
        return Registry(Connection("localhost:1", None, self.url))


@pytest.fixture
def server():
    held = Server()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            held.asked.append(self.path)
            held.logins.append(self.headers.get("Authorization"))
            found = held.schemas.get(self.path)
            body = json.dumps(found if found is not None else {"error_code": 40403}).encode()
            self.send_response(held.status or (200 if found is not None else 404))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    held.url = f"http://127.0.0.1:{http.server_port}"
    yield held
    http.shutdown()
    thread.join()
    http.server_close()


def head(id: int) -> bytes:
    return b"\0" + id.to_bytes(4, "big")


def avro(record: dict[str, Any]) -> bytes:
    named: dict[str, Any] = {}
    parse_schema(PERSON, named)
    held = BytesIO()
    schemaless_writer(held, parse_schema(EVENT, named), record)
    return held.getvalue()


RECORD = {"event_type": "click", "event_time": NOON, "who": {"user_id": "ann"}, "raw": b"\xff\0"}


@pytest.fixture
def with_avro(server):
    reference = {"name": "shop.Person", "subject": "shop/person", "version": 3}
    server.schemas["/schemas/ids/7"] = {"schema": json.dumps(EVENT), "references": [reference]}
    server.schemas["/subjects/shop%2Fperson/versions/3"] = {"schema": json.dumps(PERSON)}
    return server


def test_avro_with_a_reference_becomes_json_and_a_schema_is_asked_for_once(with_avro):
    registry = with_avro.registry
    for _ in range(3):
        decoded = json.loads(registry.decode(head(7) + avro(RECORD)))
    assert decoded == {
        "event_type": "click",
        "event_time": "2026-03-01T12:00:00Z",
        "who": {"user_id": "ann"},
        "raw": "/wA=",
    }
    assert len(with_avro.asked) == 2


def test_json_is_what_follows_the_id(server):
    server.schemas["/schemas/ids/1"] = {"schema": "{}", "schemaType": "JSON"}
    assert server.registry.decode(head(1) + b'{"a":1}') == b'{"a":1}'


def protobuf_files() -> tuple[descriptor_pb2.FileDescriptorProto, descriptor_pb2.FileDescriptorProto]:
    person = descriptor_pb2.FileDescriptorProto(name="person.proto", package="shop", syntax="proto3")
    person.message_type.add(name="Person").field.add(name="user_id", number=1, type=9, label=1)
    event = descriptor_pb2.FileDescriptorProto(name="event.proto", package="shop", syntax="proto3")
    event.dependency.extend(["person.proto", "google/protobuf/timestamp.proto", "google/protobuf/struct.proto"])
    event.message_type.add(name="Other")
    outer = event.message_type.add(name="Outer")
    inner = outer.nested_type.add(name="Event")
    inner.field.add(name="event_type", number=1, type=9, label=1)
    inner.field.add(name="event_time", number=2, type=11, label=1, type_name=".google.protobuf.Timestamp")
    inner.field.add(name="who", number=3, type=11, label=1, type_name=".shop.Person")
    inner.field.add(name="more", number=4, type=11, label=1, type_name=".google.protobuf.Struct")
    return person, event


def test_protobuf_by_the_path_of_its_message_with_references_and_types_that_protobuf_ships(server):
    person, event = protobuf_files()
    pool = descriptor_pool.DescriptorPool()
    for shipped in (timestamp_pb2, struct_pb2):
        pool.AddSerializedFile(shipped.DESCRIPTOR.serialized_pb)
    for file in (person, event):
        pool.Add(file)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Outer.Event"))()
    message.event_type, message.who.user_id = "click", "ann"
    message.event_time.FromDatetime(NOON)
    message.more["page"] = "home"
    references = [{"name": "person.proto", "subject": "person", "version": 1}]
    about = {"schemaType": "PROTOBUF", "references": references}
    server.schemas["/schemas/ids/9"] = {"schema": "syntax ...", **about}
    serialized = b64encode(event.SerializeToString()).decode()
    server.schemas["/schemas/ids/9?format=serialized"] = {"schema": serialized, **about}
    server.schemas["/subjects/person/versions/1?format=serialized"] = {
        "schema": b64encode(person.SerializeToString()).decode()
    }
    path = bytes([4, 2, 0])  # two numbers, 1 and 0, in zigzag
    assert json.loads(server.registry.decode(head(9) + path + message.SerializeToString())) == {
        "event_type": "click",
        "event_time": "2026-03-01T12:00:00Z",
        "who": {"user_id": "ann"},
        "more": {"page": "home"},
    }


@pytest.mark.parametrize(
    "value",
    [b"", b"{}", b"\0", head(7)[:4], head(8) + b"x", head(7) + b"\xff" * 20, head(7) + avro(RECORD) + b"x"],
    ids=["empty", "plain", "short", "no id", "unknown", "wrong data", "too much"],
)
def test_a_value_that_no_schema_reads_stays_as_it_is(with_avro, value):
    assert with_avro.registry.decode(value) == value


@given(st.binary())
def test_no_bytes_after_an_id_end_the_reader(data):
    registry = Registry(Connection("localhost:1", None, "http://localhost:1"))
    named: dict[str, Any] = {}
    parse_schema(PERSON, named)
    registry._known[7] = registry._avro({"schema": json.dumps(PERSON)})
    person, _ = protobuf_files()
    registry._known[9] = registry._protobuf({"schema": b64encode(person.SerializeToString()).decode()})
    for id in (7, 9):
        decoded = registry.decode(head(id) + data)
        assert decoded == head(id) + data or isinstance(json.loads(decoded), dict)


def test_an_unknown_id_is_looked_for_again_after_a_while(server, monkeypatch):
    registry = server.registry
    for _ in range(3):
        assert registry.decode(head(1) + b"{}") == head(1) + b"{}"
    assert len(server.asked) == 1
    monkeypatch.setattr(registries, "FORGET_SECONDS", 0.0)
    registry._unknown.clear()
    assert registry.decode(head(1) + b"{}") == head(1) + b"{}"
    server.schemas["/schemas/ids/1"] = {"schema": "{}", "schemaType": "JSON"}
    assert registry.decode(head(1) + b"{}") == b"{}"


def test_a_registry_that_does_not_answer_ends_the_run_and_quarantines_nothing(server, monkeypatch):
    monkeypatch.setattr(registries, "PATIENCE_SECONDS", 0.0)
    server.status = 503
    with pytest.raises(
        SourceError, match=f"--kafka_registry: {server.url} answers status 503; check its URL and login"
    ):
        server.registry.decode(head(1) + b"{}")
    with pytest.raises(SourceError, match=r"--kafka_registry: http://127.0.0.1:1 answers .*; check"):
        Registry(Connection("localhost:1", None, "http://127.0.0.1:1")).decode(head(1) + b"{}")


def test_the_login_is_a_property_and_a_refusal_ends_the_run_at_once(server, monkeypatch):
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO", "ann:open:sesame")
    server.schemas["/schemas/ids/1"] = {"schema": "{}", "schemaType": "JSON"}
    assert server.registry.decode(head(1) + b"{}") == b"{}"
    assert server.logins == ["Basic " + b64encode(b"ann:open:sesame").decode()]
    server.status = 401
    with pytest.raises(SourceError, match="answers status 401") as caught:
        server.registry.decode(head(1) + b"{}")
    assert "sesame" not in str(caught.value)


def test_a_reader_decodes_values_and_what_no_schema_reads_is_quarantined_with_its_bytes(topic, with_avro, tmp_path):
    unknown = head(8) + b"?"
    topic.publish(head(7) + avro(RECORD), unknown, partition=0)
    clock = Clock(1_800_000_000.0)
    queue = KafkaQueue(topic.name, group=topic.group, registry=with_avro.url, readers=1, wall=clock, monotonic=clock)
    read = queue.read(source="shop", landing=None, again=(), drain_file=f"{tmp_path}/drain")
    block = ByHand(KafkaSource(read.reading), clock).read(2)
    queue.close()
    assert json.loads(block["payload"][0])["who"] == {"user_id": "ann"}
    assert block["payload"][1] == unknown
    _, rejected = parse(tag_input(block[1:], "kafka"), None, "shop")
    assert rejected["payload"].to_list() == [unknown]
