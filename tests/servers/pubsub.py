"""Google's Pub/Sub emulator, by plain java: it starts on a free loopback port in about two seconds."""

import os
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import grpc
import pytest
from google.pubsub_v1 import types

from pipelines.sources.pubsub_client import EMULATOR, PubSub, PubsubMessage
from tests.servers.needed import missing, wait_until

PROJECT = "demo-project"
INSTALL = "install the Google Cloud SDK with its package google-cloud-cli-pubsub-emulator"


def find_jar() -> Path | None:
    """The emulator's jar in the Cloud SDK, if there is one."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return None
    found = subprocess.run(
        [gcloud, "info", "--format=value(installation.sdk_root)"], capture_output=True, text=True, check=True
    )
    return next(Path(found.stdout.strip()).glob("platform/pubsub-emulator/lib/*.jar"), None)


class Emulator:
    """The emulator's process; it keeps nothing when it ends."""

    def __init__(self, jar: Path, log: Path):
        self.jar, self.log, self.port = jar, log, _free_port()
        self.process: subprocess.Popen | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = ["java", "-Xmx512m", "-jar", str(self.jar), "--host=127.0.0.1", f"--port={self.port}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers, 60, f"Pub/Sub emulator; see {self.log}")

    def kill(self) -> None:
        """Kill -9, and wait until it is gone."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, f"it ended; see {self.log}"
        pubsub = PubSub(self.host)
        try:
            pubsub.topic(f"projects/{PROJECT}/topics/none")
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.NOT_FOUND
        finally:
            pubsub.close()
        return True


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def make_emulator(log: Path) -> Emulator:
    """An emulator that is not started yet; ends the test where java or the jar is missing."""
    if shutil.which("java") is None:
        missing("no java: install a Java runtime, version 17 or later (Debian: apt install default-jre-headless)")
    jar = find_jar()
    if jar is None:
        missing(f"no Pub/Sub emulator: {INSTALL}")
    return Emulator(jar, log)


@pytest.fixture(scope="session")
def pubsub_emulator(tmp_path_factory) -> Iterator[Emulator]:
    """The emulator of the session."""
    emulator = make_emulator(tmp_path_factory.mktemp("pubsub") / "emulator.log")
    emulator.start()
    yield emulator
    emulator.kill()


class Queue:
    """A topic with a subscription, on an emulator."""

    def __init__(self, host: str, **settings):
        self.pubsub, name = PubSub(host), uuid.uuid4().hex
        self.topic = f"projects/{PROJECT}/topics/topic-{name}"
        self.subscription = f"projects/{PROJECT}/subscriptions/sub-{name}"
        self.settings = {"ack_deadline_seconds": 10} | settings
        self.make()

    def make(self) -> None:
        """Make the topic and the subscription."""
        self.pubsub.make_topic(self.topic)
        self.pubsub.make_subscription(self.subscription, self.topic, **self.settings)

    def publish(self, *payloads: bytes, key: str = "", **attributes: str) -> list[str]:
        """Publish payloads, 500 a request."""
        messages = [PubsubMessage(data=each, ordering_key=key, attributes=attributes) for each in payloads]
        parts = [messages[start : start + 500] for start in range(0, len(messages), 500)]
        return [name for part in parts for name in self.pubsub.publish(self.topic, part)]

    def deliver_again(self, since: datetime) -> None:
        """Have all that was published since then delivered once more; the subscription is one that keeps it."""
        self.pubsub.channel.unary_unary(
            "/google.pubsub.v1.Subscriber/Seek",
            request_serializer=types.SeekRequest.serialize,
            response_deserializer=types.SeekResponse.deserialize,
        )(types.SeekRequest(subscription=self.subscription, time=since), timeout=60)

    def left(self) -> list[bytes]:
        """Pull what can be had now, without acknowledging it."""
        found: list[bytes] = []
        while received := self.pubsub.pull(self.subscription, 1_000).result().received_messages:
            found += [each.message.data for each in received]
        return found

    def wait_for(self, messages: int, seconds: float = 40.0) -> list[bytes]:
        """Pull until so many different messages were had; without acknowledging them. In order of their payloads."""
        found: set[bytes] = set()
        wait_until(lambda: found.update(self.left()) or len(found) >= messages, seconds, f"{messages} messages")
        return sorted(found)


@pytest.fixture
def queue(pubsub_emulator, monkeypatch) -> Iterator[Queue]:
    """A new topic and subscription; the environment names the emulator."""
    monkeypatch.setenv(EMULATOR, pubsub_emulator.host)
    made = Queue(pubsub_emulator.host)
    yield made
    made.pubsub.close()


@pytest.fixture(scope="session")
def prism() -> str:
    """The path of the Prism binary."""
    found = os.environ.get("PRISM") or Path(__file__).parents[2] / ".tools" / "prism"
    if not os.access(found, os.X_OK):
        missing(f"no Prism at {found}: run `make prism`, or set PRISM to the binary")
    return str(found)
