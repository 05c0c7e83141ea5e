"""Kafka through Beam's reader in Java, up to the jar, which CI cannot have.

The expansion service is Beam's own, in Python: it is asked by the same calls as that of the jar, and its stand-in for
the reader in Java hands on rows with the fields of Beam's, which tell what it was given. That of the jar was not run.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import NamedTuple

import apache_beam as beam
import grpc
import polars as pl
import pytest
from apache_beam.coders import RowCoder
from apache_beam.io.kafka import ReadFromKafka
from apache_beam.portability.api import beam_expansion_api_pb2_grpc, external_transforms_pb2
from apache_beam.runners.portability.expansion_service import ExpansionServiceServicer

from pipelines.cli import main
from pipelines.sources.kafka import beam_reader
from pipelines.sources.kafka.queue import KafkaQueue
from transforms.block import RAW_SCHEMA
from transforms.by_source import cut_by_source
from transforms.errors import OptionError, RunnerError

READ: list[pl.DataFrame] = []
GIVEN: list[dict] = []
AT = 1_800_000_000_000
SECRET = "open sesame"
BEAMS = {"topics": "events,orders", "servers": "kafka:9092", "group": "audience", "reader": "beam"}


class Header(NamedTuple):
    key: str
    value: bytes


class Record(NamedTuple):
    """The fields of a row of Beam's reader that are read."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestampTypeId: int
    key: bytes | None
    value: bytes | None
    headers: list[Header]


beam.coders.registry.register_coder(Record, RowCoder)
RECORDS = [
    Record(
        *("events", 1, 7, AT, 0, b"ann", b'\xef\xbb\xbf{"n": 1}'),
        [Header("received_time", b"2026-03-01T10:00:00Z"), Header("source", b"web")],
    ),
    Record("orders", 0, 3, AT + 5, 0, None, None, []),
]


@beam.PTransform.register_urn(ReadFromKafka.URN_WITH_METADATA, external_transforms_pb2.ExternalConfigurationPayload)
class StandIn(beam.PTransform):
    def expand(self, begin):
        return begin | beam.Create(RECORDS).with_output_types(Record)

    @staticmethod
    def from_runner_api_parameter(transform, payload, context):
        from apache_beam.typehints.schemas import named_tuple_from_schema

        kind = named_tuple_from_schema(payload.schema)
        GIVEN.append(RowCoder(payload.schema).decode(payload.payload)._asdict() if kind else {})
        return StandIn()


def keep(block: pl.DataFrame) -> None:
    READ.append(block)


@pytest.fixture(scope="module")
def service():
    """An expansion service on the loopback: its address."""
    server = grpc.server(ThreadPoolExecutor(2))
    beam_expansion_api_pb2_grpc.add_ExpansionServiceServicer_to_server(ExpansionServiceServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def test_the_reader_is_expanded_as_it_is_asked_for_and_its_rows_become_blocks(service):
    queue = KafkaQueue(**BEAMS, service=service, start_at=AT / 1_000, timestamp_attribute="received_time")
    READ.clear()
    with beam.Pipeline("FnApiRunner") as pipeline:
        blocks = pipeline | queue.read_by_runner(source="shop", on_dataflow=True)
        blocks | beam.Map(keep)
    (given,) = GIVEN
    assert given["consumer_config"] == {
        "bootstrap.servers": "kafka:9092",
        "group.id": "audience",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": "false",
        "isolation.level": "read_committed",
    }
    assert list(given["topics"]) == ["events", "orders"]
    assert (given["start_read_time"], given["commit_offset_in_finalize"]) == (AT, True)
    assert given["timestamp_policy"] == "CreateTime"
    block = pl.concat(READ).sort("position")
    assert block.schema == RAW_SCHEMA
    assert block["payload"].to_list() == [b'{"n": 1}', b""]
    assert block["position"].to_list() == ["events:1:7", "orders:0:3"]
    assert block["received_time"].dt.epoch("ms").to_list() == [1_772_359_200_000, AT + 5]
    told = [json.loads(text) for text in block["attributes"]]
    assert (told[0]["key"], told[0]["message"], told[1]["tombstone"]) == (
        "ann",
        {"received_time": "2026-03-01T10:00:00Z", "source": "web"},
        True,
    )
    assert [each.select("position", "source").row(0) for each in cut_by_source(block, "source")] == [
        ("events:1:7", "web"),
        ("orders:0:3", "shop"),
    ]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({}, "--kafka_expansion_service is missing: .*beam-sdks-java-io-expansion-service-.*; download it with `mvn"),
        ({"service": "/no/such.jar"}, "--kafka_expansion_service: got '/no/such.jar', which is no file; allowed: "),
        ({"topics": "^web"}, r"--input_kafka: got '\^web'; allowed with --kafka_reader beam: names of topics"),
        ({"registry": "http://a"}, "got the property schema.registry.url, which would be stored in the job"),
        ({"group": None}, "--kafka_group is missing"),
        ({"reader": "own"}, "no runner reads Kafka itself; allowed: .*, or on Dataflow with --kafka_reader beam"),
    ],
)
def test_what_is_missing_or_cannot_be_is_one_line(stated, said):
    with pytest.raises(OptionError, match=said) as caught:
        KafkaQueue(**BEAMS | stated).read_by_runner(source="shop", on_dataflow=True)
    assert "\n" not in str(caught.value)


