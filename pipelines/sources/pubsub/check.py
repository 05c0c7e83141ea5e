"""Check that a subscription or a topic can be read, before anything starts; and make a subscription for a run.

An error is one line: what was given, what is allowed, and the gcloud command that fixes it.
"""

import logging
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import grpc
from google.protobuf import duration_pb2

from pipelines.sources.pubsub.client import EMULATOR, PubSub, describe_error, is_refusal
from transforms.errors import OptionError, SourceError

_PROJECT = r"projects/([a-z][a-z0-9.:-]{4,61}[a-z0-9])"  # Beam takes no shorter one
_NAME = r"(?!goog)([A-Za-z][A-Za-z0-9._~%+-]{2,254})"
SUBSCRIPTION = rf"{_PROJECT}/subscriptions/{_NAME}"
TOPIC = rf"{_PROJECT}/topics/{_NAME}"
NAME_IN_WORDS = "PROJECT with 6 to 63 characters, NAME with 3 to 255, not beginning with goog"
_DELETED = "_deleted-topic_"
_EXPIRES_SECONDS = 86_400  # the shortest that Pub/Sub accepts: of a subscription whose run was killed
_log = logging.getLogger(__name__)


class NotReached(SourceError):
    """Nobody answers, or not now: what is asked for may well be there."""


class About(NamedTuple):
    """What Pub/Sub states about a subscription; `ack_deadline` in seconds."""

    topic: str
    ack_deadline: int
    is_ordered: bool


def check_subscription(subscription: str, option: str = "input_subscription") -> About:
    """Check a subscription that is to be read. Errors: OptionError for its name, SourceError otherwise."""
    project, name = _parse(SUBSCRIPTION, subscription, option, "projects/PROJECT/subscriptions/NAME")
    make = f"gcloud pubsub subscriptions create {name} --project={project} --topic=TOPIC"
    allow = (
        f"gcloud pubsub subscriptions add-iam-policy-binding {name} --project={project} --member=WHO --role="
        "roles/pubsub.subscriber, and the same with roles/pubsub.viewer"
    )
    found = _ask(lambda pubsub: pubsub.subscription(subscription), f"subscription {subscription}", make, allow)
    if found.topic == _DELETED:
        raise SourceError(
            f"subscription {subscription} no longer has a topic, so no message will come; make another: `{make}`"
        )
    if found.push_config.push_endpoint or found.bigquery_config.table or found.cloud_storage_config.bucket:
        raise SourceError(f"subscription {subscription} is no pull subscription; make one: `{make}`")
    return About(found.topic, found.ack_deadline_seconds, found.enable_message_ordering)


def check_topic(topic: str, option: str = "input_topic") -> None:
    """Check a topic that is to be read or written. Errors: OptionError for its name, SourceError otherwise."""
    project, name = _parse(TOPIC, topic, option, "projects/PROJECT/topics/NAME")
    make = f"gcloud pubsub topics create {name} --project={project}"
    role = "roles/pubsub.editor"
    allow = f"gcloud pubsub topics add-iam-policy-binding {name} --project={project} --member=WHO --role={role}"
    _ask(lambda pubsub: pubsub.topic(topic), f"topic {topic}", make, allow)


@contextmanager
def temporary_subscription(topic: str, option: str = "input_topic") -> Iterator[str]:
    """Make a subscription to a topic for the length of a run: it has what is published from now on. Errors as above.

    A run that is killed leaves it behind; Pub/Sub deletes it a day later.
    """
    check_topic(topic, option)
    project = topic.split("/")[1]
    subscription = f"projects/{project}/subscriptions/audience-{uuid.uuid4().hex}"
    expires = {"ttl": duration_pb2.Duration(seconds=_EXPIRES_SECONDS)}
    allow = f"gcloud projects add-iam-policy-binding {project} --member=WHO --role=roles/pubsub.editor"
    _ask(
        lambda pubsub: pubsub.make_subscription(
            subscription, topic, ack_deadline_seconds=60, expiration_policy=expires
        ),
        f"a subscription to {topic}",
        f"gcloud pubsub topics create {topic.rsplit('/', 1)[-1]} --project={project}",
        allow,
    )
    try:
        yield subscription
    finally:
        pubsub = PubSub()
        try:
            pubsub.delete_subscription(subscription)
        except grpc.RpcError as error:
            _log.warning("%s is left behind (%s); Pub/Sub deletes it in a day", subscription, describe_error(error))
        finally:
            pubsub.close()


def _parse(pattern: str, given: str, option: str, form: str) -> tuple[str, str]:
    found = re.fullmatch(pattern, given)
    if found is None:
        raise OptionError(f"--{option}: got {given!r}; allowed: {form}, {NAME_IN_WORDS}")
    return found[1], found[2]


def _ask(ask: Callable[[PubSub], Any], what: str, make: str, allow: str) -> Any:
    """Ask Pub/Sub. Errors: SourceError in one line, with the command that fixes it."""
    pubsub = PubSub()
    try:
        if pubsub.emulator:
            _reach(pubsub)
        return ask(pubsub)
    except grpc.RpcError as error:
        status = error.code()
        if status is grpc.StatusCode.NOT_FOUND:
            raise SourceError(f"{what} does not exist; make it with `{make}`") from error
        if status in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
            raise SourceError(f"{what}: no permission ({describe_error(error)}); give it with `{allow}`") from error
        where = f"the emulator at {pubsub.emulator}" if pubsub.emulator else "Pub/Sub"
        raise (SourceError if is_refusal(error) else NotReached)(
            f"{what}: {where} answers {describe_error(error)}; try again, or check the name and the network"
        ) from error
    finally:
        with suppress(grpc.RpcError):
            pubsub.close()


def _reach(pubsub: PubSub) -> None:
    try:
        grpc.channel_ready_future(pubsub.channel).result(timeout=5)
    except grpc.FutureTimeoutError:
        raise NotReached(
            f"no Pub/Sub emulator answers at {pubsub.emulator} ({EMULATOR}); start it with"
            f" `gcloud beta emulators pubsub start --host-port={pubsub.emulator}`, or unset {EMULATOR} for Google's own"
        ) from None
