"""The client of Kafka (confluent-kafka, librdkafka): how it connects, and what its errors mean.

Connection   where the servers are and which file has the other properties. It travels with the source; what the file
             and the environment hold, such as a password, does not: each process reads them itself
Properties   of librdkafka, as lines NAME=VALUE: https://docs.confluent.io/platform/current/clients/librdkafka
Environment  KAFKA_BOOTSTRAP_SERVERS, KAFKA_SASL_PASSWORD and the others of ENVIRONMENT stand for a property each

What is typed wins over the file, and the file over the environment.
"""

import logging
import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from transforms.errors import OptionError, SourceError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError
    from confluent_kafka.admin import AdminClient

SERVERS = "bootstrap.servers"
REGISTRY_LOGIN = "schema.registry.basic.auth.user.info"  # USER:PASSWORD; not of librdkafka
ENVIRONMENT = (
    SERVERS,
    "security.protocol",
    "sasl.mechanism",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
    REGISTRY_LOGIN,
)
# What the reader relies on, and what would run code.
_OURS = {
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "plugin.library.paths",
    "ssl.engine.location",
}
ASK_SECONDS = 10.0  # for an answer of the cluster
_NAME = re.compile(r"[a-z0-9._]+")
_WRONG_PROPERTY = re.compile(r'configuration property:? "([^"]+)"')
_OF_LOGIN = re.compile(r"\b(?:sasl|ssl)\.[a-z.]*[a-z]")
_INSTALL = "confluent-kafka, the client of Kafka, is not installed; run: pip install 'audience-insights[kafka]'"
_log = logging.getLogger(f"{__name__}.librdkafka")
_log.setLevel(logging.CRITICAL)  # it logs each attempt to connect; what lasts is reported by the reader


class NotReached(SourceError):
    """Nobody answers: it may be another time."""


class Connection(NamedTuple):
    """How a cluster is reached. `properties` is the path of a file, `registry` the URL of its Schema Registry."""

    servers: str | None = None
    properties: str | None = None
    registry: str | None = None

    @property
    def where(self) -> str:
        """The servers, for a person."""
        return str(configure(self).get(SERVERS, ""))


def configure(connection: Connection) -> dict[str, str]:
    """The properties of a connection. Errors: OptionError for a file that cannot be read, or for no servers."""
    found = _stated(connection)
    found.pop(REGISTRY_LOGIN, None)
    if not found.get(SERVERS):
        raise OptionError(
            "--kafka_servers is missing: name the servers, e.g. --kafka_servers localhost:9092, or set "
            f"KAFKA_BOOTSTRAP_SERVERS, or give {SERVERS} in the file of --kafka_properties"
        )
    return found


def registry_login(connection: Connection) -> tuple[str, str] | None:
    """User and password for the registry, if there are any. Errors: OptionError for a file that cannot be read."""
    stated = _stated(connection).get(REGISTRY_LOGIN)
    if stated is None:
        return None
    user, _, password = stated.partition(":")
    return user, password


def _stated(connection: Connection) -> dict[str, str]:
    names = {name: f"KAFKA_{name.upper().replace('.', '_')}" for name in ENVIRONMENT}
    found = {name: os.environ[variable] for name, variable in names.items() if os.environ.get(variable)}
    if connection.properties is not None:
        found |= _read(connection.properties)
    if connection.servers is not None:
        found[SERVERS] = connection.servers
    return found


