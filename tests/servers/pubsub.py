"""Google's Pub/Sub emulator as a fixture, and topics on it."""

import os
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from google.pubsub_v1 import types

from pipelines.apps.demo import emulators
from pipelines.apps.demo.emulators import PROJECT, PubSubEmulator
from pipelines.runners.choose import PRISM_HERE
from pipelines.sources.pubsub.client import EMULATOR, PubSub, PubsubMessage
from tests.servers.needed import missing, wait_until
from transforms.errors import SourceError

SHORT_LIVED = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")  # of java: to compile for long costs more than it saves


def make_emulator(log: Path) -> PubSubEmulator:
    """An emulator that is not started yet; ends the test where java or the jar is missing."""
    try:
        emulator = emulators.pubsub_emulator(log)
    except SourceError as absent:
        missing(str(absent))
        raise
    emulator.options = SHORT_LIVED
    return emulator


@pytest.fixture(scope="session")
def pubsub_emulator(tmp_path_factory) -> Iterator[PubSubEmulator]:
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
    found = os.environ.get("PRISM") or PRISM_HERE
    if not os.access(found, os.X_OK):
        missing(f"no Prism at {found}: run `make prism`, or set PRISM to the binary")
    return str(found)
