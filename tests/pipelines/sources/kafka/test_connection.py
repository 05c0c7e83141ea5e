"""How a client of Kafka learns where to connect, and what a wrong setting says."""

import pickle
import sys

import pytest

from pipelines.settings.resolve import resolve
from pipelines.sources import queues
from pipelines.sources.kafka.client import ENVIRONMENT, Connection, configure
from pipelines.sources.kafka.queue import KafkaQueue
from pipelines.sources.kafka.source import KafkaSource
from transforms.errors import OptionError, SourceError

SECRET = "open sesame"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.delenv(f"KAFKA_{name.upper().replace('.', '_')}", raising=False)


@pytest.fixture
def properties(tmp_path):
    path = tmp_path / "kafka.properties"

    def write(*lines: str) -> str:
        path.write_text("".join(f"{line}\n" for line in lines))
        return str(path)

    return write


def test_what_is_typed_wins_over_the_file_and_the_file_over_the_environment(properties, monkeypatch):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "environment:1")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", SECRET)
    assert configure(Connection()) == {"bootstrap.servers": "environment:1", "sasl.password": SECRET}
    path = properties("# of the cluster", "", " bootstrap.servers = file:1 ", "sasl.password=a=b")
    assert configure(Connection(properties=path)) == {"bootstrap.servers": "file:1", "sasl.password": "a=b"}
    assert configure(Connection("typed:1", path))["bootstrap.servers"] == "typed:1"


def test_no_servers_are_said_with_the_three_ways_to_name_them():
    with pytest.raises(OptionError, match=r"--kafka_servers is missing: .*localhost:9092.*KAFKA_BOOTSTRAP_SERVERS.*"):
        KafkaQueue("events").check()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no property", ":1: no property; allowed: a line NAME=VALUE"),
        ("Sasl.Password=x", ":1: no property"),
        ("enable.auto.commit=true", ":1: enable.auto.commit is set by the reader; leave it out"),
        ("plugin.library.paths=/tmp/x.so", ":1: plugin.library.paths is set by the reader"),
    ],
    ids=["no equals", "capitals", "ours", "code"],
)
def test_a_line_that_is_no_property_of_a_file_is_named_by_its_number(properties, line, said):
    with pytest.raises(OptionError, match=f"--kafka_properties: .*kafka.properties{said}"):
        KafkaQueue("events", "localhost:1", properties=properties(line)).check()


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(OptionError, match=f"--kafka_properties: {path} cannot be read: {why}"):
            KafkaQueue("events", "localhost:1", properties=str(path)).check()
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(OptionError, match="bytes cannot be read: it is not UTF-8"):
        KafkaQueue("events", "localhost:1", properties=str(tmp_path / "bytes")).check()


@pytest.mark.parametrize(
    ("line", "named"),
    [("sasl.jaas.config=%s", "sasl.jaas.config"), ("socket.timeout.ms=%s", "socket.timeout.ms")],
    ids=["of Java", "wrong value"],
)
def test_a_property_that_the_client_refuses_is_named_without_its_value(properties, line, named):
    with pytest.raises(OptionError, match=f"the client refuses the property {named}; allowed: ") as caught:
        KafkaQueue("events", "localhost:1", properties=properties(line % SECRET)).check()
    assert SECRET not in str(caught.value)


def test_a_file_of_tls_that_cannot_be_used_is_named_and_so_is_what_a_login_lacks(properties, tmp_path):
    (tmp_path / "no.pem").write_text("not in PEM")
    mechanisms = "allowed: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"
    for protocol, lines, said in (
        ("SSL", ["ssl.ca.location=/none/ca.pem"], "ssl.ca.location: /none/ca.pem cannot be read: No such file or dir"),
        ("SSL", [f"ssl.key.location={tmp_path}/no.pem"], f"ssl.key.location: {tmp_path}/no.pem is not what the prop"),
        ("SASL_SSL", ["sasl.mechanism=GSSAPI"], f"sasl.mechanism: got 'GSSAPI'; {mechanisms}"),
        ("SASL_SSL", [], f"sasl.mechanism is missing; {mechanisms}"),
        ("SASL_SSL", ["sasl.mechanism=PLAIN", "sasl.username=ann"], "sasl.username and sasl.password: missing or wr"),
        ("SSL", [f"ssl.key.pem={SECRET}"], "ssl.key.pem: missing or wrong"),
    ):
        file = properties(f"security.protocol={protocol}", *lines)
        with pytest.raises(OptionError, match=f"--kafka_properties: {said}") as caught:
            KafkaQueue("events", "localhost:1", properties=file).check()
        assert SECRET not in str(caught.value)


