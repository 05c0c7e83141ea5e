"""Kafka's reader while brokers are killed: a cluster of two that replicate, and a broker that is alone."""

import logging
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.runners.choose import free_port
from pipelines.sources.kafka import group, topics
from pipelines.sources.kafka.check import check
from pipelines.sources.kafka.client import Connection
from pipelines.sources.kafka.reader import close_readers, readers_of
from pipelines.sources.kafka.reading import Reading
from pipelines.sources.kafka.source import KafkaSource
from tests.pipelines.sources.queue_contract import ByHand, Clock, numbered
from tests.servers.kafka import Cluster, Topic, require_kafka, single_node
from tests.servers.needed import LIMIT, wait_until
from transforms.errors import SourceError

QUESTIONS = 6  # that fail by their time-out: a minute with ASK_SECONDS as it stands


@pytest.fixture
def clock():
    return Clock(1_800_000_000.0)


@pytest.fixture
def read(tmp_path, clock):
    """Makes readers of a topic by hand; they are closed at the end."""
    names = []

    def make(topic: Topic, **more) -> ByHand:
        connection = Connection(topic.cluster.servers)
        drain = str(tmp_path / "drain")
        reading = Reading(connection, topic.name, topic.group, drain, wall=clock, monotonic=clock)
        names.append(f"kafka:{topic.name}")
        return ByHand(KafkaSource(replace(reading, **more)), clock)

    yield make
    for name in names:
        close_readers(name)


def test_the_coordinator_of_the_group_is_killed_and_nothing_is_lost_or_double(kafka_cluster, read):
    topic = Topic(kafka_cluster, partitions=4)
    hand = read(topic)
    topic.publish(*numbered(400))
    hand.read(400)
    hand.finalize()
    wait_until(lambda: topic.committed() == [100] * 4)
    killed = next(node for node in kafka_cluster.brokers if node.number == topic.coordinator())
    topic.publish(*numbered(200, start=400))
    hand.read(500)
    killed.kill()
    topic.publish(*numbered(400, start=600))
    hand.read(1_000)
    hand.finalize()
    assert sorted(payload for block in hand.blocks for payload in block["payload"]) == numbered(1_000)
    wait_until(lambda: topic.committed() == [250] * 4, 60, "the offsets are committed to the other broker")
    killed.start()
    kafka_cluster.wait(2)


class Guarded:
    """A broker with a second listener, of TLS and a login: `address`; who has no rights there has none."""

    def __init__(self, folder: Path):
        require_kafka()
        node, port = single_node(folder / "node"), free_port()
        self.folder, self.cluster, self.address = folder, Cluster([node]), f"127.0.0.1:{port}"
        self.certificate = make_certificate(folder)
        plain, control = f"PLAINTEXT://{node.host}", f"CONTROLLER://127.0.0.1:{node.controller_port}"
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        node.more = {
            "listeners": f"{plain},{control},SASL://{self.address}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl.plain.sasl.jaas.config": f'{module} required user_ann="open sesame";',
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": folder / "both.pem",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",  # of the plain listener
        }

    def allow(self, kind: str, name: str, *operations: str) -> None:
        """Grant ann rights on a topic or a group."""
        from confluent_kafka import admin

        of = (admin.ResourceType[kind], name, admin.ResourcePatternType.LITERAL, "User:ann", "*")
        new = [admin.AclBinding(*of, admin.AclOperation[each], admin.AclPermissionType.ALLOW) for each in operations]
        for future in self.cluster.admin.create_acls(new).values():
            future.result(LIMIT)

    def connect(self, **more: str) -> Connection:
        """As ann, by a file of properties; `more` are others than the right ones."""
        right = {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_username": "ann",
            "sasl_password": "open sesame",
            "ssl_ca_location": str(self.certificate),
        }
        lines = [f"{name.replace('_', '.')}={value}\n" for name, value in (right | more).items() if value]
        (self.folder / "kafka.properties").write_text("".join(lines))
        return Connection(self.address, str(self.folder / "kafka.properties"))


