"""Apache Kafka as a fixture: brokers that `make tools` installs, on free ports of this machine, and topics on them."""

import shutil
import signal
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipelines.runners.choose import free_port
from tests.servers.needed import LIMIT, missing, wait_until

ROOT = Path(__file__).parents[2]
LIBRARIES = ROOT / ".tools" / "kafka"
CLUSTER = "MkU3OEVBNTcwNTJENDM2Qk"
JAVA = [
    "java",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
]
FORMATTED: list[bytes] = []  # what all folders of nodes have: the versions that a cluster begins with
SETTINGS = {
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.num.partitions": 1,
    "transaction.state.log.min.isr": 1,
    "min.insync.replicas": 1,
    "group.initial.rebalance.delay.ms": 0,
    "broker.session.timeout.ms": 3_000,
    "broker.heartbeat.interval.ms": 500,
    "auto.create.topics.enable": "false",
    "log.message.timestamp.after.max.ms": (1 << 63) - 1,
    "message.max.bytes": 16 << 20,
    "replica.fetch.max.bytes": 16 << 20,
    "socket.request.max.bytes": 32 << 20,
}


@dataclass
class Node:
    """A process of Kafka: a broker, the controller of a cluster, or both. It keeps its data when it is killed."""

    folder: Path
    number: int
    roles: str
    port: int  # of the broker
    controller: int  # its number
    controller_port: int
    replicas: int = 1
    more: Mapping[str, Any] = field(default_factory=dict)
    process: subprocess.Popen | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def format(self) -> None:
        """Write its properties and make its folder."""
        self.folder.mkdir(parents=True)
        listeners = []
        if "broker" in self.roles:
            listeners.append(f"PLAINTEXT://{self.host}")
        if "controller" in self.roles:
            listeners.append(f"CONTROLLER://127.0.0.1:{self.controller_port}")
        settings = {
            "process.roles": self.roles,
            "node.id": self.number,
            "listeners": ",".join(listeners),
            "controller.quorum.voters": f"{self.controller}@127.0.0.1:{self.controller_port}",
            "log.dirs": self.folder / "data",
            "offsets.topic.replication.factor": self.replicas,
            "transaction.state.log.replication.factor": self.replicas,
            "default.replication.factor": self.replicas,
            **SETTINGS,
            **self.more,
        }
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        (self.folder / "server.properties").write_text("".join(lines))
        data = self.folder / "data"
        if FORMATTED:  # as below, without two seconds of java
            data.mkdir()
            own = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            written = {"node.id": self.number, "directory.id": own, "version": 1, "cluster.id": CLUSTER}
            lines = [f"{name}={value}\n" for name, value in written.items()]
            (data / "meta.properties").write_text("".join(lines))
            (data / "bootstrap.checkpoint").write_bytes(FORMATTED[0])
            return
        words = ["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(self.folder / "server.properties")]
        done = subprocess.run([*JAVA, "-cp", class_path(), *words], capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, done.stderr
        FORMATTED.append((data / "bootstrap.checkpoint").read_bytes())

    def start(self) -> None:
        """Start it; `wait` until it answers."""
        with (self.folder / "log").open("ab") as log:
            # In a session of its own, so that Ctrl-C does not end it before the process that uses it.
            self.process = subprocess.Popen(
                [*JAVA, "-cp", class_path(), "kafka.Kafka", str(self.folder / "server.properties")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, SIGKILL as it stands, and wait until it has ended."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(LIMIT)


class Cluster:
    """Brokers of one cluster, and what a test asks of it."""

    def __init__(self, nodes: Sequence[Node]):
        self.nodes = list(nodes)
        self.brokers = [node for node in nodes if "broker" in node.roles]
        self.servers = ",".join(node.host for node in self.brokers)

    def start(self) -> None:
        """Format and start all, and wait until all brokers answer."""
        from confluent_kafka.admin import AdminClient

        for node in self.nodes:
            node.format()
            node.start()
        self.admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        self.wait(len(self.brokers))

    def wait(self, brokers: int, seconds: float = 90.0) -> None:
        """Wait until so many brokers are part of the cluster."""
        wait_until(lambda: self.is_up(brokers), seconds, "Kafka", 0.1)

    def is_up(self, brokers: int) -> bool:
        from confluent_kafka import KafkaException

        try:
            return len(self.admin.list_topics(timeout=1).brokers) >= brokers
        except KafkaException:
            assert all(node.process is None or node.process.poll() is None for node in self.nodes), self.said()
            return False

    def said(self) -> str:
        return "\n".join((node.folder / "log").read_text()[-2_000:] for node in self.nodes)

    def kill(self) -> None:
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.kill()


def class_path() -> str:
    return f"{LIBRARIES}/*"


def require_kafka() -> None:
    """End the test where Kafka or Java is missing."""
    if shutil.which("java") is None:
        missing("no java, which runs Kafka: install a runtime of version 17 or later")
    if not list(LIBRARIES.glob("installed-*")):
        missing(f"no Kafka at {LIBRARIES}: run `make tools`")


def single_node(folder: Path, **more: Any) -> Node:
    """A broker that is its own controller."""
    return Node(folder, 1, "broker,controller", free_port(), 1, free_port(), more=more)


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory) -> Iterator[Cluster]:
    """One broker for all tests of a process: each takes topics of its own."""
    require_kafka()
    cluster = Cluster([single_node(tmp_path_factory.mktemp("kafka") / "node")])
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture(scope="module")
def kafka_cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A controller and two brokers that replicate, so that one of them may be killed."""
    require_kafka()
    folder, port = tmp_path_factory.mktemp("cluster"), free_port()
    nodes = [Node(folder / "controller", 1, "controller", 0, 1, port, replicas=2)]
    nodes += [Node(folder / f"broker{number}", number, "broker", free_port(), 1, port, 2) for number in (2, 3)]
    cluster = Cluster(nodes)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


class Topic:
    """A topic, with a group that reads it."""

    def __init__(self, cluster: Cluster, partitions: int = 2, **settings: Any):
        self.cluster = cluster
        self.name, self.group = f"topic-{uuid.uuid4().hex}", f"group-{uuid.uuid4().hex}"
        self.partitions = partitions
        self.make(**settings)
        self._producer: Any = None

    def make(self, **settings: Any) -> None:
        """Make it, and wait until it can be written."""
        from confluent_kafka.admin import NewTopic

        names = {name.replace("_", "."): str(value) for name, value in settings.items()}
        replicas = len(self.cluster.brokers)
        new = NewTopic(self.name, self.partitions, replicas, config=names)
        for future in self.cluster.admin.create_topics([new]).values():
            future.result(30)
        wait_until(self._is_there, what=self.name)

    def _is_there(self) -> bool:
        there = self.cluster.admin.list_topics(timeout=5).topics.get(self.name)
        return (
            there is not None
            and all(each.leader > 0 for each in there.partitions.values())
            and bool(len(there.partitions) >= self.partitions)
        )

    def add_partitions(self, partitions: int) -> None:
        from confluent_kafka.admin import NewPartitions

        for future in self.cluster.admin.create_partitions([NewPartitions(self.name, partitions)]).values():
            future.result(30)
        self.partitions = partitions
        wait_until(self._is_there, what=self.name)
        self._producer = None  # the next one knows them

    def delete_before(self, partition: int, offset: int) -> None:
        """Delete the records of a partition before an offset, as retention does."""
        from confluent_kafka import TopicPartition

        for future in self.cluster.admin.delete_records([TopicPartition(self.name, partition, offset)]).values():
            future.result(30)

    @property
    def producer(self) -> Any:
        if self._producer is None:
            self._producer = make_producer(self.cluster)
        return self._producer

    def publish(self, *payloads: bytes | None, **how: Any) -> None:
        """Publish payloads, and wait until they are stored; `how` is of confluent's `produce`."""
        errors: list[Any] = []
        for number, payload in enumerate(payloads):
            where = {"partition": number % self.partitions, **how}
            self.producer.produce(
                self.name, value=payload, on_delivery=lambda error, _: errors.append(error) if error else None, **where
            )
            self.producer.poll(0)
        assert self.producer.flush(60) == 0
        assert not errors, errors

    def committed(self) -> list[int]:
        """The offsets that the group has committed; -1001 for a partition without one."""
        from confluent_kafka import TopicPartition

        consumer = make_consumer(self.cluster, self.group)
        try:
            asked = [TopicPartition(self.name, number) for number in range(self.partitions)]
            return [each.offset for each in consumer.committed(asked, timeout=LIMIT)]
        finally:
            consumer.close()

    def commit(self, offsets: Sequence[int]) -> None:
        """Commit offsets to the group, as a person does."""
        from confluent_kafka import TopicPartition

        consumer = make_consumer(self.cluster, self.group)
        try:
            told = [TopicPartition(self.name, number, offset) for number, offset in enumerate(offsets)]
            consumer.commit(offsets=told, asynchronous=False)
        finally:
            consumer.close()

    def ends(self) -> list[int]:
        """The offset behind the last message of each partition."""
        from confluent_kafka import TopicPartition

        consumer = make_consumer(self.cluster, self.group)
        try:
            asked = [TopicPartition(self.name, number) for number in range(self.partitions)]
            return [consumer.get_watermark_offsets(each, timeout=LIMIT)[1] for each in asked]
        finally:
            consumer.close()

    def coordinator(self) -> int:
        """The broker that keeps the offsets of the group."""
        (future,) = self.cluster.admin.describe_consumer_groups([self.group]).values()
        return int(future.result(30).coordinator.id)

    def left(self) -> list[bytes]:
        """What is behind the committed offsets."""
        from confluent_kafka import TopicPartition

        consumer, found = make_consumer(self.cluster, self.group), []
        try:
            for number, offset in enumerate(self.committed()):
                at = TopicPartition(self.name, number, max(offset, 0))
                first, end = consumer.get_watermark_offsets(at, timeout=LIMIT)
                at.offset = max(at.offset, first)
                if at.offset < end:
                    consumer.assign([at])
                    found += read_to(consumer, end)
            return found
        finally:
            consumer.close()

    def wait_for(self, messages: int, seconds: float = 40.0) -> list[bytes]:
        """What is behind the committed offsets, once it is so many different messages; sorted."""
        wait_until(lambda: len(set(self.left())) >= messages, seconds, f"{messages} messages", 0.1)
        return sorted(set(self.left()))


def read_to(consumer: Any, end: int) -> list[bytes]:
    """The values of the assigned partition before an offset."""
    from confluent_kafka import KafkaError

    found = []
    while True:
        message = consumer.poll(10)
        assert message is not None
        if message.error() is not None:
            assert message.error().code() == KafkaError._PARTITION_EOF
            return found
        found.append(message.value())
        if message.offset() + 1 >= end:
            return found


def make_consumer(cluster: Cluster, group: str) -> Any:
    from confluent_kafka import Consumer

    own = {"enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "earliest"}
    return Consumer({"bootstrap.servers": cluster.servers, "group.id": group, "log_level": 0, **own})


def make_subscriber(topic: Topic) -> Any:
    """A consumer that joins the group of a topic and commits nothing."""
    from confluent_kafka import Consumer

    own = {"enable.auto.commit": False, "auto.offset.reset": "earliest", "log_level": 0}
    consumer = Consumer({"bootstrap.servers": topic.cluster.servers, "group.id": topic.group, **own})
    consumer.subscribe([topic.name])
    return consumer


def make_producer(cluster: Cluster, **more: Any) -> Any:
    from confluent_kafka import Producer

    own = {"enable.idempotence": True, "linger.ms": 5, "message.max.bytes": 15 << 20}
    return Producer({"bootstrap.servers": cluster.servers, "log_level": 0, **own, **more})


@pytest.fixture
def topic(kafka_broker, monkeypatch) -> Topic:
    """A new topic of two partitions; the environment names the broker."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka_broker.servers)
    return Topic(kafka_broker)
