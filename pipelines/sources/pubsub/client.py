"""Pub/Sub by plain gRPC: the calls that a reader needs, and how their failures are classified.

The messages are protobuf's own: wrapped by the client library, each takes ten times as long to unpack. The pull is
unary: from Google's emulator a streaming pull delivers 1,800 messages a second and a unary one 60,000 (2 cores, 300
bytes), and with one pull in flight at a time the flow is bounded and the keys stay in order. `PUBSUB_EMULATOR_HOST`
(host:port) chooses an emulator, without credentials.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1 import types

from transforms.errors import SourceError

EMULATOR = "PUBSUB_EMULATOR_HOST"
GOOGLE = "pubsub.googleapis.com:443"
PULL_SECONDS = 90.0  # longer than a server waits for a message
CALL_SECONDS = 20.0
REQUEST_MESSAGES, REQUEST_BYTES = 1_000, 9_500_000  # that are published together: Pub/Sub takes 1,000 and 10 MB
MOST_ACK_IDS = 1_000  # of a request, which may have 512 KB; an id has some 200 bytes
_CHANNEL = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # gRPC's own wait between connections grows to two minutes: the return of a server would go unnoticed.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # also the time limit of an attempt to connect
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),  # otherwise it is shared with channels that wait longer
]
REFUSALS = {  # statuses that a retry does not resolve
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}

PubsubMessage = types.PubsubMessage.pb()
_REQUESTS = {
    "pull": types.PullRequest.pb(),
    "ack": types.AcknowledgeRequest.pb(),
    "modify": types.ModifyAckDeadlineRequest.pb(),
    "publish": types.PublishRequest.pb(),
}


class PubSub:
    """A connection. Its calls raise grpc.RpcError; creating one without credentials raises SourceError."""

    def __init__(self, emulator: str | None = None):
        self.emulator = emulator or os.environ.get(EMULATOR)
        self.channel = grpc.insecure_channel(self.emulator, _CHANNEL) if self.emulator else _to_google()
        self._stubs: dict[str, Any] = {}

    def pull(self, subscription: str, most: int) -> Any:
        """Ask for up to `most` messages: a future of the PullResponse, which may hold none.

        Google's server waits until there are some. The emulator must not wait: for half a minute it would deliver what
        comes next to a pull that was cancelled or whose process died, and no other reader has it before its deadline.
        """
        at_once = self.emulator is not None
        request = _REQUESTS["pull"](subscription=subscription, max_messages=most, return_immediately=at_once)
        stub = self._stub("Subscriber/Pull", types.PullResponse.pb())
        return stub.future(request, timeout=PULL_SECONDS, metadata=_routing("subscription", subscription))

    def acknowledge(self, subscription: str, ack_ids: Sequence[str]) -> None:
        """Acknowledge up to MOST_ACK_IDS messages."""
        request = _REQUESTS["ack"](subscription=subscription, ack_ids=ack_ids)
        self._call("Subscriber/Acknowledge", empty_pb2.Empty, request, "subscription", subscription)

    def extend(self, subscription: str, ack_ids: Sequence[str], seconds: int) -> None:
        """Set the ack deadline of up to MOST_ACK_IDS messages to so many seconds from now; 0 nacks them."""
        request = _REQUESTS["modify"](subscription=subscription, ack_ids=ack_ids, ack_deadline_seconds=seconds)
        self._call("Subscriber/ModifyAckDeadline", empty_pb2.Empty, request, "subscription", subscription)

    def publish(self, topic: str, messages: Sequence[Any]) -> list[str]:
        """Publish PubsubMessages, 1,000 and 10 MB at most; returns their ids."""
        request = _REQUESTS["publish"](topic=topic, messages=messages)
        answer = self._call("Publisher/Publish", types.PublishResponse.pb(), request, "topic", topic)
        return list(answer.message_ids)

    def topic(self, topic: str) -> Any:
        """The Topic."""
        request = types.GetTopicRequest.pb()(topic=topic)
        return self._call("Publisher/GetTopic", types.Topic.pb(), request, "topic", topic)

    def make_topic(self, topic: str) -> None:
        """Make a topic."""
        self._call("Publisher/CreateTopic", types.Topic.pb(), types.Topic.pb()(name=topic), "name", topic)

    def subscription(self, subscription: str) -> Any:
        """The Subscription."""
        request = types.GetSubscriptionRequest.pb()(subscription=subscription)
        return self._call("Subscriber/GetSubscription", types.Subscription.pb(), request, "subscription", subscription)

    def make_subscription(self, subscription: str, topic: str, **settings: Any) -> None:
        """Make a subscription; `settings` are fields of Subscription."""
        request = types.Subscription.pb()(name=subscription, topic=topic, **settings)
        self._call("Subscriber/CreateSubscription", types.Subscription.pb(), request, "name", subscription)

    def delete_subscription(self, subscription: str) -> None:
        """Delete a subscription."""
        request = types.DeleteSubscriptionRequest.pb()(subscription=subscription)
        self._call("Subscriber/DeleteSubscription", empty_pb2.Empty, request, "subscription", subscription)

    def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        self.channel.close()

    def _call(self, method: str, answer: Any, request: Any, routing: str, name: str) -> Any:
        return self._stub(method, answer)(request, timeout=CALL_SECONDS, metadata=_routing(routing, name))

    def _stub(self, method: str, answer: Any) -> Any:
        if method not in self._stubs:
            self._stubs[method] = self.channel.unary_unary(
                f"/google.pubsub.v1.{method}",
                request_serializer=_serialize,
                response_deserializer=answer.FromString,
            )
        return self._stubs[method]


def requests_of(messages: Sequence[Any]) -> Iterator[list[Any]]:
    """PubsubMessages in their order, in lists that Pub/Sub takes as one request; one that is too large stands alone."""
    request: list[Any] = []
    size = 0
    for message in messages:
        length = message.ByteSize() + 16  # with what frames it in a request
        if request and (len(request) == REQUEST_MESSAGES or size + length > REQUEST_BYTES):
            yield request
            request, size = [], 0
        request.append(message)
        size += length
    if request:
        yield request


def _serialize(message: Any) -> bytes:
    return message.SerializeToString()


def _routing(field: str, name: str) -> tuple[tuple[str, str]]:
    return (("x-goog-request-params", f"{field}={name}"),)


def _to_google() -> grpc.Channel:
    from google.auth.exceptions import GoogleAuthError
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    try:
        return SubscriberGrpcTransport.create_channel(GOOGLE, options=_CHANNEL)
    except GoogleAuthError as error:
        raise SourceError(
            "Pub/Sub: no credentials found; run `gcloud auth application-default login`,"
            f" or set {EMULATOR}=HOST:PORT for an emulator"
        ) from error


def is_refusal(error: grpc.RpcError) -> bool:
    """Whether a retry cannot help: the name, the permission or the request is wrong."""
    return error.code() in REFUSALS


def describe_error(error: grpc.RpcError) -> str:
    """The failure in a few words on one line."""
    details = " ".join((error.details() or "").split())
    return f"{error.code().name} ({details})" if details else error.code().name