def make_certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1, and `both.pem`, which has its key too."""
    words = [
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=tests",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(["openssl", "req", "-x509", *words, *files], check=True, capture_output=True)
    (folder / "both.pem").write_text("".join((folder / name).read_text() for name in ("key.pem", "certificate.pem")))
    return folder / "certificate.pem"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    broker = Guarded(tmp_path_factory.mktemp("guarded"))
    try:
        broker.cluster.start()
        yield broker
    finally:
        broker.cluster.kill()


def refused(topic: str, group: str | None, connection: Connection) -> str:
    """What a check says."""
    with pytest.raises(SourceError) as caught:
        check(connection, topic, group)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_over_tls_and_with_a_login_a_topic_is_read_once_each_right_that_it_takes_is_given(guarded, read):
    topic = Topic(guarded.cluster)
    topic.publish(*numbered(10))
    login = guarded.connect()
    allow = "allow it with `kafka-acls.sh --bootstrap-server SERVERS --add --allow-principal User:NAME --operation Read"
    for kind, name in (("topic", topic.name), ("group", topic.group)):
        for right in ("DESCRIBE", "READ"):
            wait_until(lambda kind=kind: f"the login may not read {kind}" in refused(topic.name, topic.group, login))
            said = refused(topic.name, topic.group, login)
            assert said == f"the login may not read {kind} {name}; {allow} --{kind} {name}`"
            guarded.allow(kind.upper(), name, right)

    def is_allowed() -> bool:
        with suppress(SourceError):
            return check(login, topic.name, topic.group).startswith("2 partitions of 1 topics with 10 offsets")
        return False

    wait_until(is_allowed)
    hand = read(topic, connection=login)
    assert sorted(hand.read(10)["payload"]) == numbered(10)
    hand.finalize()
    wait_until(lambda: topic.committed() == [5, 5])


def test_a_login_or_tls_that_is_wrong_is_one_line_and_the_password_is_not_in_it(guarded, monkeypatch):
    monkeypatch.setattr(topics, "ASK_SECONDS", 1.0)
    for wrong, said in (
        ({"sasl_password": "open barley"}, "Authentication failed: Invalid username or password"),
        ({"sasl_mechanism": "SCRAM-SHA-512"}, "Unsupported SASL mechanism: broker's supported mechanisms: PLAIN"),
        ({"ssl_ca_location": ""}, "broker certificate could not be verified, verify that ssl.ca.location is correctly"),
        ({"security_protocol": "PLAINTEXT"}, "each connection is closed, as one is that lacks TLS or a login; state"),
    ):
        told = refused("events", None, guarded.connect(**wrong))
        assert told.startswith(f"Kafka at {guarded.address}: ")
        assert said in told
        assert "open" not in told
        assert told.endswith("; check servers, credentials and network")


def test_a_broker_that_is_gone_until_many_questions_have_failed_holds_the_watermark_and_nothing_is_lost(
    guarded, read, clock, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(topics, "ASK_SECONDS", 0.5)
    caplog.set_level(logging.INFO, logger=group.__name__)
    topic, quick = Topic(guarded.cluster), tmp_path / "kafka.properties"
    quick.write_text("socket.timeout.ms=1000\nreconnect.backoff.max.ms=500\n")
    hand = read(topic, readers=1, connection=Connection(guarded.cluster.servers, str(quick)))
    topic.publish(*numbered(10))
    hand.read(10)
    hand.finalize()
    wait_until(lambda: topic.committed() == [5, 5])
    topic.publish(*numbered(10, start=10))
    hand.read(20)
    (reader,) = readers_of(f"kafka:{topic.name}")
    guarded.cluster.nodes[0].kill()
    wait_until(lambda: hand.step(0.0) or not reader.group.is_reached, 60)
    before = hand.watermarks()
    clock.now += 60
    wait_until(lambda: hand.step() or questions_failed(caplog) >= QUESTIONS, 60)
    assert hand.watermarks() == before, "messages may wait that nobody has seen"
    hand.finalize()
    guarded.cluster.nodes[0].start()
    guarded.cluster.wait(1)
    topic.publish(*numbered(10, start=20))
    hand.read(30)
    assert sorted(payload for block in hand.blocks for payload in block["payload"]) == numbered(30)
    wait_until(lambda: hand.step() or float(hand.watermarks()[0]) > clock.now - 11, 60)
    wait_until(lambda: topic.committed() == [10, 10], 60, "what was finalized while it was gone")
    hand.finalize()
    wait_until(lambda: topic.committed() == [15, 15], 60)


def questions_failed(caplog) -> int:
    """How many questions about the topics have failed by their time-out."""
    return sum(record.getMessage().endswith("; trying again") for record in caplog.records)
