"""What a login may do with topics and a group, as the cluster says it: what could not read ends before it starts.

To see a topic, or a group, takes less (DESCRIBE) than to read it (READ). A cluster that does not say what a login may
do, such as an old one, passes: its first answer to the reader says it then.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.sources.kafka.client import ASK_SECONDS, is_passing
from pipelines.sources.kafka.topics import ask, describe_no_right

if TYPE_CHECKING:
    from concurrent.futures import Future

    from confluent_kafka.admin import AdminClient

_HOW: dict[str, Any] = {"include_authorized_operations": True, "request_timeout": ASK_SECONDS}


def check_rights(admin: "AdminClient", where: str, topics: Sequence[str], group: str | None) -> None:
    """Errors: SourceError for a topic, or a group, that the login may not read."""
    from confluent_kafka import TopicCollection

    if topics:
        _check(where, "topic", lambda: admin.describe_topics(TopicCollection(list(topics)), **_HOW))
    if group is not None:  # one that is new is described too
        _check(where, "group", lambda: admin.describe_consumer_groups([group], **_HOW))


def _check(where: str, kind: str, describe: "Callable[[], dict[str, Future[Any]]]") -> None:
    closed = ask(where, lambda: [name for name, told in describe().items() if not _may_read(told)])
    if closed:
        raise describe_no_right(kind, closed[0])


def _may_read(told: "Future[Any]") -> bool:
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AclOperation

    try:
        allowed = told.result().authorized_operations
    except KafkaException as error:
        if is_passing(error.args[0]):
            raise
        return error.args[0].code() not in (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
        )
    return not allowed or AclOperation.READ in allowed