def test_no_password_travels_with_the_source(properties, monkeypatch):
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", SECRET)
    queue = KafkaQueue("events", group="g", properties=properties(f"sasl.password={SECRET}"))
    read = queue.read(source="shop", landing=None, again=(), drain_file="none")
    for travels in (queue, *KafkaSource(read.reading).split(2)):
        assert SECRET.encode() not in pickle.dumps(travels)


def test_a_server_that_does_not_answer_is_said_in_a_line(monkeypatch):
    monkeypatch.setattr("pipelines.sources.kafka.topics.ASK_SECONDS", 1.0)
    with pytest.raises(SourceError, match=r"Kafka at 127.0.0.1:1: .*Connection refused; check ") as caught:
        KafkaQueue("events", "127.0.0.1:1").check()
    assert "\n" not in str(caught.value)


def test_a_run_needs_a_group(topic):
    said = r"--kafka_group is missing: .*e\.g\. --kafka_group audience"
    with pytest.raises(OptionError, match=said), KafkaQueue(topic.name).open():
        pass


def test_the_options_of_a_stream_reach_the_reader():
    values = {
        "input_kafka": "events,orders",
        "kafka_servers": "a:1,b:2",
        "kafka_group": "audience",
        "kafka_properties": "kafka.properties",
        "start_at": "2026-03-01T00:00:00+01:00",
        "timestamp_attribute": "at",
        "readers": "3",
        "expected_delay": "30s",
        "batch_delay": "700ms",
    }
    queue = queues.choose_queue(resolve(values, "run")._asdict())
    assert queue.input == "kafka:events,orders"
    reading = queue.read(source="shop", landing=None, again=(), drain_file="drain").reading
    assert (reading.topics, reading.group, reading.readers) == ("events,orders", "audience", 3)
    assert reading.connection == Connection("a:1,b:2", "kafka.properties")
    assert (reading.start_at, reading.timestamp_attribute) == (1_772_319_600.0, "at")
    assert (reading.expected_delay, reading.block_seconds, reading.drain_file) == (30.0, 0.7, "drain")


@pytest.mark.parametrize(
    "start",
    ["yesterday", "2026-03-01T00:00:00", "2026-03-01T25:00:00Z", "Earliest"],
    ids=["word", "no zone", "hour", "capital"],
)
def test_a_start_that_is_none_is_refused(start):
    with pytest.raises(OptionError, match=f"--start_at: got '{start}'; allowed: earliest, latest, or a time"):
        resolve({"input_kafka": "events", "start_at": start}, "run")


@pytest.mark.parametrize("name", ["kafka_servers", "kafka_group", "kafka_properties", "kafka_registry"])
def test_an_option_of_kafka_is_refused_with_another_queue(name):
    value = {"kafka_servers": "a:1", "kafka_registry": "http://a"}.get(name, "x")
    with pytest.raises(OptionError, match=f"--{name}: got '{value}' with --input_log; allowed: only with --input_kaf"):
        resolve({"input_log": "log", name: value}, "run")


@pytest.mark.parametrize(
    "topics",
    ["", ".", "..", "a,", "a b", "a@b", "^[", "^a@", "a,a", "x" * 250],
    ids=lambda topics: topics[:9] or "none",
)
def test_a_text_that_names_no_topics_is_refused(topics):
    with pytest.raises(OptionError, match=r"--input_kafka: got .*; allowed: names of topics"):
        KafkaQueue(topics, "localhost:1").check()


def test_without_the_client_a_line_says_how_to_install_it(monkeypatch):
    for name in ("confluent_kafka", "confluent_kafka.admin"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OptionError, match=r"not installed; run: pip install 'audience-insights\[kafka\]'"):
        KafkaQueue("events", "localhost:1").check()