def test_a_jar_without_java_is_one_line(tmp_path, monkeypatch):
    jar = tmp_path / beam_reader.JAR
    jar.touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OptionError, match="java, which runs the jar, is not on the PATH"):
        KafkaQueue(**BEAMS, service=str(jar)).read_by_runner(source="shop", on_dataflow=True)


def test_no_password_gets_into_a_job(monkeypatch):
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", SECRET)
    with pytest.raises(
        OptionError, match=r"got the property sasl\.password, which would be stored in the job"
    ) as caught:
        KafkaQueue(**BEAMS, service="127.0.0.1:1").read_by_runner(source="shop", on_dataflow=True)
    assert SECRET not in str(caught.value)


def test_a_service_that_knows_no_such_reader_is_one_line(service, monkeypatch):
    read = KafkaQueue(**BEAMS, service=service).read_by_runner(source="shop", on_dataflow=True)
    monkeypatch.setattr(read.read, "_urn", "beam:transform:none:v1")
    with pytest.raises(
        RunnerError, match=r"it does not make Beam's reader of Kafka: .*; check that it is that of Beam"
    ):
        beam.Pipeline("FnApiRunner") | read


KAFKA = ("run", "--input_kafka", "events", "--kafka_servers", "127.0.0.1:1", "--kafka_group", "g")


def test_on_this_machine_it_is_one_line(capsys, prism, tmp_path):
    here = ["--warehouse", str(tmp_path / "warehouse"), "--prism_location", prism]
    assert main([*KAFKA, *here, "--kafka_reader", "beam"]) == 2
    said = capsys.readouterr().err
    assert "error: --kafka_reader beam is only for --runner=DataflowRunner; leave it out" in said


def test_dataflow_reads_kafka_with_it_alone(capsys):
    google = ["--project", "my-project", "--region", "europe-west1", "--temp_location", "gs://bucket/temp"]
    words = [*KAFKA, "--runner=DataflowRunner", "--dataset", "my-project.audience", *google]
    assert main(words) == 2
    assert "--input_kafka is only for a stream on this machine" in capsys.readouterr().err
    assert main([*words, "--kafka_reader", "beam"]) == 2
    assert "Kafka at 127.0.0.1:1: " in capsys.readouterr().err  # asked from here, before a job is made


def test_a_message_of_beams_is_asked_as_one_of_the_client():
    row = SimpleNamespace(headers=None, timestampTypeId=1, timestamp=5)
    assert (beam_reader._Message(row).headers(), beam_reader._Message(row).timestamp()) == (None, (1, 5))