def _read(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise OptionError(f"--kafka_properties: {path} cannot be read: {why}; check its name and permissions") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith(("#", "!")):
            continue
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not _NAME.fullmatch(name):
            raise OptionError(f"--kafka_properties: {path}:{number}: no property; allowed: a line NAME=VALUE")
        if name in _OURS:
            raise OptionError(f"--kafka_properties: {path}:{number}: {name} is set by the reader; leave it out")
        found[name] = value.strip()
    return found


def make_consumer(connection: Connection, group: str, on_error: "Callable[[KafkaError], None]", **more: Any) -> Any:
    """A consumer that never joins a group: it is assigned partitions, and commits only what it is asked to."""
    try:
        from confluent_kafka import Consumer
    except ImportError:
        raise OptionError(_INSTALL) from None
    own = {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",  # offsets that are gone are said, never passed over
        "isolation.level": "read_committed",
        "allow.auto.create.topics": False,
        "error_cb": on_error,
    }
    return _make(Consumer, connection, {**own, **more})


def make_admin(connection: Connection, on_error: "Callable[[KafkaError], None]") -> "AdminClient":
    """A client that asks about topics and offsets."""
    try:
        from confluent_kafka.admin import AdminClient
    except ImportError:
        raise OptionError(_INSTALL) from None
    return _make(AdminClient, connection, {"error_cb": on_error})


def make_producer(connection: Connection, limit_seconds: float, **more: Any) -> Any:
    """A client that publishes each message once and in order; it gives a message up after the limit."""
    try:
        from confluent_kafka import Producer
    except ImportError:
        raise OptionError(_INSTALL) from None
    own = {
        "enable.idempotence": True,
        "allow.auto.create.topics": False,
        "linger.ms": 20,
        "delivery.timeout.ms": int(limit_seconds * 1000),
        "error_cb": lambda error: None,  # what lasts is reported for the messages
    }
    return _make(Producer, connection, {**own, **more})


def check_output(topic: str, connection: Connection, where: str = "") -> None:
    """Check that a topic can be published to; `where` is what an error names.

    Errors: OptionError for the properties, SourceError if it does not exist or may not be used, NotReached if nobody
    answers.
    """
    said: list[Any] = []
    admin, where = make_admin(connection, said.append), where or f"--output_kafka {topic}"
    from confluent_kafka import KafkaException

    try:
        found = admin.list_topics(topic, timeout=ASK_SECONDS).topics[topic]
    except KafkaException as error:
        problems = said or [error.args[0]]
        why, kind = describe_failures(problems), SourceError if any(map(is_refusal, problems)) else NotReached
        raise kind(f"{where}: Kafka at {connection.where}: {why}; check servers, credentials and network") from None
    if found.error is not None:
        raise SourceError(
            f"{where}: {describe_error(found.error)}; create it with `kafka-topics.sh --create --topic {topic} "
            f"--bootstrap-server {connection.where}`"
        )


def _make(kind: Any, connection: Connection, own: dict[str, Any]) -> Any:
    from confluent_kafka import KafkaException

    defaults = {"client.id": "audience-insights", "socket.keepalive.enable": True}
    try:
        return kind({**defaults, **configure(connection), **own}, logger=_log)
    except (KafkaException, ValueError, TypeError) as error:
        raise OptionError(f"--kafka_properties: {_describe_refused(str(error), configure(connection))}") from None


def _describe_refused(said: str, stated: dict[str, str]) -> str:
    """What is wrong with the properties, by what the client says of them; its own text may hold a value, which may be a
    password."""
    found = _WRONG_PROPERTY.search(said) or re.search("(JAAS) configuration", said)
    named = _OF_LOGIN.findall(said)
    if found is None and named and (path := stated.get(named[0])) and named[0].endswith(".location"):
        return f"{named[0]}: {path} {_why_unusable(path)}; name a file in PEM that may be read"
    if found is None and "SASL mechanism" in said:
        got = stated.get("sasl.mechanism", stated.get("sasl.mechanisms"))
        given = f"sasl.mechanism: got {got!r}" if got else "sasl.mechanism is missing"
        return f"{given}; allowed: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"
    if found is None and named:
        return f"{' and '.join(named)}: missing or wrong; state what the mechanism of the login needs"
    name = found[1].replace("JAAS", "sasl.jaas.config") if found else "unknown"
    return f"the client refuses the property {name}; allowed: the properties of librdkafka, not those of Java"


def _why_unusable(path: str) -> str:
    try:
        with open(path, "rb"):
            return "is not what the property needs"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def describe_error(error: "KafkaError | None") -> str:
    """What the client says, without what it says of its own threads."""
    if error is None:
        return "no answer"
    text = re.sub(r"\s+", " ", str(error.str() or error.name()))
    return text.partition(" (after ")[0].rstrip(". ") or error.name()


def describe_failures(errors: "Sequence[KafkaError]") -> str:
    """Why a client has no connection, by all that it said: of one that failed, rather than that all are down."""
    from confluent_kafka import KafkaError

    telling = next((each for each in errors if each.code() != KafkaError._ALL_BROKERS_DOWN), None)
    if telling is not None:
        return describe_error(telling)
    return "each connection is closed, as one is that lacks TLS or a login; state security.protocol as the servers do"


def is_passing(error: Any) -> bool:
    """Whether a cluster answers so for a while only: it chooses a leader, or a coordinator."""
    from confluent_kafka import KafkaError

    return isinstance(error, KafkaError) and error.code() in (
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError._WAIT_COORD,
    )


def is_refusal(error: "KafkaError") -> bool:
    """Whether trying again cannot help: credentials, permissions, a topic that is gone, bytes that cannot be read."""
    from confluent_kafka import KafkaError

    return error.code() in (
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError._BAD_MSG,
        KafkaError._BAD_COMPRESSION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._FATAL,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
    )


def refusal(what: str, error: "KafkaError") -> SourceError:
    """The error for a refusal that lasts."""
    return SourceError(f"{what} cannot be read: {describe_error(error)}; fix that and restart")
